"""Which runs a stage consists of, which of them were best, and what they prove."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from kgan_ray.settings import Settings, UserError
from kgan_ray.tuning.pareto import pareto_front
from kgan_ray.tuning.plan import Job
from kgan_ray.tuning.search import same_configuration
from kgan_ray.tuning.space import BASELINE, Space
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial
from kgan_ray.tuning.verdict import Compare, Verdict, judge

_FIRST_FRESH_SEED = 1000  # added to the sweep's own seed


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
    """The best distinct configurations, the baseline's own left out; those that ran longest come first.

    Where there are several objectives, the front's best by the first of them.
    """
    front = explored_front(sweep)
    explored = [trial for trial in sweep.stage(EXPLORE) if not sweep.objectives or trial.name in front]
    scored = [(trial, trial.value(sweep.metric)) for trial in explored]
    sign = 1 if sweep.mode == "min" else -1
    ranked = sorted(
        ((trial, value) for trial, value in scored if value is not None),
        key=lambda pair: (-pair[0].step, sign * pair[1]),
    )
    chosen: list[Trial] = []
    for trial, _ in ranked:
        known = [{}, *(other.overrides for other in chosen)]
        is_known = any(same_configuration(trial.overrides, one, settings) for one in known if not trial.schedule)
        is_known |= bool(trial.schedule) and any(other.schedule == trial.schedule for other in chosen)
        if len(chosen) < top and not is_known:
            chosen.append(trial)
    return chosen


def explored_front(sweep: Sweep) -> list[str]:
    """The explored trials that no other beats in every objective, by the first one; none for a single objective."""
    values = {
        trial.name: [value for metric in sweep.objectives if (value := trial.value(metric)) is not None]
        for trial in sweep.stage(EXPLORE)
        if sweep.objectives
    }
    whole = {name: found for name, found in values.items() if len(found) == len(sweep.objectives)}
    return pareto_front(whole, [mode == "min" for mode in sweep.objectives.values()])


def described_front(sweep: Sweep, front: list[str]) -> str:
    """What the choice of the confirmed configurations rests on, in words."""
    metrics = list(sweep.objectives)
    named = f"{', '.join(metrics[:-1])} and {metrics[-1]}"
    return f"the best by {sweep.metric} of the {len(front)} configurations on the Pareto front of {named}"


def confirm_jobs(sweep: Sweep, space: Space, settings: Settings, number: int) -> list[Job]:
    """The jobs of one round of confirmation, seed by seed: one cut short has compared like with like."""
    schedules: dict[str, tuple[tuple[int, dict[str, Any]], ...]] = {}
    if space.configurations:
        configurations = space.configurations
    else:
        best = best_explored(sweep, settings, space.confirm.top)
        configurations = {BASELINE: {}} if space.confirm.baseline else {}
        configurations |= {trial.configuration: trial.overrides for trial in best}
        schedules = {trial.configuration: tuple(shortened(trial.schedule)) for trial in best}
    before = sum(sweep.rounds[: number - 1])
    seeds = [settings.seed + _FIRST_FRESH_SEED + before + k for k in range(sweep.rounds[number - 1])]
    return [
        Job(
            _job_name(group, name, seed),
            CONFIRM,
            name,
            {**changes, **overrides},
            seed,
            group,
            schedules.get(name, ()),
        )
        for seed in seeds
        for group, changes in (space.groups or {"": {}}).items()
        for name, overrides in configurations.items()
    ]


def shortened(schedule: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    """The schedule without the entries that change nothing."""
    return [entry for index, entry in enumerate(schedule) if index == 0 or entry[1] != schedule[index - 1][1]]


def num_confirmed(sweep: Sweep, space: Space) -> int:
    """How many confirmation runs the sweep will have, if all goes well."""
    configurations = len(space.configurations) or space.confirm.top + space.confirm.baseline
    return sum(sweep.rounds) * configurations * max(1, len(space.groups))


def _job_name(group: str, configuration: str, seed: int) -> str:
    return safe_name("-".join(part for part in (CONFIRM, group, configuration, f"seed{seed}") if part))


def safe_name(text: str) -> str:
    """The text as folders and MLflow's keys may be named."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)


def groups_of(sweep: Sweep) -> list[str]:
    return list(dict.fromkeys(trial.group for trial in sweep.stage(CONFIRM)))


def compared_by(sweep: Sweep) -> Compare:
    """Whether the sweep's verdicts are on differences or on ratios."""
    compare: Compare = sweep.space.get("confirm", {}).get("compare", "difference")
    return compare


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
    verdicts = judge(
        baseline, values, mode=sweep.mode, metric=sweep.metric, failed=lost, compare=compared_by(sweep)
    )
    return [replace(verdict, sentence=f"{group} {verdict.sentence}".strip()) for verdict in verdicts]


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
