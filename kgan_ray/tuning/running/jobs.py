"""Which runs a stage of a sweep consists of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import takewhile
from typing import Protocol

from kgan_ray.run_folder import CHECKPOINTS
from kgan_ray.settings import Settings, SettingValue
from kgan_ray.storage import StorePath
from kgan_ray.text import safe_name
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.tuning.plan import Job
from kgan_ray.tuning.question.space import BASELINE, Space
from kgan_ray.tuning.search.candidates import best_explored
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Side, Sweep


class Judgement(Protocol):
    """What is known of a sweep's configurations by now."""

    @property
    def undecided(self) -> Collection[Side]:
        """Those who need more runs."""

    def allotted(self, runs: int, most: int) -> Mapping[Side, int]:
        """Give them and their baselines so many more runs, at most so many each."""


def explore_jobs(listed: list[dict[str, SettingValue]], seed: int) -> list[Job]:
    """Return the explore stage's jobs where the configurations are known beforehand."""
    width = max(2, len(str(len(listed))))
    names = [f"{EXPLORE}-{number:0{width}d}" for number in range(1, len(listed) + 1)]
    return [Job(name, EXPLORE, name, overrides, seed) for name, overrides in zip(names, listed, strict=True)]


def confirm_jobs(
    sweep: Sweep, space: Space, settings: Settings, number: int, shares: Mapping[Side, int] | None = None
) -> list[Job]:
    """Return the jobs of one round of confirmation, seed by seed: one cut short has compared like with like.

    Those of a round that is in the record already are the same again. In a new one each configuration runs with as many
    of the round's first seeds as its share is; None = with all of them.
    """
    schedules: dict[str, tuple[tuple[int, dict[str, SettingValue]], ...]] = {}
    if space.configurations:
        configurations = space.configurations
    else:
        best = best_explored(sweep, settings, space.confirm.top)
        configurations = {BASELINE: {}} if space.confirm.baseline else {}
        configurations |= {trial.configuration: trial.overrides for trial in best}
        schedules = {trial.configuration: tuple(shortened(trial.schedule)) for trial in best}
    before = sum(sweep.rounds[: number - 1])
    seeds = [sweep.confirmation_seed(before + k) for k in range(sweep.rounds[number - 1])]
    jobs = [
        Job(
            _job_name(group, name, seed),
            CONFIRM,
            name,
            {**changes, **overrides},
            seed,
            group,
            schedules.get(name, ()),
        )
        for index, seed in enumerate(seeds)
        for group, changes in (space.groups or {"": {}}).items()
        for name, overrides in configurations.items()
        if shares is None or index < shares.get((group, name), 0)
    ]
    begun = {trial.name for trial in sweep.stage(CONFIRM) if trial.seed in seeds}
    return [job for job in jobs if not begun or job.name in begun]


def with_baselines(undecided: Collection[Side]) -> set[Side]:
    """Add the baseline of each group in which anybody is undecided: it runs along."""
    return {*undecided, *((group, BASELINE) for group, _ in undecided)}


def cut_round(sweep: Sweep, number: int, jobs: list[Job]) -> bool:
    """Make two rounds of one that was cut short: of the seeds that all configurations have run, which is judged, and the rest.

    Return whether there are such seeds.
    """
    ended = {trial.name for trial in sweep.stage(CONFIRM) if trial.has_ended}
    seeds = dict.fromkeys(job.seed for job in jobs)
    waiting = {job.seed for job in jobs if job.name not in ended}
    num_whole = sum(1 for _ in takewhile(lambda seed: seed not in waiting, seeds))
    if num_whole:
        sweep.rounds[number - 1 : number] = [num_whole, len(seeds) - num_whole]
    return num_whole > 0


def shortened(schedule: list[tuple[int, dict[str, SettingValue]]]) -> list[tuple[int, dict[str, SettingValue]]]:
    """Return the schedule without the entries that change nothing."""
    return [entry for index, entry in enumerate(schedule) if index == 0 or entry[1] != schedule[index - 1][1]]


def num_confirmed(sweep: Sweep, space: Space) -> int:
    """Return how many confirmation runs the sweep will have with the rounds that were asked for so far."""
    begun = sweep.stage(CONFIRM)
    return len(begun) + (sum(sweep.rounds) - len({trial.seed for trial in begun})) * space.num_compared


def num_missing(sweep: Sweep, space: Space) -> int:
    """Return how many of them have not ended."""
    return num_confirmed(sweep, space) - sum(trial.has_ended for trial in sweep.stage(CONFIRM))


def most_confirmed(sweep: Sweep, space: Space, undecided: Collection[Side]) -> int:
    """Return how many confirmation runs the sweep will have if nobody is decided before the seeds are spent.

    `undecided` are those of whom the rounds so far told nothing.
    """
    further = max(0, space.confirm.seeds_at_most - sum(sweep.rounds))
    each = len(with_baselines(undecided)) if sweep.num_complete_rounds() else space.num_compared
    return num_confirmed(sweep, space) + further * each


def _job_name(group: str, configuration: str, seed: int) -> str:
    return safe_name("-".join(part for part in (CONFIRM, group, configuration, f"seed{seed}") if part))


def changes_of_device(sweep: Sweep, folder: StorePath, device: str) -> list[str]:
    """Say of each trial that is to go on if it does so on another kind of device than before."""
    going_on = (trial.name for trial in sweep.trials if not trial.has_ended)
    changes = {
        name: CheckpointStore(folder / "trials" / name / CHECKPOINTS).change_of_device(device) for name in going_on
    }
    return [f"{name} goes on {change}" for name, change in changes.items() if change]
