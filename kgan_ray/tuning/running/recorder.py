"""Keeps a sweep's record (sweep.json and MLflow) in step with what Ray Tune does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kgan_ray.storage import AnyPath, any_path
from kgan_ray.tracking.run import PARENT_TAG, end_run, find_run, log_text
from kgan_ray.tuning.plan import Job, Plan, proposed_job
from kgan_ray.tuning.running.budget import Purse
from kgan_ray.tuning.running.interrupt import Interrupts, stop_politely
from kgan_ray.tuning.running.snapshot import Snapshots
from kgan_ray.tuning.running.trial import FAILURE_FILE, TRACEBACK_FILE, TRIAL_TAG
from kgan_ray.tuning.search.proposals import OBJECTIVE
from kgan_ray.tuning.state import ENDED, EXPLORE, Sweep, Trial

FAILURE_ARTIFACT = "failure.txt"  # of a failed trial's run in MLflow
LAST_LINES = 200  # of what it printed
QUIET_S = 0.2  # after Tune's last event: the next trial has started
_RUN_STATUS = {"failed": "FAILED", "diverged": "FAILED", "interrupted": "KILLED"}


class Keeper:
    """Follows the trials of one stage (see `relay.Observer`)."""

    def __init__(
        self,
        sweep: Sweep,
        plan: Plan,
        folder: AnyPath,
        ended: Callable[[Trial], None],
        purse: Purse | None = None,
        interrupts: Interrupts | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.sweep, self.plan, self.folder, self.purse, self.interrupts = sweep, plan, folder, purse, interrupts
        self._snapshots = snapshots
        self._is_stopping = False
        self.is_spent = False  # the budget ended the stage
        self._ended = ended
        self._saved_at = 0.0
        self._is_changed = False
        self._to_end: list[Trial] = []  # whose runs in MLflow are still open: see `_end_runs`
        self._event_at = 0.0
        self.is_reconciled = False

    def name_trial(self, trial: Any) -> str:
        """The name of a trial that Tune is making: its job's, or the next number of its stage."""
        if self.plan.jobs:
            return str(trial.evaluated_params["job"])
        known = next((mine.name for mine in self.sweep.trials if mine.ray_id == trial.trial_id), None)
        if known:
            return known
        taken = {mine.name for mine in self.sweep.stage(self.plan.stage)}
        number = len(taken) + 1
        while (name := f"{self.plan.stage}-{number:02d}") in taken:
            number += 1
        self._add(proposed_job(self.plan, name, trial.config), trial)
        return name

    def before_step(self, trials: list[Any]) -> None:
        """After a resume, once: what Tune remembers decides; what it has forgotten will be proposed again."""
        if not self.is_reconciled:
            self.reconcile(trials)

    def reconcile(self, trials: list[Any]) -> None:
        """Take over what Tune knows of its trials."""
        self.is_reconciled = True
        if not self.plan.jobs and trials:
            remembered = {trial.trial_id for trial in trials}
            for mine in [mine for mine in self.sweep.stage(self.plan.stage) if mine.ray_id not in remembered]:
                self.sweep.trials.remove(mine)
                self._discard_run(mine)
        for trial in trials:
            mine = self._mine(trial)
            if trial.status == "TERMINATED" and mine.status not in ENDED:
                self.completed(trial)
            elif trial.status == "ERROR" and mine.status not in ENDED:
                self.errored(trial)

    def after_step(self) -> None:
        if self.purse:
            self.purse.tick()
            if not self.is_spent and self.purse.is_spent(self.plan.stage):
                self.is_spent = True
        is_interrupted = self.interrupts is not None and self.interrupts.is_wanted
        if (is_interrupted or (self.is_spent and not self.is_over())) and not self._is_stopping:
            self._is_stopping = True
            stop_politely()
        if self._to_end and time.monotonic() - self._event_at > QUIET_S:
            self._end_runs()
        if self._is_changed and time.monotonic() - self._saved_at > seconds_between_saves(len(self.sweep.trials)):
            self.save()

    def started(self, trial: Any) -> None:
        self._event_at = time.monotonic()
        mine = self._mine(trial)
        if self._snapshots:
            self._snapshots.staging = Path(trial.storage.experiment_driver_staging_path)
        if mine.status not in ENDED:
            mine.status = "running"
        self._is_changed = True

    def reported(self, trial: Any, result: dict[str, Any]) -> None:
        self._event_at = time.monotonic()
        self._take(self._mine(trial), result)

    def completed(self, trial: Any) -> None:
        self._event_at = time.monotonic()
        mine = self._mine(trial)
        result = trial.last_result or {}
        self._take(mine, result)
        mine.status, mine.reason = result.get("status", "running"), result.get("reason", "")
        if mine.status == "running":
            mine.status = "stopped"  # by the scheduler: the trial itself never said that it had ended
        self._close(mine)

    def errored(self, trial: Any) -> None:
        mine = self._mine(trial)
        folder = any_path(self.plan.folder) / mine.name
        mine.status, mine.reason = "failed", _reason(trial, folder)
        self._close(mine)
        self._end_runs()
        if mine.run_id:
            log_text(self.plan.uri, mine.run_id, failure_log(trial, folder, mine.reason), FAILURE_ARTIFACT)

    def is_over(self) -> bool:
        """Whether the explore stage's budget is spent: its trials end here, and what they measured counts."""
        return self.is_spent and self.plan.stage == EXPLORE

    def curtailed(self) -> None:
        """The budget ended the explore stage: trials that never began are forgotten, the others have ended."""
        self._end_runs()
        for mine in [
            mine for mine in self.sweep.stage(self.plan.stage) if mine.status not in ENDED or not mine.step
        ]:
            if not mine.step and mine.status not in ("failed", "diverged"):
                self.sweep.trials.remove(mine)
                self._discard_run(mine)
            elif mine.status not in ENDED:
                mine.status = "stopped"
                self._finish_run(mine)
        self.save()

    def interrupted(self) -> None:
        """The stage was left before its end: its running trials will be continued by --resume."""
        for mine in self.sweep.stage(self.plan.stage):
            if mine.status == "running":
                mine.status = "interrupted"
                self._finish_run(mine)
        self.save()

    def save(self) -> None:
        """Write the record. No trial has ended in it whose run is open: a resume looks at the others only."""
        self._end_runs()
        self.sweep.save(self.folder)
        if self._snapshots:
            self._snapshots.take()
        self._saved_at = time.monotonic()
        self._is_changed = False

    def _mine(self, trial: Any) -> Trial:
        known = self.sweep.trial(str(trial))
        if known is None:
            job = self.plan.jobs.get(str(trial)) or proposed_job(self.plan, str(trial), trial.config)
            known = self._add(job, trial)
        known.ray_id = trial.trial_id
        return known

    def _add(self, job: Job, trial: Any) -> Trial:
        mine = new_trial(job, self.sweep)
        mine.ray_id = trial.trial_id
        self.sweep.trials.append(mine)
        self._is_changed = True
        return mine

    def _take(self, mine: Trial, result: dict[str, Any]) -> None:
        self._is_changed = True
        if "status" not in result:
            return
        mine.step = max(mine.step, int(result["step"]))
        mine.run_id = result["run_id"]
        mine.metrics = dict(result["measured"]) or mine.metrics
        if "time_total_s" in result:
            mine.seconds = max(mine.seconds, mine.earlier_seconds + float(result["time_total_s"]))
        last = mine.curve[-1][0] if mine.curve else -1
        if mine.step > last and result["status"] not in ("diverged", "failed"):
            mine.curve.append((mine.step, float(result[OBJECTIVE])))

    def _close(self, mine: Trial) -> None:
        self._to_end.append(mine)
        self._is_changed = True
        self._ended(mine)

    def _end_runs(self) -> None:
        """End the runs of the trials that have ended, in a quiet moment: 10 ms each, which the next trials wait for."""
        while self._to_end:
            self._finish_run(self._to_end[0])
            self._to_end.pop(0)

    def _run_id(self, mine: Trial) -> str | None:
        if not self.plan.uri:
            return None
        tags = {PARENT_TAG: self.plan.parent_id, TRIAL_TAG: mine.name}
        return mine.run_id or find_run(self.plan.uri, experiment=self.plan.experiment, tags=tags)

    def _finish_run(self, mine: Trial) -> None:
        run_id = self._run_id(mine)
        if run_id:
            tags = {"outcome": mine.status, **({"reason": mine.reason} if mine.reason else {})}
            end_run(self.plan.uri, run_id, _RUN_STATUS.get(mine.status, "FINISHED"), tags)
            mine.run_id = run_id

    def _discard_run(self, mine: Trial) -> None:
        from kgan_ray.tracking.run import discard_run

        if run_id := self._run_id(mine):
            discard_run(self.plan.uri, run_id)


def seconds_between_saves(num_trials: int) -> float:
    """What a kill may cost of the record: a second, and more in a sweep of many trials, each of which a save writes."""
    return max(1.0, num_trials / 200)


def new_trial(job: Job, sweep: Sweep) -> Trial:
    """The record of a trial that has not begun."""
    return Trial(
        name=job.name,
        stage=job.stage,
        configuration=job.configuration,
        overrides=dict(job.overrides),
        seed=job.seed,
        group=job.group,
        schedule=[(step, dict(settings)) for step, settings in job.schedule],
        dataset=sweep.dataset_hash,
        extractor=sweep.extractors.get(job.group, ""),
    )


def failure_log(trial: Any, folder: AnyPath, reason: str) -> str:
    """What is known of a trial that failed: its reason, where it was raised, and the last lines that it printed."""
    parts = [f"{trial}: {reason}"]
    if (folder / TRACEBACK_FILE).exists():
        parts.append((folder / TRACEBACK_FILE).read_text(encoding="utf-8"))
    for name in ("stdout", "stderr"):  # Tune's, where the trial ran on this machine
        file = Path(trial.storage.trial_working_directory) / name
        if file.exists():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            parts.append("\n".join([f"{name}:", *lines[-LAST_LINES:]]))
    return "\n\n".join(parts) + "\n"


def _reason(trial: Any, folder: AnyPath) -> str:
    """What a trial died of: in its own words, else the last line of Tune's account on this machine."""
    for file in (folder / FAILURE_FILE, Path(trial.error_file) if trial.error_file else None):
        if file is not None and file.exists():
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            if lines:
                return lines[-1][:300]
    return "its process died without a message"
