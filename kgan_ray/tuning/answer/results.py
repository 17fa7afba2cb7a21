"""What the confirmation runs of a sweep say: its groups, its verdicts."""

from __future__ import annotations

from dataclasses import replace

from kgan_ray.settings import UserError
from kgan_ray.tuning.answer.verdict import Compare, Verdict, judge
from kgan_ray.tuning.question.space import BASELINE
from kgan_ray.tuning.state import CONFIRM, Sweep, Trial


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
