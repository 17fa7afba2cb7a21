"""A configuration over all groups: known values, agreement with SciPy, and what lost runs do."""

import math

import numpy as np
import pytest
from scipy import stats

from kgan_ray.tuning.answer.comparison import Comparison, Sample
from kgan_ray.tuning.answer.together import interquartile_mean, over_groups


def compared(own, baseline, group, *, name="a", lost=0, look=1):
    return Comparison(name, Sample(tuple(own), lost), Sample(tuple(baseline)), group, look)


def summed_up(*comparisons, mode="min", compare="difference", **more):
    return over_groups(comparisons, mode=mode, metric="fid", compare=compare, **more)


def two_groups(seed=0, runs=5, shift=-1.0, **more):
    random = np.random.default_rng(seed)
    return [
        compared(random.normal(shift, 1, runs), random.normal(0, 1, runs), group, **more) for group in ("x", "y")
    ]


def test_the_interquartile_mean_is_scipys_where_quarters_are_whole():
    values = np.random.default_rng(0).normal(size=8)
    assert interquartile_mean(values, np.ones(8)) == pytest.approx(stats.trim_mean(values, 0.25))


def test_a_quarter_is_cut_off_in_parts_of_values_and_by_their_weights():
    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 3.0, 10.0, 50.0]), np.ones(6)) == pytest.approx(
        (0.5 * 1 + 2 + 3 + 0.5 * 10) / 3
    )
    assert interquartile_mean(np.array([7.0, 0.0]), np.array([3.0, 1.0])) == 7.0


def test_the_share_of_pairs_is_mann_and_whitneys_averaged_over_groups():
    groups = two_groups()
    (one,) = summed_up(*groups)
    u = [stats.mannwhitneyu(group.baseline.values, group.own.values).statistic / 25 for group in groups]
    assert one.pairs_won.value == pytest.approx(np.mean(u))
    (other,) = summed_up(*groups, mode="max")
    assert other.pairs_won.value == pytest.approx(1 - np.mean(u))
    assert other.pairs_won.low == pytest.approx(1 - one.pairs_won.high)


def test_each_group_is_measured_beside_its_own_baseline_and_ratios_by_logarithms():
    near = compared([50.0, 52.0, 48.0], [100.0, 104.0, 96.0], "x")
    far = compared([5000.0, 5200.0, 4800.0], [10000.0, 10400.0, 9600.0], "y")
    (one,) = summed_up(near, far, compare="ratio")
    assert one.effect.value == pytest.approx(0.5, rel=0.01)
    assert one.effect.low < 0.5 < one.effect.high < 0.7
    assert one.sentence.startswith("a over x and y together: fid 0.5 times, between 0.4")


def test_lost_runs_lose_their_pairs_and_leave_no_interval():
    (one,) = summed_up(compared([1.0, 1.0], [2.0, 3.0], "x", lost=2), compared([1.0, 2.0], [3.0, 4.0], "y"))
    assert one.pairs_won.value == pytest.approx((0.5 + 1.0) / 2)
    assert one.runs == 6
    assert math.isnan(one.effect.low)
    assert one.sentence == "a over x and y together: fid -1.5; better in 75% of pairs of runs."


@pytest.mark.parametrize(
    "comparisons",
    [
        [compared([1.0, 2.0], [3.0, 4.0], "x")],
        [compared([1.0, 2.0], [3.0, 4.0], "x"), compared([], [3.0, 4.0], "y", lost=2)],
        two_groups(look=0),
    ],
    ids=["one group", "no value in the other", "nothing to judge yet"],
)
def test_what_cannot_be_summed_up_is_left_out(comparisons):
    assert summed_up(*comparisons) == []


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0]])
def test_without_a_spread_there_is_no_interval(values):
    (one,) = summed_up(compared(values, [2.0, 3.0], "x"), compared([1.0, 2.0], [3.0, 4.0], "y"))
    assert not one.effect.has_interval
    assert not one.pairs_won.has_interval


def test_intervals_grow_with_the_number_of_configurations_and_looks():
    (alone,) = summed_up(*two_groups())
    (later,) = summed_up(*two_groups(look=2))
    beside, _ = summed_up(*two_groups(), *two_groups(seed=1, name="b"))
    for wider in (later, beside):
        assert wider.effect.value == alone.effect.value
        assert wider.effect.low < alone.effect.low < alone.effect.high < wider.effect.high
