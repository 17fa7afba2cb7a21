"""What a stage of a sweep asks for: its jobs, and the plan that every trial's process is given."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from kgan_ray.settings import Overrides, Settings, override


@dataclass(frozen=True)
class Job:
    """What distinguishes one trial from the sweep's others."""

    name: str
    stage: str
    configuration: str
    overrides: Overrides
    seed: int
    group: str = ""
    schedule: tuple[tuple[int, Overrides], ...] = ()  # (from this step on, settings); empty: no change

    def settings(self, base: Settings) -> Settings:
        """Return what the trial trains with, where the sweep's trials start from `base`."""
        return override(base, {**self.overrides, "seed": self.seed}, where=self.name)

    def segments(self, settings: Settings, from_step: int = 0) -> list[tuple[Settings, int]]:
        """Return the settings of each part of a run with a schedule, ending where the part ends, and its first step.

        Parts before `from_step` have been trained and are left out. A run without a schedule is one part.
        """
        parts = [(start, changes) for start, changes in self.schedule or ((0, {}),) if start >= from_step]
        ends = [*(start for start, _ in parts[1:]), settings.training.steps]
        return [
            (override(settings, {**changes, "training.steps": end}, where=self.name), start)
            for (start, changes), end in zip(parts, ends, strict=True)
        ]


@dataclass(frozen=True)
class Report:
    """Where a trial is: what it tells the sweep after an evaluation, and when it ends."""

    status: str
    step: int
    metrics: Mapping[str, float]  # the measured ones and the losses
    reason: str = ""
    run_id: str = ""  # in MLflow
    extractor: str = ""  # the hash of what measured it


@dataclass(frozen=True)
class Plan:
    """What the trials of a stage share. It travels to every trial's process."""

    stage: str
    settings: Settings  # of the sweep; its training.steps are where this stage ends
    dataset: str
    folder: str  # every trial's checkpoints are in folder/<trial>
    objectives: Mapping[str, str]  # metric -> mode, the first one's first
    uri: str
    experiment: str
    parent_id: str
    tags: Mapping[str, str]
    jobs: Mapping[str, Job]  # by name; empty where a searcher proposes the configurations
    searched: tuple[str, ...] = ()  # settings that every run records, so that runs can be compared by them
    from_step: int = 0  # a round of population based training: what comes before in the schedules has been trained
    steps: int = 0  # of a whole run, where this stage trains only a round of it

    def proposed_job(self, name: str, config: Overrides) -> Job:
        """Return the job that a searcher's proposal comes to."""
        return Job(name, self.stage, name, dict(config), self.settings.seed)

    def total_steps(self, settings: Settings) -> int:
        """Return the steps of the whole run of a job of these settings: a group may have its own."""
        return self.steps or settings.training.steps


@lru_cache(maxsize=1)
def unpacked(plan: bytes) -> Plan:
    """Return the pickled plan, which a process unpickles once for all of its trials."""
    value: Plan = pickle.loads(plan)
    return value
