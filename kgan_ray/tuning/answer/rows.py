"""The lines of a sweep's tables: a confirmed configuration, a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kgan_ray.settings import Settings, flatten
from kgan_ray.text import described_schedule, short_overrides, spoken_overrides, with_factor, with_spread
from kgan_ray.tuning.answer.comparison import Sample, unscaled
from kgan_ray.tuning.answer.verdict import Verdict
from kgan_ray.tuning.question.checks import PUBLISHED_NOTE
from kgan_ray.tuning.state import EXPLORE, Compare, Status, Trial


@dataclass(frozen=True)
class Measure:
    """One metric over the finished runs of a configuration."""

    mean: float | None  # as the verdicts compare: geometric where ratios are compared; None without a run
    deviation: float | None  # between the runs; of ratios a factor; None with fewer than two
    published: str = ""  # what somebody else published for this configuration, by the same metric
    compare: Compare = "difference"

    def __str__(self) -> str:
        spread = with_factor if self.compare == "ratio" else with_spread
        return spread(self.mean, self.deviation)


@dataclass(frozen=True)
class ConfigurationRow:
    """One confirmed configuration of one group."""

    group: str
    configuration: str
    label: str  # what people call it
    changes: str  # the settings that it changes, as they are given on the command line
    finished: int  # runs
    lost: int
    waiting: int  # runs of rounds that are not complete: they count in nothing else
    measures: Mapping[str, Measure]  # by metric
    verdict: Verdict | None  # None for the baseline, and where there is no baseline
    runs: tuple[Trial, ...] = field(compare=False, repr=False)


@dataclass(frozen=True)
class TrialRow:
    """One trial: where it stands, and the last value of every metric."""

    trial: str
    stage: str
    group: str
    configuration: str
    seed: int
    status: Status
    reason: str
    step: int
    seconds: float
    values: Mapping[str, float | None]  # by metric
    overrides: Mapping[str, object]


def measure(
    runs: Sequence[Trial], metric: str, published: Mapping[str, float | str], compare: Compare = "difference"
) -> Measure:
    """Return the metric's mean and spread over the runs, on the scale of the comparison."""
    sample = Sample(tuple(value for run in runs if (value := final_value(run, metric)) is not None))
    scaled = sample.scaled(compare)
    return Measure(
        mean=sample.mean(compare) if scaled else None,
        deviation=unscaled(float(np.std(scaled, ddof=1)), compare) if len(scaled) > 1 else None,
        published=_published(published, metric),
        compare=compare,
    )


def _published(figures: Mapping[str, float | str], metric: str) -> str:
    """Return `1.171 (our reading, strength 0.1)`: a published figure of this very metric, with the configuration's note."""
    if metric not in figures:
        return ""
    return str(figures[metric]) + (f" ({figures[PUBLISHED_NOTE]})" if PUBLISHED_NOTE in figures else "")


def final_value(trial: Trial, metric: str) -> float | None:
    """Return the metric of a run that was trained to its end; None for another."""
    return trial.value(metric) if trial.status == "finished" else None


def changes_of(run: Trial, shared: Mapping[str, object], settings: Settings) -> dict[str, object]:
    """Return what a configuration changes, without the overrides of its whole group and without values that are the baseline's."""
    before = {**flatten(settings), **shared}
    return {name: value for name, value in run.overrides.items() if value != before.get(name)}


def described_changes(run: Trial, changes: Mapping[str, object]) -> str:
    """Describe what a configuration changes, by the names that the command line takes."""
    return described_schedule(run.schedule) if run.schedule else short_overrides(changes) or "none"


def label_of(run: Trial, changes: Mapping[str, object]) -> str:
    """Return what people call a configuration: the name that its file gives it, or what an explored one changes."""
    if not run.configuration.startswith(EXPLORE):
        return run.configuration
    return f"the schedule of {run.configuration}" if run.schedule else spoken_overrides(changes)


def shared_overrides(runs: Sequence[Trial]) -> dict[str, object]:
    """Return the overrides that all of a group's runs have: the group's own."""
    first, *others = runs
    return {
        name: value
        for name, value in first.overrides.items()
        if all(name in other.overrides and other.overrides[name] == value for other in others)
    }
