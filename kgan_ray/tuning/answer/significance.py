"""Could chance have made this? Tests of two samples, and their correction for everything that was asked at once.

Two things make a false word likelier than one test would: several configurations are compared, and a sweep is looked at
again after further seeds. Holm's correction (1979) answers for the first, over all comparisons of a sweep; the level of
each look for the second. Both hold for arrays too, whose last axis is what is asked at once: `benchmarks.verdicts`
simulates with the functions that judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

LEVEL = 0.05  # the chance of any false word in a sweep, over all comparisons and looks
RESERVE = 0.02  # part of it that is kept for looks which nobody planned, of a sweep that plans one
_NO_SPREAD = 1e-9  # relative to the values: what is left where runs gave the same value but for rounding
_GRID = 201  # points of an integral
_RESAMPLES = 9999  # of a permutation test; up to nine runs against nine that is every permutation there is


class Welch(NamedTuple):
    """Welch's test for equal means, whatever the variances, and its interval of their difference."""

    p_value: float  # two-sided
    low: float
    high: float


def welch(one: Sequence[float], other: Sequence[float], level: float = LEVEL) -> Welch:
    """Test two samples for equal means; the interval holds 0 exactly where p is above the level.

    Without a spread on either side there is no test: p is 1 and the interval endless, as with fewer than two values.
    """
    if min(len(one), len(other)) < 2 or not (has_spread(one) or has_spread(other)):
        return Welch(1.0, -math.inf, math.inf)
    result = stats.ttest_ind(one, other, equal_var=False)
    interval = result.confidence_interval(1 - level)
    return Welch(float(result.pvalue), float(interval.low), float(interval.high))


def p_of_difference_within(
    margin: float, difference: np.ndarray, squared_errors: Sequence[np.ndarray], counts: Sequence[int]
) -> np.ndarray:
    """Return the p value of "the means differ by `margin` or more": the larger of two one-sided Welch tests' (Schuirmann, 1987).

    Args:
        difference: of the two means.
        squared_errors: of each mean.
        counts: of the values behind each.
    """
    one, other = squared_errors
    freedom = (one + other) ** 2 / (one**2 / (counts[0] - 1) + other**2 / (counts[1] - 1))
    return np.asarray(stats.t.sf((margin - np.abs(difference)) / np.sqrt(one + other), freedom))


def equivalence(one: ArrayLike, other: ArrayLike, margin: float) -> np.ndarray:
    """Test along the last axis whether two samples' means differ by less than `margin`; return p, low where they do."""
    samples = np.asarray(one), np.asarray(other)
    difference = samples[0].mean(axis=-1) - samples[1].mean(axis=-1)
    errors = [values.var(axis=-1, ddof=1) / values.shape[-1] for values in samples]
    return p_of_difference_within(margin, difference, errors, [values.shape[-1] for values in samples])


def rank_test(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the two-sided p value of Mann and Whitney's test over permutations, which ties do not harm.

    With fewer than two values on a side it is 1.
    """
    if min(len(one), len(other)) < 2:
        return 1.0
    ranks = stats.rankdata([*one, *other]).tolist()
    return _p_of_ranks(tuple(sorted(ranks[: len(one)])), tuple(sorted(ranks[len(one) :])))


@lru_cache(maxsize=4096)
def _p_of_ranks(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Test ranks, of which few samples have many sets."""
    test = stats.permutation_test(
        (one, other),
        lambda own, others, axis: own.mean(axis=axis) - others.mean(axis=axis),
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def has_spread(values: Sequence[float]) -> bool:
    """Return whether values differ by more than rounding."""
    return len(values) > 1 and float(np.ptp(values)) > _NO_SPREAD * float(np.max(np.abs(values)))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct p values along the last axis so that any of them is below the level by chance as rarely as one would be.

    What is said with several p values stays so: they are not cut off at 1.
    """
    order = np.argsort(p_values, axis=-1)
    factors = np.arange(p_values.shape[-1], 0, -1)
    rising = np.maximum.accumulate(np.take_along_axis(p_values, order, -1) * factors, axis=-1)
    corrected = np.empty_like(rising)
    np.put_along_axis(corrected, order, rising, -1)
    return corrected


def level_of(look: int, planned: int = 1) -> float:
    """Return the level at which a look at the growing sample is tested, so that all looks together keep to `LEVEL`.

    The planned looks, after rounds of equal size, share one level (Pocock, 1977). Each further one, whenever it comes and
    however many there will be, gets half of what is left of the reserve.
    """
    reserve = RESERVE / planned
    return equal_level(planned, LEVEL - reserve) if look <= planned else reserve / 2 ** (look - planned)


@lru_cache
def equal_level(looks: int, total: float) -> float:
    """Return the level at which each of so many looks is tested, where any of them may be false with probability `total`."""
    if looks == 1:
        return total

    def excess(bound: float) -> float:
        """Return how much likelier than `total` it is that sums of normal numbers, k of them, leave ±bound √k."""
        sums = np.linspace(-bound, bound, _GRID)
        density = stats.norm.pdf(sums)  # of the sum, where it has not left yet
        for k in range(2, looks + 1):
            before, sums = sums, np.linspace(-1, 1, _GRID) * bound * math.sqrt(k)
            density = np.trapezoid(density * stats.norm.pdf(sums[:, None] - before), before, axis=1)
        return 1 - float(np.trapezoid(density, sums)) - total

    return 2 * float(stats.norm.sf(optimize.brentq(excess, 1.0, 5.0)))
