"""The one account of what a sweep's runs show.

`Results(sweep)` computes it once from the record; the terminal, Markdown, CSV, HTML, MLflow and `status` print it. So a
sentence and a table can never tell two stories, whenever they are asked for: in the middle of a round, after an
interruption, or at the end. Both rest on complete rounds of confirmation: a look into the middle of one would be one more
look, which the level of the test does not know of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from kgan_ray.metrics.names import lower_is_better
from kgan_ray.storage import StorePath
from kgan_ray.tuning.answer.allocation import allotted
from kgan_ray.tuning.answer.comparison import Comparison, Sample, check_comparable
from kgan_ray.tuning.answer.reuse import lines_of_reuse
from kgan_ray.tuning.answer.rows import (
    ConfigurationRow,
    TrialRow,
    changes_of,
    described_changes,
    final_value,
    label_of,
    measure,
    shared_overrides,
)
from kgan_ray.tuning.answer.together import Together, over_groups
from kgan_ray.tuning.answer.verdict import UNDECIDED, judge
from kgan_ray.tuning.question.space import BASELINE
from kgan_ray.tuning.search.candidates import explored_front
from kgan_ray.tuning.state import CONFIRM, ENDED, EXPLORE, LOST, Compare, Side, Sweep, Trial


class Results:
    """What the runs of a sweep show, as its record has them at this moment.

    Attributes:
        metrics: the names of the metrics that its trials measured, the objective first.
        explored: the explored trials, the longest and best first.
        front: the explored trials on the Pareto front, by name; empty for a single objective.
        rows: one a group and confirmed configuration, the baseline of each group first.
        verdicts: those of the rows.
        reuse: a line for each other sweep whose runs this one repeats.
        trial_rows: one a trial, in the order in which they began.
        is_judged: whether every run that the sweep asks for has ended; until then the verdicts are provisional.

    Raises:
        UserError: runs that would be ranked together were trained on different data, or measured differently.
    """

    def __init__(self, sweep: Sweep, others: Sequence[Sweep] = (), folder: StorePath | None = None) -> None:
        """Read a record, which lies in `folder`; `others` are those of the sweeps beside it, of which it may repeat runs."""
        self.sweep = sweep
        self.folder = folder or StorePath("results") / sweep.name
        self.reuse = lines_of_reuse(sweep, others)
        self.compare = sweep.compare
        self.metrics = _measured(sweep)
        self.explored = self._ranked(sweep.stage(EXPLORE))
        self.front = explored_front(sweep)
        self.groups = list(dict.fromkeys(trial.group for trial in sweep.stage(CONFIRM)))
        self._rounds = sweep.rounds_by_seed()
        self._judged_rounds = sweep.num_complete_rounds() if sweep.rounds else 1
        runs = {group: self._runs_of(group) for group in self.groups}
        self._comparisons = [one for group in self.groups for one in self._comparisons_of(group, runs[group])]
        self.verdicts = judge(
            self._comparisons,
            mode=sweep.mode,
            metric=sweep.metric,
            compare=self.compare,
            planned=sweep.planned_looks,
            margin=sweep.margin,
        )
        self.rows = [row for group in self.groups for row in self._rows_of(group, runs[group])]
        self.trial_rows = [self._trial_row(trial) for trial in sweep.trials]
        self.is_judged = bool(self.rows) and not self._missing_rounds() and self._num_pending() == 0

    @property
    def has_answer(self) -> bool:
        """Whether the question is answered: by a verdict on complete rounds, or by any value where none was asked for."""
        confirm, configurations = self.sweep.space.get("confirm", {}), self.sweep.space.get("configurations", {})
        others = (
            len(configurations) - 1 if configurations else confirm.get("top", 2) * confirm.get("baseline", True)
        )
        if others:
            judged = [verdict for verdict in self.verdicts if verdict.comparison.look]
            return any(math.isfinite(verdict.effect) or verdict.word != UNDECIDED for verdict in judged)
        return any(trial.value(self.sweep.metric) is not None for trial in self.sweep.trials)

    @cached_property
    def together(self) -> list[Together]:
        """Sum up the configurations that several groups compare."""
        sweep = self.sweep
        return over_groups(
            self._comparisons,
            mode=sweep.mode,
            metric=sweep.metric,
            compare=self.compare,
            planned=sweep.planned_looks,
        )

    @property
    def undecided(self) -> list[Side]:
        """Return the configurations of which nothing can be told yet."""
        return [comparison.side for comparison in self._untold]

    def allotted(self, runs: int, most: int) -> dict[Side, int]:
        """Share out the runs of a further round of those who are not decided; see `allocation`."""
        return allotted(self._untold, runs, most, self.compare)

    @property
    def _untold(self) -> list[Comparison]:
        return [verdict.comparison for verdict in self.verdicts if verdict.word == UNDECIDED]

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
        """Say that runs are missing, and what the verdicts rest on; empty without verdicts, or when nothing is missing."""
        if self.is_judged or not self.verdicts:
            return ""
        runs = len(self.sweep.stage(CONFIRM))
        judged = "Only complete rounds are judged" if self._judged_rounds else "Nothing is judged yet"
        return (
            f"{judged}; stage {self.stage}, {runs - self._num_pending()} of {runs} confirmation runs have ended."
        )

    @property
    def cautions(self) -> list[str]:
        """Say what the figures do not show: that the best of several means is flattered, that runs were run before."""
        most = max((sum(row.group == group for row in self.rows) for group in self.groups), default=0) - 1
        flattery = f"The best of {most} means is partly luck: expect less of it in further runs."
        return [flattery] * (self.is_judged and most > 1) + self.reuse + self._blind_extractors

    @property
    def extractors(self) -> str:
        """Describe what measured the runs: each extractor and how well it recognises motions."""
        lines = sorted({recognition.line() for recognition in self.sweep.recognitions.values()})
        hashes = sorted({f"extractor {value[:12]}" for value in self.sweep.extractors.values() if value})
        return "; ".join(lines or hashes) or "extractor -"

    @property
    def _blind_extractors(self) -> list[str]:
        """Flag the figures of groups whose extractor hardly recognises anything."""
        warnings = {group: recognition.warning for group, recognition in self.sweep.recognitions.items()}
        return [
            f"Extractor{group and f' of {group}'}: {warning}." for group, warning in warnings.items() if warning
        ]

    def best_run(self, group: str, among: Callable[[ConfigurationRow], bool] = lambda row: True) -> Trial | None:
        """Return the best finished run of the group's best configuration, of the rows `among`; None without any.

        Configurations that lost no run come first, then their means rank them as the verdicts do. Groups are measured
        differently: none of their configurations is better than another group's.
        """
        metric, sign = self.sweep.metric, 1 if self.lowest_is_best else -1
        ranked = [
            (row.lost > 0, sign * sample.mean(self.compare), row)
            for row in self.rows
            if row.group == group and among(row) and (sample := self._sample_of(row.runs)).values
        ]
        if not ranked:
            return None
        *_, row = min(ranked, key=lambda entry: entry[:2])
        scored = [(value, run) for run in row.runs if (value := final_value(run, metric)) is not None]
        return min(scored, key=lambda pair: sign * pair[0])[1]

    def _ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        check_comparable(trials)
        metric, sign = self.sweep.metric, 1 if self.lowest_is_best else -1

        def order(trial: Trial) -> tuple[bool, int, float]:
            value = trial.value(metric)
            return value is None, -trial.step, sign * (value or 0.0)

        return sorted(trials, key=order)

    def _runs_of(self, group: str) -> dict[str, list[Trial]]:
        """Return the runs of each of a group's configurations. Raises UserError for runs that cannot be compared."""
        runs = [trial for trial in self.sweep.stage(CONFIRM) if trial.group == group]
        check_comparable(runs)
        return {
            name: [run for run in runs if run.configuration == name]
            for name in dict.fromkeys(run.configuration for run in runs)
        }

    def _is_evidence(self, run: Trial, last: int | None = None) -> bool:
        """Return whether a run is of a complete round, and none after round `last`; the first round's show what comes."""
        return self._rounds[run.seed] <= (last or max(1, self._judged_rounds))

    def _comparisons_of(self, group: str, by_name: Mapping[str, Sequence[Trial]]) -> list[Comparison]:
        """Set each configuration's runs beside the baseline's of the same rounds; none where there is no baseline."""
        comparisons = []
        shared = shared_overrides([run for runs in by_name.values() for run in runs])
        for name, runs in by_name.items():
            if name != BASELINE and BASELINE in by_name:
                own = [run for run in runs if self._is_evidence(run)]
                last = max((self._rounds[run.seed] for run in own), default=1)
                baseline = [run for run in by_name[BASELINE] if self._is_evidence(run, last)]
                look = last if self._judged_rounds else 0
                label = label_of(runs[0], changes_of(runs[0], shared, self.sweep.settings))
                comparisons.append(
                    Comparison(name, self._sample_of(own), self._sample_of(baseline), group, look, label)
                )
        return comparisons

    def _sample_of(self, runs: Sequence[Trial]) -> Sample:
        values = (final_value(run, self.sweep.metric) for run in runs)
        return Sample(
            tuple(value for value in values if value is not None), lost=sum(run.status in LOST for run in runs)
        )

    def _rows_of(self, group: str, by_name: Mapping[str, Sequence[Trial]]) -> list[ConfigurationRow]:
        verdicts = {one.configuration: one for one in self.verdicts if one.comparison.group == group}
        published = self.sweep.space.get("published", {}).get(group, {})
        shared = shared_overrides([run for runs in by_name.values() for run in runs])
        rows = []
        for name, runs in by_name.items():
            judged = tuple(run for run in runs if self._is_evidence(run))
            theirs = published.get(name, {})
            changes = changes_of(runs[0], shared, self.sweep.settings)
            rows.append(
                ConfigurationRow(
                    group,
                    name,
                    label_of(runs[0], changes),
                    described_changes(runs[0], changes),
                    finished=sum(run.status == "finished" for run in judged),
                    lost=sum(run.status in LOST for run in judged),
                    waiting=sum(run.has_ended for run in runs if run not in judged),
                    measures={
                        metric: measure(judged, metric, theirs, self._scale(metric)) for metric in self.metrics
                    },
                    verdict=verdicts.get(name),
                    runs=judged,
                )
            )
        return rows

    def _scale(self, metric: str) -> Compare:
        """Return how values of a metric are compared: the objective's as the verdicts do, by difference all others."""
        return self.compare if metric == self.sweep.metric else "difference"

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


def _measured(sweep: Sweep) -> list[str]:
    """Return the metrics that any trial measured, the objective first; losses and speeds are none."""
    seen = {name for trial in sweep.trials for name in trial.metrics}
    return [
        sweep.metric,
        *(name for name in sweep.settings.evaluation.metrics if name in seen - {sweep.metric}),
    ]
