"""One trial, in its own Ray Tune process: its MLflow run, its reports to the sweep, how it ends."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kgan_ray.settings import Settings, UserError, flatten
from kgan_ray.storage import AnyPath, any_path
from kgan_ray.tracking.run import PARENT_TAG, Run, find_run, start_run
from kgan_ray.tuning.plan import Job, Plan, Report, proposed_job, segments, settings_of_job
from kgan_ray.tuning.search.proposals import objective_keys

if TYPE_CHECKING:
    from kgan_ray.training.progress import Outcome, Progress, ProgressBoard

WORST = 1e30  # what a run that diverged reports as its objective: finite, so that a searcher learns from it
TRIAL_TAG = "trial"
FAILURE_FILE = "failure.txt"  # in the folder of a trial that raised: what, on one line
TRACEBACK_FILE = "traceback.txt"  # beside it: where
STARTED_FILE = "started"  # beside it, of any trial: it has been started before


class TrialFunction(Protocol):
    """What trains: `kgan_ray.training.loop.train`, or a cheap stand-in of the same signature."""

    def __call__(
        self, settings: Settings, dataset_path: str, folder: str, context: TuneContext, run: Run | None
    ) -> Outcome: ...


class PassingRun(Run):
    """The same run while more of it is to come: its files are not stored yet."""

    def __init__(self, run: Run) -> None:
        self.__dict__ = run.__dict__

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Nothing."""


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
        self._steps = plan.steps or settings.training.steps
        self._last_step = settings.training.steps

    def report(self, metrics: dict[str, float]) -> None:
        """Tell Tune; a trial that the scheduler gives up never returns from here. What is last is told by `end`."""
        if metrics["step"] < self._last_step:
            self._tell(metrics, status="running")

    def progress(self, progress: Progress) -> None:
        if self._board is not None:
            left = (self._steps - progress.step) / progress.steps_per_second
            self._board.put(self.job.name, replace(progress, steps=self._steps, seconds_left=left))

    def end(self, status: str, step: int, metrics: Mapping[str, float], reason: str = "") -> None:
        """The trial's last report."""
        self._tell({**metrics, "step": float(step)}, status=status, reason=reason)

    def _tell(self, metrics: Mapping[str, float], status: str, reason: str = "") -> None:
        measured = {name: float(number) for name, number in metrics.items() if name != "step"}
        run_id = self.run.id if self.run else ""
        tell_tune(self.plan, Report(status, int(metrics.get("step", 0)), measured, reason, run_id))


def tell_tune(plan: Plan, report: Report) -> None:
    """Report to Tune from inside a trial: the objectives under their keys, and what the sweep's record takes."""
    from ray import tune

    objectives = dict(plan.objectives) or {plan.metric: plan.mode}
    values = {metric: report.metrics.get(metric, math.nan) for metric in objectives}
    if report.status in ("diverged", "failed") or not all(math.isfinite(value) for value in values.values()):
        values = {metric: WORST if mode == "min" else -WORST for metric, mode in objectives.items()}
    tune.report(
        {
            **dict(zip(objective_keys(list(objectives)), values.values(), strict=True)),
            "step": report.step,
            "status": report.status,
            "reason": report.reason,
            "run_id": report.run_id,
            "measured": dict(report.metrics),
        }
    )


def run_trial(
    config: Mapping[str, Any], plan: Plan, trial_function: TrialFunction, board: ProgressBoard | None = None
) -> None:
    """What Tune calls: train one configuration and report how it ended. Only bugs and lost machines raise.

    What raises is written to the trial's folder first: Tune's own account of it may come too late, or never.
    """
    from ray import tune

    here = tune.get_context()
    job = plan.jobs[config["job"]] if plan.jobs else proposed_job(plan, here.get_trial_name(), config)
    if ended := plan.ended.get(job.name if plan.jobs else here.get_trial_id()):
        tell_tune(plan, ended)
        return
    folder = f"{plan.folder.rstrip('/')}/{job.name}"
    with failure_recorded(any_path(folder)):
        _run_job(plan, job, folder, trial_function, board)


def _run_job(
    plan: Plan, job: Job, folder: str, trial_function: TrialFunction, board: ProgressBoard | None
) -> None:
    import torch

    settings = settings_of_job(plan, job)
    torch.set_num_threads(settings.resources.threads)
    run = open_run(plan, job, settings, any_path(folder))
    context = TuneContext(plan, job, settings, run, board)
    try:
        for part, start in segments(job, settings, plan.from_step):
            is_last = part.training.steps == (plan.steps or settings.training.steps)
            if run and job.schedule:
                record_schedule(run, job, start)
            shown = run if is_last or run is None else PassingRun(run)
            outcome = trial_function(part, plan.dataset, folder, context, shown)
            if outcome.status != "finished":
                break
    except UserError as error:  # a mistake that trying again cannot mend
        context.end("failed", 0, {}, str(error))
        return
    context.end(outcome.status, outcome.step, outcome.metrics, outcome.reason)


def record_schedule(run: Run, job: Job, start: int) -> None:
    """The settings from step `start` on as metrics schedule/<setting>, and the schedule up to there as a tag."""
    known = [(step, dict(changes)) for step, changes in job.schedule if step <= start]
    numbers = {
        f"schedule/{name}": float(value)
        for name, value in known[-1][1].items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    run.log_metrics(numbers, start)
    run.set_tags({"schedule": json.dumps(known)})


@contextmanager
def failure_recorded(folder: AnyPath) -> Iterator[None]:
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


def described(error: Exception) -> str:
    """`RuntimeError: out of memory`: the class and one line of the message, the last of one that holds a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[-1 if any("Traceback" in line for line in lines) else 0] if lines else ""
    return f"{type(error).__name__}: {line}"[:300]


def open_run(plan: Plan, job: Job, settings: Settings, folder: AnyPath) -> Run | None:
    """The trial's MLflow run: a child of the sweep's, started, or continued after an interruption.

    `folder`, the trial's own, keeps a mark of an earlier start: only after one is there a run to look for.
    """
    if not plan.uri:
        return None
    own = {PARENT_TAG: plan.parent_id, TRIAL_TAG: job.name}
    resolved = flatten(settings)
    recorded = {name: resolved[name] for name in (*plan.searched, *job.overrides, "training.steps", "seed")}
    run = start_run(
        plan.uri,
        experiment=plan.experiment,
        name=job.name,
        parent_id=plan.parent_id,
        run_id=find_run(plan.uri, experiment=plan.experiment, tags=own) if was_started(folder) else None,
        params=recorded,
        tags={
            **plan.tags,
            TRIAL_TAG: job.name,
            "stage": job.stage,
            "configuration": job.configuration,
            "seed": str(job.seed),
            "outcome": "running",
            **({"group": job.group} if job.group else {}),
        },
    )
    if digest := plan.tags.get("dataset"):  # the sweep's run named it first: trials at once do not race to add it
        run.log_dataset(Path(plan.dataset).name, digest, plan.dataset)
    return run


def was_started(folder: AnyPath) -> bool:
    """Whether the trial of this folder was started before. It is marked as started from now on."""
    mark = folder / STARTED_FILE
    if mark.exists():
        return True
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text("", encoding="utf-8")
    return False


def train_trial(
    settings: Settings, dataset_path: str, folder: str, context: TuneContext, run: Run | None
) -> Outcome:
    """Train in this process, or with several workers on Ray Train, as `resources.num_workers` says."""
    if settings.resources.num_workers == 1:
        from kgan_ray.training.loop import train

        return train(settings, dataset_path, folder, context, run)
    return _train_on_workers(settings, dataset_path, folder, context, run)


def _train_on_workers(
    settings: Settings, dataset_path: str, folder: str, context: TuneContext, run: Run | None
) -> Outcome:
    from kgan_ray.training.launch import RunRecord, launch_training

    plan, job = context.plan, context.job
    record = RunRecord(plan.uri, plan.experiment, job.name, run.id) if run else None
    reported: float | None = None

    def show(progress: Progress) -> None:
        nonlocal reported
        context.progress(progress)
        value = progress.metrics.get(plan.metric)
        # Progress at an evaluation's step is sent before that evaluation: its value is the previous one's.
        step = (progress.step - 1) // settings.evaluation.every_steps * settings.evaluation.every_steps
        if value is not None and value != reported and step > 0:
            reported = value
            context.report({**progress.metrics, "step": float(step)})

    return launch_training(settings, dataset_path, folder, name=job.name, record=record, show=show)
