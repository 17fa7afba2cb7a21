"""The lines of a sweep's tables: a confirmed configuration, a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kgan_ray.text import described_schedule, short_overrides
from kgan_ray.tuning.answer.verdict import Verdict
from kgan_ray.tuning.question.checks import PUBLISHED_NOTE
from kgan_ray.tuning.state import Status, Trial


@dataclass(frozen=True)
class Measure:
    """One metric over the finished runs of a configuration."""

    mean: float | None  # arithmetic; None without a run
    deviation: float | None  # between the runs; None with fewer than two
    published: str = ""  # what somebody else published for this configuration, by the same metric


@dataclass(frozen=True)
class ConfigurationRow:
    """One confirmed configuration of one group."""

    group: str
    configuration: str
    changes: str  # the settings that it changes, for people
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


def measure(runs: Sequence[Trial], metric: str, published: Mapping[str, float | str]) -> Measure:
    values = [value for run in runs if (value := final_value(run, metric)) is not None]
    return Measure(
        mean=float(np.mean(values)) if values else None,
        deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        published=_published(published, metric),
    )


def _published(figures: Mapping[str, float | str], metric: str) -> str:
    """Return `1.171 (our reading, strength 0.1)`: a published figure of this very metric, with the configuration's note."""
    if metric not in figures:
        return ""
    return str(figures[metric]) + (f" ({figures[PUBLISHED_NOTE]})" if PUBLISHED_NOTE in figures else "")


def final_value(trial: Trial, metric: str) -> float | None:
    """Return the metric of a run that was trained to its end; None for another."""
    return trial.value(metric) if trial.status == "finished" else None


def described_changes(run: Trial, shared: Mapping[str, object]) -> str:
    """Describe what a configuration changes, without the overrides that its whole group has."""
    if run.schedule:
        return described_schedule(run.schedule)
    return short_overrides({name: value for name, value in run.overrides.items() if name not in shared}) or "none"


def shared_overrides(runs: Sequence[Trial]) -> dict[str, object]:
    """Return the overrides that all of a group's runs have: the group's own."""
    first, *others = runs
    return {
        name: value
        for name, value in first.overrides.items()
        if all(name in other.overrides and other.overrides[name] == value for other in others)
    }
