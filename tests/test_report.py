"""The report of a sweep: what the table says, what it refuses, and the files it leaves."""

import csv
import io
import json
import re

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from PIL import Image
from plotly.offline import get_plotlyjs

from helpers.networks import motion_spec, narrow
from helpers.stores import new_store
from helpers.sweep_records import finished_sweep, make
from kgan_ray.metrics.names import Recognition
from kgan_ray.report import main
from kgan_ray.settings import UserError, override, resolve_settings
from kgan_ray.storage import StorePath
from kgan_ray.tracking.client import client_of
from kgan_ray.tracking.run import start_run
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.training.gan import GAN
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.answer.reuse import explored_alike
from kgan_ray.tuning.answer.rows import Measure
from kgan_ray.tuning.report import tables
from kgan_ray.tuning.report.files import write_report
from kgan_ray.tuning.report.page import html
from kgan_ray.tuning.state import CONFIRM, Sweep, find_sweep


def test_the_table_holds_means_spreads_and_the_verdict():
    baseline, better = Results(finished_sweep()).rows
    assert (baseline.configuration, better.configuration) == ("baseline", "explore-01")
    assert (baseline.measures["fid"], baseline.finished) == (Measure(100.0, 10.0), 3)
    assert baseline.verdict is None
    assert better.verdict.effect == -50.0
    assert better.verdict.low < -50 < better.verdict.high < 0
    assert better.verdict.word == "better"
    assert better.measures["accuracy"].mean == 0.5
    assert list(baseline.measures) == ["fid", "accuracy"]  # losses are no metrics


def test_markdown_has_one_row_a_configuration_and_no_ragged_table():
    page = tables.markdown(Results(finished_sweep()))
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert any(line.startswith("| pooling max | 3 | 50.0 ± 2.0 | -50 [-80.5, -19.5] |") for line in table)
    first = table[: table.index("| trial | changes | step | fid | status |")]
    assert len({line.count("|") for line in first}) == 1
    assert "- pooling max is better than the baseline: fid -50, between -80.5 and -19.5; 3 runs each." in page


def test_csv_reads_back():
    (row, *_) = csv.DictReader(io.StringIO(tables.trials_csv(Results(finished_sweep()))))
    assert (row["trial"], row["fid"], row["techniques.pooling"]) == ("explore-01", "40.0", "max")


def test_how_good_each_extractor_is_stands_in_the_report_and_a_blind_one_is_a_caution():
    good, blind = (
        Recognition("a" * 16, 0.81, "486 test motions", 0.12),
        Recognition("b" * 16, 0.12, "90 test motions", 0.11),
    )
    results = Results(finished_sweep(recognitions={"xview": good, "xsub": blind}))
    assert results.cautions == [f"Extractor of xsub: {blind.warning}."]
    for text in (tables.markdown(results), html(results, [])):
        assert "aaaaaaaaaaaaaaaa, right for 81.0% of 486 test motions; extractor bbbbbbbb" in text
        assert blind.warning in text
    read = Sweep.model_validate_json(results.sweep.model_dump_json())
    assert read.recognitions == {"xview": good, "xsub": blind}


@pytest.mark.parametrize("kind", ["dataset", "extractor"])
@pytest.mark.parametrize("index", [1, -1])
def test_runs_measured_differently_are_never_ranked(kind, index):
    sweep = finished_sweep()
    setattr(sweep.trials[index], kind, "f" * 64)
    with pytest.raises(UserError, match=f"cannot be ranked together: their {kind} differs"):
        Results(sweep)


def test_published_figures_stand_beside_their_own_metric_only():
    """A metric of ours whose name is that of a published one's column, and a published figure that was not measured here."""
    theirs = {"mmd_avg_published": 1.224, "fid_inception": 345.069, "note": "our reading, strength 0.1"}
    settings = override(resolve_settings("demo"), {"evaluation.metrics": ("fid", "mmd_avg", "mmd_avg_published")})
    sweep = finished_sweep(space={"published": {"xsub": {"baseline": theirs}}}, settings=settings)
    for trial in sweep.stage(CONFIRM):
        trial.group = "xsub"
        trial.metrics |= {"mmd_avg": 0.35, "mmd_avg_published": 0.25}
    baseline, better = Results(sweep).rows
    assert baseline.measures["mmd_avg_published"].published == "1.224 (our reading, strength 0.1)"
    assert [baseline.measures[name].published for name in ("fid", "mmd_avg")] == ["", ""]
    assert better.measures["mmd_avg_published"].published == ""
    (cells, _) = tables.configuration_cells(Results(sweep))
    assert cells["mmd_avg_published"] == "0.2500 ± 0.0000"
    assert cells["mmd_avg_published as published"] == "1.224 (our reading, strength 0.1)"
    (line, _) = csv.DictReader(io.StringIO(tables.configurations_csv(Results(sweep))))
    assert float(line["mmd_avg_published"]) == 0.25
    assert line["mmd_avg_published as published"] == "1.224 (our reading, strength 0.1)"
    assert "345.069" not in tables.markdown(Results(sweep))


def test_the_report_is_written_and_logged_to_the_sweeps_run(tmp_path, capsys):
    uri = new_store(tmp_path)
    parent = start_run(uri, experiment="disc", name="disc")
    folder = tmp_path / "results" / "disc"
    finished_sweep(uri=uri, experiment="disc", parent_id=parent.id).save(StorePath(folder))
    assert main(["disc", "--results", str(tmp_path / "results")]) == 0
    written = sorted(file.name for file in (folder / "report").iterdir())
    assert written == ["configurations.csv", "report.html", "report.md", "trials.csv"]
    logged = tmp_path / "mlartifacts" / "disc" / parent.id / "artifacts" / "report"
    assert sorted(file.name for file in logged.iterdir()) == written
    assert "pooling max is better" in capsys.readouterr().out


def test_the_page_needs_nothing_else():
    """One script of Plotly's serves all charts, and no element of ours fetches anything."""
    page = html(Results(finished_sweep(name="a <b>")), [])
    ours = page.replace(get_plotlyjs(), "", 1)
    assert len(ours) < 0.1 * len(page)
    assert get_plotlyjs() not in ours
    assert not re.search(r"(src|href)=|https?://|@import|NaN", ours)
    assert "<h1>a &lt;b&gt;</h1>" in ours
    assert (
        ours.count('<div class="chart"') == 5
    )  # accuracy is the same everywhere: fid against it would show nothing
    for data in re.findall(r'<script type="application/json">(.*?)</script>', ours):
        assert json.loads(data)["data"]


def test_the_foot_says_what_made_the_sweep_and_the_curves_lie_between_references():
    origin = {"preset": "demo", "command": "python -m kgan_ray.tune --space 'disc'", "torch": "2.13"}
    references = {"": {"untrained": 6767.0, "real": 0.75, "chance": 1 / 12}}
    sweep = finished_sweep(dataset="datasets/demo", origin=origin, references=references)
    page = html(Results(sweep), [])
    foot = page[page.index("<footer>") :]
    assert f"Data datasets/demo ({'d' * 12}); extractor -; preset demo; command python -m kgan_ray.tune" in foot
    drawn = [
        json.loads(data)["data"] for data in re.findall(r'<script type="application/json">(.*?)</script>', page)
    ]
    lines = [line for chart in drawn for line in chart if line.get("name") in ("untrained", "real against real")]
    assert [line["y"] for line in lines] == [[6767.0, 6767.0], [0.75, 0.75]] * 2  # confirmed and explored curves


def test_a_page_without_charts_carries_no_script():
    assert "<script" not in html(Results(finished_sweep(trials=[])), [])


def test_the_baseline_and_the_best_other_configuration_are_drawn_side_by_side(tmp_path):
    sweep = finished_sweep()
    for number, name in enumerate(("confirm-baseline-1002", "confirm-explore-01-1002")):  # the best runs of both
        gan = GAN(narrow({"seed": number}), motion_spec())
        store = CheckpointStore(str(tmp_path / "trials" / name / "checkpoints"))
        store.save(gan, {"step": 0, "metrics": {"fid": 1.0}, "dataset": "d"})
    files = {
        file.name: file
        for file in write_report(
            Results(sweep), StorePath(tmp_path / "report"), trials=StorePath(tmp_path / "trials")
        )
    }
    sheet, film = (Image.open(files[name].local) for name in ("motions.png", "motions.gif"))
    assert sheet.height == 2 * 4 * 110  # two rows for each of four classes
    assert film.n_frames > 1
    page = files["report.html"].read_text()
    assert page.count("data:image/gif;base64") == 1
    assert "The same in motion" in page


def test_a_sweep_that_is_not_there_suggests_one_that_is(tmp_path):
    finished_sweep().save(StorePath(tmp_path / "disc"))
    with pytest.raises(UserError, match=r"no sweep 'dsc'\. Did you mean disc\? There are: disc"):
        find_sweep(StorePath(tmp_path), "dsc")
    assert find_sweep(StorePath(tmp_path / "elsewhere"), str(tmp_path / "disc")) == StorePath(tmp_path / "disc")


def test_a_sweep_without_any_finished_trial_still_reports(tmp_path):
    sweep = finished_sweep(trials=[])
    files = write_report(Results(sweep), StorePath(tmp_path))
    assert [file.name for file in files][:1] == ["report.md"]
    sweep.save(StorePath(tmp_path))
    assert json.loads((tmp_path / "sweep.json").read_text())["trials"] == []


def test_sentence_and_table_agree_in_the_middle_of_a_round(tmp_path):
    """A second round of seeds was interrupted: what it has measured counts in neither before the round is complete."""
    judged = Results(finished_sweep(rounds=[3], done=["explore", "confirm-1"]))
    assert (judged.stage, judged.notice) == ("judged", "")
    sweep = finished_sweep(rounds=[3, 3], done=["explore", "confirm-1"])
    for seed, value in ((1003, 250.0), (1004, 240.0)):
        name = f"confirm-explore-01-{seed}"
        sweep.trials.append(make(name, CONFIRM, "explore-01", {"techniques.pooling": "max"}, value, seed=seed))
    sweep.trials.append(
        sweep.trials[-1].model_copy(
            update={"name": "confirm-explore-01-1005", "status": "interrupted", "metrics": {}}
        )
    )
    results = Results(sweep)
    assert results.verdicts == judged.verdicts
    page = tables.markdown(results)
    assert "| pooling max | 3 (+2 not judged yet) | 50.0 ± 2.0 |" in page
    assert (
        "Only complete rounds are judged; stage confirm, round 2 of 2, 8 of 9 confirmation runs have ended."
        in page
    )
    assert not results.is_judged
    sweep.done.append("confirm-2")
    sweep.trials[-1].status = "failed"
    (verdict,) = Results(sweep).verdicts
    assert (verdict.word, verdict.comparison.look) == ("can't tell", 2)
    assert "fid +28, between" in verdict.sentence
    assert "| pooling max | 5 (+1 lost) | 128 ± 107 |" in tables.markdown(Results(sweep))


def test_nothing_is_judged_in_the_middle_of_the_first_round():
    results = Results(finished_sweep(rounds=[4], done=["explore"]))
    (verdict,) = results.verdicts
    assert (verdict.word, results.has_answer) == ("can't tell", False)
    assert verdict.sentence.startswith("pooling max cannot be judged yet: fid -50, between")
    assert results.notice == "Nothing is judged yet; stage confirm, 6 of 6 confirmation runs have ended."
    page = tables.markdown(results)
    assert "| - | not yet |" in page
    assert "No answer" not in page
    sweep = finished_sweep(rounds=[4], done=["explore"])
    for trial in sweep.trials[-3:]:
        trial.status, trial.metrics = "waiting", {}
    page = tables.markdown(Results(sweep))
    assert "judged yet; stage confirm" in page
    assert "cannot be judged yet" not in page, "of what has no run there is nothing to say"


def test_a_configuration_is_compared_with_the_baseline_of_its_own_rounds():
    """The baseline went on for the sake of others: what was decided after one round stays as it was decided."""
    once = Results(finished_sweep(rounds=[3], done=["confirm-1"]))
    sweep = finished_sweep(rounds=[3, 2], done=["confirm-1", "confirm-2"])
    for seed in (1003, 1004):
        sweep.trials.append(make(f"confirm-baseline-{seed}", CONFIRM, "baseline", {}, 900.0, seed=seed))
    results = Results(sweep)
    assert results.verdicts == once.verdicts
    assert results.rows[0].finished == 5


def test_all_groups_of_a_sweep_share_one_correction():
    alone = Results(finished_sweep()).verdicts[0]
    sweep = finished_sweep()
    for trial in sweep.stage(CONFIRM):
        trial.group = "xsub"
        sweep.trials.append(trial.model_copy(update={"name": f"other-{trial.name}", "group": "xview"}))
    one, other = Results(sweep).verdicts
    assert one.p_value == other.p_value == pytest.approx(2 * alone.p_value)


def test_runs_of_another_sweep_are_no_second_piece_of_evidence():
    sweep, other = finished_sweep(), finished_sweep(name="earlier")
    assert Results(sweep, [other]).reuse == [
        "6 confirmation runs are the same as in sweep earlier: they are evidence once only."
    ]
    assert "evidence once only" in tables.markdown(Results(sweep, [other]))
    elsewhere = finished_sweep(name="elsewhere", dataset_hash="e" * 64)
    longer = finished_sweep(name="longer", settings=override(sweep.settings, {"training.steps": 1200}))
    moved = finished_sweep(name="moved", settings=override(sweep.settings, {"data.path": "there"}))
    assert [bool(Results(sweep, [one]).reuse) for one in (elsewhere, longer, moved)] == [False, False, True]


def test_what_other_sweeps_explored_alike_is_known():
    """Longer runs, another measure or other data say nothing; another seed and place do."""
    sweep = finished_sweep(extractors={"": "e" * 64})
    alike = finished_sweep(
        extractors={"": "e" * 64}, settings=override(sweep.settings, {"seed": 5, "data.path": "x"})
    )
    assert [trial.name for trial in explored_alike(sweep, [alike])] == ["explore-01", "explore-02"]
    longer = override(sweep.settings, {"training.steps": 1200})
    for other in ({"dataset_hash": "f"}, {"extractors": {"": "f"}}, {"mode": "max"}, {"settings": longer}):
        assert explored_alike(sweep, [alike.model_copy(update=other)]) == []


def test_the_study_holds_what_was_explored_as_optuna_names_it(tmp_path):
    space = {"preset": "demo", "space": {"techniques.pooling": {"choice": ["avg", "max"]}}}
    sweep = finished_sweep(space=space)
    for name, status in (("explore-03", "stopped"), ("explore-04", "diverged"), ("explore-05", "running")):
        sweep.trials.append(make(name, "explore", name, {"techniques.pooling": "max"}, 99.0))
        sweep.trials[-1].status = status
    for _ in range(2):  # a second report writes it anew
        files = write_report(Results(sweep), StorePath(tmp_path / "report"))
    assert files[-1].name == "study.log"
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "report" / "study.log")))
    study = optuna.load_study(study_name="disc", storage=storage)
    told = [(one.user_attrs["trial"], one.state.name, one.params["techniques.pooling"]) for one in study.trials]
    assert told == [
        ("explore-01", "COMPLETE", "max"), ("explore-02", "COMPLETE", "avg"), ("explore-03", "PRUNED", "max"),
        ("explore-04", "FAIL", "max"),
    ]  # fmt: skip
    assert study.best_value == 40.0
    assert study.trials[0].intermediate_values == {200: 120.0, 400: 80.0, 600: 40.0}


def test_the_best_of_several_means_is_called_lucky():
    assert Results(finished_sweep()).cautions == []
    sweep = finished_sweep()
    for seed in (1000, 1001, 1002):
        sweep.trials.append(make(f"x{seed}", CONFIRM, "explore-02", {}, 80.0 + seed, seed=seed))
    (caution,) = Results(sweep).cautions
    assert caution == "The best of 2 means is partly luck: expect less of it in further runs."
    assert caution in tables.markdown(Results(sweep))
    assert caution in html(Results(sweep), [])


def test_lost_runs_of_the_baseline_are_counted_in_the_verdict():
    sweep = finished_sweep()
    changes = {"techniques.pooling": "max"}
    for trial in sweep.stage(CONFIRM):
        if trial.configuration == "explore-01":
            trial.metrics["fid"] += 400.0
    for seed in (1003, 1004):
        sweep.trials.append(make(f"b{seed}", CONFIRM, "baseline", {}, 1e9, seed=seed))
        sweep.trials[-1].status = "diverged"
        sweep.trials.append(make(f"e{seed}", CONFIRM, "explore-01", changes, 450.0, seed=seed))
    (verdict,) = Results(sweep).verdicts
    assert verdict.low > 0  # the values alone would say worse
    assert verdict.word == "can't tell"
    assert (
        "none of 5 runs lost, 2 of the baseline's 5, which count as the worst, Fisher's p = 0.44"
        in verdict.sentence
    )


@pytest.mark.parametrize("status", ["RUNNING", "KILLED"])
def test_a_report_leaves_the_status_of_the_sweeps_run_as_it_was(tmp_path, status):
    uri = new_store(tmp_path)
    parent = start_run(uri, experiment="disc", name="disc")
    if status != "RUNNING":
        parent.finish(status)
    before = client_of(uri).get_run(parent.id).info
    finished_sweep(uri=uri, experiment="disc", parent_id=parent.id).save(StorePath(tmp_path / "disc"))
    assert main(["disc", "--results", str(tmp_path)]) == 0
    after = client_of(uri).get_run(parent.id).info
    assert (after.status, after.end_time) == (status, before.end_time)


def test_direction_is_the_sweeps_own_before_the_metrics():
    results = Results(finished_sweep(mode="max"))
    assert not results.is_low_good("fid")
    assert not results.is_low_good("accuracy")
    assert results.is_low_good("kid")
    assert results.explored[0].name == "explore-02"
    assert results.best_run("").metrics["fid"] == 110.0


def test_a_sweep_answers_by_a_verdict_on_runs_of_both_sides_or_by_a_value_where_none_was_asked_for():
    sweep = finished_sweep()
    assert Results(sweep).has_answer
    for trial in sweep.stage(CONFIRM):
        if trial.configuration == "baseline":
            trial.status = "diverged"
    assert not Results(sweep).has_answer
    sweep.space = {"confirm": {"baseline": False}}
    assert Results(sweep).has_answer
    for trial in sweep.trials:
        trial.status = "failed"
    assert not Results(sweep).has_answer
