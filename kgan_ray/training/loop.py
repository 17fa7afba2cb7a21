"""The training loop: steps, evaluations, checkpoints and the record, in whatever process it finds itself.

It knows no Ray. A `Context` says who this worker is and takes its reports; `kgan_ray.training.launch` (Ray Train)
and `kgan_ray.tuning` (Tune trials) make theirs. All workers take part in steps and in evaluations; rank 0 alone saves
and records, while the others wait in what they do together next.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kgan_ray.data.classes import in_turn, proportional
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.view import DataView
from kgan_ray.devices import forget_earlier_runs, usable_device
from kgan_ray.metrics.sides import DivergedError
from kgan_ray.settings import Settings, UserError
from kgan_ray.training import distributed
from kgan_ray.training.checkpoint import Checkpoint, CheckpointStore, read_folder, restore
from kgan_ray.training.evaluation import SharedEvaluation
from kgan_ray.training.gan import GAN
from kgan_ray.training.networks import standardise
from kgan_ray.training.progress import Context, Outcome, RunStatus
from kgan_ray.training.recorder import Recorder, Stopwatch

if TYPE_CHECKING:
    from kgan_ray.tracking.run import Run


MOTIONS_TO_RECALIBRATE = 2048  # four whole batches


@dataclass(frozen=True)
class Due:
    """What the loop owes at a step. An evaluation always saves, so that the best generator can be had again."""

    log: bool
    evaluate: bool
    save: bool

    @classmethod
    def at(cls, step: int, settings: Settings) -> Due:
        """Decide what is due after `step` steps."""
        training = settings.training
        last = step == training.steps
        evaluate = last or step % settings.evaluation.every_steps == 0
        save = evaluate or step % training.checkpoint_every == 0
        return cls(log=save or step % training.log_every == 0, evaluate=evaluate, save=save)


def train(settings: Settings, dataset: Dataset, folder: str, context: Context, run: Run | None = None) -> Outcome:
    """Train until `training.steps`, continuing from the newest checkpoint in `folder`/checkpoints.

    Where the context says that it is interrupted, it saves and stops there.

    `folder` is a local path or a URI that every worker can reach. Raises UserError for settings, data or a
    checkpoint that do not fit together.
    """
    if settings.resources.device == "cuda":
        usable_device("cuda", where="resources.gpus_per_worker:")
    view = dataset.view(settings.data)
    store = CheckpointStore(f"{folder.rstrip('/')}/checkpoints")
    forget_earlier_runs(context.device)
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
    diverged, reason = False, ""
    evaluation = SharedEvaluation(gan, recorder.evaluator if recorder else None)
    if resumed is None:  # the untrained generator: where the learning curve starts
        if settings.model.standardised:
            standardise(gan.networks.values(), batches)
        settle(gan, view)
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
        interrupted = distributed.any_rank(recorder is not None and context.is_interrupted())
        saves = due.save or interrupted
        reason = recorder.log(losses, watch, context, at_once=saves) if recorder else ""
        diverged = distributed.any_rank(bool(reason))  # before an evaluation, which all or none must enter
        if saves and not diverged:
            settle(gan, view)
        if due.evaluate and not diverged:
            reason = _evaluate(evaluation, recorder, settings)
            diverged = bool(reason)
        if diverged:
            break
        if saves:
            if recorder:
                recorder.save()
            watch.restart()
        if due.evaluate:
            context.report({**(recorder.metrics if recorder else {}), "step": float(gan.step_count)})
        if interrupted:
            break
    status: RunStatus = (
        "diverged" if diverged else "finished" if gan.step_count == training.steps else "interrupted"
    )
    if recorder:
        recorder.finish(status)
        return Outcome(status, recorder.step, recorder.metrics, reason, recorder.evaluator.extractor.recognition)
    return Outcome(status, gan.step_count, {})


def settle(gan: GAN, view: DataView) -> None:
    """Recalibrate the generator that is about to be measured or saved, where the settings say so. All ranks do it alike."""
    training = gan.settings.training
    if training.recalibrate_batch_norm:
        counts = torch.from_numpy(view.labels("train")).bincount()
        seen = counts.bool().long() if training.balanced_classes else counts  # as batches are drawn
        gan.recalibrate(in_turn(proportional(seen, MOTIONS_TO_RECALIBRATE)))


def _evaluate(evaluation: SharedEvaluation, recorder: Recorder | None, settings: Settings) -> str:
    """Measure `evaluation.metrics`, all ranks together; return why the run diverged, or the empty string."""
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
    checkpoint = read_folder(newest)
    if checkpoint.state["dataset"] != view.hash:
        raise UserError(
            f"{newest}: trained on dataset {checkpoint.state['dataset'][:12]}, here is {view.hash[:12]}; "
            f"use another --name, or the same data"
        )
    restore(gan, checkpoint)
    return checkpoint
