"""What each searched setting did to the objective, over the explored trials.

Trials that the scheduler ended early are compared with the others at the last step that all of them reached; one that
diverged counts as the worst of the others. The importance of a setting is the part of the spread between trials that goes
with its value: epsilon squared (Kelley, 1935), the correlation ratio without its upward bias, so that a setting that does
nothing scores about zero. Optuna's importances are shares of their own sum: there a setting that does nothing, searched
alone, scores 100 %. Of few trials even so any setting may seem to matter: how often chance does as much is told by
permuting the values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kgan_ray.text import number
from kgan_ray.tuning.state import EXPLORE, Sweep, Trial

_MOST_VALUES = 5  # a number with more distinct values is cut into ranges
_NUM_RANGES = 3
_RESAMPLES = 1999


@dataclass(frozen=True)
class Point:
    """One explored trial: the settings that it chose, and its objective at the common step."""

    trial: str
    chosen: Mapping[str, object]
    value: float


@dataclass(frozen=True)
class Level:
    """One value, or range of values, of a setting, and the trials that chose it."""

    name: str
    points: tuple[Point, ...]

    @property
    def values(self) -> list[float]:
        return [point.value for point in self.points]


@dataclass(frozen=True)
class Effect:
    """One setting's main effect: the objective of the trials at each of its levels."""

    setting: str
    levels: tuple[Level, ...]
    importance: float  # part of the spread between trials, 0 to 1
    p_value: float  # how often permuted values give as much


def explored_points(sweep: Sweep) -> tuple[int, list[Point]]:
    """Return the last step that all explored trials reached, and the trials' objective there; without a value, none.

    Trials that diverged have reached every step, with the worst objective of the others.
    """
    explored = sweep.stage(EXPLORE)
    trials = [trial for trial in explored if trial.curve and trial.value(sweep.metric) is not None]
    if not trials:
        return 0, []
    step = min(max(at for at, _ in trial.curve) for trial in trials)
    values = {trial.name: value for trial in trials if (value := _value_at(trial, step)) is not None}
    if values:
        worst = (max if sweep.mode == "min" else min)(values.values())
        values |= {trial.name: worst for trial in explored if trial.status == "diverged"}
    return step, [
        Point(trial.name, trial.overrides, values[trial.name]) for trial in explored if trial.name in values
    ]


def effects_of(points: Sequence[Point]) -> list[Effect]:
    """Return the main effect of every setting that takes at least two values, the most important first."""
    settings = dict.fromkeys(name for point in points for name in point.chosen)
    by_setting = {setting: _levels(setting, points) for setting in settings}
    effects = [
        Effect(setting, levels, importance(values), permutation_p(values))
        for setting, levels in by_setting.items()
        if len(levels) > 1 and (values := [level.values for level in levels])
    ]
    return sorted(effects, key=lambda effect: -effect.importance)


def importance(levels: Sequence[Sequence[float]]) -> float:
    """Return epsilon squared: 0 where the levels do not differ beyond chance, 1 where they explain everything.

    Positive values are compared as logarithms: an FID of 200 is to 100 as 2000 is to 1000.
    """
    groups = _scaled(levels)
    everything = np.concatenate(groups)
    freedom = len(everything) - len(groups)
    total = float(((everything - everything.mean()) ** 2).sum())
    if freedom < 1 or total == 0.0:
        return 0.0
    within = float(sum(((values - values.mean()) ** 2).sum() for values in groups))
    between = total - within
    return max(0.0, (between - (len(groups) - 1) * within / freedom) / total)


def permutation_p(levels: Sequence[Sequence[float]]) -> float:
    """Return how often values that are permuted among the levels differ between them as much; 1 where nothing can be said."""
    groups = _scaled(levels)
    values = np.concatenate(groups)
    if len(values) <= len(groups) or np.ptp(values) == 0.0:
        return 1.0
    sizes = np.array([len(group) for group in groups])
    member = np.repeat(np.eye(len(groups)), sizes, axis=0)  # (values, levels)

    def between(permuted: np.ndarray, axis: int) -> np.ndarray:
        """Return what grows with the spread between levels; the whole spread is the same in every permutation."""
        sums: np.ndarray = (permuted @ member) ** 2 / sizes
        return sums.sum(axis=axis)

    test = stats.permutation_test(
        (values,),
        between,
        permutation_type="pairings",
        alternative="greater",
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def _scaled(levels: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """Return the values of each level about their mean; their logarithms where all are positive."""
    is_positive = all(value > 0 for values in levels for value in values)
    groups = [np.log(values) if is_positive else np.asarray(values, float) for values in levels]
    middle = np.concatenate(groups).mean()
    return [values - middle for values in groups]


def value_label(value: object) -> str:
    """Return a setting's value as drawings label it: `off` for None, numbers to four digits."""
    if value is None:
        return "off"
    return number(value) if isinstance(value, float) else str(value)


def label_order(value: object) -> tuple[bool, float, str]:
    """Return the sort key of a setting's values: numbers by size, then everything else by its label."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return False, float(value), ""
    return True, 0.0, value_label(value)


def _levels(setting: str, points: Sequence[Point]) -> tuple[Level, ...]:
    """Return a level for every value; for a number with many values one for each third of them, and one for `off`."""
    by_value: dict[object, list[Point]] = {}
    for point in points:
        by_value.setdefault(point.chosen.get(setting), []).append(point)
    values = sorted(by_value, key=label_order)
    numbers = [value for value in values if label_order(value)[0] is False]
    others = [value for value in values if label_order(value)[0] and value is not None]
    if others or len(numbers) <= _MOST_VALUES:
        return tuple(Level(value_label(value), tuple(by_value[value])) for value in values)
    thirds = [part.tolist() for part in np.array_split(np.array(numbers, object), _NUM_RANGES)]
    levels = [
        Level(
            f"{number(part[0], 3)} to {number(part[-1], 3)}",
            tuple(point for value in part for point in by_value[value]),
        )
        for part in thirds
    ]
    if None in by_value:
        levels.append(Level(value_label(None), tuple(by_value[None])))
    return tuple(levels)


def _value_at(trial: Trial, step: int) -> float | None:
    """Return the trial's last finite objective up to a step."""
    before = [value for at, value in trial.curve if at <= step and math.isfinite(value)]
    return before[-1] if before else None
