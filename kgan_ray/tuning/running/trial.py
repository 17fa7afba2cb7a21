"""One trial, in its own Ray Tune process: its MLflow run, its reports to the sweep, how it ends."""

from __future__ import annotations

import json
import math
import pickle
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from kgan_ray.data.dataset import Dataset
from kgan_ray.settings import Settings, UserError, flatten
from kgan_ray.storage import StoreError, StorePath
from kgan_ray.text import described
from kgan_ray.tracking.run import Run, find_run, start_run
from kgan_ray.tracking.tags import Tag
from kgan_ray.training.progress import Outcome, Progress, ProgressBoard
from kgan_ray.tuning.plan import Job, Plan, Report, unpacked
from kgan_ray.tuning.search.proposals import WORST, objective_keys
from kgan_ray.tuning.state import LOST

FAILURE_FILE = "failure.txt"  # in the folder of a trial that raised: what, on one line
TRACEBACK_FILE = "traceback.txt"  # beside it: where
STARTED_FILE = "started"  # beside it, of any trial: it has been started before


class TrialFunction(Protocol):
    """What trains: `train_trial`, or a cheap stand-in of the same signature."""

    def __call__(
        self, settings: Settings, dataset: Dataset, folder: str, context: TuneContext, run: Run | None
    ) -> Outcome: ...


class RunWithoutArtifacts(Run):
    """The trial's run during all segments of a schedule but the last: metrics are logged, artifacts are not."""

    def __init__(self, run: Run) -> None:
        self.__dict__ = run.__dict__

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Leave the file out: the last segment's are stored."""


class TuneContext:
    """The loop's context inside a Tune trial: one worker, which reports to the sweep's searcher and scheduler."""

    rank = 0
    world_size = 1

    def __init__(
        self, plan: Plan, job: Job, settings: Settings, run: Run | None, board: ProgressBoard | None = None
    ) -> None:
        self.device: str = settings.resources.device
        self.plan, self.job, self.run = plan, job, run
        self._board = board
        self._last_step, self._total_steps = settings.training.steps, plan.total_steps(settings)
        self._extractor = ""

    def report(self, metrics: dict[str, float]) -> None:
        """Tell Tune; a trial that the scheduler gives up never returns from here. What is last is told by `end`."""
        if metrics["step"] < self._last_step:
            self._tell("running", metrics)

    def progress(self, progress: Progress) -> None:
        """Show the progress of the whole run, of which this stage may train a round."""
        self._extractor = progress.extractor.hash if progress.extractor else ""
        if self._board is not None:
            seconds_left = (self._total_steps - progress.step) / progress.steps_per_second
            self._board.put(self.job.name, replace(progress, steps=self._total_steps, seconds_left=seconds_left))

    def is_interrupted(self) -> bool:
        """Say no: Tune ends its trials itself, and they go on from their last checkpoint."""
        return False

    def end(
        self, status: str, step: int, metrics: Mapping[str, float], reason: str = "", extractor: str = ""
    ) -> None:
        """Send the trial's last report."""
        self._extractor = extractor
        self._tell(status, {**metrics, "step": float(step)}, reason)

    def _tell(self, status: str, metrics: Mapping[str, float], reason: str = "") -> None:
        measured = {name: float(value) for name, value in metrics.items() if name != "step"}
        run_id = self.run.id if self.run else ""
        tell_tune(
            self.plan, Report(status, int(metrics.get("step", 0)), measured, reason, run_id, self._extractor)
        )


def tell_tune(plan: Plan, report: Report) -> None:
    """Report to Tune from inside a trial: the objectives under their keys, and what the sweep's record takes."""
    values = [report.metrics.get(metric, math.nan) for metric in plan.objectives]
    if report.status in LOST or not all(math.isfinite(value) for value in values):
        values = [WORST if mode == "min" else -WORST for mode in plan.objectives.values()]
    tune.report(
        {
            **dict(zip(objective_keys(list(plan.objectives)), values, strict=True)),
            "step": report.step,
            "status": report.status,
            "reason": report.reason,
            "run_id": report.run_id,
            "extractor": report.extractor,
            "measured": dict(report.metrics),
        }
    )


def trainable(
    plan: Plan, trial_function: TrialFunction, dataset: Dataset | None, board: ProgressBoard | None
) -> Callable[[dict[str, Any]], None]:
    """Return what Tune runs. The plan is packed: Tune unpickles its trainable for every trial, a plan may list a thousand.

    The dataset goes by the object store, like the motions that it holds.
    """
    packed = pickle.dumps(plan)

    def trial(config: dict[str, Any], dataset: Dataset) -> None:
        run_trial(config, unpacked(packed), trial_function, dataset, board)

    return tune.with_parameters(trial, dataset=dataset)


def run_trial(
    config: Mapping[str, Any],
    plan: Plan,
    trial_function: TrialFunction,
    dataset: Dataset,
    board: ProgressBoard | None = None,
) -> None:
    """Train one configuration and report how it ended; Tune calls it. Only bugs and lost machines raise.

    What raises is written to the trial's folder first: Tune's own account of it may come too late, or never.
    """
    name = tune.get_context().get_trial_name()
    job = plan.jobs[config["job"]] if plan.jobs else plan.proposed_job(name, config)
    folder = f"{plan.folder.rstrip('/')}/{job.name}"
    with failure_recorded(StorePath(folder)):
        _run_job(plan, job, folder, trial_function, dataset, board)


def _run_job(
    plan: Plan, job: Job, folder: str, trial_function: TrialFunction, dataset: Dataset, board: ProgressBoard | None
) -> None:
    import torch

    settings = job.settings(plan.settings)
    torch.set_num_threads(settings.resources.threads)
    context = TuneContext(plan, job, settings, None, board)
    try:
        run = context.run = open_run(plan, job, settings, StorePath(folder))
        for part, start in job.segments(settings, plan.from_step):
            is_last = part.training.steps == plan.total_steps(settings)
            if run and job.schedule:
                record_schedule(run, job, start)
            outcome = trial_function(
                part, dataset, folder, context, run if is_last or run is None else RunWithoutArtifacts(run)
            )
            if outcome.status != "finished":
                break
    except StoreError as error:  # no fault of the configuration: a later session goes on
        context.end("interrupted", 0, {}, str(error))
        return
    except UserError as error:  # a mistake that trying again cannot mend
        context.end("failed", 0, {}, str(error))
        return
    context.end(
        outcome.status,
        outcome.step,
        outcome.metrics,
        outcome.reason,
        outcome.extractor.hash if outcome.extractor else "",
    )


def record_schedule(run: Run, job: Job, start: int) -> None:
    """Log the settings from step `start` on as metrics schedule/<setting>, and the schedule up to there as a tag."""
    schedule = [(step, dict(changes)) for step, changes in job.schedule if step <= start]
    numbers = {
        f"schedule/{name}": float(value)
        for name, value in schedule[-1][1].items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    run.log_metrics(numbers, start)
    run.set_tags({Tag.SCHEDULE: json.dumps(schedule)})


@contextmanager
def failure_recorded(folder: StorePath) -> Iterator[None]:
    """Write what is raised inside to folder/failure.txt and traceback.txt, and let it pass."""
    for name in (FAILURE_FILE, TRACEBACK_FILE):
        (folder / name).unlink(missing_ok=True)  # an earlier attempt's
    try:
        yield
    except Exception as error:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILURE_FILE).write_text(described(error), encoding="utf-8")
        (folder / TRACEBACK_FILE).write_text(traceback.format_exc(), encoding="utf-8")
        raise


def open_run(plan: Plan, job: Job, settings: Settings, folder: StorePath) -> Run | None:
    """Return the trial's MLflow run, a child of the sweep's: started, or continued after an interruption.

    `folder`, the trial's own, keeps a mark of an earlier start: only after one is there a run to look for.
    """
    if not plan.uri:
        return None
    own: dict[str, str] = {Tag.PARENT: plan.parent_id, Tag.TRIAL: job.name}
    resolved = flatten(settings)
    run = start_run(
        plan.uri,
        experiment=plan.experiment,
        name=job.name,
        parent_id=plan.parent_id,
        run_id=find_run(plan.uri, experiment=plan.experiment, tags=own) if was_started(folder) else None,
        params={name: resolved[name] for name in (*plan.searched, *job.overrides, "training.steps", "seed")},
        tags={
            **plan.tags,
            Tag.TRIAL: job.name,
            Tag.STAGE: job.stage,
            Tag.CONFIGURATION: job.configuration,
            Tag.SEED: str(job.seed),
            Tag.OUTCOME: "running",
            **({Tag.GROUP: job.group} if job.group else {}),
        },
    )
    if digest := plan.tags.get(
        Tag.DATASET
    ):  # the sweep's run named it first: trials at once do not race to add it
        run.log_dataset(Path(plan.dataset).name, digest, plan.dataset)
    return run


def was_started(folder: StorePath) -> bool:
    """Return whether the trial of this folder was started before, and mark it as started from now on."""
    mark = folder / STARTED_FILE
    if mark.exists():
        return True
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text("", encoding="utf-8")
    return False


def train_trial(
    settings: Settings, dataset: Dataset, folder: str, context: TuneContext, run: Run | None
) -> Outcome:
    """Train in this process, or with several workers on Ray Train, as `resources.num_workers` says."""
    if settings.resources.num_workers == 1:
        from kgan_ray.training.loop import train

        return train(settings, dataset, folder, context, run)
    return _train_on_workers(settings, dataset, folder, context, run)


def _train_on_workers(
    settings: Settings, dataset: Dataset, folder: str, context: TuneContext, run: Run | None
) -> Outcome:
    from kgan_ray.training.launch import RunRecord, launch_training

    plan, job = context.plan, context.job
    objective, every = next(iter(plan.objectives)), settings.evaluation.every_steps
    record = RunRecord(plan.uri, plan.experiment, job.name, run.id) if run else None
    reported: float | None = None

    def show(progress: Progress) -> None:
        nonlocal reported
        context.progress(progress)
        value = progress.metrics.get(objective)
        # Progress at an evaluation's step is sent before that evaluation: its value is the previous one's.
        step = (progress.step - 1) // every * every
        if value is not None and value != reported and step > 0:
            reported = value
            context.report({**progress.metrics, "step": float(step)})

    return launch_training(settings, dataset, folder, name=job.name, record=record, show=show)
