"""The best confirmed generator of a sweep, in MLflow's model registry."""

from __future__ import annotations

import re
from pathlib import Path

from kgan_ray.storage import StorePath
from kgan_ray.tracking.models import register_model
from kgan_ray.tracking.run import active_run
from kgan_ray.tracking.tags import Tag
from kgan_ray.training.checkpoint import CheckpointStore, read_checkpoint
from kgan_ray.tuning.answer.results import Results

MODEL_PREFIX = "kgan_ray-"
MODEL_CODE = Path(__file__).with_name("registered_model.py")


def register_best(results: Results, folder: StorePath) -> str | None:
    """Register the best confirmed run's best checkpoint; return `models:/NAME/VERSION`.

    None where no confirmed run has an MLflow run and a checkpoint that this machine can read.
    """
    sweep, trial = results.sweep, results.best_run()
    if trial is None or not trial.run_id or not active_run(sweep.uri, trial.run_id):
        return None
    store = CheckpointStore(folder / "trials" / trial.name / "checkpoints")
    checkpoint = store.best(sweep.metric, lowest=results.lowest_is_best)
    if checkpoint is None:
        return None
    name = MODEL_PREFIX + re.sub(r"[/:]", "-", sweep.name)
    tags = {
        Tag.CONFIGURATION: trial.configuration,
        Tag.TRIAL: trial.name,
        sweep.metric: f"{trial.metrics[sweep.metric]:.6g}",
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
