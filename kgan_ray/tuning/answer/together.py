"""A configuration over all groups of a sweep, as `rliable` sums up benchmarks: one effect, and one share of pairs won.

The effect is the interquartile mean of all runs' values, each beside the mean of its own group's baseline. The share, also
called the probability of improvement, says how often a run beats one of its baseline's, averaged over groups (Agarwal,
Schwarzer, Castro, Courville and Bellemare, *Deep Reinforcement Learning at the Edge of the Statistical Precipice*, 2021).

Their bootstrap's intervals are too narrow for three runs a group (docs/verdicts.md). Here means and spreads of each group
are drawn from what its runs leave open, for normal values. Where runs were lost there are no intervals.

A summary is no verdict: the groups have the words, and nothing is taken off their level for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kgan_ray.tuning.answer.comparison import Comparison, IntervalEstimate, Sample, effect_text, unscaled
from kgan_ray.tuning.answer.significance import has_spread, level_of
from kgan_ray.tuning.state import Compare, Mode

Values = Sequence[float] | np.ndarray  # of the runs of one configuration in one group, as they are compared

_DRAWS = 4000
# The middles of equal parts of a normal distribution, of which a quarter is a whole number.
_POINTS = stats.norm.ppf((np.arange(40) + 0.5) / 40)


@dataclass(frozen=True)
class Together:
    """What the runs of one configuration show over all groups that compare it."""

    configuration: str
    label: str  # what people call it
    groups: tuple[str, ...]
    runs: int
    metric: str
    compare: Compare
    effect: IntervalEstimate
    pairs_won: IntervalEstimate  # the share of pairs, a run and one of the baseline's, in which the run is better

    def effect_text(self, value: float) -> str:
        return effect_text(value, self.compare)

    @property
    def sentence(self) -> str:
        effect = self.effect.phrase(self.effect_text, " times" if self.compare == "ratio" else "")
        pairs = self.pairs_won.phrase("{:.0%}".format, " of pairs of runs")
        return (
            f"{self.label} over {' and '.join(self.groups)} together: {self.metric} {effect}; better in {pairs}."
        )


def over_groups(
    comparisons: Sequence[Comparison], *, mode: Mode, metric: str, compare: Compare, planned: int = 1
) -> list[Together]:
    """Sum up each configuration that is compared in several groups, of which runs of both sides have given values.

    All intervals of a sweep are right at once, at all looks, with the probability of its words (see `significance`).
    """
    by_name: dict[str, list[Comparison]] = {}
    for one in comparisons:
        if one.look and one.own.values and one.baseline.values:
            by_name.setdefault(one.configuration, []).append(one)
    several = {name: ones for name, ones in by_name.items() if len(ones) > 1}
    return [
        _summed_up(ones, mode, metric, compare, level_of(max(one.look for one in ones), planned) / len(several))
        for ones in several.values()
    ]


def _summed_up(ones: Sequence[Comparison], mode: Mode, metric: str, compare: Compare, level: float) -> Together:
    pairs = [(one.own, one.baseline) for one in ones]
    centred = [np.array(own.scaled(compare)) - np.mean(baseline.scaled(compare)) for own, baseline in pairs]
    weights = [np.full(len(values), 1 / len(values)) for values in centred]
    middle = interquartile_mean(np.concatenate(centred), np.concatenate(weights))
    share = float(np.mean([_share_won(own, baseline, mode) for own, baseline in pairs]))
    effect, pairs_won = IntervalEstimate(unscaled(middle, compare)), IntervalEstimate(share)
    scaled = [(own.scaled(compare), baseline.scaled(compare)) for own, baseline in pairs]
    if not any(one.has_losses for one in ones) and all(has_spread(a) and has_spread(b) for a, b in scaled):
        middles, shares = drawn(scaled, mode)
        ends = [level / 2, 1 - level / 2]
        low, high = np.quantile(middles, ends).tolist()
        effect = IntervalEstimate(effect.value, unscaled(low, compare), unscaled(high, compare))
        pairs_won = IntervalEstimate(share, *np.quantile(shares, ends).tolist())
    return Together(
        ones[0].configuration,
        ones[0].label or ones[0].configuration,
        tuple(one.group for one in ones),
        sum(own.runs for own, _ in pairs),
        metric,
        compare,
        effect,
        pairs_won,
    )


def interquartile_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the mean of the middle half: a quarter of the weight is cut off at each end, in parts of values too."""
    order = np.argsort(values)
    ends = np.concatenate([[0.0], np.cumsum(weights[order])]) / weights.sum()
    inside = np.diff(np.clip(ends, 0.25, 0.75))
    return float(values[order] @ inside / inside.sum())


def _share_won(own: Sample, baseline: Sample, mode: Mode) -> float:
    """Return the share of pairs in which the configuration's run is better; equal ones count half, lost runs lose."""
    ours, theirs = np.array(own.ranked(mode))[:, None], np.array(baseline.ranked(mode))
    return float(np.mean((ours < theirs) + 0.5 * (ours == theirs)))


def drawn(
    pairs: Sequence[tuple[Values, Values]], mode: Mode, draws: int = _DRAWS
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the effect and the share of pairs won that the runs of each group, the configuration's and the baseline's, leave open."""
    random = np.random.default_rng(0)
    points, shares = [], []
    for own, baseline in pairs:
        (mean, variance), (base, spread) = (
            _mean_and_variance(values, random, draws) for values in (own, baseline)
        )
        points.append((mean - base)[:, None] + np.sqrt(variance)[:, None] * _POINTS)
        sign = 1 if mode == "min" else -1
        shares.append(stats.norm.cdf(sign * (base - mean) / np.sqrt(variance + spread)))
    pooled = np.sort(np.concatenate(points, axis=1), axis=1)
    cut = pooled.shape[1] // 4
    return pooled[:, cut:-cut].mean(axis=1), np.mean(shares, axis=0)


def _mean_and_variance(values: Values, random: np.random.Generator, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw mean and variance from their posterior distribution, of normal values and a flat prior."""
    count = np.size(values)
    squares = np.var(values) * count
    variance = squares / random.chisquare(count - 1, draws)
    return np.mean(values) + np.sqrt(variance / count) * random.normal(size=draws), variance
