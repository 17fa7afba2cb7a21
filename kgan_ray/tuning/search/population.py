"""Population based training (Jaderberg et al., 2017), in rounds: what trains well is copied, and its settings varied.

Every member of the population trains to the round's end. Then the worst quarter, and whoever diverged, continue from
a copy of a member of the best quarter, with settings a little different from that one's. A member's schedule is
that of the weights it holds: what it copied is part of it, so a schedule can be run again from the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from kgan_ray.run_folder import CHECKPOINTS
from kgan_ray.settings import Overrides, Settings, SettingValue, UserError
from kgan_ray.storage import StorePath
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.tuning.plan import Job
from kgan_ray.tuning.question.domains import Domain
from kgan_ray.tuning.question.sections import Scheduler
from kgan_ray.tuning.question.space import Space
from kgan_ray.tuning.state import EXPLORE, Sweep, Trial

_DRAWN_ANEW = 0.25  # how often a setting is drawn anew instead of moved; the rest as in the paper
_FACTOR = 1.2  # of a logarithmic domain
_PART = 0.2  # of a linear domain's width


@dataclass(frozen=True)
class Exchange:
    """`loser` continues from `donor`'s weights with `settings`."""

    loser: str
    donor: str
    settings: Overrides


@dataclass(frozen=True)
class Round:
    """One round of population based training: from step `start` to step `end`."""

    number: int
    count: int
    start: int
    end: int


def rounds_of(scheduler: Scheduler, settings: Settings) -> list[Round]:
    """Return the rounds in which a population is trained."""
    ends = round_ends(scheduler, settings)
    starts = [0, *ends[:-1]]
    return [
        Round(number, len(ends), start, end)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
    ]


def round_ends(scheduler: Scheduler, settings: Settings) -> list[int]:
    """Return the steps at which rounds end: every `interval_evaluations` evaluations, and the last step."""
    interval = scheduler.interval_evaluations * settings.evaluation.every_steps
    steps = settings.training.steps
    return [*range(interval, steps, interval), steps]


def exchanges(
    members: Sequence[Trial],
    domains: Sequence[Domain],
    *,
    metric: str,
    mode: str,
    quantile: float,
    random: Random,
) -> list[Exchange]:
    """Choose who copies whom after a round. Raises UserError where no member has a value."""
    sign = 1 if mode == "min" else -1
    values = {member.name: member.value(metric) for member in members}
    sound = [(sign * value, name) for name, value in values.items() if value is not None]
    if not sound:
        reasons = next((member.reason for member in members if member.reason), "")
        raise UserError(f"the whole population diverged or failed ({reasons}); no member is left to copy")
    ranked = [name for _, name in sorted(sound)]
    count = max(1, math.floor(len(members) * quantile))
    donors = ranked[:count]
    losers = [
        *ranked[max(count, len(ranked) - count) :],
        *(name for name, value in values.items() if value is None),
    ]
    overrides = {member.name: member.overrides for member in members}
    swaps = []
    for loser in losers:
        donor = random.choice(donors)
        swaps.append(Exchange(loser, donor, varied(overrides[donor], domains, random)))
    return swaps


def exchange_members(sweep: Sweep, space: Space, trials: StorePath, number: int, step: int) -> list[Exchange]:
    """After a round that ended at `step`, let the worst continue from the best; return who copied whom.

    `trials` is the folder of their checkpoints. Nothing enters the record before every copy is made.
    """
    members = sweep.stage(EXPLORE)
    swaps = exchanges(
        members,
        space.domains,
        metric=sweep.metric,
        mode=sweep.mode,
        quantile=space.scheduler.quantile,
        random=Random(f"{space.search.seed}-{number}"),
    )
    for exchange in swaps:
        copy_newest_checkpoint(trials / exchange.donor, trials / exchange.loser)
    apply_exchanges(members, swaps, step)
    return swaps


def member_job(job: Job, member: Trial | None) -> Job:
    """Return the job of a member's next round: its schedule so far, of which the round trains the last part."""
    schedule = member.schedule if member and member.schedule else [(0, dict(job.overrides))]
    return replace(job, overrides=dict(schedule[-1][1]), schedule=tuple(schedule))


def apply_exchanges(members: Sequence[Trial], swaps: Sequence[Exchange], step: int) -> None:
    """Give every member the schedule of the weights that it now holds, and make it wait for the next round."""
    before = {member.name: list(member.schedule) for member in members}
    by_loser = {exchange.loser: exchange for exchange in swaps}
    for member in members:
        exchange = by_loser.get(member.name)
        history = before[exchange.donor if exchange else member.name]
        settings = dict(exchange.settings if exchange else history[-1][1])
        member.schedule = [*history, (step, settings)]
        member.overrides = settings
        member.status, member.reason = "waiting", ""
        member.earlier_seconds = member.seconds


def varied(settings: Overrides, domains: Sequence[Domain], random: Random) -> dict[str, SettingValue]:
    """Return settings near the given ones; those whose `when` does not hold any more are left out."""
    changed: dict[str, SettingValue] = {}
    for domain in domains:
        if domain.applies(changed):
            is_anew = domain.name not in settings or random.random() < _DRAWN_ANEW
            value = domain.draw(random) if is_anew else _moved(domain, settings[domain.name], random)
            changed[domain.name] = value
    return changed


def _moved(domain: Domain, value: SettingValue, random: Random) -> SettingValue:
    """Return a neighbouring value of the domain."""
    direction = random.choice((-1, 1))
    if domain.kind in ("choice", "quniform"):
        values = domain.listed()
        nearest = min(range(len(values)), key=lambda k: (values[k] != value, _distance(values[k], value)))
        return values[min(len(values) - 1, max(0, nearest + direction))]
    low, high = domain.values[:2]
    if domain.kind.startswith("log"):
        moved = value * _FACTOR**direction
    else:
        moved = value + direction * _PART * (high - low)
    if domain.kind in ("randint", "lograndint"):
        moved = round(moved) if round(moved) != value else value + direction
    return min(high, max(low, moved))


def _distance(one: SettingValue, other: SettingValue) -> float:
    """Return how far two numbers are apart; infinity for other values."""
    is_number = all(isinstance(value, (int, float)) for value in (one, other))
    return abs(one - other) if is_number else math.inf


def copy_newest_checkpoint(donor: StorePath, loser: StorePath) -> None:
    """Make the newest checkpoint of the run in folder `donor` the only one of the run in folder `loser`.

    Done again after an interruption, it comes to the same. Raises UserError where the donor has none.
    """
    folders = CheckpointStore(donor / CHECKPOINTS).folders()
    if not folders:
        raise UserError(
            f"{donor}: no checkpoint here to copy; population based training needs --results on storage "
            "that the driver and all nodes share"
        )
    CheckpointStore(loser / CHECKPOINTS).replace_all(folders[-1])
