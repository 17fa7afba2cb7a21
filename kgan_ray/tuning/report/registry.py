"""The best confirmed generator of a sweep, in MLflow's model registry."""

from __future__ import annotations

import re
from collections.abc import Callable
from statistics import fmean

from kgan_ray.storage import AnyPath
from kgan_ray.tracking.run import register_model
from kgan_ray.training.checkpoint import CheckpointStore, read_checkpoint
from kgan_ray.tuning.state import CONFIRM, Sweep, Trial

MODEL_PREFIX = "kgan_ray-"


def best_confirmed(sweep: Sweep, among: Callable[[Trial], bool] = lambda trial: True) -> Trial | None:
    """The best run of the configuration whose confirmation runs (`among` these) are best on average; None without any."""
    sign = 1 if sweep.mode == "min" else -1
    runs: dict[tuple[str, str], list[tuple[float, Trial]]] = {}
    for trial in sweep.stage(CONFIRM):
        value = trial.value(sweep.metric)
        if value is not None and trial.status == "finished" and among(trial):
            runs.setdefault((trial.group, trial.configuration), []).append((sign * value, trial))
    if not runs:
        return None
    best = min(runs.values(), key=lambda scored: fmean(value for value, _ in scored))
    return min(best, key=lambda pair: pair[0])[1]


def register_best(sweep: Sweep, folder: AnyPath) -> str | None:
    """Register the best confirmed run's best checkpoint; returns `models:/NAME/VERSION`.

    None where no confirmed run has an MLflow run and a checkpoint that this machine can read.
    """
    trial = best_confirmed(sweep)
    if trial is None or not trial.run_id:
        return None
    store = CheckpointStore(str(folder / "trials" / trial.name / "checkpoints"))
    checkpoint = store.best(sweep.metric, lowest=sweep.mode == "min")
    if checkpoint is None:
        return None
    name = MODEL_PREFIX + re.sub(r"[/:]", "-", sweep.name)
    tags = {
        "configuration": trial.configuration,
        "trial": trial.name,
        sweep.metric: f"{trial.metrics[sweep.metric]:.6g}",
    }
    with store.on_this_machine(checkpoint) as local:
        shape = read_checkpoint(local).spec.shape
        version = register_model(sweep.uri, trial.run_id, name, str(local), tags, shape)
    return f"models:/{name}/{version}"
