"""Training on Ray Train: one or more workers, on one machine or many. The only module that imports ray.train."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kgan_ray.cluster import connect, meanwhile, node_watched, on_this_node, runs_that_fit
from kgan_ray.settings import Settings, UserError, flatten, settings_from_flat
from kgan_ray.tracking.run import start_run

if TYPE_CHECKING:
    from kgan_ray.training.loop import Outcome, Progress

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


class Mailbox:
    """A Ray actor that holds the newest progress of a run, for whoever wants to show it."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._outcome: Outcome | None = None
        self._mistake: str | None = None

    def put(self, progress: Progress) -> None:
        self._progress = progress

    def get(self) -> Progress | None:
        return self._progress

    def finish(self, outcome: Outcome | None, mistake: str | None = None) -> None:
        self._outcome, self._mistake = outcome, mistake

    def ending(self) -> tuple[Outcome | None, str | None]:
        return self._outcome, self._mistake


class TrainContext:
    """The loop's context inside a Ray Train worker."""

    def __init__(self, mailbox: Any) -> None:
        import ray.train
        import ray.train.torch

        here = ray.train.get_context()
        self.rank, self.world_size = here.get_world_rank(), here.get_world_size()
        self.device = str(ray.train.torch.get_device())
        self._mailbox = mailbox

    def report(self, metrics: dict[str, float]) -> None:
        """Nothing: the record is MLflow's, and Ray's report would wait for workers that take no part."""

    def progress(self, progress: Progress) -> None:
        self._mailbox.put.remote(progress)

    def should_stop(self) -> bool:
        return False


def train_worker(config: dict[str, Any]) -> None:
    """What every Ray Train worker runs."""
    import ray
    import torch

    from kgan_ray.training import distributed
    from kgan_ray.training.loop import train

    if ray.get(config["mailbox"].ending.remote())[1]:
        return  # an earlier group of workers met a mistake of the user's
    settings = settings_from_flat(config["settings"], where="settings")
    torch.set_num_threads(max(1, int(settings.resources.cpus_per_worker)))
    context = TrainContext(config["mailbox"])
    context.world_size = sharing_workers(settings.training.batch_size, context.world_size)
    if not distributed.take_part(context.world_size):
        return
    run = None
    if context.rank == 0 and config["record"]:
        record = RunRecord(**config["record"])
        run = start_run(record.uri, experiment=record.experiment, name=record.name, run_id=record.id)
    try:
        outcome = train(settings, config["dataset"], config["folder"], context, run)
    except UserError as error:  # a mistake to be told, not a failure to be retried
        ray.get(config["mailbox"].finish.remote(None, str(error)))
        if context.world_size > 1:
            raise  # the others may be waiting for this one: Ray ends them, and those it starts anew return above
        return
    if context.rank == 0:
        ray.get(config["mailbox"].finish.remote(outcome))


def sharing_workers(batch_size: int, workers: int) -> int:
    """How many of the workers that there are can share a batch evenly; the others wait for the next resize."""
    return max(number for number in range(1, workers + 1) if batch_size % number == 0)


def launch_training(
    settings: Settings,
    dataset_path: str,
    folder: str,
    *,
    name: str,
    record: RunRecord | None = None,
    show: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Train in `folder` on `resources.num_workers` Ray Train workers and wait for the end.

    A worker or node that dies is replaced, FAILURES times at most; training goes on from the newest checkpoint in the
    folder. With `resources.min_workers` it goes on with those that are left, and takes others in when they come.

    Raises UserError for a mistake in settings or data, and for more workers than the cluster has.
    """
    connect()
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = settings.resources
    runs_that_fit(resources, where="--workers")
    per_worker = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    mailbox = ray.remote(num_cpus=0, scheduling_strategy=on_this_node())(Mailbox).remote()
    is_elastic = resources.min_workers is not None
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={
            "settings": flatten(settings),
            "dataset": dataset_path,
            "folder": folder,
            "record": asdict(record) if record else None,
            "mailbox": mailbox,
        },
        torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=(resources.min_workers, resources.num_workers) if is_elastic else resources.num_workers,
            elastic_resize_monitor_interval_s=SECONDS_BETWEEN_RESIZES,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker={kind: amount for kind, amount in per_worker.items() if amount},
        ),
        run_config=ray.train.RunConfig(
            # Ray's own record of the run is of no use to us: checkpoints are in `folder`, and a fresh name
            # keeps Train from resuming from a record that a kill left half-written.
            name=f"{name}-{time.time_ns()}",
            storage_path=f"{folder.rstrip('/')}/ray_train",
            failure_config=ray.train.FailureConfig(max_failures=ELASTIC_FAILURES if is_elastic else FAILURES),
        ),
    )
    with _shown(mailbox, show), node_watched("the same command goes on"):
        trainer.fit()
    outcome, mistake = ray.get(mailbox.ending.remote())
    ray.kill(mailbox)
    if mistake:
        raise UserError(mistake)
    return outcome


@contextmanager
def _shown(mailbox: Any, show: Callable[[Progress], None] | None) -> Iterator[None]:
    """Show every new progress meanwhile."""
    import ray

    if show is None:
        yield
        return

    def watch(is_over: threading.Event) -> None:
        shown = None
        while True:
            is_last = is_over.wait(0.5)
            try:
                progress = ray.get(mailbox.get.remote())
            except ray.exceptions.RayError:
                return
            if progress and progress.step != (shown.step if shown else None):
                show(progress)
                shown = progress
            if is_last:
                return

    with meanwhile(watch):
        yield
