"""The stages of a sweep on Ray Tune: explore (one seed, early stopping), then confirm (fresh seeds, full length).

Only the confirm stage's runs count as evidence: the explored trial that looks best is also the luckiest.
"""

from __future__ import annotations

import gc
import os
import pickle
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgan_ray.cluster import connect, node_watched, runs_that_fit
from kgan_ray.settings import Settings, UserError, flatten, override
from kgan_ray.storage import AnyPath
from kgan_ray.tracking.store import is_local_file
from kgan_ray.training.progress import ProgressBoard, start_board
from kgan_ray.tuning.plan import Job, Plan, Report, unpacked
from kgan_ray.tuning.question.sections import Budget
from kgan_ray.tuning.question.space import Space
from kgan_ray.tuning.running.budget import Purse
from kgan_ray.tuning.running.interrupt import Interrupts
from kgan_ray.tuning.running.jobs import confirm_jobs, explore_jobs, num_confirmed
from kgan_ray.tuning.running.ray_log import log_file, log_ray_to
from kgan_ray.tuning.running.recorder import Keeper, new_trial, seconds_between_saves
from kgan_ray.tuning.running.snapshot import Snapshots
from kgan_ray.tuning.running.trial import TrialFunction, run_trial, train_trial
from kgan_ray.tuning.search.candidates import described_front, explored_front
from kgan_ray.tuning.search.population import (
    apply_exchanges,
    copy_newest_checkpoint,
    exchanges,
    member_job,
    round_ends,
)
from kgan_ray.tuning.search.proposals import early_stopping, listed_configurations, num_explored, searcher
from kgan_ray.tuning.state import CONFIRM, ENDED, EXPLORE, Sweep, Trial

if TYPE_CHECKING:
    from ray.tune import Tuner
    from ray.tune.schedulers import TrialScheduler

RETRIES = 1  # of a trial whose process failed


@dataclass
class Runner:
    """Runs one sweep, from its beginning or from where `sweep` says that it was left.

    `trial_function` trains (a test gives a cheap one); `announce` gets lines for the user, `ended` each ended one.
    """

    sweep: Sweep
    space: Space
    settings: Settings
    folder: AnyPath
    trial_function: TrialFunction = train_trial
    concurrent: int | None = None
    retries: int = RETRIES
    tags: Mapping[str, str] = field(default_factory=dict)
    announce: Callable[[str], None] = print
    ended: Callable[[Trial], None] = lambda trial: None
    board: ProgressBoard | None = None
    is_spent: bool = False  # the budget ended the confirmation

    def run(self) -> bool:
        """Run the stages that are not done. False: interrupted, and to be resumed."""
        with Interrupts() as self._interrupts:
            self._purse = self._open_purse()
            with node_watched(f"python -m kgan_ray.tune --resume --name {self.folder.name} goes on"):
                return self._run()

    def _run(self) -> bool:
        if self.space.explores and not self._is_done(EXPLORE):
            listed = listed_configurations(self.space)
            jobs = None if listed is None else explore_jobs(listed, self.settings.seed)
            self.sweep.num_explored = num_explored(self.space)
            is_over = self._run_rounds(jobs) if jobs and self._is_pbt else self._run_stage(EXPLORE, EXPLORE, jobs)
            if not is_over:
                return False
        for number, _ in enumerate(self.sweep.rounds, start=1):
            name = f"{CONFIRM}-{number}"
            if not self._is_done(name):
                jobs = confirm_jobs(self.sweep, self.space, self.settings, number)
                if number == 1 and (front := explored_front(self.sweep)):
                    self.announce(f"{CONFIRM}: {described_front(self.sweep, front)}")
                if jobs and not self._run_stage(name, CONFIRM, jobs):
                    return False
        self.judge()
        return True

    @property
    def _is_pbt(self) -> bool:
        return self.space.scheduler.type == "pbt"

    def _run_rounds(self, jobs: list[Job]) -> bool:
        """Population based training: see `population`. The record says after each half of a round what is done."""
        start = 0
        for number, end in enumerate(ends := round_ends(self.space.scheduler, self.settings), start=1):
            name = f"{EXPLORE}-round-{number:02d}"
            if not self._is_done(name):
                members = [member_job(job, self.sweep.trial(job.name)) for job in jobs]
                if not self._run_stage(name, EXPLORE, members, Round(number, len(ends), start, end)):
                    return False
                if self._is_curtailed:
                    break
            if not self._is_done(f"{name}-exchanged") and end < ends[-1]:
                self._exchange(number, end)
                self.sweep.done.append(f"{name}-exchanged")
                self.sweep.save(self.folder)
            start = end
        self.sweep.done.append(EXPLORE)
        self.sweep.save(self.folder)
        return True

    def _exchange(self, number: int, end: int) -> None:
        """After a round: the worst continue from the best. Nothing of it is recorded before every copy is made."""
        members = self.sweep.stage(EXPLORE)
        found = exchanges(
            members,
            self.space.domains,
            metric=self.sweep.metric,
            mode=self.sweep.mode,
            quantile=self.space.scheduler.quantile,
            source=random.Random(f"{self.space.search.seed}-{number}"),
        )
        home = self.folder.absolute() / "trials"
        for exchange in found:
            copy_newest_checkpoint(home / exchange.donor, home / exchange.loser)
        apply_exchanges(members, found, end)
        told = ", ".join(f"{one.loser} from {one.donor}" for one in found)
        self.announce(f"{EXPLORE}: round {number} copies {told}")

    def judge(self) -> None:
        """Write the record."""
        self.sweep.save(self.folder)

    def num_missing(self) -> int:
        """Confirmation runs that have not ended."""
        return num_confirmed(self.sweep, self.space) - sum(map(_has_ended, self.sweep.stage(CONFIRM)))

    @property
    def budget(self) -> Budget:
        """The space's, and what the command line put over it."""
        return self.space.budget.model_copy(update=self.sweep.budget)

    def _open_purse(self) -> Purse:
        return Purse(
            self.budget,
            self.sweep,
            devices=self.settings.resources.devices,
            to_confirm=num_confirmed(self.sweep, self.space),
            at_once=self.connect(),
        )

    def connect(self) -> int:
        """Start or join Ray; how many trials may run at once. Raises UserError where not even one fits."""
        resources = self.settings.resources
        seconds = seconds_between_saves(num_explored(self.space))
        os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", f"{seconds:g}")  # else a kill forgets finished trials
        ray = connect(dashboard=resources.num_workers > 1 and self.space.scheduler.type != "none")
        if self.board is None:
            log_ray_to(log_file(self.folder))
        if len([node for node in ray.nodes() if node["Alive"]]) > 1 and is_local_file(self.sweep.uri):
            raise UserError(
                f"tracking.uri: {self.sweep.uri} is a file, which the cluster's other nodes cannot write; "
                "start `mlflow server` and set $MLFLOW_TRACKING_URI to its address"
            )
        fit = runs_that_fit(resources, where="resources")
        if self.board is None:
            self.board = start_board()
        return min(fit, self.concurrent or fit)

    def _is_done(self, name: str) -> bool:
        return name in self.sweep.done

    def _run_stage(self, name: str, stage: str, jobs: list[Job] | None, part: Round | None = None) -> bool:
        from kgan_ray.tuning.running.tune_events import observe

        plan = self._plan(stage, jobs, part)
        experiment = self.folder.absolute() / "ray" / name
        snapshots = Snapshots(experiment) if isinstance(experiment, Path) else None  # a store's objects are whole
        if snapshots and snapshots.mend():
            self.announce(f"{stage}: Tune's record was damaged; going on from its newest copy")
        ended = self.ended if part is None or part.end == self.settings.training.steps else lambda trial: None
        keeper = Keeper(self.sweep, plan, self.folder, ended, self._purse, self._interrupts, snapshots)
        for job in jobs or []:
            if self.sweep.trial(job.name) is None:
                self.sweep.trials.append(new_trial(job, self.sweep))
        keeper.save()
        count = len(jobs) if jobs else self.sweep.num_explored
        which = f", round {part.number} of {part.count} to step {part.end}" if part else ""
        self.announce(f"{stage}{which}: {count} trials, {self.connect()} at a time")
        observe(keeper)
        try:
            tuner = self._tuner(experiment, plan)
            self._interrupts.in_experiment = True
            gc.freeze()  # the libraries' half a million objects: every full collection would walk them for a third of a second
            results = tuner.fit()
            if not keeper.is_reconciled:  # all had ended: this session is resumed, and Tune had nothing to do
                keeper.reconcile(results._experiment_analysis.trials)
        finally:
            self._interrupts.in_experiment = False
            observe(None)
            if snapshots:
                snapshots.close()
        self._is_curtailed = keeper.is_over()
        if keeper.is_over():
            keeper.curtailed()
            jobs = [job for job in jobs if self.sweep.trial(job.name)] if jobs else None
            self.announce(f"{stage}: the budget ends it after {len(self.sweep.stage(stage))} trials")
        self.is_spent = keeper.is_spent and stage == CONFIRM
        names = [job.name for job in jobs] if jobs else [trial.name for trial in self.sweep.stage(stage)]
        open_trials = [name for name in names if not _has_ended(self.sweep.trial(name))]
        if open_trials or (len(names) < count and not keeper.is_over()):
            keeper.interrupted()
            return False
        self.sweep.done.append(name)
        keeper.save()
        return True

    def _plan(self, stage: str, jobs: list[Job] | None, part: Round | None = None) -> Plan:
        settings = override(self.settings, {"training.steps": part.end}) if part else self.settings
        return Plan(
            stage=stage,
            settings=flatten(settings),
            dataset=self.sweep.dataset,
            folder=str((self.folder / "trials").absolute()),
            metric=self.sweep.metric,
            mode=self.sweep.mode,
            uri=self.sweep.uri,
            experiment=self.sweep.experiment,
            parent_id=self.sweep.parent_id,
            tags=dict(self.tags),
            jobs={job.name: job for job in jobs or []},
            searched=self.space.searched,
            seed=self.settings.seed,
            objectives=self.space.modes,
            from_step=part.start if part else 0,
            steps=self.settings.training.steps,
            ended={
                trial.name if jobs else trial.ray_id: Report(
                    trial.status, trial.step, trial.metrics, trial.reason, trial.run_id
                )
                for trial in self.sweep.stage(stage)
                if _has_ended(trial) and trial.status != "failed"
            },
        )

    def _scheduler(self) -> TrialScheduler | None:
        if self._is_pbt:
            return None
        return early_stopping(self.space.scheduler, self.settings, self.sweep.mode, self.space.search.seed)

    def _tuner(self, experiment: AnyPath, plan: Plan) -> Tuner:
        from ray import tune

        from kgan_ray.tuning.running.tune_events import Over, Relay, name_trial

        resources = self.settings.resources
        trainable = tune.with_resources(
            _trainable(plan, self.trial_function, self.board),
            tune.PlacementGroupFactory([resources.needed_by_trial()]),
        )
        if tune.Tuner.can_restore(str(experiment)):
            return tune.Tuner.restore(str(experiment), trainable, resume_unfinished=True)
        explores = plan.stage == EXPLORE
        return tune.Tuner(
            trainable,
            param_space={"job": tune.grid_search(list(plan.jobs))} if plan.jobs else {},
            tune_config=tune.TuneConfig(
                search_alg=None if plan.jobs else searcher(self.space),
                num_samples=1 if plan.jobs else self.space.search.num_trials,
                scheduler=self._scheduler() if explores else None,
                max_concurrent_trials=self.connect(),
                reuse_actors=resources.num_workers == 1,
                trial_name_creator=name_trial,
                trial_dirname_creator=name_trial,
            ),
            run_config=tune.RunConfig(
                name=experiment.name,
                storage_path=str(experiment.parent),
                verbose=0,
                callbacks=[Relay()],
                stop=Over(),
                failure_config=tune.FailureConfig(max_failures=self.retries),
                log_to_file=True,
            ),
        )


@dataclass(frozen=True)
class Round:
    """One round of population based training: from step `start` to step `end`."""

    number: int
    count: int
    start: int
    end: int


def _trainable(
    plan: Plan, trial_function: TrialFunction, board: ProgressBoard | None
) -> Callable[[dict[str, Any]], None]:
    """What Tune runs. It holds the plan packed: Tune unpickles its trainable for every trial, a plan may list a thousand."""
    packed = pickle.dumps(plan)

    def trial(config: dict[str, Any]) -> None:
        run_trial(config, unpacked(packed), trial_function, board)

    return trial


def _has_ended(trial: Trial | None) -> bool:
    return trial is not None and trial.status in ENDED
