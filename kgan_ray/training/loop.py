"""The training loop: steps, evaluations, checkpoints and the record, in whatever process it finds itself.

It knows no Ray. A `Context` says who this worker is and takes its reports; `kgan_ray.training.launch` (Ray Train)
and `kgan_ray.tuning` (Tune trials) make theirs. All workers take part in steps and in evaluations; rank 0 alone saves
and records, while the others wait in what they do together next.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from kgan_ray.data.dataset import Dataset
from kgan_ray.data.view import DataView
from kgan_ray.metrics.names import lower_is_better
from kgan_ray.metrics.suite import DivergedError, Evaluator
from kgan_ray.settings import Settings, UserError
from kgan_ray.training import distributed
from kgan_ray.training.checkpoint import Checkpoint, CheckpointStore, restore
from kgan_ray.training.evaluation import SharedEvaluation
from kgan_ray.training.gan import GAN
from kgan_ray.training.progress import Outcome, Progress
from kgan_ray.visual.stick import contact_sheet

if TYPE_CHECKING:
    from kgan_ray.tracking.run import Run


class Context(Protocol):
    """The loop's view of the process that runs it."""

    rank: int
    world_size: int
    device: str

    def report(self, metrics: dict[str, float]) -> None:
        """Called on every rank after each evaluation; only rank 0's metrics are full."""

    def progress(self, progress: Progress) -> None:
        """Called on rank 0 every `training.log_every` steps."""


@dataclass
class Stopwatch:
    """Seconds spent on each part of the loop since the last log."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.started
        self.started = now

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Due:
    """What the loop owes at a step. An evaluation always saves, so that the best generator can be had again."""

    log: bool
    evaluate: bool
    save: bool

    @classmethod
    def at(cls, step: int, settings: Settings) -> Due:
        training = settings.training
        last = step == training.steps
        evaluate = last or step % settings.evaluation.every_steps == 0
        save = evaluate or step % training.checkpoint_every == 0
        return cls(log=save or step % training.log_every == 0, evaluate=evaluate, save=save)


def train(settings: Settings, dataset_path: str, folder: str, context: Context, run: Run | None = None) -> Outcome:
    """Train until `training.steps`, continuing from the newest checkpoint in `folder`/checkpoints.

    `folder` is a local path or a URI that every worker can reach. Raises UserError for settings, data or a
    checkpoint that do not fit together.
    """
    view = Dataset.open(dataset_path).view(settings.data)
    store = CheckpointStore(f"{folder.rstrip('/')}/checkpoints")
    gan = GAN(settings, view.spec, context.device)
    resumed = _resume(gan, store, view)
    batches = view.batches(
        batch_size=settings.training.batch_size,
        seed=settings.seed,
        rank=context.rank,
        world_size=context.world_size,
        device=context.device,
        balanced=settings.training.balanced_classes,
    )
    recorder = Recorder(settings, view, gan, store, run, resumed) if context.rank == 0 else None
    training = settings.training
    status: Literal["finished", "diverged"] = "finished"
    reason = ""
    evaluation = SharedEvaluation(gan, recorder.evaluator if recorder else None)
    if resumed is None:  # the untrained generator: where the learning curve starts
        _evaluate(evaluation, recorder, settings)
    watch = Stopwatch()
    while gan.step_count < training.steps:
        motions, labels = batches.batch(gan.step_count)
        watch.lap("loader")
        losses = gan.step(motions, labels)
        watch.lap("step")
        due = Due.at(gan.step_count, settings)
        if not due.log:
            continue
        reason = recorder.log(losses, watch, context) if recorder else ""
        diverged = distributed.any_rank(bool(reason))  # before an evaluation, which all or none must enter
        if due.evaluate and not diverged:
            reason = _evaluate(evaluation, recorder, settings)
            diverged = bool(reason)
        if diverged:
            status = "diverged"
            break
        if recorder and due.save:
            recorder.save()
        watch = Stopwatch()
        if due.evaluate:
            context.report({**(recorder.metrics if recorder else {}), "step": float(gan.step_count)})
    if recorder:
        recorder.finish(status)
    return Outcome(status, gan.step_count, recorder.metrics if recorder else {}, reason)


def _evaluate(evaluation: SharedEvaluation, recorder: Recorder | None, settings: Settings) -> str:
    """Measure `evaluation.metrics`, all ranks together. Returns why the run diverged, or the empty string."""
    started = time.perf_counter()
    try:
        scores = evaluation.evaluate(settings.evaluation.metrics)
    except DivergedError as error:
        return str(error)
    if recorder:
        recorder.evaluated(scores, time.perf_counter() - started)
    return ""


def _resume(gan: GAN, store: CheckpointStore, view: DataView) -> Checkpoint | None:
    """Load the newest checkpoint on every rank: the one that rank 0 sees, in case another appears meanwhile."""
    folders = store.folders()
    newest = distributed.from_rank_zero(folders[-1] if folders else None)
    if newest is None:
        return None
    checkpoint = store.read_folder(newest)
    if checkpoint.state["dataset"] != view.hash:
        raise UserError(
            f"{newest}: trained on dataset {checkpoint.state['dataset'][:12]}, here is {view.hash[:12]}; "
            f"use another --name, or the same data"
        )
    restore(gan, checkpoint)
    return checkpoint


class Recorder:
    """Rank 0's side of the loop: checkpoints, MLflow."""

    SECONDS_BETWEEN_SAMPLES = 300.0

    def __init__(
        self,
        settings: Settings,
        view: DataView,
        gan: GAN,
        store: CheckpointStore,
        run: Run | None,
        resumed: Checkpoint | None,
    ) -> None:
        self.settings, self.view, self.gan, self.store, self.run = settings, view, gan, store, run
        self.metrics: dict[str, float] = dict(resumed.state["metrics"]) if resumed else {}
        self.evaluator = Evaluator(view, settings.evaluation, device=gan.device, progress=lambda line: None)
        self.sampled_at = time.perf_counter()
        self.logged_at = gan.step_count
        if run:
            run.set_tags({"dataset": view.hash, "extractor": self.evaluator.extractor_hash})

    @property
    def objective(self) -> str:
        return self.settings.evaluation.metrics[0]

    def evaluated(self, scores: Mapping[str, float], seconds: float) -> None:
        """Record scores as metric/<name>."""
        self.metrics.update(scores)
        self._record({f"metric/{name}": value for name, value in scores.items()})
        self._record({"time/evaluation_seconds": seconds})
        if self.run and time.perf_counter() - self.sampled_at > self.SECONDS_BETWEEN_SAMPLES:
            self.log_samples()

    def log(self, tensors: Mapping[str, torch.Tensor], watch: Stopwatch, context: Context) -> str:
        """Record the losses and the speed. Returns which loss is not finite, or the empty string."""
        losses = {name: float(value) for name, value in tensors.items()}  # synchronises
        watch.lap("step")  # the steps that a GPU still had to do
        step, steps = self.gan.step_count, self.settings.training.steps
        for name, value in losses.items():
            if not math.isfinite(value):
                return f"{name} is {value} at step {step}"
        self.metrics.update(losses)
        rate = (step - self.logged_at) / watch.total
        self.logged_at = step
        speed = {
            "time/steps_per_second": rate,
            "time/motions_per_second": rate * self.settings.training.batch_size,
            "time/workers": float(context.world_size),
            "time/loader_share": watch.seconds["loader"] / watch.total,
        }
        if self.gan.device.type == "cuda":
            speed["memory/device_bytes"] = float(torch.cuda.max_memory_allocated())
        self._record({**losses, **speed})
        self.metrics["steps_per_second"] = rate
        context.progress(Progress(step, steps, rate, (steps - step) / rate, dict(self.metrics)))
        return ""

    def save(self) -> None:
        """Write a checkpoint, and delete those that neither are recent nor the best."""
        state: dict[str, Any] = {
            "step": self.gan.step_count,
            "metrics": self.metrics,
            "dataset": self.view.hash,
            "extractor": self.evaluator.extractor_hash,
            "run": self.run.id if self.run else None,
        }
        self.store.save(self.gan, state)
        lowest = lower_is_better(self.objective)
        with suppress(OSError):  # a store that fails for a while: the next save deletes them
            self.store.prune(self.settings.training.keep_checkpoints, self.objective, lowest=lowest)

    def log_samples(self) -> None:
        """A contact sheet of one motion a class, as an artifact of the run."""
        if not self.run:
            return
        spec = self.gan.spec
        labels = torch.arange(min(spec.num_classes, 12))
        motions = spec.to_metres(self.gan.sample_few(labels, seed=self.settings.evaluation.seed).cpu()).numpy()
        with tempfile.TemporaryDirectory() as scratch:
            sheet = Path(scratch) / f"samples-step-{self.gan.step_count:08d}.png"
            contact_sheet(list(zip(spec.class_names, motions, strict=False)), spec.layout, sheet)
            self.run.log_artifact(sheet, "samples")
        self.sampled_at = time.perf_counter()

    def finish(self, status: str) -> None:
        """Samples and the best and the newest checkpoint go to MLflow."""
        if not self.run:
            return
        self.run.set_tags({"outcome": status})
        if status != "diverged":
            self.log_samples()
        lowest = lower_is_better(self.objective)
        folders = self.store.folders()
        if not folders:
            return
        for name, folder in (("best", self.store.best(self.objective, lowest=lowest)), ("newest", folders[-1])):
            if folder:
                with self.store.on_this_machine(folder) as local:
                    self.run.log_artifact(local, f"checkpoints/{name}")

    def _record(self, metrics: dict[str, float]) -> None:
        if self.run:
            self.run.log_metrics(metrics, self.gan.step_count)
