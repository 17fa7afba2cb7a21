"""What a sweep has done so far: `sweep.json`, from which it can be resumed, reported and extended."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kgan_ray.settings import UserError
from kgan_ray.storage import AnyPath, any_path, folders_with, write_whole
from kgan_ray.text import close_match

FORMAT_VERSION = 1
FILE = "sweep.json"

Status = Literal["waiting", "running", "finished", "stopped", "diverged", "failed", "interrupted"]
ENDED: tuple[Status, ...] = ("finished", "stopped", "diverged", "failed")
EXPLORE, CONFIRM = "explore", "confirm"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")  # a diverged loss is NaN


class Trial(_Record):
    """One training run of the sweep. `overrides` include those of its group."""

    name: str
    stage: str
    configuration: str
    overrides: dict[str, Any]
    seed: int
    group: str = ""
    schedule: list[tuple[int, dict[str, Any]]] = []  # (from this step on, settings) of the weights that it holds
    status: Status = "waiting"
    reason: str = ""  # why it diverged or failed
    ray_id: str = ""
    run_id: str = ""  # in MLflow
    step: int = 0
    metrics: dict[str, float] = {}  # the last ones
    curve: list[tuple[int, float]] = []
    seconds: float = 0.0
    earlier_seconds: float = 0.0  # of those, in earlier rounds
    dataset: str = ""  # hashes: what it was trained on and measured with
    extractor: str = ""

    def value(self, metric: str) -> float | None:
        """The last value of a metric, None for a run that has none or that diverged or failed."""
        found = self.metrics.get(metric)
        if self.status in ("diverged", "failed") or found is None or not math.isfinite(found):
            return None
        return found


class Sweep(_Record):
    """The whole record of a sweep."""

    format_version: int = FORMAT_VERSION
    name: str
    space: dict[str, Any]  # the search-space file's content
    settings: dict[str, Any]  # what every trial starts from, flat
    metric: str
    mode: Literal["min", "max"]
    objectives: dict[str, Literal["min", "max"]] = {}  # all of them where there are several
    dataset: str = ""  # path
    dataset_hash: str = ""
    extractors: dict[str, str] = {}
    uri: str = ""
    experiment: str = ""
    parent_id: str = ""
    seconds: float = 0.0  # wall time over all sessions
    session_seconds: float = 0.0  # of a session that has not ended, or was killed
    device_seconds: float = 0.0  # that trials held devices
    budget: dict[str, float] = {}  # given on the command line, over the space's own
    num_explored: int = 0
    rounds: list[int] = []  # fresh seeds of each round of confirmation
    done: list[str] = []  # stages that are complete: explore, confirm-1, ...
    trials: list[Trial] = []
    verdicts: list[dict[str, Any]] = []

    def stage(self, stage: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.stage == stage]

    def trial(self, name: str) -> Trial | None:
        return next((trial for trial in self.trials if trial.name == name), None)

    def save(self, folder: AnyPath) -> None:
        """Write folder/sweep.json: the old content or the new one is there, never a part. Raises UserError."""
        write_whole(folder / FILE, self.model_dump_json(indent=1))


def load_sweep(folder: AnyPath) -> Sweep:
    """Read folder/sweep.json. Raises UserError where there is none, or one that cannot be read."""
    file = folder / FILE
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        if tree["format_version"] > FORMAT_VERSION:
            raise UserError(f"{file}: written by a newer kgan_ray (format {tree['format_version']}); update it")
        return Sweep.model_validate(tree)
    except FileNotFoundError:
        raise UserError(f"{folder}: no sweep here (expected a folder with {FILE}, which `tune` writes)") from None
    except (OSError, ValueError, TypeError, KeyError, ValidationError) as error:
        raise UserError(f"{file}: not a sweep's record: {str(error).splitlines()[0]}") from None


def find_sweep(results: AnyPath, name: str | None = None) -> AnyPath:
    """Return the folder of the sweep `name` in `results`, or the sweep's folder that `name` is a path of.

    Without a name it is the sweep whose record changed last. Raises UserError where there is none.
    """
    for folder in (results / name, any_path(name)) if name else ():
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
