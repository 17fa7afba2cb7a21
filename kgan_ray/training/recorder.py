"""What rank 0 keeps of a run: its checkpoints, and its curves, samples and speed in MLflow."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kgan_ray.data.view import DataView
from kgan_ray.metrics.names import best_is_lowest
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.settings import Settings
from kgan_ray.tracking.tags import Tag
from kgan_ray.training.checkpoint import Checkpoint, CheckpointStore, change_of_device
from kgan_ray.training.gan import GAN
from kgan_ray.training.progress import Context, Progress
from kgan_ray.visual.stick import contact_sheet

if TYPE_CHECKING:
    from kgan_ray.tracking.run import Run


@dataclass
class Stopwatch:
    """Seconds spent on each part of the loop since its last restart."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def lap(self, part: str) -> None:
        """Count the time since the last lap as this part's."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.started
        self.started = now

    def restart(self) -> None:
        """Forget all laps, and count from now on."""
        self.seconds.clear()
        self.started = time.perf_counter()

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


class KeptLosses:
    """The losses of some steps. They stay on their device until they are taken, since to read one is to wait for the device."""

    def __init__(self) -> None:
        self._by_step: dict[int, torch.Tensor] = {}
        self._names: list[str] = []

    def keep(self, step: int, losses: Mapping[str, torch.Tensor]) -> None:
        """Keep a copy of scalars of the same names at every step: a replayed graph overwrites its own."""
        self._names = list(losses)
        self._by_step[step] = torch.stack(list(losses.values()))

    def take(self) -> list[tuple[int, dict[str, float]]]:
        """Return step and losses of all that was kept, fetched in one copy."""
        rows = torch.stack(list(self._by_step.values())).tolist()
        taken = [
            (step, dict(zip(self._names, row, strict=True))) for step, row in zip(self._by_step, rows, strict=True)
        ]
        self._by_step.clear()
        return taken


class Recorder:
    """Keeps the checkpoints and the MLflow record of a run. Rank 0 alone has one."""

    SECONDS_BETWEEN_READINGS = 2.0
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
        # The step of the last scores.
        self.measured_at: int | None = resumed.state.get("measured_at") if resumed else None
        self.evaluator = Evaluator(view, settings.evaluation, device=gan.device, progress=lambda line: None)
        self.sampled_at = self.read_at = time.perf_counter()
        self.step = gan.step_count  # the last one whose losses were read
        self._kept = KeptLosses()
        if run:
            run.set_tags(
                {
                    Tag.DATASET: view.hash,
                    Tag.EXTRACTOR: self.evaluator.extractor.hash,
                    Tag.PRECISION: gan.precision,
                }
            )
            if resumed and (change := change_of_device(gan.step_count, resumed.device, gan.device.type)):
                run.set_tags({Tag.RESEEDED: change})

    @property
    def objective(self) -> str:
        """The metric that ranks checkpoints."""
        return self.settings.evaluation.metrics[0]

    def evaluated(self, scores: Mapping[str, float], seconds: float) -> None:
        """Record scores as metric/<name>."""
        self.metrics.update(scores)
        self.measured_at = self.gan.step_count
        named = {f"metric/{name}": value for name, value in scores.items()}
        self._record([(self.gan.step_count, {**named, "time/evaluation_seconds": seconds})])
        if self.run and time.perf_counter() - self.sampled_at > self.SECONDS_BETWEEN_SAMPLES:
            self.log_samples()

    def log(self, losses: Mapping[str, torch.Tensor], watch: Stopwatch, context: Context, *, at_once: bool) -> str:
        """Keep this step's losses; every few seconds, or `at_once`, record those that were kept, and the speed.

        Return which loss is not finite, or the empty string.
        """
        self._kept.keep(self.gan.step_count, losses)
        if not at_once and time.perf_counter() - self.read_at < self.SECONDS_BETWEEN_READINGS:
            return ""
        before, history = self.step, self._kept.take()
        watch.lap("step")  # the steps that a GPU still had to do
        for index, (step, values) in enumerate(history):
            self.step = step
            if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
                self._record(history[:index])
                return f"{wrong[0]} is {values[wrong[0]]} at step {step}"
            self.metrics.update(values)
        rate = (self.step - before) / watch.total
        speed = {
            "time/steps_per_second": rate,
            "time/motions_per_second": rate * self.settings.training.batch_size,
            "time/workers": float(context.world_size),
            "time/loader_share": watch.seconds["loader"] / watch.total,
        }
        if self.gan.device.type == "cuda":
            speed["memory/device_bytes"] = float(torch.cuda.max_memory_allocated())
        self._record([*history, (self.step, speed)])
        self.metrics["steps_per_second"] = rate
        steps = self.settings.training.steps
        left = (steps - self.step) / rate
        extractor = self.evaluator.extractor.recognition
        context.progress(Progress(self.step, steps, rate, left, dict(self.metrics), extractor))
        watch.restart()
        self.read_at = time.perf_counter()
        return ""

    def save(self) -> None:
        """Write a checkpoint, and delete those that neither are recent nor the best.

        The record has all that came before: who goes on from a checkpoint writes what comes after.
        """
        if self.run:
            self.run.flush()
        state = {
            "step": self.gan.step_count,
            "metrics": self.metrics,
            "measured_at": self.measured_at,
            "dataset": self.view.hash,
            "extractor": self.evaluator.extractor.hash,
            "run": self.run.id if self.run else None,
        }
        self.store.save(self.gan, state)
        lowest = best_is_lowest(self.settings.evaluation)
        with suppress(OSError):  # a store that fails for a while: the next save deletes them
            self.store.prune(self.settings.training.keep_checkpoints, self.objective, lowest=lowest)

    def log_samples(self) -> None:
        """Store a contact sheet of one motion a class as an artifact of the run."""
        if not self.run:
            return
        spec = self.gan.spec
        labels = torch.arange(min(spec.num_classes, 12))
        motions = spec.to_metres(self.gan.sample(labels, seed=self.settings.evaluation.seed).cpu()).numpy()
        with tempfile.TemporaryDirectory() as scratch:
            sheet = Path(scratch) / f"samples-step-{self.gan.step_count:08d}.png"
            contact_sheet(list(zip(spec.class_names, motions, strict=False)), spec.layout, sheet)
            self.run.log_artifact(sheet, "samples")
        self.sampled_at = time.perf_counter()

    def finish(self, status: str) -> None:
        """Store samples and the best and the newest checkpoint in MLflow, unless the run goes on later."""
        if not self.run:
            return
        self.run.flush()
        self.run.set_tags({Tag.OUTCOME: status})
        if status == "interrupted":
            return
        if status != "diverged":
            self.log_samples()
        lowest = best_is_lowest(self.settings.evaluation)
        folders = self.store.folders()
        if not folders:
            return
        for name, folder in (("best", self.store.best(self.objective, lowest=lowest)), ("newest", folders[-1])):
            if folder:
                with folder.on_this_machine() as local:
                    self.run.log_artifact(local, f"checkpoints/{name}")

    def _record(self, history: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        if self.run:
            self.run.log_later(history)
