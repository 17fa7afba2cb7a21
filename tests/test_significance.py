"""Tests of two samples and their corrections: known values, agreement with the literature."""

import numpy as np
import pytest
from scipy import stats

from kgan_ray.tuning.answer.significance import LEVEL, equal_level, holm, level_of, rank_test, welch


def test_welch_on_a_worked_example():
    # Means 2 and 5, variances 1 and 4, three runs each: t = -3 / sqrt(5 / 3), 50 / 17 degrees of freedom.
    error, freedom = (5 / 3) ** 0.5, 50 / 17
    reach = stats.t.isf(0.025, freedom) * error
    expected = (2 * stats.t.sf(3 / error, freedom), -3 - reach, -3 + reach)
    assert welch([1.0, 2.0, 3.0], [3.0, 5.0, 7.0]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [([1.0, 1.0], [1.0, 1.0]), ([1.0, 1.0], [2.0, 2.0]), ([1.0], [2.0, 3.0]), ([0.0, 0.0], [0.0, 0.0])],
)
def test_without_spread_or_repeats_there_is_no_test(one, other):
    assert welch(one, other) == (1.0, -np.inf, np.inf)


def test_holm_on_the_textbook_example():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone; the order of the input is kept.
    p_values = np.array([0.01, 0.04, 0.03, 0.005])
    assert holm(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.stack([p_values, p_values[::-1]])) == pytest.approx(
        np.array([[0.03, 0.06, 0.06, 0.02], [0.02, 0.06, 0.06, 0.03]])
    )
    assert holm(np.array([])).tolist() == []


def test_ranks_of_samples_that_do_not_overlap():
    assert rank_test([1.0, 2.0, 3.0], [4.0, 5.0, np.inf]) == pytest.approx(2 / 20)
    assert rank_test([1.0, 2.0, 3.0, 4.0, 5.0], [np.inf] * 5) == pytest.approx(2 / 252)
    assert rank_test([np.inf, np.inf], [np.inf, np.inf]) == 1.0
    assert rank_test([1.0], [2.0, 3.0]) == 1.0


@pytest.mark.parametrize(("looks", "level"), [(1, 0.05), (2, 0.0294), (3, 0.0221), (4, 0.0182), (5, 0.0158)])
def test_the_level_of_equal_looks_is_pococks(looks, level):
    assert equal_level(looks, 0.05) == pytest.approx(level, abs=1e-4)


@pytest.mark.parametrize("planned", [1, 4])
def test_unplanned_looks_spend_a_reserve_that_no_number_of_them_exhausts(planned):
    later = [level_of(look, planned) for look in range(planned + 1, planned + 60)]
    reserve = sum(later)
    assert reserve == pytest.approx(0.02 / planned)
    assert all(
        level_of(look, planned) == equal_level(planned, LEVEL - 0.02 / planned) for look in range(1, planned + 1)
    )
