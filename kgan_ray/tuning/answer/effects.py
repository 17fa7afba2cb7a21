"""What each searched setting did to the objective, over the explored trials.

Trials that the scheduler ended early are compared with the others at the last step that all of them reached. The
importance of a setting is the part of the spread between trials that goes with its value: epsilon squared (Kelley,
1935), the correlation ratio without its upward bias, so that a setting that does nothing scores about zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kgan_ray.text import number
from kgan_ray.tuning.state import EXPLORE, Sweep, Trial

_MOST_VALUES = 5  # a number with more distinct values is cut into ranges
_NUM_RANGES = 3


@dataclass(frozen=True)
class Point:
    """One explored trial: what it chose, and its objective at the common step."""

    trial: str
    chosen: dict[str, Any]
    value: float


@dataclass(frozen=True)
class Effect:
    """One setting's main effect: the objective of the trials at each of its values or ranges of values."""

    setting: str
    levels: tuple[tuple[str, tuple[float, ...]], ...]
    importance: float  # part of the spread between trials, 0 to 1


def explored_points(sweep: Sweep) -> tuple[int, list[Point]]:
    """The last step that all explored trials reached, and their objective there. Trials without a value are left out."""
    trials = [trial for trial in sweep.stage(EXPLORE) if trial.curve and trial.value(sweep.metric) is not None]
    if not trials:
        return 0, []
    step = min(max(at for at, _ in trial.curve) for trial in trials)
    points = [
        Point(trial.name, trial.overrides, value) for trial in trials if (value := _at(trial, step)) is not None
    ]
    return step, points


def effects_of(points: Sequence[Point]) -> list[Effect]:
    """The main effect of every setting that takes at least two values, the most important first."""
    settings = dict.fromkeys(name for point in points for name in point.chosen)
    effects = []
    for setting in settings:
        levels = _levels(setting, points)
        if len(levels) > 1:
            effects.append(Effect(setting, levels, importance([values for _, values in levels])))
    return sorted(effects, key=lambda effect: -effect.importance)


def importance(levels: Sequence[Sequence[float]]) -> float:
    """Epsilon squared: 0 where the levels do not differ beyond chance, 1 where they explain everything.

    Positive values are compared as logarithms: an FID of 200 is to 100 as 2000 is to 1000.
    """
    is_positive = all(value > 0 for values in levels for value in values)
    groups = [np.log(values) if is_positive else np.asarray(values, float) for values in levels]
    everything = np.concatenate(groups)
    freedom = len(everything) - len(groups)
    total = float(((everything - everything.mean()) ** 2).sum())
    if freedom < 1 or total == 0.0:
        return 0.0
    within = float(sum(((values - values.mean()) ** 2).sum() for values in groups))
    between = total - within
    return max(0.0, (between - (len(groups) - 1) * within / freedom) / total)


def _levels(setting: str, points: Sequence[Point]) -> tuple[tuple[str, tuple[float, ...]], ...]:
    found = [(point.chosen.get(setting), point.value) for point in points]
    is_number = all(_is_number(value) or value is None for value, _ in found)
    numbers = sorted({value for value, _ in found if value is not None}) if is_number else []
    levels: dict[str, list[float]] = {}
    if len(numbers) <= _MOST_VALUES:
        for value, objective in sorted(found, key=lambda pair: _order(pair[0])):
            levels.setdefault(shown(value), []).append(objective)
    else:
        for part in np.array_split(numbers, _NUM_RANGES):
            inside = [
                objective for value, objective in found if value is not None and part[0] <= value <= part[-1]
            ]
            levels[f"{number(float(part[0]))} to {number(float(part[-1]))}"] = inside
        if off := [objective for value, objective in found if value is None]:
            levels[shown(None)] = off
    return tuple((name, tuple(values)) for name, values in levels.items())


def shown(value: Any) -> str:
    """A setting's value as the drawings label it."""
    if value is None:
        return "off"
    return number(value) if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _order(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if _is_number(value) else (1, 0.0, shown(value))


def _at(trial: Trial, step: int) -> float | None:
    before = [value for at, value in trial.curve if at <= step and math.isfinite(value)]
    return before[-1] if before else None
