"""Is a configuration better than the baseline, or was it luck? Statistics on repeated runs.

The verdict follows from Welch's t-test with Holm's correction for the number of comparisons (Holm, 1979). The
interval is the expanded bootstrap percentile interval (Hesterberg, 2015), which unlike the plain one is not too
narrow for three or five runs.

Means are compared by their difference, or by their ratio: then test, interval and power are those of the logarithms,
and means are geometric. A metric whose spread between seeds grows with its value (an FID that is 100 ± 20 here and
700 ± 500 there) shows by its ratio, with few seeds, what the difference hides.

A run that diverged or failed has no value, and the runs that remain are the lucky ones. So a configuration that lost
runs is never called better, and none is called worse than a baseline that lost runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from kgan_ray.text import number
from kgan_ray.tuning.state import Mode

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 100  # a difference that needs more than so many further seeds is called small
_RESAMPLES = 4000
_SMALLEST = 1e-12  # what a distance counts as that came out as 0: its logarithm must be finite

Word = Literal["better", "worse", "can't tell"]
Compare = Literal["difference", "ratio"]


@dataclass(frozen=True)
class Sample:
    """The values that one configuration's runs gave, and how many further runs were lost: diverged or failed."""

    values: tuple[float, ...]
    lost: int = 0

    @property
    def runs(self) -> int:
        return len(self.values) + self.lost


@dataclass(frozen=True)
class Verdict:
    """What the runs of one configuration prove beside the baseline's."""

    configuration: str
    metric: str
    compare: Compare
    own: Sample
    baseline: Sample
    effect: float  # the configuration's mean - the baseline's, or / the baseline's
    low: float  # 95 % interval of the effect
    high: float
    p_value: float  # corrected for the number of comparisons
    word: Word
    more_seeds: int | None  # for "can't tell": about how many would tell; None = too many to say
    group: str = ""

    @property
    def mean(self) -> float:
        """Return the mean of the configuration's values; the geometric one where ratios are compared."""
        return _mean(self.own, self.compare)

    @property
    def baseline_mean(self) -> float:
        return _mean(self.baseline, self.compare)

    @property
    def sentence(self) -> str:
        """Say the verdict in words, with the figures that it rests on."""
        name = f"{self.group} {self.configuration}".strip()
        if not (self.own.values and self.baseline.values):
            who, sample = ("the baseline", self.baseline) if self.own.values else (self.configuration, self.own)
            what = f"gave a value of {self.metric}" if sample.lost else "has ended"
            return f"{name}: {self.word}: no run of {who} {what}"
        word = f"{self.word}: {self._advice}" if self.word == "can't tell" else self.word
        kind = " (geometric means)" if self.compare == "ratio" else ""
        effect, low, high = (_signed(value, self.compare) for value in (self.effect, self.low, self.high))
        figures = (
            f"{self.metric} {number(self.mean)} against {number(self.baseline_mean)}{kind}, "
            f"{self.compare} {effect} [{low}, {high}], p = {self.p_value:.2g}"
        )
        return f"{name}: {word} ({figures}{self._losses})"

    @property
    def _advice(self) -> str:
        if self.p_value < LEVEL:
            return "the lost runs are missing from the comparison"
        if self.more_seeds is None:
            return f"any difference is small beside the spread between seeds (over {MOST_SEEDS} more seeds needed)"
        return f"about {self.more_seeds} more seed{'s' if self.more_seeds > 1 else ''} needed"

    @property
    def _losses(self) -> str:
        """Return `; 1 of 3 runs and 2 of the baseline's 5 runs gave no value`, or the empty string."""
        parts = [f"{self.own.lost} of {self.own.runs} runs"] if self.own.lost else []
        if self.baseline.lost:
            parts.append(f"{self.baseline.lost} of the baseline's {self.baseline.runs} runs")
        return f"; {' and '.join(parts)} gave no value" if parts else ""


@dataclass(frozen=True)
class _Scale:
    """Where values are compared: as they are, or as logarithms."""

    forth: Callable[[Sequence[float]], list[float]]
    back: Callable[[float], float]


_SCALES: dict[Compare, _Scale] = {
    "difference": _Scale(list, float),
    "ratio": _Scale(lambda values: [math.log(max(value, _SMALLEST)) for value in values], math.exp),
}


def judge(
    baseline: Sample,
    candidates: Mapping[str, Sample],
    *,
    mode: Mode,
    metric: str = "fid",
    compare: Compare = "difference",
    group: str = "",
) -> list[Verdict]:
    """Compare every candidate's runs with the baseline's. `compare="ratio"` is for values above 0."""
    scale = _SCALES[compare]
    base = scale.forth(baseline.values)
    tests = [welch(scale.forth(own.values), base) for own in candidates.values()]
    p_values = holm([test.p_value for test in tests])
    verdicts = []
    for (name, own), test, p_value in zip(candidates.items(), tests, p_values, strict=True):
        values = scale.forth(own.values)
        difference = float(np.mean(values) - np.mean(base)) if values and base else math.nan
        low, high = bootstrap_interval(values, base, test.freedom)
        is_better = (difference < 0) == (mode == "min")
        is_biased = own.lost > 0 if is_better else baseline.lost > 0  # towards what the values say
        word: Word = "can't tell"
        if p_value < LEVEL and not is_biased:
            word = "better" if is_better else "worse"
        verdicts.append(
            Verdict(
                name,
                metric,
                compare,
                own,
                baseline,
                effect=scale.back(difference),
                low=scale.back(low),
                high=scale.back(high),
                p_value=p_value,
                word=word,
                more_seeds=more_seeds_needed(values, base, LEVEL / len(candidates)),
                group=group,
            )
        )
    return verdicts


class Welch(NamedTuple):
    """Welch's test for equal means, whatever the variances."""

    p_value: float  # two-sided
    freedom: float  # degrees of it; NaN where the test is not defined


def welch(one: Sequence[float], other: Sequence[float]) -> Welch:
    """Test two samples for equal means.

    Where the test is not defined, p is 1 if a side has fewer than two values; 1 or 0 if neither side has any spread.
    """
    if min(len(one), len(other)) < 2:
        return Welch(1.0, math.nan)
    if _is_constant(one) and _is_constant(other):
        return Welch(1.0 if one[0] == other[0] else 0.0, math.nan)
    result = stats.ttest_ind(one, other, equal_var=False)
    return Welch(float(result.pvalue), float(result.df))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values so that the chance of any false alarm stays below the level (Holm, 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def bootstrap_interval(one: Sequence[float], other: Sequence[float], freedom: float) -> tuple[float, float]:
    """Return the expanded bootstrap percentile interval, 95 %, of mean(one) - mean(other); seeded, so always the same.

    The percentiles are moved outwards so that for normal data the interval is as wide as Student's (Hesterberg,
    2015, section 4.4); with few runs that means nearly the whole range of the resampled differences. `freedom` is that
    of Welch's test. With fewer than two values on a side the interval is endless.
    """
    if min(len(one), len(other)) < 2:
        return -math.inf, math.inf
    difference = float(np.mean(one) - np.mean(other))
    if _is_constant(one) and _is_constant(other):
        return difference, difference
    smallest = min(len(one), len(other))
    reach = math.sqrt(smallest / (smallest - 1)) * stats.t.ppf(1 - LEVEL / 2, freedom)
    tail = float(stats.norm.sf(reach))
    random = np.random.default_rng(0)
    means = [
        random.choice(np.asarray(values, float), (_RESAMPLES, len(values))).mean(axis=1) for values in (one, other)
    ]
    low, high = np.quantile(means[0] - means[1], [tail, 1 - tail])
    return min(float(low), difference), max(float(high), difference)


def more_seeds_needed(one: Sequence[float], other: Sequence[float], level: float) -> int | None:
    """Estimate how many more runs of each would show a difference as large as the one seen, with a power of 80 %.

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


def _mean(sample: Sample, compare: Compare) -> float:
    scale = _SCALES[compare]
    return scale.back(float(np.mean(scale.forth(sample.values)))) if sample.values else math.nan


def _is_constant(values: Sequence[float]) -> bool:
    return len(set(values)) == 1


def _signed(effect: float, compare: Compare) -> str:
    """Return `+12.5` for a difference, `0.42` for a ratio."""
    sign = "+" if compare == "difference" and effect >= 0 else ""
    return sign + number(effect) if math.isfinite(effect) else str(effect)
