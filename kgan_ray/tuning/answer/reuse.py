"""Runs that another sweep ran too: the same data, settings and seed give the same run, which is no second piece of evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kgan_ray.settings import override
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial

_NOT_TRAINED_WITH: dict[str, Any] = {"resources": True, "tracking": True, "evaluation": True, "data": {"path"}}
_NOT_MEASURED_WITH: dict[str, Any] = {"resources": True, "tracking": True, "seed": True, "data": {"path"}}


def lines_of_reuse(sweep: Sweep, others: Sequence[Sweep]) -> list[str]:
    """Name the sweeps of which the confirmation runs of this one are repetitions, and say how many are."""
    lines = []
    ours = [trial for trial in sweep.stage(CONFIRM) if trial.step]
    for other in others:
        if other.dataset_hash == sweep.dataset_hash:
            seeds = {trial.seed for trial in ours} & {trial.seed for trial in other.trials if trial.step}
            theirs = {_identity(other, trial) for trial in other.trials if trial.step and trial.seed in seeds}
            if same := sum(trial.seed in seeds and _identity(sweep, trial) in theirs for trial in ours):
                lines.append(
                    f"{same} confirmation runs are the same as in sweep {other.name}: they are evidence once only."
                )
    return lines


def explored_alike(sweep: Sweep, others: Sequence[Sweep]) -> list[Trial]:
    """Return the explored trials of other sweeps that were trained for as long, on the same data, and measured alike."""
    return [
        trial
        for other in others
        if _setting(other) == _setting(sweep)
        for trial in other.stage(EXPLORE)
        if trial.curve and trial.has_ended and not trial.schedule
    ]


def _setting(sweep: Sweep) -> tuple[object, ...]:
    """Return all that decides what a trial's curve means, but its own overrides."""
    shared = sweep.settings.model_dump_json(exclude=_NOT_MEASURED_WITH)
    return sweep.dataset_hash, sweep.metric, sweep.mode, sweep.extractors, shared


def _identity(sweep: Sweep, trial: Trial) -> str:
    """Return all that a run follows from but the data."""
    settings = override(sweep.settings, {**trial.overrides, "seed": trial.seed}, where=trial.name)
    return f"{settings.model_dump_json(exclude=_NOT_TRAINED_WITH)} {trial.schedule}"
