"""Scores with their error bars, and the record of an evaluation that a later one may be compared with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from kgan_ray.settings import UserError

# Two evaluations are of one measure only where all of these are equal.
SAME_MEASURE = ("dataset", "benchmark", "extractor", "num_motions", "truncation", "batch_norm")


@dataclass(frozen=True)
class Estimate:
    """Mean of K values, their standard deviation (n - 1) and the mean's 95 % interval (Student's t).

    One value has no deviation and no interval: they are None.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        mean = math.fsum(values) / len(values)
        if len(values) < 2:
            return cls(mean, None, None, None)
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        half = float(stats.t.ppf(0.975, len(values) - 1)) * std / math.sqrt(len(values))
        return cls(mean, std, mean - half, mean + half)


def estimates(repeats: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """An estimate of each metric that every repeat has."""
    shared = [name for name in repeats[0] if all(name in repeat for repeat in repeats)]
    return {name: Estimate.of([repeat[name] for repeat in repeats]) for name in shared}


def record_of(about: Mapping[str, Any], scores: Mapping[str, Estimate], **more: Any) -> dict[str, Any]:
    """What --output writes as JSON."""
    return {**about, "scores": {name: asdict(score) for name, score in scores.items()}, **more}


def read_record(path: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """An earlier evaluation's record. Raises UserError where it is none, or measured with another yardstick."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        there = {name: record[name] for name in (*SAME_MEASURE, "scores")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a record of evaluate's ({error})") from None
    differ = [name for name in SAME_MEASURE if there[name] != about[name]]
    if differ:
        name = differ[0]
        raise UserError(
            f"{path}: cannot be compared: {name} is {there[name]} there and {about[name]} here, "
            "and scores of different measures say nothing about each other"
        )
    return record
