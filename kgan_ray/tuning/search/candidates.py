"""Which explored configurations are worth confirming."""

from __future__ import annotations

from collections.abc import Sequence

from kgan_ray.settings import Settings
from kgan_ray.tuning.search.pareto import pareto_front
from kgan_ray.tuning.search.proposals import same_configuration
from kgan_ray.tuning.state import EXPLORE, Sweep, Trial


def best_explored(sweep: Sweep, settings: Settings, top: int) -> list[Trial]:
    """Return the best distinct configurations, the baseline's own left out; those that ran longest come first.

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
        if len(chosen) < top and not _is_known(trial, chosen, settings):
            chosen.append(trial)
    return chosen


def _is_known(trial: Trial, chosen: Sequence[Trial], settings: Settings) -> bool:
    """Return whether the trial's configuration is the baseline's or that of one already chosen."""
    if trial.schedule:
        return any(other.schedule == trial.schedule for other in chosen)
    known = [{}, *(other.overrides for other in chosen)]
    return any(same_configuration(trial.overrides, overrides, settings) for overrides in known)


def explored_front(sweep: Sweep) -> list[str]:
    """Name the explored trials that no other beats in every objective, by the first one; none for a single objective."""
    values = {
        trial.name: [value for metric in sweep.objectives if (value := trial.value(metric)) is not None]
        for trial in sweep.stage(EXPLORE)
        if sweep.objectives
    }
    whole = {name: measured for name, measured in values.items() if len(measured) == len(sweep.objectives)}
    return pareto_front(whole, [mode == "min" for mode in sweep.objectives.values()])


def described_front(sweep: Sweep, front: list[str]) -> str:
    """Say what the choice of the confirmed configurations rests on."""
    metrics = list(sweep.objectives)
    named = f"{', '.join(metrics[:-1])} and {metrics[-1]}"
    return f"the best by {sweep.metric} of the {len(front)} configurations on the Pareto front of {named}"
