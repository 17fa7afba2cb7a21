"""The simulation behind docs/verdicts.md: it judges as `judge` does, and its figures are what the page promises."""

from itertools import islice

import numpy as np
import pytest

from kgan_ray.benchmarks import groups, verdicts
from kgan_ray.benchmarks import rounds as allocation
from kgan_ray.benchmarks.verdicts import TABLES, corrected, main, simulated
from kgan_ray.settings import UserError
from kgan_ray.tuning.answer.comparison import Comparison, Sample
from kgan_ray.tuning.answer.significance import level_of
from kgan_ray.tuning.answer.verdict import judge

SWEEPS = 400
NOISE = 3 * (0.05 * 0.95 / SWEEPS) ** 0.5  # of a rate of 5 %


def rows_of(name, most=None):
    heading, *rows = islice(TABLES[name](np.random.default_rng(1), SWEEPS), most and most + 1)
    return [dict(zip(heading, row, strict=True)) for row in rows]


@pytest.mark.parametrize("look", [1, 2])
def test_it_corrects_as_the_verdicts_do(look):
    own, baseline = simulated(np.random.default_rng(0), 20, 2, 3, 4)
    own += np.random.default_rng(1).normal(0, 2, (20, 2, 3, 1))
    ours = corrected(own, baseline, level_of(look))
    for sweep in range(20):
        comparisons = [
            Comparison(
                f"{group} {k}",
                Sample(tuple(own[sweep, group, k])),
                Sample(tuple(baseline[sweep, group, 0])),
                look=look,
            )
            for group in range(2)
            for k in range(3)
        ]
        verdicts = judge(comparisons, mode="min", metric="fid", compare="difference")
        assert [verdict.p_value for verdict in verdicts] == pytest.approx(np.minimum(1, ours[sweep]).tolist())


def test_the_interval_covers_at_few_runs_too():
    rows = rows_of("Coverage of the interval")
    assert [row["runs each"] for row in rows] == [2, 3, 5, 10, 20]
    assert all(row["equal spread"] >= 0.95 - NOISE for row in rows)
    assert all(row["three times the baseline's"] >= 0.94 - NOISE for row in rows)


def test_false_words_stay_below_five_per_cent_over_all_comparisons_groups_and_looks():
    rows = rows_of("False words over comparisons and looks")
    assert max(row["as judged"] for row in rows) <= 0.05 + NOISE
    assert max(row["as judged, looks planned"] for row in rows) <= 0.05 + NOISE
    assert max(row["looks uncorrected"] for row in rows) > 0.1  # what the rule is there for


def test_lost_runs_make_no_false_words(monkeypatch):
    monkeypatch.setattr(verdicts, "_EXPENSIVE", 8)
    rows = rows_of("False words where runs are lost")
    assert np.mean([row["any false word"] for row in rows]) <= 0.05


def test_rounds_see_nearly_as_much_as_all_runs_at_once_and_cost_less():
    for row in rows_of("Power"):
        assert row["12 in 4 planned looks"] >= row["12 seeds"] - 0.12
        assert float(row["seeds used"]) < 12


def test_rounds_until_it_is_decided_keep_to_five_per_cent():
    for row in rows_of("False words in rounds until it is decided"):
        rates = [row[name] for name in ("none has an effect", "all at the margin", "half of them each")]
        assert max(rate for rate in rates if rate != "-") <= 0.05 + NOISE


def test_rounds_save_a_third_of_the_runs_where_the_effect_is_far_from_the_margins_middle():
    rows = [row for row in rows_of("Rounds beside one look") if row["configurations"] < 8]
    clear = [row for row in rows if row["effect in deviations"] >= 2 or row["margin in deviations"] == "2.7"]
    assert all(row["can't tell"] < 0.08 for row in clear)
    saved = [1 - float(row["runs in all"]) / row["as many words at one look"] for row in clear]
    assert np.mean(saved) > 0.33


def test_runs_that_go_where_they_tell_more_give_more_words_and_no_more_false_ones(monkeypatch):
    monkeypatch.setattr(allocation, "_EXPENSIVE", 4)
    rows = rows_of("Rounds whose runs go where they tell more")
    scarce = [row for row in rows if row["runs at most"] == allocation.RUNS[0]]
    gains = {spread: [] for spread in {row["its spread"] for row in scarce}}
    for row in scarce:
        gains[row["its spread"]].append(row["told, allotted"] - row["told, halved"])
    assert np.mean(gains.pop("1")) > -0.1  # nothing to gain, nothing lost but by chance
    assert np.mean(list(gains.values())) > 0.05
    assert np.mean([row["false, allotted"] for row in rows]) <= 0.05


def test_rounds_are_judged_as_verdicts_are():
    random = np.random.default_rng(3)
    own, baseline = simulated(random, 30, 1, 2, 6)
    own += random.normal(0, 2, (30, 1, 2, 1))
    differs, same, _ = verdicts.until_decided(own, baseline, [6], [level_of(1, 4)], margin=2.0)
    words = []
    for sweep in range(30):
        base = Sample(tuple(baseline[sweep, 0, 0]))
        pairs = [Comparison(str(k), Sample(tuple(own[sweep, 0, k])), base) for k in range(2)]
        told = judge(pairs, mode="min", metric="fid", compare="difference", planned=4, margin=2.0)
        words += [one.word for one in told]
    ours = np.where(differs, "differs", np.where(same, "same", "can't tell")).ravel().tolist()
    assert ["differs" if word in ("better", "worse") else word for word in words] == ours
    assert len(set(ours)) == 3


def test_intervals_over_groups_hold_where_the_bootstraps_do_not(monkeypatch):
    monkeypatch.setattr(groups, "_EXPENSIVE", 8)
    with_three_runs = rows_of("Several groups together", most=6)
    means = {name: np.mean([row[name] for row in with_three_runs]) for name in list(with_three_runs[0])[3:]}
    assert min(means["effect"], means["pairs won"]) > 0.95
    assert max(means["effect, bootstrap"], means["pairs won, bootstrap"]) < 0.93


def test_a_summary_over_groups_leaves_no_difference_out_as_rarely_as_a_word_is_false(monkeypatch):
    monkeypatch.setattr(groups, "_EXPENSIVE", 8)
    rows = rows_of("False summaries of several groups", most=5)
    assert max(np.mean([row[name] for row in rows]) for name in ("of the effect", "of pairs won")) <= 0.05


def test_the_page_has_every_table(capsys):
    assert main(["--sweeps", "20"]) == 0
    page = capsys.readouterr().out
    assert [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")] == list(TABLES)
    with pytest.raises(UserError, match="--sweeps 0: at least 1 is needed"):
        main(["--sweeps", "0"])
