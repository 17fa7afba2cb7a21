"""The answer in words: what a person reads at the end of a sweep, the same in the terminal, the report and MLflow."""

import csv
import io
import re

import pytest

from helpers.sweep_records import finished_sweep, make
from kgan_ray.settings import override
from kgan_ray.storage import StorePath
from kgan_ray.text import spoken_overrides
from kgan_ray.tuning.answer.comparison import effect_text
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.answer.words import answer_lines, what_mattered
from kgan_ray.tuning.report import tables
from kgan_ray.tuning.report.page import html
from kgan_ray.tuning.state import CONFIRM, EXPLORE

QUESTION = "Does max pooling lower FID?"
FACTORS = {"better": 0.5, "worse": 2.0, "same": 1.01, "can't tell": 1.02}


def compared(factor: float, **more):
    """Return a judged sweep by ratios, of a configuration whose FID is so many times the baseline's."""
    more = {"margin": 1.5, "seconds": 442.0, "space": {"question": QUESTION}} | more
    sweep = finished_sweep(compare="ratio", **more)
    for trial in sweep.stage(CONFIRM):
        values = {1000: 100.0, 1001: 108.0, 1002: 94.0}
        times = factor if trial.configuration != "baseline" else 1.0
        trial.metrics["fid"], trial.seconds = times * values[trial.seed], 20.0
    return sweep


@pytest.mark.parametrize("word", FACTORS)
def test_the_answer_begins_with_the_question_and_ends_with_one_command(word):
    results = Results(compared(FACTORS[word], margin=1.03 if word == "can't tell" else 1.5))
    assert [one.word for one in results.verdicts] == [word]
    lines = answer_lines(results)
    assert [line.kind for line in lines] == ["question", "verdict", "cost", "step"]
    assert lines[1].verdict is results.verdicts[0]
    question, verdict, cost, step = map(str, lines)
    assert (question, cost) == (QUESTION, "It took 7:22: 2 explored and 6 confirming runs.")
    assert verdict.startswith(f"pooling max {results.verdicts[0].claim}: fid {FACTORS[word]:.3g} times, between ")
    if word == "can't tell":
        # Of 120 s of training 442 s went by: a seed of two configurations is 40 s of the first, 147 of the second.
        assert step.startswith("Next, more evidence, about ")
        assert step.endswith(
            f"python -m kgan_ray.tune --resume --name disc --add-seeds {results.verdicts[0].advice.seeds}"
        )
    else:
        assert step.startswith(
            "Next, motions of the best:  python -m kgan_ray.generate results/disc/trials/confirm-"
        )


def test_the_answer_says_what_scores_a_run_where_it_is_no_single_evaluation():
    lines = answer_lines(Results(compared(0.5, mean_of=2)))
    assert str(lines[2]) == "The fid of a run is the geometric mean of its last 2 evaluations."


def test_report_page_and_description_have_the_same_lines():
    results = Results(compared(0.5), folder=StorePath("elsewhere/disc"))
    lines = [str(line) for line in answer_lines(results)]
    assert "elsewhere/disc/trials/" in lines[-1]
    for text in (tables.markdown(results), tables.description(results)):
        assert all(f"- {line}" in text for line in lines)
    page = re.sub("</?(b|code)>", "", html(results, []))
    assert all(f">{line.replace(':  python', ': python')}</li>" in page for line in lines)


def test_the_page_marks_each_line_as_what_it_is_though_another_has_the_same_words():
    """A question that reads like the verdict stays a question."""
    results = Results(compared(0.5))
    results.sweep.space["question"] = results.verdicts[0].sentence
    page = html(results, [])
    assert f'<li class="question">{results.verdicts[0].sentence}</li>' in page
    assert '<li class="better">pooling max <b>is better than the baseline</b>: fid 0.5 times' in page
    assert '<li class="step">Next, motions of the best: <code>python -m kgan_ray.generate results/disc' in page


def test_a_sweep_that_was_interrupted_says_how_it_goes_on():
    sweep = finished_sweep(rounds=[3, 3], done=["explore", "confirm-1"])
    assert str(answer_lines(Results(sweep))[-1]) == (
        "Next, to its end:  python -m kgan_ray.tune --resume --name disc"
    )


def test_a_spent_budget_is_raised_by_the_command_that_leads_on():
    space = {"budget": {"minutes": 7}, "confirm": {"seeds": 3, "most_seeds": 12}}
    cut = compared(1.02, margin=1.03, space=space, rounds=[3, 3], done=["confirm-1"])
    assert str(answer_lines(Results(cut))[-1]).endswith("--resume --name disc --budget minutes=14")
    open_end = compared(1.02, margin=1.03, space=space, rounds=[3], done=["confirm-1"])
    last = str(answer_lines(Results(open_end))[-1])
    assert re.fullmatch(r"Next, more evidence, about \S+:  .* --resume --name disc --budget minutes=\d+", last)
    open_end.budget = {"minutes": 600}
    assert str(answer_lines(Results(open_end))[-1]).endswith("--resume --name disc")


def test_ratios_beyond_a_thousand_are_called_so():
    assert [effect_text(value, "ratio") for value in (1e-9, 0.0101, 1.5, 2e6)] == [
        "<0.001",
        "0.0101",
        "1.5",
        ">1000",
    ]
    assert [effect_text(value, "difference") for value in (-2000.0, 0.5)] == ["-2000", "+0.5"]


def test_sentence_and_table_give_the_same_means_and_digits():
    results = Results(compared(0.5))
    baseline, better = tables.configuration_cells(results)
    assert (baseline["fid"], better["fid"]) == ("101 ×÷ 1.07", "50.3 ×÷ 1.07")  # geometric, as the ratio is
    effect = better["ratio"].partition(" [")[0]
    low, high = better["ratio"].partition("[")[2].rstrip("]").split(", ")
    assert f"fid {effect} times, between {low} and {high}" in results.verdicts[0].sentence


def test_configurations_are_named_by_what_they_change_and_a_value_of_the_baselines_is_no_change():
    sweep = finished_sweep()
    changes = {"techniques.pooling": "avg", "techniques.mask_quantile": 0.7, "techniques.input_noise_std": 0.01}
    for trial in sweep.stage(CONFIRM):
        if trial.configuration != "baseline":
            trial.overrides = dict(changes)
    results = Results(sweep)
    assert results.verdicts[0].name == "mask 0.7, input noise 0.01"
    assert results.rows[1].changes == "mask_quantile=0.7, input_noise_std=0.01"
    sweep.settings = override(sweep.settings, {"techniques.mask_quantile": 0.7})
    assert Results(sweep).verdicts[0].name == "input noise 0.01"
    for trial in sweep.stage(CONFIRM):
        trial.configuration = trial.configuration.replace("explore-01", "quiet")
    assert Results(sweep).verdicts[0].name == "quiet"  # the name that the file gives it


@pytest.mark.parametrize(("accuracy", "is_told"), [(0.09, True), (0.5, False)])
def test_motions_that_are_recognised_by_chance_only_are_said_to_be(accuracy, is_told):
    sweep = finished_sweep(references={"": {"chance": 1 / 12}})
    for trial in sweep.stage(CONFIRM):
        trial.metrics["accuracy"] = accuracy
    told = [line.text for line in answer_lines(Results(sweep)) if "by chance" in line.text]
    assert bool(told) == is_told
    assert all(line.endswith("train for longer (accuracy 0.09, chance 0.083).") for line in told)


def test_settings_are_spoken_and_those_that_would_sound_alike_keep_their_names():
    assert (
        spoken_overrides({"techniques.mask_quantile": None, "techniques.pooling": "max"})
        == "mask off, pooling max"
    )
    alike = {"techniques.label_noise_std": 0.5, "training.label_noise": 1.0}
    assert spoken_overrides(alike) == "label noise std 0.5, label noise 1"
    assert spoken_overrides({}) == "no change"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([10, 11, 12, 20, 21, 22, 30, 31, 32], "the less the better"),
        ([30, 31, 32, 20, 21, 22, 10, 11, 12], "the more the better"),
        ([30, 31, 32, 10, 11, 12, 20, 21, 22], "best was 0.5"),
        ([10, 20, 30, 30, 10, 20, 20, 30, 10], None),
    ],
)
def test_a_setting_mattered_where_chance_would_not_make_as_much_of_it(values, line):
    sweep = finished_sweep(trials=[])
    for index, value in enumerate(values):
        noise = {"techniques.input_noise_std": (0.1, 0.5, 1.0)[index // 3]}
        sweep.trials.append(make(f"explore-{index}", EXPLORE, f"explore-{index}", noise, float(value)))
    told = what_mattered(Results(sweep))
    assert len(told) == (line is not None)
    assert all(
        one.startswith(f"Input noise mattered among the explored: {line} (permutation p = ") for one in told
    )


@pytest.mark.parametrize(
    ("status", "planned", "why"),
    [
        ("finished", 2, "nothing but the baseline's own settings could be tried"),
        ("diverged", 2, "nothing but the baseline's own settings could be tried, and the other 1 gave no value"),
        (
            "finished",
            8,
            "nothing but the baseline's own settings could be tried; the budget ended exploring after 2 of 8 trials",
        ),
    ],
)
def test_where_only_the_baseline_could_be_tried_the_answer_says_so(status, planned, why):
    sweep = finished_sweep(num_explored=planned, space={"confirm": {"top": 1}})
    sweep.trials = [trial for trial in sweep.trials if trial.configuration != "explore-01"]
    sweep.trials.append(make("explore-03", EXPLORE, "explore-03", {}, 80.0))
    sweep.trials[-1].status = status
    results = Results(sweep)
    assert not results.has_answer
    assert f"No answer: {why}." in [line.text for line in answer_lines(results)]


def test_where_every_explored_trial_is_lost_the_answer_says_so():
    sweep = finished_sweep(space={"confirm": {"top": 1}}, num_explored=2)
    sweep.trials = sweep.trials[:2]
    for trial in sweep.trials:
        trial.status = "diverged"
    assert "No answer: none of the 2 explored trials gave a value." in map(str, answer_lines(Results(sweep)))


def test_a_sweep_of_several_groups_has_a_line_and_a_row_for_all_of_them_and_no_further_word():
    sweep = compared(0.5)
    for trial in sweep.stage(CONFIRM):
        trial.group = "xsub"
        other = trial.model_copy(update={"name": f"other-{trial.name}", "group": "xview"}, deep=True)
        other.metrics["fid"] *= 10.0
        sweep.trials.append(other)
    results = Results(sweep)
    alone = Results(sweep.model_copy(update={"trials": [one for one in sweep.trials if one.group != "xview"]}))
    assert len(results.verdicts) == 2
    assert alone.together == []
    (line,) = (line.text for line in answer_lines(results) if "together" in line.text)
    assert line.startswith("pooling max over xsub and xview together: fid 0.499 times, between 0.4")
    assert re.search(r"; better in 100% of pairs of runs, between 81% and 100%\.$", line)
    *_, row = tables.configuration_cells(results)
    assert (row["group"], row["configuration"], row["runs"]) == ("xsub and xview", "pooling max", "6")
    assert row["ratio"].startswith("0.499 [0.4")
    assert (row["p"], row["verdict"], row["better in"][:6]) == ("-", "-", "100% [")
    assert "they have no verdict" in tables.legend(results)
    assert "together" not in tables.legend(alone)
    (*_, last) = csv.DictReader(io.StringIO(tables.configurations_csv(results)))
    assert (last["group"], last["verdict"], last["pairs_won"]) == ("xsub+xview", "", "1.0")
    assert float(last["low"]) < float(last["effect"]) < float(last["high"])
