"""A sweep's answer as a person would say it. Terminal, report and MLflow print these lines and no others."""

from __future__ import annotations

import math

import numpy as np

from kgan_ray.text import duration, number, spoken_setting
from kgan_ray.tuning.answer.effects import Effect, effects_of, explored_points
from kgan_ray.tuning.answer.power import ENOUGH
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.answer.significance import LEVEL
from kgan_ray.tuning.answer.verdict import UNDECIDED
from kgan_ray.tuning.state import CONFIRM, EXPLORE, resume_command

_FEWEST_OF_A_TREND = 3  # levels
_ACCURACY, _NEAR_CHANCE = "accuracy", 2.0  # times


def answer_lines(results: Results) -> list[str]:
    """Say what was asked, what came out of each configuration, what mattered, what it cost, and what to do next.

    Figures follow sentences of at most twenty words.
    """
    question = results.sweep.space.get("question")
    return [
        *([str(question)] if question else []),
        *([results.notice] if results.notice else []),
        *(verdict.sentence for verdict in results.verdicts),
        *([] if results.has_answer else ["No answer: no configuration could be compared with the baseline."]),
        *_at_chance(results),
        *what_mattered(results),
        *results.cautions,
        _cost(results),
        _next_step(results),
    ]


def what_mattered(results: Results) -> list[str]:
    """Name the searched settings that mattered more than chance would make them, over all settings that were searched."""
    _, points = explored_points(results.sweep)
    effects = effects_of(points)
    return [
        f"{spoken_setting(effect.setting).capitalize()} mattered among the explored: {_direction(effect, results)} "
        f"(permutation p = {effect.p_value:.2g})."
        for effect in effects
        if effect.p_value * len(effects) < LEVEL
    ]


def _direction(effect: Effect, results: Results) -> str:
    """Return `the less the better` where the values say so, else the best one."""
    sign = 1 if results.lowest_is_best else -1
    means = [sign * float(np.mean(level.values)) for level in effect.levels]
    names = [level.name for level in effect.levels]
    if len(means) >= _FEWEST_OF_A_TREND and all(name[:1].isdigit() for name in names):
        if means == sorted(means):
            return "the less the better"
        if means == sorted(means, reverse=True):
            return "the more the better"
    return f"best was {names[int(np.argmin(means))]}"


def _at_chance(results: Results) -> list[str]:
    """Say where no configuration's motions are recognised as what they should be: then all else compares bad generators."""
    lines = []
    for group in results.groups:
        chance = results.sweep.references.get(group, {}).get("chance")
        means = [
            row.measures[_ACCURACY].mean
            for row in results.rows
            if row.group == group and _ACCURACY in row.measures
        ]
        best = max((mean for mean in means if mean is not None), default=None)
        if chance and best is not None and best < _NEAR_CHANCE * chance:
            where = f"{group}: " if group else ""
            lines.append(
                f"{where}No configuration's motions are recognised much better than by chance; train for longer "
                f"(accuracy {number(best, 2)}, chance {number(chance, 2)})."
            )
    return lines


def _cost(results: Results) -> str:
    explored, confirmed = (
        sum(trial.has_ended for trial in results.sweep.stage(stage)) for stage in (EXPLORE, CONFIRM)
    )
    runs = f"{explored} explored and {confirmed} confirming runs" if explored else f"{confirmed} confirming runs"
    return f"It took {duration(results.sweep.seconds)}: {runs}."


def _next_step(results: Results) -> str:
    """Return the one command that leads on: to the end, to more evidence, or to the best generator's motions."""
    folder = results.folder
    command = resume_command(folder)
    if not results.is_judged:
        return f"Next, to its end:  {command}{_more_budget(results, 0.0)}"
    advised = [one.advice for one in results.verdicts if one.word == UNDECIDED and one.advice]
    if seeds := max((one.seeds for one in advised if one.chance is None or one.chance >= ENOUGH), default=0):
        seconds = _seconds_of(results, seeds)
        further = "" if _has_seeds_left(results) else f" --add-seeds {seeds}"
        return f"Next, more evidence, about {duration(seconds)}:  {command}{further}{_more_budget(results, seconds or 0.0)}"
    best = next((run for group in results.groups if (run := results.best_run(group))), None)
    if best is None:
        return f"Next, why runs were lost:  python -m kgan_ray.status {folder}"
    return f"Next, motions of the best:  python -m kgan_ray.generate {folder / 'trials' / best.name} --output motions.npy"


def _has_seeds_left(results: Results) -> bool:
    """Return whether the question allows further rounds, which a resume begins by itself."""
    most = results.sweep.space.get("confirm", {}).get("most_seeds") or 0
    return sum(results.sweep.rounds) < most


def _more_budget(results: Results, seconds: float) -> str:
    """Return the option without which a budget of wall time would end so many further seconds; empty where none would."""
    spent, budget = results.sweep.seconds, {**results.sweep.space.get("budget", {}), **results.sweep.budget}
    for name, unit in (("minutes", 60), ("hours", 3600)):
        if (limit := budget.get(name)) and spent + seconds >= limit * unit:
            return f" --budget {name}={max(2 * limit, math.ceil((spent + 2 * seconds) / unit)):g}"
    return ""


def _seconds_of(results: Results, seeds: int) -> float | None:
    """Estimate what so many seeds of every configuration take, as many at a time as so far; None before any has run."""
    runs = [run for run in results.sweep.stage(CONFIRM) if run.seconds]
    together = sum(run.seconds for run in results.sweep.trials)
    if not runs or not together:
        return None
    each = float(np.mean([run.seconds for run in runs]))
    return each * seeds * len(results.rows) * results.sweep.seconds / together
