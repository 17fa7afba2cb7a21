"""Verdicts: known values, agreement with scipy, rates of false alarms, and what the sentences say."""

import numpy as np
import pytest
from scipy import stats

from kgan_ray.tuning.answer.verdict import Sample, bootstrap_interval, holm, judge, more_seeds_needed, welch


def interval(one, other):
    return bootstrap_interval(one, other, welch(one, other).freedom)


def compare_runs(baseline, candidates, *, lost=0, baseline_lost=0, mode="min", **more):
    """The verdicts on lists of values; `lost` are runs of every candidate."""
    samples = {name: Sample(tuple(values), lost) for name, values in candidates.items()}
    return judge(Sample(tuple(baseline), baseline_lost), samples, mode=mode, **more)


def test_welch_on_a_worked_example():
    # Means 2 and 5, variances 1 and 4, three runs each: t = -3 / sqrt(5 / 3), 50 / 17 degrees of freedom.
    expected = 2 * stats.t.sf(3 / (5 / 3) ** 0.5, 50 / 17)
    assert welch([1.0, 2.0, 3.0], [3.0, 5.0, 7.0]) == pytest.approx((expected, 50 / 17))


@pytest.mark.parametrize(
    ("one", "other", "p_value"),
    [([1.0, 1.0], [1.0, 1.0], 1.0), ([1.0, 1.0], [2.0, 2.0], 0.0), ([1.0], [2.0, 3.0], 1.0)],
)
def test_welch_without_spread_or_repeats(one, other, p_value):
    assert welch(one, other).p_value == p_value


def test_holm_on_the_textbook_example():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone; the order of the input is kept.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_interval_is_seeded_and_holds_the_difference():
    one, other = [1.0, 2.0, 3.0], [5.0, 6.0, 9.0]
    low, high = interval(one, other)
    assert (low, high) == interval(one, other)
    assert low <= np.mean(one) - np.mean(other) <= high
    assert interval([1.0], other) == (-np.inf, np.inf)


@pytest.mark.parametrize(("runs", "least"), [(5, 0.9), (20, 0.92)])
def test_the_interval_covers_the_true_difference(runs, least):
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        low, high = interval(random.normal(2, 1, runs).tolist(), random.normal(0, 1, runs).tolist())
        hits += low <= 2 <= high
    assert hits / 300 >= least


@pytest.mark.parametrize(("runs", "compare"), [(3, "difference"), (5, "difference"), (3, "ratio")])
def test_false_alarms_stay_below_the_level(runs, compare):
    """Three configurations that do nothing, over many sweeps: at most one sweep in twenty says otherwise."""
    random = np.random.default_rng(2)
    alarms = 0
    for _ in range(600):
        normal = random.normal(0, 1, (4, runs))
        draws = (100 + 10 * normal if compare == "difference" else 300 * np.exp(0.7 * normal)).tolist()
        verdicts = compare_runs(draws[0], {str(k): draws[k] for k in (1, 2, 3)}, compare=compare)
        alarms += any(verdict.word != "can't tell" for verdict in verdicts)
    assert alarms / 600 <= 0.05 + 2 * (0.05 * 0.95 / 600) ** 0.5


def test_a_planted_effect_is_found_and_a_dummy_is_not():
    random = np.random.default_rng(3)
    helps = dummy = 0
    for _ in range(20):
        baseline, better, same = (random.normal(mean, 10, 5).tolist() for mean in (200, 100, 200))
        first, second = compare_runs(baseline, {"helps": better, "dummy": same})
        helps += first.word == "better"
        dummy += second.word != "can't tell"
    assert helps == 20
    assert dummy <= 2


def test_ratios_find_what_a_spread_that_grows_with_the_value_hides():
    """An effect of a factor of eight, seeds that spread by a factor of two: three seeds each, twenty sweeps."""
    random = np.random.default_rng(5)
    found = {"difference": 0, "ratio": 0}
    for _ in range(20):
        baseline, better = ((mean * np.exp(0.7 * random.normal(0, 1, 3))).tolist() for mean in (800, 100))
        for compare in found:
            (verdict,) = compare_runs(baseline, {"helps": better}, compare=compare)
            found[compare] += verdict.word == "better"
    assert found["ratio"] >= 2 * found["difference"]
    assert found["ratio"] >= 14


def test_a_ratio_is_that_of_geometric_means():
    (verdict,) = compare_runs([2.0, 8.0], {"a": [1.0, 4.0]}, compare="ratio")
    assert (verdict.mean, verdict.baseline_mean, verdict.effect) == pytest.approx((2.0, 4.0, 0.5))
    assert verdict.low < 0.5 < verdict.high
    assert verdict.p_value == pytest.approx(welch(np.log([1.0, 4.0]), np.log([2.0, 8.0])).p_value)
    assert "fid 2 against 4 (geometric means), ratio 0.5 [" in verdict.sentence
    (swapped,) = compare_runs([1.0, 4.0], {"a": [2.0, 8.0]}, compare="ratio")
    assert (swapped.low, swapped.high) == pytest.approx((1 / verdict.high, 1 / verdict.low), rel=0.05)
    (zero,) = compare_runs([1.0, 2.0], {"a": [0.0, 1.0]}, compare="ratio")
    assert zero.word == "can't tell"


@pytest.mark.parametrize(("mode", "word"), [("min", "worse"), ("max", "better")])
def test_the_mode_decides_what_is_good(mode, word):
    (verdict,) = compare_runs([1.0, 1.1, 0.9], {"a": [5.0, 5.1, 4.9]}, mode=mode)
    assert verdict.word == word
    assert verdict.sentence.startswith(f"a: {word} (fid 5 against 1, difference +4 [")


def test_seeds_needed_agree_with_a_simulation():
    one, other = [0.0, 1.0, 2.0], [1.0, 2.0, 3.0]  # difference 1, standard deviation 1
    more = more_seeds_needed(one, other, 0.05)
    assert more is not None
    random = np.random.default_rng(4)
    runs = 3 + more
    found = [
        welch(random.normal(0, 1, runs).tolist(), random.normal(1, 1, runs).tolist()).p_value for _ in range(500)
    ]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.8, abs=0.06)


def test_too_little_difference_says_so():
    (verdict,) = compare_runs([1.0, 2.0, 3.0], {"a": [1.001, 2.0, 3.0]})
    assert (verdict.word, verdict.more_seeds) == ("can't tell", None)
    assert "small beside the spread between seeds" in verdict.sentence


def test_one_run_each_cannot_tell():
    (verdict,) = compare_runs([1.0], {"a": [100.0]})
    assert (verdict.word, verdict.more_seeds) == ("can't tell", 2)
    assert "about 2 more seeds needed" in verdict.sentence


def test_a_configuration_that_diverges_is_never_better():
    (verdict,) = compare_runs([10.0, 11.0, 12.0], {"a": [1.0, 1.1]}, lost=1)
    assert verdict.word == "can't tell"
    assert "the lost runs are missing from the comparison" in verdict.sentence
    assert verdict.sentence.endswith("; 1 of 3 runs gave no value)")


def test_no_configuration_is_worse_than_a_baseline_that_lost_runs():
    """Of the baseline only the lucky runs were measured; what beats even those is better still."""
    baseline = [1.0, 1.1, 1.2]
    worse, better = compare_runs(baseline, {"a": [10.0, 11.0, 12.0], "b": [0.1, 0.11, 0.12]}, baseline_lost=2)
    assert (worse.word, better.word) == ("can't tell", "better")
    assert worse.p_value < 0.05
    for verdict in (worse, better):
        assert verdict.sentence.endswith("; 2 of the baseline's 5 runs gave no value)")
    (both,) = compare_runs(baseline, {"a": [10.0, 11.0]}, lost=1, baseline_lost=2)
    assert both.sentence.endswith("; 1 of 3 runs and 2 of the baseline's 5 runs gave no value)")
    assert both.word == "can't tell"


def test_no_run_at_all():
    (verdict,) = compare_runs([10.0, 11.0], {"a": []}, lost=3)
    assert verdict.sentence == "a: can't tell: no run of a gave a value of fid"
    (waiting,) = compare_runs([], {"a": [10.0, 11.0]})
    assert waiting.sentence == "a: can't tell: no run of the baseline has ended"
