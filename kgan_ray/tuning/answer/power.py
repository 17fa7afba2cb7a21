"""What so many seeds can show: before a sweep starts, and after a verdict that could not tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from kgan_ray.text import number
from kgan_ray.tuning.answer.significance import has_spread, level_of, p_of_difference_within
from kgan_ray.tuning.state import CONFIRM, Sweep

LIKELY = 0.8  # how often the effect that is named before a start is seen
ENOUGH = 0.5  # the chance with which advised seeds must tell
MORE_SEEDS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 70, 100)  # that are thought of
_LARGEST_FACTOR = 1000  # that is worth naming
_DRAWS = 4000


@dataclass(frozen=True)
class Advice:
    """So many more seeds would tell, with that chance; None where the spread is not known yet."""

    seeds: int
    chance: float | None

    def __str__(self) -> str:
        plural = "s" if self.seeds > 1 else ""
        if self.chance is None:
            return f"{self.seeds} more seed{plural} needed to know the spread"
        if self.chance < ENOUGH:
            return f"even {self.seeds} more seeds would tell with a chance of {self.chance:.0%} only, which proves no equality"
        return f"{self.seeds} more seed{plural} would tell with a chance of {self.chance:.0%}"


def advice(
    one: Sequence[float], other: Sequence[float], level: float, margin: float | None = None
) -> Advice | None:
    """Find the fewest further seeds that would probably tell about two samples at that level; None without any spread."""
    fewest = min(len(one), len(other))
    if fewest < 2:
        return Advice(3 - fewest, None)
    if not (has_spread(one) or has_spread(other)):
        return None
    for more in MORE_SEEDS:
        chance = chance_to_tell(one, other, more, level, margin)
        if chance >= ENOUGH:
            break
    return Advice(more, chance)


def chance_to_tell(
    one: Sequence[float], other: Sequence[float], more: int, level: float, margin: float | None = None
) -> float:
    """Return the chance that the samples differ at that level once each has `more` further values, or then lie within a margin.

    It knows of means and spreads only what the values tell: both are drawn from their posterior distribution (of normal
    values and a flat prior), and the further values for each draw. So it is not the power at the effect that was seen,
    which is too sure of itself.
    """
    random = np.random.default_rng(0)
    means, errors, counts = [], [], []
    for values in map(np.asarray, (one, other)):
        count, mean, squares = len(values), values.mean(), ((values - values.mean()) ** 2).sum()
        variance = squares / random.chisquare(count - 1, _DRAWS)
        # The further values' mean lies so far from that of the first.
        shift = random.normal(size=_DRAWS) * np.sqrt(variance * (1 / count + 1 / more))
        within = variance * random.chisquare(more - 1, _DRAWS) if more > 1 else 0.0
        whole = squares + within + shift**2 * count * more / (count + more)
        means.append(mean + shift * more / (count + more))
        errors.append(whole / (count + more - 1) / (count + more))
        counts.append(count + more)
    difference = means[0] - means[1]
    deviations = [np.sqrt(error * count) for error, count in zip(errors, counts, strict=True)]
    samples = [value for sample in zip(means, deviations, counts, strict=True) for value in sample]
    told = stats.ttest_ind_from_stats(*samples, equal_var=False).pvalue < level
    if margin is not None:
        told |= p_of_difference_within(margin, difference, errors, counts) < level
    return float(np.mean(told))


def seen_effect(seeds: int, level: float, power: float = LIKELY) -> float:
    """Return the difference, in standard deviations between seeds, that two samples of `seeds` show so often."""
    freedom = 2 * seeds - 2
    threshold = stats.t.isf(level / 2, freedom)
    return float(
        optimize.brentq(
            lambda effect: stats.nct.sf(threshold, freedom, effect * math.sqrt(seeds / 2)) - power, 0.0, 1e3
        )
    )


def earlier_deviation(sweep: Sweep, others: Sequence[Sweep]) -> tuple[float, int] | None:
    """Return the standard deviation between seeds in earlier sweeps of the same question, and of how many runs.

    Of the same question are those on the same data, by the same metric and of as many steps: longer runs spread less.
    """
    squares, freedom, runs = 0.0, 0, 0
    for other in others:
        if _asked(other) != _asked(sweep):
            continue
        values: dict[tuple[str, str], list[float]] = {}
        for trial in other.stage(CONFIRM):
            value = trial.value(sweep.metric)
            if trial.status == "finished" and value is not None and (value > 0 or sweep.compare == "difference"):
                scaled = math.log(value) if sweep.compare == "ratio" else value
                values.setdefault((trial.group, trial.configuration), []).append(scaled)
        for same in values.values():
            squares += float(np.var(same)) * len(same)
            freedom, runs = freedom + len(same) - 1, runs + len(same)
    return (math.sqrt(squares / freedom), runs) if freedom and squares else None


def _asked(sweep: Sweep) -> tuple[str, str, int, int]:
    return sweep.dataset_hash, sweep.metric, sweep.mean_of, sweep.settings.training.steps


def line_before_start(sweep: Sweep, seeds: int, comparisons: int, others: Sequence[Sweep]) -> str:
    """Say what difference so many seeds will see, measured by the spread of earlier sweeps if there are any."""
    if seeds < 2:
        return "one seed tells nothing from chance; give confirm.seeds 3 or more"
    effect = seen_effect(seeds, level_of(1, sweep.planned_looks) / comparisons)
    often = f"told from chance {LIKELY:.0%} of the time"
    earlier = earlier_deviation(sweep, others)
    if earlier is None:
        return f"{seeds} seeds: a difference of {number(effect, 2)} deviations between seeds is {often}"
    deviation, runs = earlier
    size = effect * deviation
    spread = f"spread of {runs} earlier runs"
    if sweep.compare == "difference":
        return f"{seeds} seeds: a difference of {number(size, 2)} in {sweep.metric} is {often} ({spread})"
    if size > math.log(_LARGEST_FACTOR):
        return f"{seeds} seeds: even a factor of {_LARGEST_FACTOR} in {sweep.metric} is rarely told from chance ({spread})"
    return f"{seeds} seeds: a factor of {number(math.exp(size), 2)} in {sweep.metric} is {often} ({spread})"
