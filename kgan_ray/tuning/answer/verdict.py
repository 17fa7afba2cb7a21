"""Is a configuration better than the baseline, or was it luck? Statistics on repeated runs.

The verdict follows from Welch's t-test, corrected for everything that was asked at once (see `significance`); the interval
is the test's own, so it leaves out "no difference" exactly where the verdict is "better" or "worse".

That two are the same is shown, not concluded from a difference that was not: by two one-sided tests, a configuration is
the same as the baseline where its effect lies within a margin that the question names. Its interval then lies within too.

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
from typing import Final, Literal

import numpy as np
from scipy import stats

from kgan_ray.text import number
from kgan_ray.tuning.answer.comparison import Comparison, IntervalEstimate, effect_text, scaled_margin, unscaled
from kgan_ray.tuning.answer.power import Advice, advice
from kgan_ray.tuning.answer.significance import LEVEL, equivalence, has_spread, holm, level_of, rank_test, welch
from kgan_ray.tuning.state import Compare, Mode

FEWEST_LOST = 3  # runs which, lost every time beside a baseline that lost none, make a configuration worse
_FEW_COMPARISONS = 4  # of which the loss of every run is tested at 5 %

UNDECIDED: Final = "can't tell"
_CLAIMS = {
    "better": "is better than the baseline",
    "worse": "is worse than the baseline",
    "same": "is about as good as the baseline",
    UNDECIDED: "cannot be told from the baseline",
}
Word = Literal["better", "worse", "same", "can't tell"]


@dataclass(frozen=True)
class Verdict:
    """What the runs of one configuration prove beside the baseline's."""

    comparison: Comparison
    metric: str
    compare: Compare
    effect: float  # the configuration's mean - the baseline's, or / the baseline's
    low: float  # the interval of the effect at the corrected level; of the runs that gave a value
    high: float
    # Of no difference, for "same" of one beyond the margin; corrected for all comparisons and looks.
    p_value: float
    word: Word
    next_level: float  # at which this comparison would be tested after further seeds
    margin: float | None = None  # of the effect, within which it would be the same

    @property
    def configuration(self) -> str:
        return self.comparison.configuration

    @property
    def name(self) -> str:
        """Return what people call the configuration, with its group."""
        return f"{self.comparison.group} {self.comparison.label or self.configuration}".strip()

    @property
    def claim(self) -> str:
        """Return the word in a sentence's middle."""
        return _CLAIMS[self.word] if self.comparison.look else "cannot be judged yet"

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
        compared = self.comparison
        if self.word != UNDECIDED or not compared.look or compared.has_losses or not math.isfinite(self.effect):
            return None
        own, baseline = (sample.scaled(self.compare) for sample in (compared.own, compared.baseline))
        return advice(own, baseline, self.next_level, scaled_margin(self.margin, self.compare))

    @property
    def estimate(self) -> IntervalEstimate:
        """Return the effect with its interval."""
        return IntervalEstimate(self.effect, self.low, self.high)

    def effect_text(self, value: float) -> str:
        return effect_text(value, self.compare)

    @property
    def sentence(self) -> str:
        """Say the verdict in at most twenty words, and after a colon the figures that it rests on."""
        return f"{self.name} {self.claim}{self.grounds}"

    @property
    def grounds(self) -> str:
        """Return what stands in the sentence after the claim."""
        figures = "; ".join(filter(None, (self._figures, self._losses)))
        advice = f" {self.advice}." if self.advice else ""
        return self._reason + (f": {figures}." if figures else ".") + advice

    @property
    def _reason(self) -> str:
        own, baseline = self.comparison.own, self.comparison.baseline
        if not (own.runs and baseline.runs):
            return f", as no run of {'the baseline' if own.runs else 'it'} has ended"
        if self.word == "worse" and not (own.values or baseline.lost):
            return ", as it lost every run and the baseline none"
        if self.word != UNDECIDED or not self.comparison.look:
            return ""
        if self.comparison.has_losses:
            return ", and only more seeds would tell"
        return "" if self.advice else ", as runs without any spread prove nothing"

    @property
    def _figures(self) -> str:
        """Return `fid 0.42 times, between 0.2 and 0.8; 3 runs each`, with the digits of the tables."""
        if not math.isfinite(self.effect):
            return ""
        times = " times" if self.compare == "ratio" else ""
        margin = f", within {'a factor of ' if times else '±'}{number(self.margin)}" if self.word == "same" else ""
        own, baseline = self.comparison.own.runs, self.comparison.baseline.runs
        each = f"{own} run{'s' if own > 1 else ''} each"
        runs = each if own == baseline else f"{own} runs against {baseline}"
        return f"{self.metric} {self.estimate.phrase(self.effect_text, times)}{margin}; {runs}"

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
            f"which count as the worst, Fisher's p = {p_value:.2g}"
        )


def judge(
    comparisons: Sequence[Comparison],
    *,
    mode: Mode,
    metric: str,
    compare: Compare,
    planned: int = 1,
    margin: float | None = None,
) -> list[Verdict]:
    """Judge all comparisons of a sweep, which were asked at once. `compare="ratio"` is for values above 0.

    With a margin Bonferroni's correction takes the place of Holm's. Of each comparison at most one word can be false: a
    difference where there is none, or "same" where there is one. But one that has shown its true word may have been as
    likely to show the false one, so it takes nothing off the correction of the others.

    Args:
        comparisons: of every group.
        planned: the looks that were planned before the first.
        margin: the effect up to which a configuration is the same as the baseline; None = nobody is called so.
    """
    raw = np.array([_p_value(one, mode, compare) for one in comparisons])
    factors = LEVEL / np.array([level_of(max(1, one.look), planned) for one in comparisons])
    corrected = holm(raw * factors) if margin is None else raw * factors * len(comparisons)
    always_lost = _lost_every_time(comparisons)
    verdicts = []
    for one, p_value, final, factor in zip(comparisons, raw.tolist(), corrected.tolist(), factors, strict=True):
        own, baseline = one.own.scaled(compare), one.baseline.scaled(compare)
        raised = final / p_value if p_value else factor * len(comparisons)  # by the correction
        test = welch(own, baseline, LEVEL / raised)
        low, high = test.low, test.high
        difference = float(np.mean(own) - np.mean(baseline)) if own and baseline else math.nan
        word = "worse" if one in always_lost else _word(one, final, difference, mode)
        if word == UNDECIDED and one.look and (same := _p_of_sameness(one, compare, margin) * raised) < LEVEL:
            word, final = "same", same
            narrower = welch(own, baseline, 2 * LEVEL / raised)  # that of one-sided tests
            low, high = min(0.0, narrower.low), max(0.0, narrower.high)
        verdicts.append(
            Verdict(
                one,
                metric,
                compare,
                effect=unscaled(difference, compare),
                low=unscaled(low, compare),
                high=unscaled(high, compare),
                p_value=min(1.0, final),
                word=word,
                next_level=level_of(one.look + 1, planned) / len(comparisons),
                margin=margin,
            )
        )
    return verdicts


def _p_value(one: Comparison, mode: Mode, compare: Compare) -> float:
    """Return the p value by itself: Welch's, or that of the ranks where runs were lost; 1 where there is no test."""
    if not (one.own.runs and one.baseline.runs):
        return 1.0
    if one.has_losses:
        return rank_test(*_costs(one, mode))
    return welch(one.own.scaled(compare), one.baseline.scaled(compare)).p_value


def _p_of_sameness(one: Comparison, compare: Compare, margin: float | None) -> float:
    """Return the p value, by itself, of an effect beyond the margin; 1 where there is no test."""
    own, baseline = one.own.scaled(compare), one.baseline.scaled(compare)
    limit = scaled_margin(margin, compare)
    if limit is None or one.has_losses or min(len(own), len(baseline)) < 2:
        return 1.0
    return float(equivalence(own, baseline, limit)) if has_spread(own) or has_spread(baseline) else 1.0


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


def _word(one: Comparison, p_value: float, difference: float, mode: Mode) -> Word:
    """Return the word of Welch's test, of which the means' difference is that of the scale; where runs were lost, of the ranks'."""
    if not one.look or p_value >= LEVEL:
        return UNDECIDED
    if not one.has_losses:
        return "better" if (difference < 0) == (mode == "min") else "worse"
    own, baseline = _costs(one, mode)
    ranks = stats.rankdata(own + baseline)
    return "better" if ranks[: len(own)].mean() < ranks[len(own) :].mean() else "worse"


def _costs(one: Comparison, mode: Mode) -> tuple[list[float], list[float]]:
    return one.own.ranked(mode), one.baseline.ranked(mode)
