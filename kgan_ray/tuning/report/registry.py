"""The best confirmed generator of a sweep, in MLflow's model registry."""

from __future__ import annotations

import re
from pathlib import Path

from kgan_ray.run_folder import CHECKPOINTS, state_of
from kgan_ray.storage import StorePath
from kgan_ray.tracking.models import register_model
from kgan_ray.tracking.run import active_run
from kgan_ray.tracking.tags import Tag
from kgan_ray.training.checkpoint import CheckpointStore, read_checkpoint
from kgan_ray.tuning.answer.results import Results

MODEL_PREFIX = "kgan_ray-"
MODEL_CODE = Path(__file__).with_name("registered_model.py")


def register_best(results: Results, folder: StorePath) -> list[str]:
    """Register the best confirmed run of every group; return `models:/NAME/VERSION` of each.

    Groups are measured differently, so that none of their models is better than another's.
    """
    return [model for group in results.groups if (model := _register(results, folder, group))]


def _register(results: Results, folder: StorePath, group: str) -> str | None:
    """Register the best checkpoint of a group's best run; None without an MLflow run and a checkpoint that can be read."""
    sweep, trial = results.sweep, results.best_run(group)
    if trial is None or not trial.run_id or not active_run(sweep.uri, trial.run_id):
        return None
    store = CheckpointStore(folder / "trials" / trial.name / CHECKPOINTS)
    checkpoint = store.best(sweep.metric, lowest=results.lowest_is_best)
    if checkpoint is None:
        return None
    name = MODEL_PREFIX + re.sub(r"[/:]", "-", "-".join(filter(None, (sweep.name, group))))
    tags = {
        Tag.CONFIGURATION: trial.configuration,
        Tag.TRIAL: trial.name,
        sweep.metric: f"{state_of(checkpoint)['metrics'][sweep.metric]:.6g}",  # of what is stored, not of the last step
    }
    with checkpoint.on_this_machine() as local:
        version = register_model(
            sweep.uri,
            trial.run_id,
            name,
            code=MODEL_CODE,
            checkpoint=str(local),
            shape=read_checkpoint(checkpoint).spec.shape,
            tags=tags,
        )
    return f"models:/{name}/{version}"
