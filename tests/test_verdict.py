"""Verdicts: known values, agreement with scipy, lost runs, and what the sentences say."""

import math

import numpy as np
import pytest
from scipy import stats

from kgan_ray.tuning.answer.comparison import Comparison, Sample
from kgan_ray.tuning.answer.significance import welch
from kgan_ray.tuning.answer.verdict import Verdict, judge


def compare_runs(baseline, candidates, *, lost=0, baseline_lost=0, mode="min", look=1, **more) -> list[Verdict]:
    """Return the verdicts on lists of values; `lost` are runs of every candidate."""
    base = Sample(tuple(baseline), baseline_lost)
    comparisons = [
        Comparison(name, Sample(tuple(values), lost), base, look=look) for name, values in candidates.items()
    ]
    return judge(comparisons, mode=mode, **({"metric": "fid", "compare": "difference"} | more))


def verdict_on(baseline, values, **more) -> Verdict:
    (verdict,) = compare_runs(baseline, {"a": values}, **more)
    return verdict


def test_a_planted_effect_is_seen_and_a_dummy_is_not():
    random = np.random.default_rng(3)
    helps = dummy = 0
    for _ in range(20):
        baseline, better, same = (random.normal(mean, 10, 5).tolist() for mean in (200, 100, 200))
        first, second = compare_runs(baseline, {"helps": better, "dummy": same})
        helps += first.word == "better"
        dummy += second.word != "can't tell"
    assert helps == 20
    assert dummy <= 2


def test_ratios_see_what_a_spread_that_grows_with_the_value_hides():
    """An effect of a factor of eight, seeds that spread by a factor of two: three seeds each, twenty sweeps."""
    random = np.random.default_rng(5)
    seen = {"difference": 0, "ratio": 0}
    for _ in range(20):
        baseline, better = ((mean * np.exp(0.7 * random.normal(0, 1, 3))).tolist() for mean in (800, 100))
        for compare in seen:
            seen[compare] += verdict_on(baseline, better, compare=compare).word == "better"
    assert seen["ratio"] >= 2 * seen["difference"]
    assert seen["ratio"] >= 10


def test_a_ratio_is_that_of_geometric_means():
    verdict = verdict_on([2.0, 8.0], [1.0, 4.0], compare="ratio")
    assert (verdict.mean, verdict.baseline_mean, verdict.effect) == pytest.approx((2.0, 4.0, 0.5))
    assert verdict.low < 0.5 < verdict.high
    raw = welch(np.log([1.0, 4.0]), np.log([2.0, 8.0])).p_value
    assert verdict.p_value == pytest.approx(raw * 5 / 3)  # the first look is tested at 3 %
    assert verdict.sentence.startswith(
        "a cannot be told from the baseline: fid 0.5 times, between 0.00198 and 126; 2 runs each."
    )
    swapped = verdict_on([1.0, 4.0], [2.0, 8.0], compare="ratio")
    assert (swapped.low, swapped.high) == pytest.approx((1 / verdict.high, 1 / verdict.low))
    assert verdict_on([1.0, 2.0], [0.0, 1.0], compare="ratio").word == "can't tell"


@pytest.mark.parametrize(("mode", "word"), [("min", "worse"), ("max", "better")])
def test_the_mode_decides_what_is_good(mode, word):
    verdict = verdict_on([1.0, 1.1, 0.9], [5.0, 5.1, 4.9], mode=mode)
    assert verdict.word == word
    assert verdict.sentence == f"a is {word} than the baseline: fid +4, between +3.73 and +4.27; 3 runs each."


def test_interval_and_word_agree_whatever_the_correction():
    """Over three hundred comparisons, two at a time, one that is the case and one that nearly is: no exception."""
    random = np.random.default_rng(6)
    words = []
    for look in (1, 2):
        for shift in np.linspace(0, 6, 80):
            baseline, one, other = (random.normal(mean, 1, 4).tolist() for mean in (0, shift, shift / 2))
            for verdict in compare_runs(baseline, {"a": one, "b": other}, look=look):
                words.append(verdict.word)
                assert (verdict.low <= 0 <= verdict.high) == (verdict.word == "can't tell")
    assert len(set(words)) == 3 or words.count("can't tell") < len(words)


def test_the_correction_is_for_all_comparisons_and_all_looks():
    baseline, values = [1.0, 2.0, 3.0, 4.0], [4.5, 5.5, 6.5, 7.5]
    raw = welch(values, baseline).p_value
    alone = verdict_on(baseline, values)
    assert (alone.word, alone.p_value) == ("worse", pytest.approx(raw * 5 / 3))
    beside, _ = compare_runs(baseline, {"a": values, "b": baseline})
    assert beside.p_value == pytest.approx(2 * alone.p_value)
    again = verdict_on(baseline, values, look=2)
    assert again.p_value == pytest.approx(raw * 5)
    assert beside.high - beside.low > alone.high - alone.low


def test_the_same_is_shown_by_two_one_sided_tests():
    """Of the logarithms, at the level of the look and for all comparisons; it is what they say, not that nothing else is."""
    baseline, values = [50.0, 55.0, 60.0, 52.0, 57.0, 58.0], [52.0, 54.0, 61.0, 50.0, 58.0, 56.0]
    same = verdict_on(baseline, values, compare="ratio", margin=1.5)
    assert same.word == "same"
    assert same.sentence == (
        "a is about as good as the baseline: fid 0.997 times, between 0.914 and 1.09, within a factor of 1.5; 6 runs each."
    )
    one_sided = [
        stats.ttest_ind(np.log(values) + shift, np.log(baseline), equal_var=False, alternative=side).pvalue
        for shift, side in ((-np.log(1.5), "less"), (np.log(1.5), "greater"))
    ]
    assert same.p_value == pytest.approx(max(one_sided) * 5 / 3)  # the first look is tested at 3 %
    assert 1 / 1.5 < same.low <= 1 <= same.high < 1.5
    assert verdict_on(baseline, values, compare="ratio").word == "can't tell"
    assert verdict_on(baseline, values, compare="ratio", margin=1.05).word == "can't tell"
    assert verdict_on(baseline, values, compare="ratio", margin=1.5, look=0).word == "can't tell"
    assert verdict_on(baseline, values, compare="ratio", margin=1.5, lost=1).word == "can't tell"
    assert verdict_on([1.0] * 3, [1.0] * 3, compare="ratio", margin=1.5).word == "can't tell"
    near = verdict_on([0.50, 0.51, 0.52], [0.51, 0.50, 0.52], margin=0.1)
    assert ", within ±0.1; 3 runs each." in near.sentence


def test_a_difference_within_the_margin_is_still_one():
    verdict = verdict_on([100.0, 100.5, 99.5, 100.0], [90.0, 90.5, 89.5, 90.0], compare="ratio", margin=1.5)
    assert verdict.word == "better"
    assert 1 / 1.5 < verdict.low < verdict.high < 1


def test_interval_and_word_agree_with_a_margin_too():
    random = np.random.default_rng(7)
    words = set()
    for look in (1, 2, 4, 6):
        for shift in np.linspace(0, 4, 60):
            baseline, *own = (random.normal(mean, 0.5, 6).tolist() for mean in (0, shift, shift / 4))
            candidates = dict(zip("ab", own, strict=True))
            for verdict in compare_runs(baseline, candidates, look=look, planned=4, margin=1.5):
                words.add(verdict.word)
                leaves_zero_out = not verdict.low <= 0 <= verdict.high
                assert leaves_zero_out == (verdict.word in ("better", "worse"))
                is_within = verdict.low > -1.5 and verdict.high < 1.5
                assert is_within == (verdict.word == "same") or leaves_zero_out
    assert words == {"worse", "same", "can't tell"}


def test_the_word_goes_by_the_scale_that_is_tested():
    """One large value makes the arithmetic mean the higher one, and the geometric mean is the lower."""
    verdict = verdict_on([10.0] * 6 + [10.1] * 6, [1.0] * 11 + [200.0], compare="ratio")
    assert np.mean(verdict.comparison.own.values) > np.mean(verdict.comparison.baseline.values)
    assert (verdict.word, verdict.effect < 1) == ("better", True)


def test_nothing_is_judged_before_the_first_round_is_complete():
    verdict = verdict_on([1.0, 1.1, 0.9], [5.0, 5.1, 4.9], look=0)
    assert verdict.word == "can't tell"
    assert verdict.sentence.startswith("a cannot be judged yet: fid +4, between +3.73 and +4.27; 3 runs each.")
    assert "p =" not in verdict.sentence


def test_no_spread_is_no_certainty():
    """Three times 0.1 against three times 0.1005 differ by rounding errors only from a spread of 0."""
    verdict = verdict_on([0.1, 0.1, 0.1 + 1e-17], [0.1005, 0.1005, 0.1005], metric="accuracy", mode="max")
    assert (verdict.word, verdict.p_value, verdict.low, verdict.high) == ("can't tell", 1.0, -math.inf, math.inf)
    assert verdict.sentence == (
        "a cannot be told from the baseline, as runs without any spread prove nothing: accuracy +0.0005; 3 runs each."
    )


def test_one_run_each_cannot_tell():
    verdict = verdict_on([1.0], [100.0])
    assert verdict.word == "can't tell"
    assert verdict.sentence == (
        "a cannot be told from the baseline: fid +99; 1 run each. 2 more seeds needed to know the spread."
    )


def test_a_configuration_that_lost_a_run_is_ranked_with_it_as_the_worst():
    """Four very good values and a lost run against five: the values alone would say better."""
    baseline, values = [10.0, 11.0, 12.0, 13.0, 14.0], [1.0, 1.1, 1.2, 1.3]
    assert verdict_on(baseline, values).word == "better"
    verdict = verdict_on(baseline, values, lost=1)
    assert verdict.word == "can't tell"
    assert verdict.sentence.endswith(
        "; 1 of 5 runs lost, none of the baseline's 5, which count as the worst, Fisher's p = 1."
    )
    many = verdict_on([*range(10, 20)], [*range(9)], lost=1)
    assert many.word == "better"


def test_a_baseline_that_lost_its_worst_runs_makes_nobody_worse():
    baseline = [1.0, 1.1, 1.2]
    worse = verdict_on(baseline, [1.6, 1.7, 1.8, 1.9, 2.0], baseline_lost=2)
    assert worse.word == "can't tell"
    assert welch([1.6, 1.7, 1.8, 1.9, 2.0], baseline).p_value < 0.01
    assert verdict_on(baseline, [0.1, 0.11, 0.12, 0.13, 0.14], baseline_lost=2).word == "better"


def test_a_configuration_that_is_lost_every_time_is_worse():
    verdict = verdict_on([10.0, 11.0, 12.0], [], lost=3)
    assert verdict.word == "worse"
    assert verdict.sentence == (
        "a is worse than the baseline, as it lost every run and the baseline none: 3 of 3 runs lost, "
        "none of the baseline's 3, which count as the worst, Fisher's p = 0.1."
    )
    assert verdict_on([10.0, 11.0], [], lost=2).word == "can't tell"  # two runs: chance does it once in 16
    assert verdict_on([10.0, 11.0, 12.0], [], lost=3, baseline_lost=1).word == "can't tell"
    both = compare_runs([10.0, 11.0, 12.0], {"a": [], "b": []}, lost=3)
    assert [one.word for one in both] == ["worse", "worse"]
    three = [Sample((), 3), Sample((10.0, 11.0, 12.0)), Sample((10.0,), 2), Sample((11.0,), 2)]
    comparisons = [Comparison(str(k), own, three[1]) for k, own in enumerate([three[0], *three[2:]])]
    lost, *_ = judge(comparisons, mode="min", metric="fid", compare="difference")
    assert lost.word == "can't tell"  # two of three are lost everywhere but in the baseline
    assert verdict_on([10.0, 11.0, 12.0], [], lost=3, look=0).word == "can't tell"


def test_losing_most_runs_is_worse_by_the_ranks():
    verdict = verdict_on([10.0, 10.1, 10.2, 10.3, 10.4, 10.5], [10.0], lost=6)
    assert verdict.word == "worse"
    assert verdict.sentence.startswith(
        "a is worse than the baseline: fid -0.25; 7 runs against 6; 6 of 7 runs lost, none of the baseline's 6,"
    )


def test_no_run_at_all():
    waiting = verdict_on([], [10.0, 11.0])
    assert waiting.sentence == "a cannot be told from the baseline, as no run of the baseline has ended."
    assert verdict_on([1.0, 2.0], []).sentence == "a cannot be told from the baseline, as no run of it has ended."


@pytest.mark.parametrize(
    ("baseline", "values", "more"),
    [
        ([1.0, 2.0, 3.0], [1.001, 2.0, 3.0], {}),
        ([1.0, 2.0, 3.0], [3.0, 4.0, 5.5], {}),
        ([1.0, 1.1, 1.2], [3.0, 3.1, 3.2], {"look": 3}),
        ([1.0, 1.1, 1.2], [3.0, 3.1], {"lost": 1}),
        ([1.0, 1.1, 1.2], [], {"lost": 3}),
        ([1.0], [3.0], {}),
        ([1.0, 1.0], [3.0, 3.0], {}),
        ([1.0, 2.0], [3.0, 4.0], {"look": 0}),
    ],
)
def test_no_sentence_has_more_than_twenty_words(baseline, values, more):
    """Figures stand after the colon, advice is a sentence of its own."""
    claim, _, rest = verdict_on(baseline, values, **more).sentence.partition(":")
    assert len(claim.split()) <= 20
    assert all(len(sentence.split()) <= 20 for sentence in rest.split(". ")[1:])
