"""What a sweep has done so far: `sweep.json`, the one truth from which it is resumed, reported and extended."""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from kgan_ray.metrics.names import Recognition
from kgan_ray.publishing import write_whole
from kgan_ray.settings import Settings, SettingValue, UserError, settings_from_flat
from kgan_ray.storage import StorePath, folders_with
from kgan_ray.text import close_match
from kgan_ray.tracking.store import record_now
from kgan_ray.tuning.question.space import Space

FORMAT_VERSION = 4
FILE = "sweep.json"

Mode = Literal["min", "max"]
Compare = Literal["difference", "ratio"]
Side = tuple[str, str]  # of a comparison: a group, and a configuration of it
Status = Literal["waiting", "running", "finished", "stopped", "diverged", "failed", "interrupted"]
ENDED: tuple[Status, ...] = ("finished", "stopped", "diverged", "failed")
LOST: tuple[Status, ...] = ("diverged", "failed")
EXPLORE, CONFIRM = "explore", "confirm"
_FIRST_SEED_OF_FORMAT_2 = 1000  # of a confirmation, added to the sweep's own seed


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")  # a diverged loss is NaN


class Trial(_Record):
    """One training run of the sweep. `overrides` include those of its group."""

    name: str
    stage: str
    configuration: str
    overrides: dict[str, SettingValue]
    seed: int
    group: str = ""
    schedule: list[
        tuple[int, dict[str, SettingValue]]
    ] = []  # (from this step on, settings) of the weights that it holds
    status: Status = "waiting"
    reason: str = ""  # why it diverged or failed
    ray_id: str = ""
    run_id: str = ""  # in MLflow
    step: int = 0
    metrics: dict[str, float] = {}  # the last ones
    curve: list[tuple[int, float]] = []
    seconds: float = 0.0
    earlier_seconds: float = 0.0  # part of `seconds` that was spent in earlier rounds of population based training
    dataset: str = ""  # hashes: what it was trained on and measured with
    extractor: str = ""  # the hash of the one that measured it, as the trial itself reported it

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    def value(self, metric: str) -> float | None:
        """Return the metric's last value; None for a run that has none, or that diverged or failed."""
        value = self.metrics.get(metric)
        return value if self.status not in LOST and value is not None and math.isfinite(value) else None


class Sweep(_Record):
    """The whole record of a sweep."""

    format_version: int = FORMAT_VERSION
    name: str
    space: dict[str, SettingValue]  # the search-space file's content
    settings: Settings  # what every trial starts from
    metric: str
    mode: Mode
    compare: Compare = "difference"  # what the verdicts are about
    # Within which a configuration is the same as the baseline; up to format 3 there was none.
    margin: float | None = None
    mean_of: int = 1  # a run's last evaluations make its score
    planned_looks: int = 1  # at the verdicts, before the first; up to format 3 one was
    objectives: dict[str, Mode] = {}  # all of them where there are several
    seed_key: str = ""  # which, with an index, makes the seed of a confirmation run; empty: as format 2 did
    origin: dict[str, str] = {}  # preset, command, versions and date of its beginning
    # By group: the objective `untrained` and of `real` motions; `chance` of accuracy.
    references: dict[str, dict[str, float]] = {}
    dataset: str = ""  # path
    dataset_hash: str = ""
    extractors: dict[str, str] = {}  # the hash of each group's
    recognitions: dict[str, Recognition] = {}  # how good they are
    uri: str = ""
    experiment: str = ""
    parent_id: str = ""
    model: str = ""  # of the best confirmed generator: models:/NAME/VERSION in MLflow's registry
    seconds: float = 0.0  # wall time over all sessions
    session_seconds: float = 0.0  # of a session that has not ended, or was killed
    device_seconds: float = 0.0  # that trials held devices
    budget: dict[str, float] = {}  # given on the command line, over the space's own
    num_explored: int = 0
    rounds: list[int] = []  # fresh seeds of each round of confirmation; after each one the verdicts are looked at
    done: list[str] = []  # stages that are complete: explore, confirm-1, ...
    trials: list[Trial] = []

    @classmethod
    def of(cls, space: Space, settings: Settings, **known: Any) -> Sweep:
        """Return the record of a sweep that has not begun; `known` are further fields."""
        name = known.get("name", space.name)
        question = json.dumps([name, space.tree, settings.seed], sort_keys=True, default=str)
        return cls(
            **{
                "name": name,
                "space": space.tree,
                "settings": settings,
                "metric": space.objective.metric,
                "mode": space.mode,
                "compare": space.compare,
                "seed_key": hashlib.sha256(question.encode()).hexdigest()[:16],
                "objectives": space.modes if len(space.objectives) > 1 else {},
                "experiment": space.name,
                "mean_of": space.objective.mean_of,
                "margin": space.confirm.margin,
                "planned_looks": space.confirm.planned_looks,
                "rounds": [space.confirm.seeds],
                **known,
            }
        )

    @model_validator(mode="before")
    @classmethod
    def _from_earlier_formats(cls, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Format 1 kept the verdicts, which follow from the trials; up to format 2 differences were compared by default."""
        kept = {name: value for name, value in tree.items() if name != "verdicts"}
        asked = (tree.get("space") or {}).get("confirm") or {}
        return {"compare": asked.get("compare") or "difference", **kept, "format_version": FORMAT_VERSION}

    @field_validator("settings", mode="before")
    @classmethod
    def _settings_of_format_1(cls, tree: Any) -> Any:
        """Format 1 kept settings flat."""
        is_flat = isinstance(tree, Mapping) and any("." in name for name in tree)
        return settings_from_flat(tree, where=FILE) if is_flat else tree

    def score(self, trial: Trial) -> float:
        """Return the mean of the last evaluations on a trial's curve, of which it has one or more."""
        last = [value for _, value in trial.curve[-self.mean_of :]]
        is_geometric = self.compare == "ratio" and min(last) > 0
        return geometric_mean(last) if is_geometric else fmean(last)

    def stage(self, stage: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.stage == stage]

    def trial(self, name: str) -> Trial | None:
        return next((trial for trial in self.trials if trial.name == name), None)

    def confirmation_seed(self, index: int) -> int:
        """Return the seed of every configuration's run of that index: another one in every sweep.

        Records of format 2 go on with theirs, which sweeps of the same seed shared.
        """
        if not self.seed_key:
            return self.settings.seed + _FIRST_SEED_OF_FORMAT_2 + index
        return int(hashlib.sha256(f"{self.seed_key} {index}".encode()).hexdigest(), 16) % 10**8

    def rounds_by_seed(self) -> dict[int, int]:
        """Return the number of the round of confirmation in which each seed was run, from 1 on."""
        seeds = dict.fromkeys(trial.seed for trial in self.stage(CONFIRM))
        ends = list(accumulate(self.rounds))
        return {seed: bisect_right(ends, index) + 1 for index, seed in enumerate(seeds)}

    def num_complete_rounds(self) -> int:
        """Return how many rounds of confirmation have been run to their end, one after the other."""
        numbers = range(1, len(self.rounds) + 1)
        return next((number - 1 for number in numbers if f"{CONFIRM}-{number}" not in self.done), len(self.rounds))

    def total_steps(self, trial: Trial) -> int:
        """Return the steps of the trial's whole run."""
        return int(trial.overrides.get("training.steps", self.settings.training.steps))

    def save(self, folder: StorePath) -> None:
        """Write folder/sweep.json: the old content or the new one is there, never a part. Raises UserError."""
        write_whole(folder / FILE, self.model_dump_json(indent=1))


def load_sweep(folder: StorePath | Path) -> Sweep:
    """Read folder/sweep.json, and find its record of runs where both were moved together.

    Raises UserError where there is no sweep, or one that cannot be read.
    """
    folder = StorePath(folder)
    file = folder / FILE
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        if tree["format_version"] > FORMAT_VERSION:
            raise UserError(f"{file}: written by a newer kgan_ray (format {tree['format_version']}); update it")
        sweep = Sweep.model_validate(tree)
        sweep.uri = record_now(sweep.uri, folder.parent)
        return sweep
    except FileNotFoundError:
        raise UserError(f"{folder}: no sweep here (expected a folder with {FILE}, which `tune` writes)") from None
    except (OSError, ValueError, TypeError, KeyError, ValidationError) as error:
        raise UserError(f"{file}: not a sweep's record: {str(error).splitlines()[0]}") from None


def resume_command(folder: StorePath) -> str:
    """Return the shell command that goes on with the sweep in that folder."""
    results = "" if str(folder.parent) == "results" else f" --results {folder.parent}"
    return f"python -m kgan_ray.tune --resume --name {folder.name}{results}"


def other_sweeps(folder: StorePath) -> list[Sweep]:
    """Read the records of the sweeps that lie beside that of `folder`; those that cannot be read are left out."""
    sweeps = []
    for other in folders_with(folder.parent, FILE):
        with suppress(UserError):
            sweeps += [load_sweep(other)] if other.name != folder.name else []
    return sweeps


def find_sweep(results: StorePath, name: str | None = None) -> StorePath:
    """Return the folder of the sweep `name` in `results`, or the sweep's folder that `name` is a path of.

    Without a name it is the sweep whose record changed last. Raises UserError where there is none.
    """
    for folder in (results / name, StorePath(name)) if name else ():
        if (folder / FILE).exists():
            return folder
    names = [folder.name for folder in folders_with(results, FILE)]
    if not names:
        raise UserError(f"{results}: no sweep here (expected folders with {FILE}, which `tune` writes)")
    if name is not None:
        raise UserError(
            f"{results}: no sweep {name!r}.{close_match(name, names)} There are: {', '.join(sorted(names))}"
        )
    return results / names[-1]
