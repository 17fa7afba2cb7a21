"""A sweep's answer as a person would say it. Terminal, report and MLflow print these lines and no others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kgan_ray.text import duration, number, spoken_setting
from kgan_ray.tuning.answer.effects import Effect, effects_of, explored_points
from kgan_ray.tuning.answer.power import ENOUGH
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.answer.significance import LEVEL
from kgan_ray.tuning.answer.verdict import UNDECIDED, Verdict
from kgan_ray.tuning.question.space import BASELINE
from kgan_ray.tuning.state import CONFIRM, EXPLORE, resume_command

_FEWEST_OF_A_TREND = 3  # levels
_ACCURACY, _NEAR_CHANCE = "accuracy", 2.0  # times


@dataclass(frozen=True)
class Line:
    """One line of the answer, and the verdict that it says or the command that it ends with."""

    kind: Literal["question", "verdict", "finding", "caution", "cost", "step"]
    text: str
    verdict: Verdict | None = None
    command: str = ""

    def __str__(self) -> str:
        return f"{self.text}  {self.command}" if self.command else self.text


def answer_lines(results: Results) -> list[Line]:
    """Say what was asked, what came out of each configuration, what mattered, what it cost, and what to do next.

    Figures follow sentences of at most twenty words.
    """
    question = results.sweep.space.get("question")
    return [
        *([Line("question", str(question))] if question else []),
        *([Line("caution", results.notice)] if results.notice else []),
        *(
            Line("verdict", one.sentence, one)
            for one in results.verdicts
            if results.is_judged or one.comparison.own.runs
        ),
        *(Line("finding", one.sentence) for one in results.together),
        *([Line("finding", _what_scores(results))] if results.verdicts and results.sweep.mean_of > 1 else []),
        *([] if results.has_answer or results.notice else [Line("caution", f"No answer: {_why_none(results)}.")]),
        *(Line("caution", text) for text in _at_chance(results)),
        *(Line("finding", text) for text in what_mattered(results)),
        *(Line("caution", text) for text in results.cautions),
        Line("cost", _cost(results)),
        _next_step(results),
    ]


def _what_scores(results: Results) -> str:
    sweep = results.sweep
    mean = "geometric mean" if sweep.compare == "ratio" else "mean"
    return f"The {sweep.metric} of a run is the {mean} of its last {sweep.mean_of} evaluations."


def _why_none(results: Results) -> str:
    """Say why there was nothing to compare with the baseline."""
    sweep = results.sweep
    if not results.explored or any(row.configuration != BASELINE for row in results.rows):
        return "no configuration could be compared with the baseline"
    tried, planned = len(results.explored), sweep.num_explored
    gave = [trial for trial in results.explored if trial.value(sweep.metric) is not None]
    if not gave:
        return f"none of the {tried} explored trials gave a value"
    others = f", and the other {tried - len(gave)} gave no value" if len(gave) < tried else ""
    short = f"; the budget ended exploring after {tried} of {planned} trials" if tried < planned else ""
    return f"nothing but the baseline's own settings could be tried{others}{short}"


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


def _next_step(results: Results) -> Line:
    """Return the one command that leads on: to the end, to more evidence, or to the best generator's motions."""
    folder = results.folder
    command = resume_command(folder)
    if not results.is_judged:
        return _step("to its end", command + _more_budget(results, 0.0))
    advised = [one.advice for one in results.verdicts if one.word == UNDECIDED and one.advice]
    if seeds := max((one.seeds for one in advised if one.chance is None or one.chance >= ENOUGH), default=0):
        seconds = _seconds_of(results, seeds)
        further = "" if _has_seeds_left(results) else f" --add-seeds {seeds}"
        more = command + further + _more_budget(results, seconds or 0.0)
        return _step(f"more evidence, about {duration(seconds)}", more)
    best = next((run for group in results.groups if (run := results.best_run(group))), None)
    if best is None:
        return _step("why runs were lost", f"python -m kgan_ray.status {folder}")
    generate = f"python -m kgan_ray.generate {folder / 'trials' / best.name} --output motions.npy"
    return _step("motions of the best", generate)


def _step(purpose: str, command: str) -> Line:
    return Line("step", f"Next, {purpose}:", command=command)


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
