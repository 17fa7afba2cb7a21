"""Who runs how often in a further round of confirmation."""

import numpy as np
import pytest

from kgan_ray.tuning.answer.allocation import allotted
from kgan_ray.tuning.answer.comparison import Comparison, Sample

CALM, WILD = (99.0, 100.0, 101.0), (50.0, 100.0, 200.0)
BASE = ("", "baseline")


def compared(own, baseline=CALM, name="it", group="", lost=0):
    return Comparison(name, Sample(own, lost), Sample(baseline), group)


def shares(undecided, runs=8, most=20, compare="ratio"):
    return allotted(undecided, runs, most, compare)


def test_sides_that_deviate_alike_share_the_runs():
    assert shares([compared(CALM)]) == {("", "it"): 4, BASE: 4}


def test_runs_go_to_the_side_whose_seeds_differ_more():
    assert shares([compared(WILD)]) == {("", "it"): 6, BASE: 2}
    assert shares([compared(CALM, WILD)]) == {("", "it"): 2, BASE: 6}


def test_none_gets_more_seeds_than_there_are():
    assert shares([compared(WILD)], most=5) == {("", "it"): 5, BASE: 3}
    assert shares([compared(WILD)], most=2) == {("", "it"): 2, BASE: 2}


def test_every_comparison_goes_on_and_none_takes_the_runs_of_another():
    wild, calm = compared(WILD, name="wild"), compared(CALM, name="calm")
    assert shares([wild, calm], runs=2) == {("", "wild"): 1, ("", "calm"): 1}
    given = shares([wild, calm], runs=12)
    assert given["", "wild"] > given["", "calm"] >= 2
    assert given[BASE] >= 2  # which the calm one needs


def test_a_baseline_of_many_runs_more_often_than_each_of_them():
    given = shares([compared(CALM, name=name) for name in "abcd"], runs=21)
    assert given[BASE] > max(count for side, count in given.items() if side != BASE)
    assert sum(given.values()) == 21


def test_groups_have_baselines_of_their_own():
    given = shares([compared(CALM, group="xsub"), compared(CALM, WILD, group="xview")], runs=12)
    assert given["xview", "baseline"] > given["xsub", "baseline"]


def test_means_say_nothing():
    far = tuple(np.array(WILD) + 1000)
    assert shares([compared(far)], compare="difference") == shares([compared(WILD)], compare="difference")


@pytest.mark.parametrize(
    "one",
    [compared(WILD, lost=1), compared((), lost=3), compared((100.0,), (100.0,)), compared((5.0,) * 3, (5.0,) * 3)],
)
def test_without_a_spread_to_go_by_counts_are_made_equal(one):
    given = shares([one], runs=9)
    totals = one.own.runs + given["", "it"], one.baseline.runs + given[BASE]
    assert abs(totals[0] - totals[1]) <= 1
