"""Training on Ray Train: one or more workers, on one machine or many."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass

from kgan_ray.cluster import connect, node_watched, runs_that_fit
from kgan_ray.data.batches import rows_of_worker, sharing_workers
from kgan_ray.data.dataset import Dataset
from kgan_ray.settings import Settings, UserError
from kgan_ray.tracking.run import start_run
from kgan_ray.training.progress import Ending, Outcome, Progress, ProgressBoard, start_board, watched

LANES = "lanes"  # the name of the training split among Ray Train's datasets
FAILURES = 3  # of workers or nodes, before a run is given up
ELASTIC_FAILURES = 100  # a run that may lose nodes will lose some
SECONDS_BETWEEN_RESIZES = 60.0


@dataclass(frozen=True)
class RunRecord:
    """The MLflow run that a training run writes to; it exists before the workers start."""

    uri: str
    experiment: str
    name: str
    id: str


@dataclass(frozen=True)
class WorkerTask:
    """What every worker of a run is sent."""

    name: str
    settings: Settings
    dataset: Dataset
    folder: str
    record: RunRecord | None
    board: ProgressBoard


class TrainContext:
    """The loop's context inside a Ray Train worker."""

    def __init__(self, name: str, board: ProgressBoard) -> None:
        import ray.train
        import ray.train.torch

        here = ray.train.get_context()
        self.rank, self.world_size = here.get_world_rank(), here.get_world_size()
        self.device = str(ray.train.torch.get_device())
        self._name, self._board = name, board

    def report(self, metrics: Mapping[str, float]) -> None:
        """Do nothing: the record is MLflow's, and Ray's report would wait for workers that take no part."""

    def progress(self, progress: Progress) -> None:
        """Put it on the board."""
        self._board.put(self._name, progress)

    def is_interrupted(self) -> bool:
        """Ask the board."""
        return self._board.is_interrupted(self._name)


def train_worker(config: Mapping[str, WorkerTask]) -> None:
    """Train in a Ray Train worker, and leave on the board how it ended."""
    import torch

    from kgan_ray.training import distributed
    from kgan_ray.training.loop import train

    task = config["task"]
    if task.board.ending(task.name).error:
        return  # an earlier group of workers met a mistake of the user's
    torch.set_num_threads(task.settings.resources.threads)
    context = TrainContext(task.name, task.board)
    batch_size = task.settings.training.batch_size
    context.world_size = sharing_workers(batch_size, context.world_size)
    if not distributed.take_part(context.world_size):
        return
    run, record = None, task.record
    if context.rank == 0 and record:
        run = start_run(record.uri, experiment=record.experiment, name=record.name, run_id=record.id)
    try:
        outcome = train(task.settings, _dealt_out(task, context), task.folder, context, run)
    except UserError as error:  # a mistake to be told, not a failure to be retried
        task.board.end(task.name, Ending(error=error))
        if context.world_size > 1:
            raise  # the others may be waiting for this one: Ray ends them, and those it starts anew return above
        return
    if context.rank == 0:
        task.board.end(task.name, Ending(outcome))


def _dealt_out(task: WorkerTask, context: TrainContext) -> Dataset:
    """Return the dataset with the lanes that Ray Train has for this worker, or with what a sweep holds for all."""
    if task.dataset.held is not None:
        return task.dataset
    import ray.train

    from kgan_ray.data.lanes import LaneShare

    num_rows, training = len(task.dataset.view(task.settings.data).rows("train")), task.settings.training
    rows = rows_of_worker(
        num_rows, training.batch_size, context.rank, context.world_size, balanced=training.balanced_classes
    )
    return task.dataset.holding(LaneShare(ray.train.get_dataset_shard(LANES), rows))


def launch_training(
    settings: Settings,
    dataset: Dataset,
    folder: str,
    *,
    name: str,
    record: RunRecord | None = None,
    show: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Train in `folder` on `resources.num_workers` Ray Train workers and wait for the end.

    A worker or node that dies is replaced, FAILURES times at most; training goes on from the newest checkpoint in the
    folder. With `resources.min_workers` it goes on with those that are left, and takes others in when they come.

    Ctrl-C has the workers save and stop, which is an outcome as well; a second one is a KeyboardInterrupt.

    Raises UserError for a mistake in settings or data, and for more workers than the cluster has.
    """
    connect()
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from kgan_ray.data.lanes import LaneShards, by_lanes

    resources, batch_size = settings.resources, settings.training.batch_size
    runs_that_fit(resources, where="--workers")
    is_elastic = resources.min_workers is not None
    board = start_board()
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"task": WorkerTask(name, settings, dataset, folder, record, board)},
        torch_config=TorchConfig(backend="nccl" if resources.device == "cuda" else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.worker_range,
            elastic_resize_monitor_interval_s=SECONDS_BETWEEN_RESIZES,
            use_gpu=resources.device == "cuda",
            resources_per_worker=resources.needed_by(1),
        ),
        datasets={} if dataset.held else {LANES: by_lanes(dataset.view(settings.data), batch_size)},
        dataset_config=LaneShards(batch_size, balanced=settings.training.balanced_classes),
        run_config=ray.train.RunConfig(
            # Ray's own record of the run is of no use to us: checkpoints are in `folder`, and a fresh name
            # keeps Train from resuming from a record that a kill left half-written.
            name=f"{name}-{time.time_ns()}",
            storage_path=f"{folder.rstrip('/')}/ray_train",
            failure_config=ray.train.FailureConfig(max_failures=ELASTIC_FAILURES if is_elastic else FAILURES),
        ),
    )
    watching = watched(board, lambda newest: show(newest[name])) if show else nullcontext()
    with watching, node_watched("the same command goes on"):
        _run_interruptible(trainer.fit, lambda: board.interrupt(name))
    ending = board.ending(name)
    board.close()
    if ending.error:
        raise ending.error
    assert ending.outcome is not None, "Ray Train ended without an outcome"
    return ending.outcome


def _run_interruptible(work: Callable[[], object], interrupt: Callable[[], None]) -> None:
    """Do the work, and call `interrupt` at the first Ctrl-C; the second one is a KeyboardInterrupt.

    In the main thread Ray Train would take Ctrl-C for itself, and end this process without a word and with the exit code 0.
    """
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    done: Future[object] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        done.result()
    except KeyboardInterrupt:
        os.write(2, b"\nstopping: the run saves and ends at its next line; Ctrl-C again stops now\n")
        interrupt()
        done.result()
