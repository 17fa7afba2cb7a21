"""The outcome of an evaluation: scores with error bars beside the real data's floors, as a table, JSON or CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from scipy import stats

from kgan_ray.metrics.names import Recognition
from kgan_ray.publishing import writing_output
from kgan_ray.settings import UserError

# Two evaluations can be compared only where all of these are equal.
SAME_MEASURE = ("dataset", "benchmark", "extractor", "num_motions", "num_real", "num_test", "truncation")


@dataclass(frozen=True)
class Estimate:
    """The mean of K values, their standard deviation (n - 1) and the mean's 95 % interval (Student's t).

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


def estimates(draws: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """Estimate each metric that every draw has."""
    shared = [name for name in draws[0] if all(name in draw for draw in draws)]
    return {name: Estimate.of([draw[name] for draw in draws]) for name in shared}


@dataclass(frozen=True)
class About:
    """The source that was measured, and the measure."""

    source: str
    dataset: str  # its hash, as the extractor's
    benchmark: str
    extractor: str
    extractor_accuracy: float
    extractor_tested_on: str
    extractor_chance: float
    extractor_confusion: tuple[tuple[int, ...], ...]
    extractor_mistakes: list[str]
    num_real: int
    num_test: int
    num_motions: int
    truncation: float
    seeds: list[int]


@dataclass(frozen=True)
class Evaluation:
    """The scores of every draw, the floors (by the side that they are of: test, halves) and an earlier evaluation's scores."""

    about: About
    draws: Sequence[Mapping[str, float]]
    floors: Mapping[str, Mapping[str, float]]
    earlier: Mapping[str, Estimate]

    @cached_property
    def scores(self) -> dict[str, Estimate]:
        return estimates(self.draws)

    def table(self) -> str:
        """Lay out the measure in two lines or three, then a line for each score."""
        about = self.about
        extractor = Recognition(
            about.extractor, about.extractor_accuracy, about.extractor_tested_on, about.extractor_chance
        )
        lines = [f"dataset {about.dataset}  {about.num_real} real motions  {len(about.seeds)} draw(s)"]
        lines.append(extractor.line())
        if about.extractor_mistakes:
            mistakes = "; ".join(about.extractor_mistakes)
            lines.append(f"the extractor's most frequent mistakes: {mistakes}")
        columns = ["metric", "mean", "std", "95 % interval"]
        columns += [f"floor: {side}" for side in self.floors]
        columns += ["earlier"] if self.earlier else []
        rows = [columns]
        for name, score in self.scores.items():
            interval = "-" if score.low is None else f"{score.low:.4g} .. {score.high:.4g}"
            row = [name, f"{score.mean:.4g}", "-" if score.std is None else f"{score.std:.2g}", interval]
            row += [_cell(floor.get(name)) for floor in self.floors.values()]
            row += [_cell(self.earlier[name].mean if name in self.earlier else None)] if self.earlier else []
            rows.append(row)
        widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write the whole record as JSON, or the table as CSV, as the file's name ends.

        Raises UserError where the file cannot be written.
        """
        with writing_output(path):
            if path.suffix == ".json":
                self._write_json(path)
            else:
                self._write_csv(path)

    def _write_json(self, path: Path) -> None:
        scores = {name: asdict(score) for name, score in self.scores.items()}
        record = {**asdict(self.about), "scores": scores, "repeats": self.draws, "floor": self.floors}
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def _write_csv(self, path: Path) -> None:
        """Write a line for each score, with what it was measured by."""
        measure = ["source", "dataset", "benchmark", "extractor", "extractor_accuracy", "num_motions"]
        about = [getattr(self.about, name) for name in measure]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["metric", "mean", "std", "low", "high", "floor_test", "floor_halves", *measure, "seeds"]
            )
            for name, score in self.scores.items():
                floors = [self.floors.get(side, {}).get(name) for side in ("test", "halves")]
                seeds = " ".join(map(str, self.about.seeds))
                writer.writerow([name, *asdict(score).values(), *floors, *about, seeds])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def read_scores(path: Path, about: About) -> dict[str, Estimate]:
    """Read the scores of an earlier evaluation's JSON.

    Raises UserError where the file holds none, or scores of another measure than `about`.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        there = {name: record[name] for name in SAME_MEASURE}
        scores = {name: Estimate(**score) for name, score in record["scores"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a record of evaluate's ({error})") from None
    for name, value in there.items():
        here = getattr(about, name)
        if value != here:
            raise UserError(
                f"{path}: cannot be compared: {name} is {value} there and {here} here, "
                "and scores of different measures say nothing about each other"
            )
    return scores
