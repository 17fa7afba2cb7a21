"""The stages of a sweep on Ray Tune: explore (one seed, early stopping), then confirm (fresh seeds, full length).

Only the confirm stage's runs count as evidence: the explored trial that looks best is also the luckiest.

The sweep's record alone says what is left to do. Every session gives Tune the trials that have not ended, tells the
searcher and the scheduler of those that have, and never asks Tune to restore anything.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ray import tune

from kgan_ray.cluster import cluster_resources, connect, node_watched, runs_that_fit
from kgan_ray.data.dataset import Dataset
from kgan_ray.devices import line_of_runs, with_devices
from kgan_ray.settings import Settings, UserError, override
from kgan_ray.storage import StorePath
from kgan_ray.tracking.client import is_local_file
from kgan_ray.training.progress import ProgressBoard, start_board
from kgan_ray.tuning.plan import Job, Plan
from kgan_ray.tuning.question.sections import Budget
from kgan_ray.tuning.question.space import Space
from kgan_ray.tuning.running.budget import BudgetMeter
from kgan_ray.tuning.running.interrupt import Interrupts
from kgan_ray.tuning.running.jobs import (
    Judgement,
    changes_of_device,
    confirm_jobs,
    cut_round,
    explore_jobs,
    most_confirmed,
    num_confirmed,
    with_baselines,
)
from kgan_ray.tuning.running.ray_log import log_file, log_ray_to
from kgan_ray.tuning.running.recorder import StageRecorder, new_trial
from kgan_ray.tuning.running.trial import TrialFunction, train_trial, trainable
from kgan_ray.tuning.search.candidates import described_front, explored_front
from kgan_ray.tuning.search.early_stopping import early_stopping
from kgan_ray.tuning.search.optuna_search import ResumableOptunaSearch
from kgan_ray.tuning.search.population import Round, exchange_members, member_job, rounds_of
from kgan_ray.tuning.search.proposals import listed_configurations, num_explored
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial

RETRIES = 1  # of a trial whose process failed


@dataclass
class Runner:
    """Runs one sweep, from its beginning or from where `sweep` says that it was left. Start it before it runs."""

    sweep: Sweep
    space: Space
    settings: Settings
    folder: StorePath
    judge: Callable[[Sweep], Judgement]  # of what the runs so far tell
    trial_function: TrialFunction = train_trial  # a test gives a cheap one
    concurrent: int | None = None
    retries: int = RETRIES
    tags: Mapping[str, str] = field(default_factory=dict)
    announce: Callable[[str], None] = print  # gets lines for the user
    on_trial_end: Callable[[Trial], None] = lambda trial: None
    dataset: Dataset | None = None  # that trials train on; a stand-in for training needs none
    bytes_of_data: int = 0  # that its motions take in Ray's object store
    started: float | None = None  # when this session began, by time.monotonic; its budget counts from there
    # Explored by earlier sweeps of the same question: hopeless trials end by their curves.
    past: Sequence[Trial] = ()
    is_spent: bool = False  # the budget ended the confirmation
    at_once: int = 0  # trials that may run at the same time
    board: ProgressBoard | None = None

    def start(self) -> None:
        """Start or join Ray, and learn on what trials run and how many fit. Raises UserError where not even one does."""
        os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "inf"  # nobody reads Tune's own record
        has_workers = self.settings.resources.num_workers > 1
        needs_dashboard = has_workers and self.space.scheduler.type != "none"
        ray = connect(dashboard=needs_dashboard, bytes_to_share=self.bytes_of_data)
        log_ray_to(log_file(self.folder))
        if len([node for node in ray.nodes() if node["Alive"]]) > 1 and is_local_file(self.sweep.uri):
            raise UserError(
                f"tracking.uri: {self.sweep.uri} is a file, which the cluster's other nodes cannot write; "
                "start `mlflow server` and set $MLFLOW_TRACKING_URI to its address"
            )
        have = cluster_resources()
        self.settings = with_devices(self.settings, have)
        fit = runs_that_fit(self.settings.resources, where="resources")
        self.at_once = min(fit, self.concurrent or fit)
        self.announce(line_of_runs(self.settings.resources, self.at_once, have))
        for line in changes_of_device(self.sweep, self.folder, self.settings.resources.device):
            self.announce(line)
        self.board = start_board()

    def run(self) -> bool:
        """Run the stages that are not done; return whether all are. If not, the user interrupted it or the budget did."""
        with Interrupts() as self._interrupts:
            self._meter = BudgetMeter(
                self.budget,
                self.sweep,
                devices=self.settings.resources.devices,
                to_confirm=self.most_confirmed,
                at_once=self.at_once,
                started=self.started,
            )
            with node_watched(f"python -m kgan_ray.tune --resume --name {self.folder.name} goes on"):
                return self._explore() and self._confirm()

    @property
    def budget(self) -> Budget:
        """The space's, and what the command line put over it."""
        return self.space.budget.model_copy(update=self.sweep.budget)

    @property
    def num_trials(self) -> int:
        """How many trials the whole sweep has, without the rounds of seeds that may still be added."""
        return num_explored(self.space) + num_confirmed(self.sweep, self.space)

    @property
    def most_confirmed(self) -> int:
        """How many runs confirm, if nobody is decided before all seeds are spent."""
        return most_confirmed(self.sweep, self.space, self.judge(self.sweep).undecided)

    def _explore(self) -> bool:
        if not self.space.explores or EXPLORE in self.sweep.done:
            return True
        listed = listed_configurations(self.space)
        self.sweep.num_explored = num_explored(self.space)
        jobs = None if listed is None else explore_jobs(listed, self.settings.seed)
        if jobs and self.space.scheduler.type == "pbt":
            return self._run_rounds(jobs)
        return self._run_stage(EXPLORE, EXPLORE, jobs)

    def _confirm(self) -> bool:
        """Run the rounds of seeds that the record asks for, then further ones until everybody is decided."""
        number = 1
        while number <= len(self.sweep.rounds) or self._add_round():
            if f"{CONFIRM}-{number}" not in self.sweep.done and not self._run_round(number):
                return False
            number += 1
        return not self.is_spent

    def _run_round(self, number: int) -> bool:
        name = f"{CONFIRM}-{number}"
        jobs = confirm_jobs(self.sweep, self.space, self.settings, number)
        if number == 1 and (front := explored_front(self.sweep)):
            self.announce(f"{CONFIRM}: {described_front(self.sweep, front)}")
        if jobs and not self._run_stage(name, CONFIRM, jobs):
            if self.is_spent and cut_round(self.sweep, number, jobs):
                self._note_done(name)
            return False
        return True

    def _add_round(self) -> bool:
        """Add a round of seeds for those who are not decided, as long as there are seeds and the budget has room for them.

        Its trials enter the record with it, so a resume repeats the same round.
        """
        judgement = self.judge(self.sweep)
        undecided = judgement.undecided
        most = self.space.confirm.seeds_at_most - sum(self.sweep.rounds)
        if not undecided or most < 1:
            return False
        runs = min(self.space.confirm.seeds, most) * len(with_baselines(undecided))
        while runs >= len(undecided) and not self._meter.has_room_for(runs):
            runs -= 1
        self.is_spent = runs < len(undecided)
        if self.is_spent:
            return False
        shares = judgement.allotted(runs, most)
        self.sweep.rounds.append(max(shares.values()))
        jobs = confirm_jobs(self.sweep, self.space, self.settings, len(self.sweep.rounds), shares)
        self.sweep.trials += [new_trial(job, self.sweep) for job in jobs]
        each = (f"{count} of {' '.join(side).strip()}" for side, count in sorted(shares.items()))
        self.announce(f"{CONFIRM}: {len(jobs)} more runs, {', '.join(each)}")
        return True

    def _run_rounds(self, jobs: list[Job]) -> bool:
        """Train a population: see `population`. The record says after each half of a round what is done."""
        for part in rounds_of(self.space.scheduler, self.settings):
            name = f"{EXPLORE}-round-{part.number:02d}"
            if name not in self.sweep.done:
                members = [member_job(job, self.sweep.trial(job.name)) for job in jobs]
                if not self._run_stage(name, EXPLORE, members, part):
                    return False
                if self._is_curtailed:
                    break
            if f"{name}-exchanged" not in self.sweep.done and part.number < part.count:
                home = self.folder.absolute() / "trials"
                swaps = exchange_members(self.sweep, self.space, home, part.number, part.end)
                copies = ", ".join(f"{one.loser} from {one.donor}" for one in swaps)
                self.announce(f"{EXPLORE}: round {part.number} copies {copies}")
                self._note_done(f"{name}-exchanged")
        self._note_done(EXPLORE)
        return True

    def _note_done(self, name: str) -> None:
        self.sweep.done.append(name)
        self.sweep.save(self.folder)

    def _run_stage(self, name: str, stage: str, jobs: list[Job] | None, part: Round | None = None) -> bool:
        """Run the trials of a stage that have not ended; return whether the stage is over."""
        plan = self._plan(stage, jobs, part)
        is_whole_run = part is None or part.end == self.settings.training.steps
        on_trial_end = self.on_trial_end if is_whole_run else lambda trial: None
        recorder = StageRecorder(self.sweep, plan, self.folder, on_trial_end, self._meter, self._interrupts)
        self.sweep.trials += [new_trial(job, self.sweep) for job in jobs or [] if not self.sweep.trial(job.name)]
        recorder.save()
        count = len(jobs) if jobs else self.sweep.num_explored
        which = f", round {part.number} of {part.count} to step {part.end}" if part else ""
        self.announce(f"{stage}{which}: {count} trials, {self.at_once} at a time")
        if left := count - sum(one.has_ended for one in self._trials_of(stage, jobs)):
            self._fit(self._tuner(name, plan, recorder, left))
        self._is_curtailed = recorder.stop_all()
        if self._is_curtailed:
            recorder.curtail()
            self.announce(f"{stage}: the budget ends it after {len(self.sweep.stage(stage))} trials")
        self.is_spent = recorder.is_spent and stage == CONFIRM
        trials = self._trials_of(stage, jobs)
        if not all(one.has_ended for one in trials) or (len(trials) < count and not self._is_curtailed):
            recorder.interrupt()
            return False
        recorder.save()
        self._note_done(name)
        return True

    def _trials_of(self, stage: str, jobs: list[Job] | None) -> list[Trial]:
        """Return the stage's trials in the record; of a round of confirmation, that round's."""
        names = {job.name for job in jobs} if jobs else None
        return [one for one in self.sweep.stage(stage) if names is None or one.name in names]

    def _fit(self, tuner: tune.Tuner) -> None:
        self._interrupts.in_experiment = True
        gc.freeze()  # the libraries' half a million objects: every full collection would walk them for a third of a second
        try:
            tuner.fit()
        finally:
            self._interrupts.in_experiment = False

    def _plan(self, stage: str, jobs: list[Job] | None, part: Round | None) -> Plan:
        ended = {one.name for one in self.sweep.stage(stage) if one.has_ended}
        return Plan(
            stage=stage,
            settings=override(self.settings, {"training.steps": part.end}) if part else self.settings,
            dataset=self.sweep.dataset,
            folder=str((self.folder / "trials").absolute()),
            objectives=self.space.modes,
            uri=self.sweep.uri,
            experiment=self.sweep.experiment,
            parent_id=self.sweep.parent_id,
            tags=dict(self.tags),
            jobs={job.name: job for job in jobs or [] if job.name not in ended},
            searched=self.space.searched,
            from_step=part.start if part else 0,
            steps=self.settings.training.steps if part else 0,
        )

    def _tuner(self, name: str, plan: Plan, recorder: StageRecorder, num_trials: int) -> tune.Tuner:
        """Return Tune's experiment of so many trials: the plan's jobs, or what the searcher proposes."""
        earlier = self.sweep.stage(EXPLORE) if plan.stage == EXPLORE else []
        resources = self.settings.resources
        return tune.Tuner(
            tune.with_resources(
                trainable(plan, self.trial_function, self.dataset, self.board),
                tune.PlacementGroupFactory([resources.needed_by_trial()]),
            ),
            param_space={"job": tune.grid_search(list(plan.jobs))} if plan.jobs else {},
            tune_config=tune.TuneConfig(
                search_alg=None if plan.jobs else ResumableOptunaSearch(self.space, earlier),
                num_samples=1 if plan.jobs else num_trials,
                scheduler=early_stopping(
                    self.space.scheduler,
                    self.settings,
                    self.sweep.mode,
                    self.space.search.seed,
                    earlier,
                    self.past,
                )
                if plan.stage == EXPLORE
                else None,
                max_concurrent_trials=self.at_once,
                reuse_actors=resources.num_workers == 1,
                trial_name_creator=recorder.name_trial,
                trial_dirname_creator=recorder.name_trial,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(self.folder.absolute() / "ray"),
                verbose=0,
                callbacks=[recorder],
                stop=recorder,
                failure_config=tune.FailureConfig(max_failures=self.retries),
                log_to_file=True,
            ),
        )
