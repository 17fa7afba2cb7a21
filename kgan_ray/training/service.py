"""One training run from beginning to end: what the verb `train` calls, and Python users too."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from kgan_ray.cluster import cluster_resources, connect, runs_that_fit
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.prepare.service import open_dataset
from kgan_ray.data.shared import bytes_to_share
from kgan_ray.devices import line_of_runs, with_devices
from kgan_ray.metrics.names import check_metric_name, check_objective
from kgan_ray.ownership import owned
from kgan_ray.publishing import write_whole
from kgan_ray.run_folder import ASKED, CHECKPOINTS, RUN, newest_state, settings_of_run
from kgan_ray.settings import (
    MAY_CHANGE,
    Settings,
    UserError,
    changed_settings,
    flatten,
    override,
)
from kgan_ray.storage import StorePath
from kgan_ray.tracking.run import Run, active_run, start_run
from kgan_ray.tracking.store import prepare_store, record_now, tracking_uri, ui_command
from kgan_ray.tracking.tags import Tag
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.training.estimate import line_of_length
from kgan_ray.training.launch import RunRecord, launch_training
from kgan_ray.training.progress import Outcome, Progress

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainedRun:
    """A training run that has ended: how, and where its checkpoints and its record are."""

    outcome: Outcome
    folder: StorePath
    record: RunRecord
    seconds: float

    @property
    def checkpoints(self) -> StorePath:
        return self.folder / CHECKPOINTS

    @property
    def open_command(self) -> str:
        """The shell command that opens the record."""
        return ui_command(self.record.uri, self.record.experiment)


def train_run(
    settings: Settings,
    name: str,
    results: str = "results",
    *,
    show: Callable[[Progress], None] | None = None,
    say: Say = lambda line: None,
) -> TrainedRun:
    """Train `name` in the folder results/`name`, recorded in MLflow, or go on from its newest checkpoint.

    Args:
        settings: without `data.path` the demo data is used, and made where missing.
        results: a local folder, or a URI that every worker can reach.
        show: takes the progress, from a thread, each time that there is some.
        say: takes the lines that tell a person what happens before training starts.

    Raises UserError for settings, data, a cluster or a folder that do not fit together. Until all of that is checked
    nothing is written: the folder holds no name that would refuse other settings.
    """
    home = StorePath(results)
    folder = home / name
    for metric in settings.evaluation.metrics:
        check_metric_name(metric, where="evaluation.metrics")
    check_objective(settings.evaluation.metrics[0], where="evaluation.metrics: the first, which ranks checkpoints")
    uri = tracking_uri(settings.tracking, home)
    dataset = open_dataset(settings.data.path, say)
    view = dataset.view(settings.data)
    asked = with_whole_paths(settings, dataset)
    _refuse_other_settings(folder, asked)
    connect(bytes_to_share=bytes_to_share([view]))
    have = cluster_resources()
    settings = with_devices(asked, have)
    runs_that_fit(settings.resources, where="--workers")
    say(line_of_runs(settings.resources, 1, have))
    store = CheckpointStore(folder / CHECKPOINTS)
    if settings.resources.device == "cpu":
        say(line_of_length(settings, view.spec, newest_state(store.root).get("step", 0)))

    with owned(folder, f"run {name}"):
        prepare_store(uri)
        write_whole(folder / ASKED, json.dumps(flatten(asked), indent=1))
        if change := store.change_of_device(settings.resources.device):
            say(f"{name} goes on {change}")
        run, record = _open_run(uri, settings, name, folder)
        say(f"training {name} in {folder}; Ctrl-C stops it, the same command goes on")
        started = time.perf_counter()
        try:
            outcome = launch_training(
                settings, dataset, str(folder.absolute()), name=name, record=record, show=show
            )
            if outcome.status == "interrupted":
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            run.finish("KILLED")
            raise KeyboardInterrupt(_line_of_stop(settings, newest_state(store.root).get("step", 0))) from None
        except BaseException:
            run.finish("FAILED")
            raise
        run.finish("FAILED" if outcome.status == "diverged" else "FINISHED")
    return TrainedRun(outcome, folder, record, time.perf_counter() - started)


def _line_of_stop(settings: Settings, step: int) -> str:
    """Say from where the same command goes on."""
    if step:
        return f"stopped; the same command goes on from step {step:,}"
    first = min(settings.training.checkpoint_every, settings.evaluation.every_steps)
    return f"stopped before the first checkpoint, which is made at step {first:,}: the same command begins anew"


def with_whole_paths(settings: Settings, dataset: Dataset) -> Settings:
    """Return settings whose paths hold in every process: workers and trials start in other folders."""
    extractor = settings.evaluation.extractor
    whole = str(StorePath(extractor).absolute()) if extractor else None
    return override(settings, {"data.path": dataset.path, "evaluation.extractor": whole})


def _refuse_other_settings(folder: StorePath, settings: Settings) -> None:
    """Raise UserError if the folder holds a run that was started with settings that change what it computes."""
    if not (folder / ASKED).exists():
        return
    changes = changed_settings(settings_of_run(folder), settings, free=(*MAY_CHANGE, "training.steps"))
    for name, (earlier, value) in changes.items():
        raise UserError(
            f"{folder} holds a run with {name}={earlier}, this one has {value}; "
            f"choose another --name, or give the same settings to continue"
        )


def _open_run(uri: str, settings: Settings, name: str, folder: StorePath) -> tuple[Run, RunRecord]:
    """Start the MLflow run, or go on with the one that this folder was recorded in before."""
    experiment = settings.tracking.experiment or "train"
    file = folder / RUN
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    is_same = bool(earlier) and record_now(earlier["uri"], folder.parent) == uri
    run_id = earlier["id"] if is_same and active_run(uri, earlier["id"]) else None
    run = start_run(uri, experiment=experiment, name=name, run_id=run_id, params=flatten(settings))
    run.set_tags({Tag.FOLDER: str(folder), Tag.SEED: str(settings.seed)})
    write_whole(file, json.dumps({"uri": uri, "id": run.id}))
    return run, RunRecord(uri=uri, experiment=experiment, name=name, id=run.id)
