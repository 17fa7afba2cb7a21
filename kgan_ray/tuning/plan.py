"""What a stage of a sweep asks for: its jobs, and the plan that every trial's process is given."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from kgan_ray.settings import Settings, override, settings_from_flat


@dataclass(frozen=True)
class Job:
    """What distinguishes one trial from the sweep's others."""

    name: str
    stage: str
    configuration: str
    overrides: Mapping[str, Any]
    seed: int
    group: str = ""
    schedule: tuple[tuple[int, Mapping[str, Any]], ...] = ()  # (from this step on, settings); empty: no change


@dataclass(frozen=True)
class Report:
    """Where a trial is: what it tells the sweep after an evaluation, and when it ends."""

    status: str
    step: int
    metrics: Mapping[str, float]  # the measured ones and the losses
    reason: str = ""
    run_id: str = ""  # in MLflow


@dataclass(frozen=True)
class Plan:
    """What the trials of a stage share. It travels to every trial's process."""

    stage: str
    settings: Mapping[str, Any]  # flat
    dataset: str
    folder: str  # every trial's checkpoints are in folder/<trial>
    metric: str
    mode: str
    uri: str
    experiment: str
    parent_id: str
    tags: Mapping[str, str]
    jobs: Mapping[str, Job]  # by name; empty where a searcher proposes the configurations
    searched: tuple[str, ...] = ()  # settings that every run records, so that runs can be compared by them
    seed: int = 0  # of the proposed trials
    objectives: Mapping[str, str] = field(default_factory=dict)  # metric -> mode, the first one's first
    from_step: int = 0  # a round of population based training: what comes before in the schedules has been trained
    steps: int = 0  # of a whole run, where this stage trains only a round of it
    # Trials that ended in an earlier session: if Tune has forgotten that and starts them again, they only say so.
    # By name; where a searcher proposes them by Tune's id, for a new proposal may get the name of a forgotten one.
    ended: Mapping[str, Report] = field(default_factory=dict)


@lru_cache(maxsize=1)
def unpacked(plan: bytes) -> Plan:
    """The pickled plan, which a process unpickles once for all of its trials."""
    found: Plan = pickle.loads(plan)
    return found


def proposed_job(plan: Plan, name: str, config: Mapping[str, Any]) -> Job:
    """The job that a searcher's proposal comes to."""
    return Job(name, plan.stage, name, dict(config), plan.seed)


def settings_of_job(plan: Plan, job: Job) -> Settings:
    base = settings_from_flat(plan.settings, where="sweep")
    return override(base, {**job.overrides, "seed": job.seed}, where=job.name)


def segments(job: Job, settings: Settings, from_step: int = 0) -> list[tuple[Settings, int]]:
    """The settings of each part of a run with a schedule, its steps those at which the part ends, and its first step."""
    parts = [(start, changes) for start, changes in job.schedule or ((0, {}),) if start >= from_step]
    ends = [*(start for start, _ in parts[1:]), settings.training.steps]
    return [
        (override(settings, {**changes, "training.steps": end}, where=job.name), start)
        for (start, changes), end in zip(parts, ends, strict=True)
    ]
