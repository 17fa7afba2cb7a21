"""Is a configuration better than the baseline, or was it luck? Statistics on repeated runs.

The verdict follows from Welch's t-test, corrected for everything that was asked at once (see `significance`); the interval
is the test's own, so it leaves out "no difference" exactly where the verdict is a word.

Means are compared by their difference, or by their ratio: then test and interval are those of the logarithms, and means
are geometric. A metric whose spread between seeds grows with its value (an FID that is 100 ± 20 here and 700 ± 500 there)
shows by its ratio, with few seeds, what the difference hides.

A run that diverged or failed has no value, and the runs that remain are the lucky ones. So where either side lost runs, all
runs are ranked, the lost ones as the worst, and the ranks are tested instead. That needs five runs or so; a configuration
that was lost every time, of three runs already, is worse than a baseline that lost none, unless losses are common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import stats

from kgan_ray.text import number
from kgan_ray.tuning.answer.power import Advice, advice
from kgan_ray.tuning.answer.significance import LEVEL, holm, level_of, rank_test, welch
from kgan_ray.tuning.state import Compare, Mode

FEWEST_LOST = 3  # runs which, lost every time beside a baseline that lost none, make a configuration worse
_FEW_COMPARISONS = 4  # of which the loss of every run is tested at 5 %
_LARGEST_LOGARITHM = 50.0  # a ratio above e^50 is endless
_SMALLEST = 1e-12  # what a distance counts as that came out as 0: its logarithm must be finite

Word = Literal["better", "worse", "can't tell"]


@dataclass(frozen=True)
class Sample:
    """The values that one configuration's runs gave, and how many further runs were lost: diverged or failed."""

    values: tuple[float, ...]
    lost: int = 0

    @property
    def runs(self) -> int:
        return len(self.values) + self.lost

    def scaled(self, compare: Compare) -> list[float]:
        """Return the values where they are compared: as they are, or their logarithms."""
        return [math.log(max(value, _SMALLEST)) if compare == "ratio" else value for value in self.values]

    def ranked(self, mode: Mode) -> list[float]:
        """Return a cost of every run: low is good, and a lost run costs more than any other."""
        return [value if mode == "min" else -value for value in self.values] + [math.inf] * self.lost

    def mean(self, compare: Compare) -> float:
        """Return the mean; the geometric one where ratios are compared. NaN without a value."""
        return unscaled(float(np.mean(self.scaled(compare))), compare) if self.values else math.nan


@dataclass(frozen=True)
class Comparison:
    """A configuration's runs and the baseline's, which were looked at so many times.

    `look` is 0 as long as the runs of the first look are not complete: then nothing is judged.
    """

    configuration: str
    own: Sample
    baseline: Sample
    group: str = ""
    look: int = 1

    @property
    def has_losses(self) -> bool:
        return self.own.lost + self.baseline.lost > 0


@dataclass(frozen=True)
class Verdict:
    """What the runs of one configuration prove beside the baseline's."""

    comparison: Comparison
    metric: str
    compare: Compare
    effect: float  # the configuration's mean - the baseline's, or / the baseline's
    low: float  # the interval of the effect at the corrected level; of the runs that gave a value
    high: float
    p_value: float  # corrected for the number of comparisons and of looks
    word: Word
    next_level: float  # at which this comparison would be tested after further seeds

    @property
    def configuration(self) -> str:
        return self.comparison.configuration

    @property
    def name(self) -> str:
        return f"{self.comparison.group} {self.configuration}".strip()

    @property
    def mean(self) -> float:
        """Return the mean of the configuration's values; the geometric one where ratios are compared."""
        return self.comparison.own.mean(self.compare)

    @property
    def baseline_mean(self) -> float:
        return self.comparison.baseline.mean(self.compare)

    @cached_property
    def advice(self) -> Advice | None:
        """How many more seeds would tell, and how surely; None where the runs do not say."""
        if self.word != "can't tell" or not self.comparison.look or self.comparison.has_losses:
            return None
        own, baseline = (sample.scaled(self.compare) for sample in (self.comparison.own, self.comparison.baseline))
        return advice(own, baseline, self.next_level)

    @property
    def sentence(self) -> str:
        """Say the verdict in words, and in brackets the figures that it rests on."""
        figures = "; ".join(filter(None, (self._figures, self._losses)))
        return f"{self.name}: {self.word}{self._reason}" + (f" ({figures})" if figures else "")

    @property
    def _reason(self) -> str:
        own, baseline = self.comparison.own, self.comparison.baseline
        if self.word == "worse" and not (own.values or baseline.lost):
            return "; it lost every run, the baseline none"
        if self.word != "can't tell":
            return "; lost runs count as the worst" if self.comparison.has_losses else ""
        if not (own.runs and baseline.runs):
            return f"; no run of {self.configuration if baseline.runs else 'the baseline'} has ended"
        if not self.comparison.look:
            return " yet; runs are missing"
        if self.comparison.has_losses:
            return "; lost runs count as the worst, and only more seeds would tell"
        return f"; {self.advice}" if self.advice else "; runs without any spread prove nothing"

    @property
    def _figures(self) -> str:
        if not math.isfinite(self.effect):
            return ""
        kind = " (geometric means)" if self.compare == "ratio" else ""
        effect, low, high = (_signed(value, self.compare) for value in (self.effect, self.low, self.high))
        figures = (
            f"{self.metric} {number(self.mean)} against {number(self.baseline_mean)}{kind}, "
            f"{self.compare} {effect} [{low}, {high}]"
        )
        if not self.comparison.look:
            return figures
        look = f" at look {self.comparison.look}" if self.comparison.look > 1 else ""
        return f"{figures}, p = {self.p_value:.2g}{look}"

    @property
    def _losses(self) -> str:
        """Return `1 of 3 runs lost, 2 of the baseline's 5 (Fisher's p = 1)`, or the empty string."""
        own, baseline = self.comparison.own, self.comparison.baseline
        if not self.comparison.has_losses:
            return ""
        table = [[own.lost, len(own.values)], [baseline.lost, len(baseline.values)]]
        p_value = float(stats.fisher_exact(table).pvalue)
        return (
            f"{own.lost or 'none'} of {own.runs} runs lost, {baseline.lost or 'none'} of the baseline's {baseline.runs}, "
            f"Fisher's p = {p_value:.2g}"
        )


def judge(
    comparisons: Sequence[Comparison], *, mode: Mode, metric: str, compare: Compare, planned: int = 1
) -> list[Verdict]:
    """Judge all comparisons of a sweep, which were asked at once. `compare="ratio"` is for values above 0.

    Args:
        comparisons: of every group.
        planned: the looks that were planned before the first.
    """
    raw = np.array([_p_value(one, mode, compare) for one in comparisons])
    levels = np.array([level_of(max(1, one.look), planned) for one in comparisons])
    corrected = holm(raw * LEVEL / levels)
    always_lost = _lost_every_time(comparisons)
    verdicts = []
    for one, p_value, final in zip(comparisons, raw.tolist(), corrected.tolist(), strict=True):
        factor = final / p_value if p_value else len(comparisons)  # by which the correction has raised it
        own, baseline = one.own.scaled(compare), one.baseline.scaled(compare)
        test = welch(own, baseline, LEVEL / factor)
        difference = float(np.mean(own) - np.mean(baseline)) if own and baseline else math.nan
        low, high = (unscaled(difference if end is None else end, compare) for end in (test.low, test.high))
        verdicts.append(
            Verdict(
                one,
                metric,
                compare,
                effect=unscaled(difference, compare),
                low=low,
                high=high,
                p_value=min(1.0, final),
                word="worse" if one in always_lost else _word(one, final, mode),
                next_level=level_of(one.look + 1, planned) / len(comparisons),
            )
        )
    return verdicts


def unscaled(value: float, compare: Compare) -> float:
    """Return an effect from where it was compared: a difference of logarithms becomes a ratio."""
    if compare == "difference":
        return value
    return math.inf if value > _LARGEST_LOGARITHM else math.exp(value)


def _p_value(one: Comparison, mode: Mode, compare: Compare) -> float:
    """Return the p value by itself: Welch's, or that of the ranks where runs were lost; 1 where there is no test."""
    if not (one.own.runs and one.baseline.runs):
        return 1.0
    if one.has_losses:
        return rank_test(*_costs(one, mode))
    return welch(one.own.scaled(compare), one.baseline.scaled(compare)).p_value


def _lost_every_time(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return those whose own runs were all lost, none of the baseline's, and which stand out among all others.

    They stand out by Fisher's test against the runs of all configurations that were not lost every time. The test's level
    was chosen by simulation, so that chance makes such a word in fewer than 5 % of sweeps at any rate of losses.
    """
    others = [
        *{one.group: one.baseline for one in comparisons}.values(),
        *(one.own for one in comparisons if one.own.values),
    ]
    rest = [sum(sample.lost for sample in others), sum(len(sample.values) for sample in others)]
    level = LEVEL * min(1.0, _FEW_COMPARISONS / max(1, len(comparisons)))
    return [
        one
        for one in comparisons
        if one.look
        and not one.own.values
        and not one.baseline.lost
        and min(one.own.lost, one.baseline.runs) >= FEWEST_LOST
        and stats.fisher_exact([[one.own.lost, 0], rest], alternative="greater").pvalue <= level * (1 + 1e-9)
    ]


def _word(one: Comparison, p_value: float, mode: Mode) -> Word:
    if not one.look or p_value >= LEVEL:
        return "can't tell"
    own, baseline = _costs(one, mode)
    if not one.has_losses:
        return "better" if np.mean(own) < np.mean(baseline) else "worse"
    ranks = stats.rankdata(own + baseline)
    return "better" if ranks[: len(own)].mean() < ranks[len(own) :].mean() else "worse"


def _costs(one: Comparison, mode: Mode) -> tuple[list[float], list[float]]:
    return one.own.ranked(mode), one.baseline.ranked(mode)


def _signed(effect: float, compare: Compare) -> str:
    """Return `+12.5` for a difference, `0.42` for a ratio."""
    sign = "+" if compare == "difference" and effect >= 0 else ""
    return sign + number(effect) if math.isfinite(effect) else str(effect)
