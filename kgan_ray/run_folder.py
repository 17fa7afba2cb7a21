"""The folder of a training run: what lies in it, and where the run stands, read without PyTorch."""

from __future__ import annotations

import json
from typing import Any

from kgan_ray.ownership import owner_of
from kgan_ray.settings import Settings, UserError, settings_from_flat
from kgan_ray.storage import StorePath
from kgan_ray.text import number

ASKED = "settings.json"  # the settings that the run was started with
RUN = "run.json"  # its run in MLflow
CHECKPOINTS = "checkpoints"
STATE = "state.json"  # of a checkpoint, written last: a folder without it is not one


def settings_of_run(folder: StorePath) -> Settings:
    """Return the settings that the run in this folder was started with. Raises UserError where there is none."""
    file = folder / ASKED
    if not file.exists():
        raise UserError(f"{folder}: no run here to resume (expected {ASKED})")
    return settings_from_flat(json.loads(file.read_text(encoding="utf-8")), where=str(file))


def run_line(folder: StorePath) -> str:
    """Say how far the run in this folder is, by its newest checkpoint, and whether anybody works on it."""
    steps = settings_of_run(folder).training.steps
    state = newest_state(folder / CHECKPOINTS)
    step, owner = state.get("step", 0), owner_of(folder)
    standing = "ended" if step >= steps else "stopped"
    if owner and owner.runs_here() is not False:
        standing = f"runs {owner}"
    scores = [f"{name} {number(value)}" for name, value in state.get("metrics", {}).items() if "/" not in name]
    return "  ".join([f"run {folder.name}: step {step} of {steps}, {standing}", *scores])


def is_checkpoint(folder: StorePath) -> bool:
    return (folder / STATE).is_file()


def complete_checkpoints(checkpoints: StorePath) -> list[StorePath]:
    """List the complete checkpoints of a run, oldest first."""
    return [one for one in checkpoints.children() if one.name.startswith("step-") and is_checkpoint(one)]


def state_of(checkpoint: StorePath) -> dict[str, Any]:
    """Read what a checkpoint says of itself: step, metrics, kind of device."""
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_bytes())
    return state


def newest_state(checkpoints: StorePath) -> dict[str, Any]:
    """Read the state of the newest checkpoint, from which training goes on; empty where there is none."""
    folders = complete_checkpoints(checkpoints)
    return state_of(folders[-1]) if folders else {}
