"""The runs of a configuration beside the baseline's, and the scale on which they are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kgan_ray.settings import UserError
from kgan_ray.text import number
from kgan_ray.tuning.state import Compare, Mode, Side, Trial

_WORTH_NAMING = 1000.0  # the largest ratio
_LARGEST_LOGARITHM = 50.0  # a ratio above e^50 is endless
_SMALLEST = 1e-12  # what a distance counts as that came out as 0: its logarithm must be finite


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
    label: str = ""  # what people call the configuration, if not by its name

    @property
    def side(self) -> Side:
        return self.group, self.configuration

    @property
    def has_losses(self) -> bool:
        return self.own.lost + self.baseline.lost > 0


@dataclass(frozen=True)
class IntervalEstimate:
    """A figure and its interval, whose ends are NaN where the runs give none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def cell(self, text_of: Callable[[float], str]) -> str:
        """Return `0.62 [0.31, 1.2]`."""
        interval = f" [{text_of(self.low)}, {text_of(self.high)}]" if self.has_interval else ""
        return text_of(self.value) + interval

    def phrase(self, text_of: Callable[[float], str], unit: str) -> str:
        """Return `0.62 times, between 0.31 and 1.2`."""
        interval = f", between {text_of(self.low)} and {text_of(self.high)}" if self.has_interval else ""
        return text_of(self.value) + unit + interval


def check_comparable(trials: Sequence[Trial]) -> None:
    """Raise UserError unless all trials were trained on one dataset and measured with one extractor."""
    for kind in ("dataset", "extractor"):
        hashes: dict[str, str] = {}
        for trial in trials:
            if digest := getattr(trial, kind):  # a trial names its extractor when it reports
                hashes.setdefault(digest, trial.name)
        if len(hashes) > 1:
            (one, first), (other, second) = list(hashes.items())[:2]
            raise UserError(
                f"{first} and {second} cannot be ranked together: their {kind} differs ({one[:12]}, {other[:12]})"
            )


def scaled_margin(margin: float | None, compare: Compare) -> float | None:
    """Return the margin where effects are compared: that of ratios as a logarithm."""
    return math.log(margin) if margin and compare == "ratio" else margin


def effect_text(effect: float, compare: Compare) -> str:
    """Return `+12.5` for a difference, `0.42` for a ratio, three digits each; a ratio beyond a thousand as that."""
    if compare == "difference":
        return ("+" if effect >= 0 else "") + number(effect, 3)
    if effect > _WORTH_NAMING:
        return f">{_WORTH_NAMING:.0f}"
    return number(effect, 3) if effect >= 1 / _WORTH_NAMING else f"<{1 / _WORTH_NAMING:g}"


def unscaled(value: float, compare: Compare) -> float:
    """Return an effect from where it was compared: a difference of logarithms becomes a ratio."""
    if compare == "difference":
        return value
    return math.inf if value > _LARGEST_LOGARITHM else math.exp(value)
