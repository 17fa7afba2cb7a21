"""The stages of a sweep on Ray Tune: explore (one seed, early stopping), then confirm (fresh seeds, full length).

Only the confirm stage's runs count as evidence: the explored trial that looks best is also the luckiest.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgan_ray.cluster import connect, runs_that_fit
from kgan_ray.settings import Settings, UserError, flatten
from kgan_ray.tracking import is_local_file
from kgan_ray.tuning.keeper import Keeper, new_trial
from kgan_ray.tuning.search import early_stopping, listed_configurations, same_configuration, searcher
from kgan_ray.tuning.space import BASELINE, Space
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial
from kgan_ray.tuning.trial import Board, Job, Plan, TrialFunction, run_trial, train_trial
from kgan_ray.tuning.verdict import Verdict, judge

if TYPE_CHECKING:
    from ray.tune import Tuner

RETRIES = 1  # of a trial whose process failed
_FIRST_FRESH_SEED = 1000  # added to the sweep's own seed


@dataclass
class Runner:
    """Runs one sweep, from its beginning or from where `sweep` says that it was left.

    `trial_function` trains (a test gives a cheap one); `announce` gets lines for the user, `ended` each ended one.
    """

    sweep: Sweep
    space: Space
    settings: Settings
    folder: Path
    trial_function: TrialFunction = train_trial
    concurrent: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    announce: Callable[[str], None] = print
    ended: Callable[[Trial], None] = lambda trial: None
    board: Any = None

    def run(self) -> bool:
        """Run the stages that are not done. False: interrupted, and to be resumed."""
        self.connect()
        if self.space.explores and not self._is_done(EXPLORE):
            listed = listed_configurations(self.space)
            jobs = None if listed is None else explore_jobs(listed, self.settings.seed)
            self.sweep.num_explored = self.space.num_explored() if jobs is None else len(jobs)
            if not self._run_stage(EXPLORE, EXPLORE, jobs, self.space.budget.minutes):
                return False
        for number, _ in enumerate(self.sweep.rounds, start=1):
            name = f"{CONFIRM}-{number}"
            if not self._is_done(name):
                jobs = confirm_jobs(self.sweep, self.space, self.settings, number)
                if jobs and not self._run_stage(name, CONFIRM, jobs):
                    return False
        verdicts = [verdict for group in groups_of(self.sweep) for verdict in verdicts_of(self.sweep, group)]
        self.sweep.verdicts = [verdict.as_dict() for verdict in verdicts]
        self.sweep.save(self.folder)
        return True

    def connect(self) -> int:
        """Start or join Ray; how many trials may run at once. Raises UserError where not even one fits."""
        resources = self.settings.resources
        os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")  # else a kill forgets trials that had finished
        ray = connect(dashboard=resources.num_workers > 1 and self.space.scheduler.type != "none")
        if self.board is None:
            log_ray_to(self.folder / "ray.log")
        if len([node for node in ray.nodes() if node["Alive"]]) > 1 and is_local_file(self.sweep.uri):
            raise UserError(
                f"tracking.uri: {self.sweep.uri} is a file, which the cluster's other nodes cannot write; "
                "start `mlflow server` and set $MLFLOW_TRACKING_URI to its address"
            )
        fit = runs_that_fit(resources, where="resources")
        if self.board is None:
            self.board = ray.remote(num_cpus=0)(Board).remote()
        return min(fit, self.concurrent or fit)

    def _is_done(self, name: str) -> bool:
        return name in self.sweep.done

    def _run_stage(self, name: str, stage: str, jobs: list[Job] | None, minutes: float | None = None) -> bool:
        from kgan_ray.tuning.relay import observe

        plan = self._plan(stage, jobs)
        keeper = Keeper(self.sweep, plan, self.folder, self.ended)
        for job in jobs or []:
            if self.sweep.trial(job.name) is None:
                self.sweep.trials.append(new_trial(job, self.sweep))
        keeper.save()
        count = len(jobs) if jobs else self.sweep.num_explored
        self.announce(f"{stage}: {count} trials, {self.connect()} at a time")
        observe(keeper)
        try:
            self._tuner(name, plan, minutes).fit()
        finally:
            observe(None)
        names = [job.name for job in jobs] if jobs else [trial.name for trial in self.sweep.stage(stage)]
        open_trials = [name for name in names if not _has_ended(self.sweep.trial(name))]
        if open_trials or (len(names) < count and minutes is None):
            keeper.interrupted()
            return False
        self.sweep.done.append(name)
        keeper.save()
        return True

    def _plan(self, stage: str, jobs: list[Job] | None) -> Plan:
        return Plan(
            stage=stage,
            settings=flatten(self.settings),
            dataset=self.sweep.dataset,
            folder=str((self.folder / "trials").absolute()),
            metric=self.sweep.metric,
            mode=self.sweep.mode,
            uri=self.sweep.uri,
            experiment=self.sweep.experiment,
            parent_id=self.sweep.parent_id,
            tags=dict(self.tags),
            jobs={job.name: job for job in jobs or []},
            searched=searched_settings(self.space),
            seed=self.settings.seed,
        )

    def _tuner(self, name: str, plan: Plan, minutes: float | None) -> Tuner:
        from ray import tune

        from kgan_ray.tuning.relay import Relay, name_trial

        resources = self.settings.resources
        trainable = tune.with_resources(
            _trainable(plan, self.trial_function, self.board),
            # A trial of several workers only waits for them: it must not take a CPU that they need.
            {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
            if resources.num_workers == 1
            else tune.PlacementGroupFactory([{"memory": 1}]),
        )
        path = (self.folder / "ray").absolute()
        if tune.Tuner.can_restore(str(path / name)):
            return tune.Tuner.restore(str(path / name), trainable, resume_unfinished=True)
        explores = plan.stage == EXPLORE
        return tune.Tuner(
            trainable,
            param_space={"job": tune.grid_search(list(plan.jobs))} if plan.jobs else {},
            tune_config=tune.TuneConfig(
                search_alg=None if plan.jobs else searcher(self.space),
                num_samples=1 if plan.jobs else self.space.search.num_trials,
                scheduler=early_stopping(self.space.scheduler, self.settings, plan.mode) if explores else None,
                max_concurrent_trials=self.connect(),
                time_budget_s=minutes * 60 if minutes else None,
                reuse_actors=resources.num_workers == 1,
                trial_name_creator=name_trial,
                trial_dirname_creator=name_trial,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(path),
                verbose=0,
                callbacks=[Relay()],
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                log_to_file=True,
            ),
        )


def _trainable(plan: Plan, trial_function: TrialFunction, board: Any) -> Callable[[dict[str, Any]], None]:
    def trial(config: dict[str, Any]) -> None:
        run_trial(config, plan, trial_function, board)

    return trial


def _has_ended(trial: Trial | None) -> bool:
    return trial is not None and trial.status in ("finished", "stopped", "diverged", "failed")


def searched_settings(space: Space) -> tuple[str, ...]:
    """The settings in which the sweep's configurations differ."""
    named = [domain.name for domain in space.domains]
    named += [name for overrides in space.configurations.values() for name in overrides]
    return tuple(dict.fromkeys(named))


def explore_jobs(listed: list[dict[str, Any]], seed: int) -> list[Job]:
    """The explore stage's jobs where the configurations are known beforehand."""
    width = max(2, len(str(len(listed))))
    names = [f"{EXPLORE}-{number:0{width}d}" for number in range(1, len(listed) + 1)]
    return [Job(name, EXPLORE, name, overrides, seed) for name, overrides in zip(names, listed, strict=True)]


def best_explored(sweep: Sweep, settings: Settings, top: int) -> list[Trial]:
    """The best distinct configurations, the baseline's own left out; those that ran longest come first."""
    scored = [(trial, trial.value(sweep.metric)) for trial in sweep.stage(EXPLORE)]
    sign = 1 if sweep.mode == "min" else -1
    ranked = sorted(
        ((trial, value) for trial, value in scored if value is not None),
        key=lambda pair: (-pair[0].step, sign * pair[1]),
    )
    chosen: list[Trial] = []
    for trial, _ in ranked:
        known = [{}, *(other.overrides for other in chosen)]
        if len(chosen) < top and not any(same_configuration(trial.overrides, one, settings) for one in known):
            chosen.append(trial)
    return chosen


def confirm_jobs(sweep: Sweep, space: Space, settings: Settings, number: int) -> list[Job]:
    """The jobs of one round of confirmation, seed by seed: one cut short has compared like with like."""
    if space.configurations:
        configurations = space.configurations
    else:
        best = best_explored(sweep, settings, space.confirm.top)
        configurations = {BASELINE: {}} if space.confirm.baseline else {}
        configurations |= {trial.configuration: trial.overrides for trial in best}
    before = sum(sweep.rounds[: number - 1])
    seeds = [settings.seed + _FIRST_FRESH_SEED + before + k for k in range(sweep.rounds[number - 1])]
    return [
        Job(_job_name(group, name, seed), CONFIRM, name, {**changes, **overrides}, seed, group)
        for seed in seeds
        for group, changes in (space.groups or {"": {}}).items()
        for name, overrides in configurations.items()
    ]


def _job_name(group: str, configuration: str, seed: int) -> str:
    parts = [part for part in (CONFIRM, group, configuration, f"seed{seed}") if part]
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))


def groups_of(sweep: Sweep) -> list[str]:
    return list(dict.fromkeys(trial.group for trial in sweep.stage(CONFIRM)))


def verdicts_of(sweep: Sweep, group: str = "") -> list[Verdict]:
    """Every confirmed configuration of a group against that group's baseline.

    Raises UserError where the runs cannot be compared.
    """
    runs = [trial for trial in sweep.stage(CONFIRM) if trial.group == group]
    check_comparable(runs)
    values: dict[str, list[float]] = {}
    lost: dict[str, int] = {}
    for trial in runs:
        value = trial.value(sweep.metric)
        values.setdefault(trial.configuration, [])
        if value is not None and trial.status == "finished":
            values[trial.configuration].append(value)
        elif trial.status in ("diverged", "failed"):
            lost[trial.configuration] = lost.get(trial.configuration, 0) + 1
    baseline = values.pop(BASELINE, None)
    if baseline is None:
        return []
    return judge(baseline, values, mode=sweep.mode, metric=sweep.metric, failed=lost)


def check_comparable(trials: list[Trial]) -> None:
    """Raise UserError unless all trials were trained on one dataset and measured with one extractor."""
    for kind in ("dataset", "extractor"):
        hashes: dict[str, str] = {}
        for trial in trials:
            hashes.setdefault(getattr(trial, kind), trial.name)
        if len(hashes) > 1:
            (one, first), (other, second) = list(hashes.items())[:2]
            raise UserError(
                f"{first} and {second} cannot be ranked together: their {kind} differs ({one[:12]}, {other[:12]})"
            )


def log_ray_to(file: Path) -> None:
    """Send what Ray's own loggers and its raylet say to a file, and keep it off the terminal."""
    from ray._private.ray_logging import global_worker_stdstream_dispatcher as raylet

    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("ray")
    logger.handlers = [handler]
    logger.propagate = False
    # Without this, every death of a trial's process puts a paragraph on the terminal. Ray has no option for it.
    raylet.remove_handler("ray_print_logs")
    raylet.add_handler("ray_print_logs", lambda data: logger.error("raylet: %s", " ".join(data["lines"])))
