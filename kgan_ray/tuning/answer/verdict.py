"""Is a configuration better than the baseline, or was it luck? Statistics on repeated runs.

The verdict follows from Welch's t-test with Holm's correction for the number of comparisons (Holm, 1979). The
interval is the expanded bootstrap percentile interval (Hesterberg, 2015), which unlike the plain one is not too
narrow for three or five runs.

Means are compared by their difference, or by their ratio: then test, interval and power are those of the logarithms,
and means are geometric. A metric whose spread between seeds grows with its value (an FID that is 100 ± 20 here and
700 ± 500 there) shows by its ratio, with few seeds, what the difference hides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from kgan_ray.text import number

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 100  # a difference that needs more than so many further seeds is called small
_RESAMPLES = 4000
_SMALLEST = 1e-12  # what a distance counts as that came out as 0: its logarithm must be finite

Word = Literal["better", "worse", "can't tell"]
Compare = Literal["difference", "ratio"]


@dataclass(frozen=True)
class Verdict:
    """One configuration against the baseline. `effect` = its mean - the baseline's, or / the baseline's."""

    configuration: str
    runs: int
    failed: int  # runs that diverged or failed, and have no value
    mean: float  # geometric where ratios are compared
    baseline: float
    compare: Compare
    effect: float
    low: float  # 95 % interval of the effect
    high: float
    p_value: float  # corrected for the number of comparisons
    word: Word
    more_seeds: int | None  # for "can't tell": about how many would tell; None = too many to say
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    baseline: Sequence[float],
    candidates: Mapping[str, Sequence[float]],
    *,
    mode: Literal["min", "max"],
    metric: str = "fid",
    failed: Mapping[str, int] | None = None,
    compare: Compare = "difference",
) -> list[Verdict]:
    """Compare every candidate's runs with the baseline's.

    Args:
        baseline: the metric's value in each of the baseline's runs.
        candidates: likewise for each configuration.
        mode: whether low ("min") or high ("max") values are good.
        failed: per configuration the number of further runs that gave no value. Such a configuration is never
            called better: only its lucky runs were measured.
        compare: "ratio" is for values above 0.
    """
    failed = failed or {}
    scale = _SCALES[compare]
    base = scale.forth(baseline)
    corrected = holm([welch(scale.forth(values), base) for values in candidates.values()])
    return [
        _verdict(
            name, scale.forth(values), base, p_value, mode, metric, failed.get(name, 0), len(candidates), compare
        )
        for (name, values), p_value in zip(candidates.items(), corrected, strict=True)
    ]


@dataclass(frozen=True)
class _Scale:
    """Where values are compared: as they are, or as logarithms."""

    forth: Callable[[Sequence[float]], list[float]]
    back: Callable[[float], float]


_SCALES: dict[Compare, _Scale] = {
    "difference": _Scale(list, float),
    "ratio": _Scale(lambda values: [math.log(max(value, _SMALLEST)) for value in values], math.exp),
}


def _verdict(
    name: str,
    values: Sequence[float],
    baseline: Sequence[float],
    p_value: float,
    mode: Literal["min", "max"],
    metric: str,
    failed: int,
    comparisons: int,
    compare: Compare,
) -> Verdict:
    """`values` and `baseline` are on the scale that `compare` names."""
    back = _SCALES[compare].back
    if not values or not baseline:
        nan = math.nan
        who = name if not values else "the baseline"
        sentence = f"{name}: can't tell: no run of {who} gave a value of {metric}"
        mean = back(float(np.mean(values))) if values else nan
        base = back(float(np.mean(baseline))) if baseline else nan
        return Verdict(
            name, len(values), failed, mean, base, compare, nan, nan, nan, 1.0, "can't tell", None, sentence
        )
    difference = float(np.mean(values) - np.mean(baseline))
    low, high = bootstrap_interval(values, baseline)
    word: Word = "can't tell"
    if p_value < LEVEL:
        word = "better" if (difference < 0) == (mode == "min") else "worse"
    if word == "better" and failed:
        word = "can't tell"
    more = more_seeds_needed(values, baseline, LEVEL / comparisons) if word == "can't tell" else None
    mean, base = back(float(np.mean(values))), back(float(np.mean(baseline)))
    kind = "" if compare == "difference" else " (geometric means)"
    effect, least, most = (_shown(back(value), compare) for value in (difference, low, high))
    figures = (
        f"{metric} {number(mean)} against {number(base)}{kind}, {compare} {effect} [{least}, {most}], "
        f"p = {p_value:.2g}"
    )
    told = f"{word}: {_advice(more, failed, p_value)}" if word == "can't tell" else word
    lost = f"; {failed} of {failed + len(values)} runs gave no value" if failed else ""
    sentence = f"{name}: {told} ({figures}{lost})"
    return Verdict(
        name,
        len(values),
        failed,
        mean,
        base,
        compare,
        back(difference),
        back(low),
        back(high),
        p_value,
        word,
        more,
        sentence,
    )


def _shown(effect: float, compare: Compare) -> str:
    """`+12.5` for a difference, `0.42` for a ratio."""
    sign = "+" if compare == "difference" and effect >= 0 else ""
    return sign + number(effect) if math.isfinite(effect) else str(effect)


def _advice(more: int | None, failed: int, p_value: float) -> str:
    if failed and p_value < LEVEL:
        return "the runs that failed are missing from the comparison"
    if more is None:
        return f"any difference is small beside the spread between seeds (over {MOST_SEEDS} more seeds needed)"
    return f"about {more} more seed{'s' if more > 1 else ''} needed"


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p value for equal means, whatever the variances; 1 where a side has fewer than two values."""
    if min(len(one), len(other)) < 2:
        return 1.0
    spread, freedom = _standard_error(one, other)
    difference = float(np.mean(one) - np.mean(other))
    if spread == 0.0:
        return 1.0 if difference == 0.0 else 0.0
    return float(2 * stats.t.sf(abs(difference) / spread, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected so that the chance of any false alarm stays below the level (Holm, 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def bootstrap_interval(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """The expanded bootstrap percentile interval, 95 %, of mean(one) - mean(other); seeded, so always the same.

    The percentiles are moved outwards so that for normal data the interval is as wide as Student's (Hesterberg,
    2015, section 4.4); with few runs that means nearly the whole range of the resampled differences.
    """
    difference = float(np.mean(one) - np.mean(other))
    if min(len(one), len(other)) < 2:
        return -math.inf, math.inf
    _, freedom = _standard_error(one, other)
    smallest = min(len(one), len(other))
    reach = math.sqrt(smallest / (smallest - 1)) * stats.t.ppf(1 - LEVEL / 2, freedom)
    tail = float(stats.norm.sf(reach))
    source = np.random.default_rng(0)
    means = [
        source.choice(np.asarray(values, float), (_RESAMPLES, len(values))).mean(axis=1) for values in (one, other)
    ]
    low, high = np.quantile(means[0] - means[1], [tail, 1 - tail])
    return min(float(low), difference), max(float(high), difference)


def more_seeds_needed(one: Sequence[float], other: Sequence[float], level: float) -> int | None:
    """About how many more runs of each would show a difference as large as the one seen, with a power of 80 %.

    None where it would be more than `MOST_SEEDS`. With fewer than two runs there is no spread to reckon with: the
    answer is what makes three.
    """
    fewest = min(len(one), len(other))
    if fewest < 2:
        return 3 - fewest
    spread = math.sqrt((np.var(one, ddof=1) + np.var(other, ddof=1)) / 2)
    difference = abs(float(np.mean(one) - np.mean(other)))
    if spread == 0.0:
        return None
    runs = np.arange(fewest + 1, fewest + MOST_SEEDS + 1)
    shift = difference / (spread * np.sqrt(2 / runs))
    threshold = stats.t.ppf(1 - level / 2, 2 * runs - 2)
    enough = runs[stats.nct.sf(threshold, 2 * runs - 2, shift) >= POWER]
    return int(enough[0]) - fewest if len(enough) else None


def _standard_error(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Of the difference of the means, and its degrees of freedom (Welch, 1947)."""
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (one, other)]
    total = sum(parts)
    if total == 0.0:
        return 0.0, float(len(one) + len(other) - 2)
    weights = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True))
    return math.sqrt(total), total**2 / weights
