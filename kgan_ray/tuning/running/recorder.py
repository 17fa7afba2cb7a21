"""The record of a stage's trials (sweep.json and their runs in MLflow), kept in step with what Ray Tune does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial as TuneTrial

from kgan_ray.storage import StorePath
from kgan_ray.tracking.run import discard_run, end_run, existing_run, find_run
from kgan_ray.tracking.tags import Tag
from kgan_ray.tuning.plan import Job, Plan
from kgan_ray.tuning.running.budget import BudgetMeter
from kgan_ray.tuning.running.interrupt import Interrupts, stop_politely
from kgan_ray.tuning.running.trial import FAILURE_FILE, TRACEBACK_FILE
from kgan_ray.tuning.search.proposals import OBJECTIVE
from kgan_ray.tuning.state import EXPLORE, LOST, Sweep, Trial

FAILURE_ARTIFACT = "failure.txt"  # of a failed trial's run in MLflow
LAST_LINES = 200  # of what it printed
TuneResult = dict[str, Any]  # what `trial.tell_tune` reported, and what Tune adds
QUIET_S = 0.2  # after Tune's last event: the next trial has started
_RUN_STATUS = {"failed": "FAILED", "diverged": "FAILED", "interrupted": "KILLED"}


class StageRecorder(Callback, Stopper):
    """Takes Tune's events of one stage into the sweep's record, and ends the stage when its budget is spent.

    The record says of every trial that it is there before Tune starts it, and that it has ended only when its run in
    MLflow has. So the record alone tells a later session what is left to do.
    """

    def __init__(
        self,
        sweep: Sweep,
        plan: Plan,
        folder: StorePath,
        on_trial_end: Callable[[Trial], None] = lambda trial: None,
        meter: BudgetMeter | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        self.sweep, self.plan, self.folder, self.meter, self.interrupts = sweep, plan, folder, meter, interrupts
        self.is_spent = False  # the budget ended the stage
        self._on_trial_end = on_trial_end
        self._is_stopping = False
        self._is_cut_off = False  # a trial met a full disk, or a record that fails: others would too
        self._saved_at = 0.0
        self._is_changed = False
        self._to_end: list[Trial] = []  # whose runs in MLflow are still open: see `_end_runs`
        self._event_at = 0.0
        # Trials that a searcher proposed in an earlier session: it proposes them again, first and in this order.
        self._unfinished = [] if plan.jobs else [one for one in sweep.stage(plan.stage) if not one.has_ended]

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        """Leave nothing but a name: Tune pickles its callbacks, into a file that nobody reads."""
        return Callback, ()

    def __deepcopy__(self, memo: dict[int, object]) -> StageRecorder:
        """Stay the one recorder: Tune copies its configuration, callbacks included."""
        return self

    def name_trial(self, trial: TuneTrial) -> str:
        """Return the name of a trial that Tune is making: its job's, or the next number of its stage."""
        if self.plan.jobs:
            return str(trial.evaluated_params["job"])
        for mine in self.sweep.trials:
            if mine.ray_id == trial.trial_id:
                return mine.name
        for mine in self._unfinished:
            if mine.overrides == trial.config:
                self._unfinished.remove(mine)
                mine.ray_id = trial.trial_id
                return mine.name
        name = f"{self.plan.stage}-{len(self.sweep.stage(self.plan.stage)) + 1:02d}"
        mine = new_trial(self.plan.proposed_job(name, trial.config), self.sweep)
        mine.ray_id = trial.trial_id
        self.sweep.trials.append(mine)
        self.save()
        return name

    def __call__(self, trial_id: str, result: TuneResult) -> bool:
        return False

    def stop_all(self) -> bool:
        """Return whether the explore stage's budget is spent: its trials end here, and what they measured counts."""
        return self.is_spent and self.plan.stage == EXPLORE

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: object) -> None:
        if self.meter:
            self.meter.tick()
            self.is_spent = self.is_spent or self.meter.is_spent(self.plan.stage)
        is_interrupted = self.interrupts is not None and self.interrupts.is_wanted
        if (
            is_interrupted or self._is_cut_off or (self.is_spent and not self.stop_all())
        ) and not self._is_stopping:
            self._is_stopping = True
            stop_politely()
        if self._to_end and time.monotonic() - self._event_at > QUIET_S:
            self._end_runs()
        if self._is_changed and time.monotonic() - self._saved_at > seconds_between_saves(len(self.sweep.trials)):
            self.save()

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        mine = self._mine(trial)
        if not mine.has_ended:
            mine.status, mine.reason = "running", ""

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: TuneResult, **info: object
    ) -> None:
        self._take(self._mine(trial), result)

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        mine, result = self._mine(trial), trial.last_result or {}
        self._take(mine, result)
        mine.status, mine.reason = result.get("status", "running"), result.get("reason", "")
        if mine.status == "running":
            mine.status = "stopped"  # by the scheduler: the trial itself never said that it had ended
        self._is_cut_off = self._is_cut_off or mine.status == "interrupted"
        self._close(mine)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        mine = self._mine(trial)
        folder = StorePath(self.plan.folder) / mine.name
        mine.status, mine.reason = "failed", _reason(trial, folder)
        self._close(mine)
        self._end_runs()
        if mine.run_id:
            existing_run(self.plan.uri, mine.run_id).log_text(
                failure_log(trial, folder, mine.reason), FAILURE_ARTIFACT
            )

    def curtail(self) -> None:
        """End a stage whose budget is spent: trials that never began are forgotten, the others count as they are."""
        self._end_runs()
        for mine in [one for one in self.sweep.stage(self.plan.stage) if not one.has_ended or not one.step]:
            if not mine.step and mine.status not in LOST:
                self.sweep.trials.remove(mine)
                if run_id := self._run_id(mine):
                    discard_run(self.plan.uri, run_id)
            elif not mine.has_ended:
                mine.status = "stopped"
                self._finish_run(mine)
        self.save()

    def interrupt(self) -> None:
        """Leave the stage before its end: its running trials will be continued by --resume."""
        for mine in self.sweep.stage(self.plan.stage):
            if mine.status == "running":
                mine.status = "interrupted"
                self._finish_run(mine)
        self.save()

    def save(self) -> None:
        """Write the record. No trial has ended in it whose run is open: a resume looks at the others only."""
        self._end_runs()
        self.sweep.save(self.folder)
        self._saved_at = time.monotonic()
        self._is_changed = False

    def _mine(self, trial: TuneTrial) -> Trial:
        """Return the record of Tune's trial, which is about to change."""
        mine = self.sweep.trial(str(trial))
        assert mine is not None, f"{trial} was not named by name_trial"
        mine.ray_id = trial.trial_id
        self._event_at = time.monotonic()
        self._is_changed = True
        return mine

    def _take(self, mine: Trial, result: TuneResult) -> None:
        if "status" not in result:
            return
        mine.step = max(mine.step, int(result["step"]))
        mine.run_id = result["run_id"]
        mine.extractor = result["extractor"] or mine.extractor
        mine.metrics = dict(result["measured"]) or mine.metrics
        if "time_total_s" in result:
            mine.seconds = max(mine.seconds, mine.earlier_seconds + float(result["time_total_s"]))
        last = mine.curve[-1][0] if mine.curve else -1
        if mine.step > last and result["status"] not in LOST:
            mine.curve.append((mine.step, float(result[OBJECTIVE])))
        if mine.curve and self.sweep.mean_of > 1:
            mine.metrics[self.sweep.metric] = self.sweep.score(mine)

    def _close(self, mine: Trial) -> None:
        self._to_end.append(mine)
        self._on_trial_end(mine)

    def _end_runs(self) -> None:
        """End the runs of the trials that have ended, in a quiet moment: 10 ms each, which the next trials wait for."""
        while self._to_end:
            self._finish_run(self._to_end[0])
            self._to_end.pop(0)

    def _run_id(self, mine: Trial) -> str | None:
        if not self.plan.uri:
            return None
        tags: dict[str, str] = {Tag.PARENT: self.plan.parent_id, Tag.TRIAL: mine.name}
        return mine.run_id or find_run(self.plan.uri, experiment=self.plan.experiment, tags=tags)

    def _finish_run(self, mine: Trial) -> None:
        run_id = self._run_id(mine)
        if run_id:
            tags: dict[str, str] = {Tag.OUTCOME: mine.status, **({Tag.REASON: mine.reason} if mine.reason else {})}
            end_run(self.plan.uri, run_id, _RUN_STATUS.get(mine.status, "FINISHED"), tags)
            mine.run_id = run_id


def seconds_between_saves(num_trials: int) -> float:
    """Return what a kill may cost of the record: a second, more where every save writes hundreds of trials."""
    return max(1.0, num_trials / 200)


def new_trial(job: Job, sweep: Sweep) -> Trial:
    """Return the record of a trial that has not begun."""
    return Trial(
        name=job.name,
        stage=job.stage,
        configuration=job.configuration,
        overrides=dict(job.overrides),
        seed=job.seed,
        group=job.group,
        schedule=[(step, dict(settings)) for step, settings in job.schedule],
        dataset=sweep.dataset_hash,
    )


def failure_log(trial: TuneTrial, folder: StorePath, reason: str) -> str:
    """Return what is known of a trial that failed: its reason, where it was raised, the last lines that it printed."""
    parts = [f"{trial}: {reason}"]
    if (folder / TRACEBACK_FILE).exists():
        parts.append((folder / TRACEBACK_FILE).read_text(encoding="utf-8"))
    for name in ("stdout", "stderr"):  # Tune's, where the trial ran on this machine
        file = Path(trial.storage.trial_working_directory) / name
        if file.exists():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            parts.append("\n".join([f"{name}:", *lines[-LAST_LINES:]]))
    return "\n\n".join(parts) + "\n"


def _reason(trial: TuneTrial, folder: StorePath) -> str:
    """Return what a trial died of: in its own words, else the last line of Tune's account on this machine."""
    for file in (folder / FAILURE_FILE, Path(trial.error_file) if trial.error_file else None):
        if file is not None and file.exists():
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            if lines:
                return lines[-1][:300]
    return "its process died without a message"
