"""Verdicts: known values, agreement with scipy, rates of false alarms, and what the sentences say."""

import numpy as np
import pytest
from scipy import stats

from kgan_ray.tuning.answer.verdict import bootstrap_interval, holm, judge, more_seeds_needed, welch


def test_welch_agrees_with_scipy():
    source = np.random.default_rng(0)
    for size in (2, 3, 10):
        one, other = source.normal(1, 1, size).tolist(), source.normal(0, 3, size + 1).tolist()
        assert welch(one, other) == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue)


@pytest.mark.parametrize(
    ("one", "other", "p_value"),
    [([1.0, 1.0], [1.0, 1.0], 1.0), ([1.0, 1.0], [2.0, 2.0], 0.0), ([1.0], [2.0, 3.0], 1.0)],
)
def test_welch_without_spread_or_repeats(one, other, p_value):
    assert welch(one, other) == p_value


def test_holm_on_the_textbook_example():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone; the order of the input is kept.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_interval_is_seeded_and_holds_the_difference():
    one, other = [1.0, 2.0, 3.0], [5.0, 6.0, 9.0]
    low, high = bootstrap_interval(one, other)
    assert (low, high) == bootstrap_interval(one, other)
    assert low <= np.mean(one) - np.mean(other) <= high
    assert bootstrap_interval([1.0], other) == (-np.inf, np.inf)


@pytest.mark.parametrize(("runs", "least"), [(5, 0.9), (20, 0.92)])
def test_the_interval_covers_the_true_difference(runs, least):
    source = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        low, high = bootstrap_interval(source.normal(2, 1, runs).tolist(), source.normal(0, 1, runs).tolist())
        hits += low <= 2 <= high
    assert hits / 300 >= least


@pytest.mark.parametrize("runs", [3, 5])
@pytest.mark.parametrize("compare", ["difference", "ratio"])
def test_false_alarms_stay_below_the_level(runs, compare):
    """Three configurations that do nothing, over many sweeps: at most one sweep in twenty says otherwise."""
    source = np.random.default_rng(2)
    alarms = 0
    for _ in range(600):
        normal = source.normal(0, 1, (4, runs))
        draws = (100 + 10 * normal if compare == "difference" else 300 * np.exp(0.7 * normal)).tolist()
        verdicts = judge(draws[0], {str(k): draws[k] for k in (1, 2, 3)}, mode="min", compare=compare)
        alarms += any(verdict.word != "can't tell" for verdict in verdicts)
    assert alarms / 600 <= 0.05 + 2 * (0.05 * 0.95 / 600) ** 0.5


def test_a_planted_effect_is_found_and_a_dummy_is_not():
    source = np.random.default_rng(3)
    helps = dummy = 0
    for _ in range(20):
        baseline, better, same = (source.normal(mean, 10, 5).tolist() for mean in (200, 100, 200))
        first, second = judge(baseline, {"helps": better, "dummy": same}, mode="min")
        helps += first.word == "better"
        dummy += second.word != "can't tell"
    assert helps == 20
    assert dummy <= 2


def test_ratios_find_what_a_spread_that_grows_with_the_value_hides():
    """An effect of a factor of eight, seeds that spread by a factor of two: three seeds each, twenty sweeps."""
    source = np.random.default_rng(5)
    found = {"difference": 0, "ratio": 0}
    for _ in range(20):
        baseline, better = ((mean * np.exp(0.7 * source.normal(0, 1, 3))).tolist() for mean in (800, 100))
        for compare in found:
            (verdict,) = judge(baseline, {"helps": better}, mode="min", compare=compare)
            found[compare] += verdict.word == "better"
    assert found["ratio"] >= 2 * found["difference"]
    assert found["ratio"] >= 14


def test_a_ratio_is_that_of_geometric_means():
    (verdict,) = judge([2.0, 8.0], {"a": [1.0, 4.0]}, mode="min", compare="ratio")
    assert (verdict.mean, verdict.baseline, verdict.effect) == pytest.approx((2.0, 4.0, 0.5))
    assert verdict.low < 0.5 < verdict.high
    assert verdict.p_value == pytest.approx(welch(np.log([1.0, 4.0]), np.log([2.0, 8.0])))
    assert "fid 2 against 4 (geometric means), ratio 0.5 [" in verdict.sentence
    (swapped,) = judge([1.0, 4.0], {"a": [2.0, 8.0]}, mode="min", compare="ratio")
    assert (swapped.low, swapped.high) == pytest.approx((1 / verdict.high, 1 / verdict.low), rel=0.05)
    (zero,) = judge([1.0, 2.0], {"a": [0.0, 1.0]}, mode="min", compare="ratio")
    assert zero.word == "can't tell"


@pytest.mark.parametrize(("mode", "word"), [("min", "worse"), ("max", "better")])
def test_the_mode_decides_what_is_good(mode, word):
    (verdict,) = judge([1.0, 1.1, 0.9], {"a": [5.0, 5.1, 4.9]}, mode=mode)
    assert verdict.word == word
    assert verdict.sentence.startswith(f"a: {word} (fid 5 against 1, difference +4 [")


def test_seeds_needed_agree_with_a_simulation():
    one, other = [0.0, 1.0, 2.0], [1.0, 2.0, 3.0]  # difference 1, standard deviation 1
    more = more_seeds_needed(one, other, 0.05)
    assert more is not None
    source = np.random.default_rng(4)
    runs = 3 + more
    found = [welch(source.normal(0, 1, runs).tolist(), source.normal(1, 1, runs).tolist()) for _ in range(500)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.8, abs=0.06)


def test_too_little_difference_says_so():
    (verdict,) = judge([1.0, 2.0, 3.0], {"a": [1.001, 2.0, 3.0]}, mode="min")
    assert (verdict.word, verdict.more_seeds) == ("can't tell", None)
    assert "small beside the spread between seeds" in verdict.sentence


def test_one_run_each_cannot_tell():
    (verdict,) = judge([1.0], {"a": [100.0]}, mode="min")
    assert (verdict.word, verdict.more_seeds) == ("can't tell", 2)
    assert "about 2 more seeds needed" in verdict.sentence


def test_a_configuration_that_diverges_is_never_better():
    (verdict,) = judge([10.0, 11.0, 12.0], {"a": [1.0, 1.1]}, mode="min", failed={"a": 1})
    assert verdict.word == "can't tell"
    assert "1 of 3 runs gave no value" in verdict.sentence


def test_no_run_at_all():
    (verdict,) = judge([10.0, 11.0], {"a": []}, mode="min", failed={"a": 3})
    assert verdict.sentence == "a: can't tell: no run of a gave a value of fid"
