"""The results of a sweep as rows: one per confirmed configuration, one per trial; as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kgan_ray.text import described_schedule, number, short_overrides, with_spread
from kgan_ray.tuning.answer.results import check_comparable, compared_by, groups_of, verdicts_of
from kgan_ray.tuning.search.candidates import described_front, explored_front
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial

Row = dict[str, Any]
EFFECTS = {
    "difference": "Difference to the baseline",
    "ratio": "Ratio of geometric means to the baseline's (test and interval are of logarithms)",
}


def configuration_rows(sweep: Sweep) -> list[Row]:
    """One row a group and confirmed configuration, the baseline first.

    Raises UserError where runs that would be ranked together were measured differently.
    """
    rows = []
    for group in groups_of(sweep):
        runs = [trial for trial in sweep.stage(CONFIRM) if trial.group == group]
        verdicts = {verdict.configuration: verdict for verdict in verdicts_of(sweep, group)}
        shared = _shared(runs)
        for name in dict.fromkeys(trial.configuration for trial in runs):
            mine = [trial for trial in runs if trial.configuration == name]
            verdict = verdicts.get(name)
            changes = {key: value for key, value in mine[0].overrides.items() if key not in shared}
            row: Row = {"group": group, "configuration": name, "changes": short_overrides(changes) or "none"}
            if mine[0].schedule:
                row["changes"] = described_schedule(mine[0].schedule)
            row["runs"] = sum(trial.status == "finished" for trial in mine)
            row["lost"] = sum(trial.status in ("diverged", "failed") for trial in mine)
            for metric in metric_names(sweep, runs):
                found = [value for trial in mine if (value := _final(trial, metric)) is not None]
                row[metric] = float(np.mean(found)) if found else None
                row[f"{metric}_sd"] = float(np.std(found, ddof=1)) if len(found) > 1 else None
                published = _published(sweep, group, name).get(metric)
                if published is not None:
                    row[f"{metric}_published"] = published
            row["compare"] = compared_by(sweep)
            row["effect"] = verdict.effect if verdict else None
            row["low"] = verdict.low if verdict else None
            row["high"] = verdict.high if verdict else None
            row["p_value"] = verdict.p_value if verdict else None
            row["verdict"] = verdict.word if verdict else "-"
            rows.append(row)
    return rows


def trial_rows(sweep: Sweep) -> list[Row]:
    """One row a trial, in the order in which they began."""
    rows = []
    for trial in sweep.trials:
        row: Row = {
            "trial": trial.name,
            "stage": trial.stage,
            "group": trial.group,
            "configuration": trial.configuration,
            "seed": trial.seed,
            "status": trial.status,
            "reason": trial.reason,
            "step": trial.step,
            "seconds": round(trial.seconds, 1),
        }
        row |= {name: trial.value(name) for name in metric_names(sweep, sweep.trials)}
        rows.append(row | trial.overrides)
    return rows


def ranked_explored(sweep: Sweep) -> list[Trial]:
    """The explored trials, the longest and best first. Raises UserError where they were measured differently."""
    trials = sweep.stage(EXPLORE)
    check_comparable(trials)
    sign = 1 if sweep.mode == "min" else -1

    def order(trial: Trial) -> tuple[bool, int, float]:
        value = trial.value(sweep.metric)
        return value is None, -trial.step, sign * (value or 0.0)

    return sorted(trials, key=order)


def metric_names(sweep: Sweep, trials: Sequence[Trial]) -> list[str]:
    """The metrics that the trials measured, the objective first; losses and speeds are none."""
    found = dict.fromkeys(name for trial in trials for name in trial.metrics)
    measured = [name for name in sweep.settings["evaluation.metrics"] if name in found and name != sweep.metric]
    return [sweep.metric, *measured]


def markdown(sweep: Sweep) -> str:
    """The whole comparison as one Markdown page."""
    lines = [f"# Sweep {sweep.name}", ""]
    if confirmed := confirmed_lines(sweep):
        lines += ["## Configurations, each run with fresh seeds", "", *confirmed, ""]
    explored = ranked_explored(sweep)
    if explored:
        lines += ["## Explored trials (one seed each: candidates, not evidence)", ""]
        front = explored_front(sweep)
        if front:
            lines += [f"Confirmed are {described_front(sweep, front)}: {', '.join(front)}.", ""]
        lines += _markdown_table(
            [
                {
                    "trial": trial.name,
                    "changes": described_schedule(trial.schedule) or short_overrides(trial.overrides),
                    "step": trial.step,
                    **{metric: number(trial.value(metric)) for metric in sweep.objectives or [sweep.metric]},
                    "status": trial.status + (f": {trial.reason}" if trial.reason else ""),
                }
                for trial in explored
            ]
        )
        lines.append("")
    extractors = ", ".join(sorted({value[:12] for value in sweep.extractors.values() if value})) or "-"
    lines += [f"Dataset {sweep.dataset_hash[:12] or '-'}, extractor {extractors}.", ""]
    return "\n".join(lines)


def confirmed_lines(sweep: Sweep) -> list[str]:
    """The verdicts and the confirmed configurations' table, as Markdown; empty before any has run."""
    rows = configuration_rows(sweep)
    if not rows:
        return []
    metrics = metric_names(sweep, sweep.stage(CONFIRM))
    return [
        *(f"- {verdict['sentence']}" for verdict in sweep.verdicts),
        "",
        *_markdown_table([shown_row(row, metrics) for row in rows]),
        "",
        f"Mean ± standard deviation over the runs. {EFFECTS[compared_by(sweep)]} in {sweep.metric}, with its "
        "95 % bootstrap interval; p by Welch's t-test with Holm's correction.",
    ]


def csv_text(rows: Sequence[Row]) -> str:
    """Rows as CSV; a column that some rows lack is empty there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def shown_row(row: Row, metrics: Sequence[str]) -> Row:
    """A configuration's row as people read it: `50.0 ± 2.0`, `-50 [-62, -38]`."""
    shown = {"group": row["group"]} if row["group"] else {}
    shown |= {"configuration": row["configuration"], "changes": row["changes"], "runs": str(row["runs"])}
    if row["lost"]:
        shown["runs"] += f" (+{row['lost']} lost)"
    objective, *others = metrics
    shown |= _shown_metric(row, objective)
    if row["effect"] is None:
        shown |= {row["compare"]: "-", "p": "-", "verdict": "-"}
    else:
        effect, low, high = (number(row[name], 3) for name in ("effect", "low", "high"))
        shown |= {
            row["compare"]: f"{effect} [{low}, {high}]",
            "p": number(row["p_value"], 2),
            "verdict": row["verdict"],
        }
    for metric in others:
        shown |= _shown_metric(row, metric)
    return shown


def _shown_metric(row: Row, metric: str) -> Row:
    shown = {metric: with_spread(row[metric], row[f"{metric}_sd"])}
    if f"{metric}_published" in row:
        shown[f"{metric}, published"] = number(row[f"{metric}_published"])
    return shown


def _markdown_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = (str(row.get(name, "")).replace("|", "\\|").replace("\n", " ") for name in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _final(trial: Trial, metric: str) -> float | None:
    return trial.value(metric) if trial.status == "finished" else None


def _shared(runs: Sequence[Trial]) -> dict[str, Any]:
    """The overrides that all of a group's runs have: the group's own."""
    first, *others = runs
    return {
        name: value
        for name, value in first.overrides.items()
        if all(name in other.overrides and other.overrides[name] == value for other in others)
    }


def _published(sweep: Sweep, group: str, configuration: str) -> Mapping[str, float]:
    published: Mapping[str, float] = sweep.space.get("published", {}).get(group, {}).get(configuration, {})
    return published
