"""The one account of what a sweep's runs show.

`Results(sweep)` computes it once from the record; the terminal, Markdown, CSV, HTML, MLflow and `status` print it. So a
sentence and a table can never tell two stories, whenever they are asked for: in the middle of a round, after an
interruption, or at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kgan_ray.metrics.names import lower_is_better
from kgan_ray.settings import UserError
from kgan_ray.text import described_schedule, short_overrides
from kgan_ray.tuning.answer.verdict import Compare, Sample, Verdict, judge
from kgan_ray.tuning.question.space import BASELINE
from kgan_ray.tuning.search.candidates import explored_front
from kgan_ray.tuning.state import CONFIRM, ENDED, EXPLORE, LOST, Status, Sweep, Trial


@dataclass(frozen=True)
class Measure:
    """One metric over the finished runs of a configuration."""

    mean: float | None  # arithmetic; None without a run
    deviation: float | None  # between the runs; None with fewer than two
    published: float | None = None  # the figure that somebody else published for this configuration


@dataclass(frozen=True)
class ConfigurationRow:
    """One confirmed configuration of one group."""

    group: str
    configuration: str
    changes: str  # the settings that it changes, for people
    finished: int  # runs
    lost: int
    measures: Mapping[str, Measure]  # by metric
    verdict: Verdict | None  # None for the baseline, and where there is no baseline
    runs: tuple[Trial, ...] = field(compare=False, repr=False)


@dataclass(frozen=True)
class TrialRow:
    """One trial: where it stands, and the last value of every metric."""

    trial: str
    stage: str
    group: str
    configuration: str
    seed: int
    status: Status
    reason: str
    step: int
    seconds: float
    values: Mapping[str, float | None]  # by metric
    overrides: Mapping[str, object]


class Results:
    """What the runs of a sweep show, as its record has them at this moment.

    Attributes:
        metrics: the names of the metrics that its trials measured, the objective first.
        explored: the explored trials, the longest and best first.
        front: the explored trials on the Pareto front, by name; empty for a single objective.
        rows: one a group and confirmed configuration, the baseline of each group first.
        verdicts: those of the rows.
        trial_rows: one a trial, in the order in which they began.
        is_judged: whether every run that the sweep asks for has ended; until then the verdicts are provisional.

    Raises:
        UserError: runs that would be ranked together were trained on different data, or measured differently.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.compare: Compare = sweep.space.get("confirm", {}).get("compare", "difference")
        self.metrics = _measured(sweep)
        self.explored = self._ranked(sweep.stage(EXPLORE))
        self.front = explored_front(sweep)
        self.groups = list(dict.fromkeys(trial.group for trial in sweep.stage(CONFIRM)))
        self.rows = [row for group in self.groups for row in self._rows_of(group)]
        self.verdicts = [row.verdict for row in self.rows if row.verdict]
        self.trial_rows = [self._trial_row(trial) for trial in sweep.trials]
        self.is_judged = bool(self.rows) and not self._missing_rounds() and self._num_pending() == 0

    @property
    def has_answer(self) -> bool:
        """Whether the question is answered: by a verdict on runs of both sides, or by any value where none was asked for."""
        confirm, configurations = self.sweep.space.get("confirm", {}), self.sweep.space.get("configurations", {})
        others = (
            len(configurations) - 1 if configurations else confirm.get("top", 2) * confirm.get("baseline", True)
        )
        if others:
            return any(math.isfinite(verdict.effect) for verdict in self.verdicts)
        return any(trial.value(self.sweep.metric) is not None for trial in self.sweep.trials)

    @property
    def lowest_is_best(self) -> bool:
        """Return whether low values of the sweep's objective are good."""
        return self.sweep.mode == "min"

    def is_low_good(self, metric: str) -> bool:
        """Return whether low values of a metric are good: as the sweep's objectives say, else as its name does."""
        modes = {**self.sweep.objectives, self.sweep.metric: self.sweep.mode}
        return modes[metric] == "min" if metric in modes else lower_is_better(metric)

    @property
    def stage(self) -> str:
        """Name what the sweep is at: `not begun`, `explore, round 2`, `confirm, round 2 of 3`, `judged`."""
        sweep = self.sweep
        if self.is_judged:
            return "judged"
        if sweep.stage(CONFIRM) or EXPLORE in sweep.done:
            rounds = len(sweep.rounds)
            number = min([*self._missing_rounds(), rounds])
            return f"{CONFIRM}, round {number} of {rounds}" if rounds > 1 else CONFIRM
        if not sweep.trials:
            return "not begun"
        trained = sum(name.startswith(f"{EXPLORE}-round") and name[-1].isdigit() for name in sweep.done)
        return f"{EXPLORE}, round {trained + 1}" if trained else EXPLORE

    @property
    def notice(self) -> str:
        """Say that the verdicts are provisional while confirmation runs are missing; empty without verdicts, or after."""
        if self.is_judged or not self.verdicts:
            return ""
        runs = len(self.sweep.stage(CONFIRM))
        return f"Provisional, in stage {self.stage}: {runs - self._num_pending()} of {runs} confirmation runs have ended."

    def best_run(self, among: Callable[[ConfigurationRow], bool] = lambda row: True) -> Trial | None:
        """Return the best finished run of the best configuration on average, of the rows `among`; None without any."""
        metric, sign = self.sweep.metric, 1 if self.lowest_is_best else -1
        means = [
            (sign * mean, row)
            for row in self.rows
            if among(row) and (mean := row.measures[metric].mean) is not None
        ]
        if not means:
            return None
        _, row = min(means, key=lambda pair: pair[0])
        scored = [(value, run) for run in row.runs if (value := _final(run, metric)) is not None]
        return min(scored, key=lambda pair: sign * pair[0])[1]

    def _ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        check_comparable(trials)
        metric, sign = self.sweep.metric, 1 if self.lowest_is_best else -1

        def order(trial: Trial) -> tuple[bool, int, float]:
            value = trial.value(metric)
            return value is None, -trial.step, sign * (value or 0.0)

        return sorted(trials, key=order)

    def _rows_of(self, group: str) -> list[ConfigurationRow]:
        runs = [trial for trial in self.sweep.stage(CONFIRM) if trial.group == group]
        check_comparable(runs)
        by_name: dict[str, tuple[Trial, ...]] = {}
        for trial in runs:
            by_name[trial.configuration] = (*by_name.get(trial.configuration, ()), trial)
        verdicts = self._verdicts_of(group, by_name)
        published = self.sweep.space.get("published", {}).get(group, {})
        shared = _shared_overrides(runs)
        return [
            ConfigurationRow(
                group,
                name,
                _changes(mine[0], shared),
                finished=sum(trial.status == "finished" for trial in mine),
                lost=sum(trial.status in LOST for trial in mine),
                measures={
                    metric: _measure(mine, metric, published.get(name, {}).get(metric)) for metric in self.metrics
                },
                verdict=verdicts.get(name),
                runs=mine,
            )
            for name, mine in by_name.items()
        ]

    def _verdicts_of(self, group: str, by_name: Mapping[str, Sequence[Trial]]) -> dict[str, Verdict]:
        """Judge every configuration of a group against that group's baseline; empty where there is none."""
        metric = self.sweep.metric
        samples = {
            name: Sample(
                tuple(value for trial in runs if (value := _final(trial, metric)) is not None),
                lost=sum(trial.status in LOST for trial in runs),
            )
            for name, runs in by_name.items()
        }
        baseline = samples.pop(BASELINE, None)
        if baseline is None:
            return {}
        verdicts = judge(baseline, samples, mode=self.sweep.mode, metric=metric, compare=self.compare, group=group)
        return {verdict.configuration: verdict for verdict in verdicts}

    def _trial_row(self, trial: Trial) -> TrialRow:
        return TrialRow(
            trial.name,
            trial.stage,
            trial.group,
            trial.configuration,
            trial.seed,
            trial.status,
            trial.reason,
            trial.step,
            round(trial.seconds, 1),
            values={metric: trial.value(metric) for metric in self.metrics},
            overrides=trial.overrides,
        )

    def _missing_rounds(self) -> list[int]:
        """Return the numbers of the rounds of confirmation that are not complete."""
        numbers = range(1, len(self.sweep.rounds) + 1)
        return [number for number in numbers if f"{CONFIRM}-{number}" not in self.sweep.done]

    def _num_pending(self) -> int:
        return sum(trial.status not in ENDED for trial in self.sweep.stage(CONFIRM))


def check_comparable(trials: Sequence[Trial]) -> None:
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


def _measured(sweep: Sweep) -> list[str]:
    """Return the metrics that any trial measured, the objective first; losses and speeds are none."""
    seen = {name for trial in sweep.trials for name in trial.metrics}
    return [
        sweep.metric,
        *(name for name in sweep.settings.evaluation.metrics if name in seen - {sweep.metric}),
    ]


def _measure(runs: Sequence[Trial], metric: str, published: float | None) -> Measure:
    values = [value for run in runs if (value := _final(run, metric)) is not None]
    return Measure(
        mean=float(np.mean(values)) if values else None,
        deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        published=published,
    )


def _final(trial: Trial, metric: str) -> float | None:
    """Return the metric of a run that was trained to its end; None for another."""
    return trial.value(metric) if trial.status == "finished" else None


def _changes(run: Trial, shared: Mapping[str, object]) -> str:
    """Describe what a configuration changes, without the overrides that its whole group has."""
    if run.schedule:
        return described_schedule(run.schedule)
    return short_overrides({name: value for name, value in run.overrides.items() if name not in shared}) or "none"


def _shared_overrides(runs: Sequence[Trial]) -> dict[str, object]:
    """Return the overrides that all of a group's runs have: the group's own."""
    first, *others = runs
    return {
        name: value
        for name, value in first.overrides.items()
        if all(name in other.overrides and other.overrides[name] == value for other in others)
    }
