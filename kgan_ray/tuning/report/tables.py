"""The results as text: cells as people read them, Markdown, and CSV for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence

from kgan_ray.text import described_schedule, number, short_overrides
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.answer.rows import ConfigurationRow, Measure
from kgan_ray.tuning.answer.significance import LEVEL
from kgan_ray.tuning.answer.together import Together
from kgan_ray.tuning.answer.words import answer_lines
from kgan_ray.tuning.search.candidates import described_front

_LEGEND_TOGETHER = (
    " Rows of several groups have the interquartile mean over their runs, each beside its group's baseline; and the share of pairs "
    "of runs, one of it and one of the baseline, in which it is better. Their intervals all hold in 95% of sweeps; they have no verdict."
)
Cells = dict[str, str]  # a row of a table for people, by column
EFFECTS = {
    "difference": "that of the means to the baseline's",
    "ratio": "that of geometric means to the baseline's, tested by logarithms",
}


def markdown(results: Results) -> str:
    """Return the whole comparison as one Markdown page."""
    sweep = results.sweep
    lines = [f"# Sweep {sweep.name}", "", *(f"- {line}" for line in answer_lines(results)), ""]
    if results.rows:
        lines += ["## Configurations, each run with fresh seeds", "", *_comparison_lines(results), ""]
    if results.explored:
        lines += ["## Explored trials (one seed each: candidates, not evidence)", ""]
        if results.front:
            lines += [f"Confirmed are {described_front(sweep, results.front)}: {', '.join(results.front)}.", ""]
        lines += [*_markdown_table(explored_cells(results)), ""]
    lines += [f"Dataset {sweep.dataset_hash[:12] or '-'}, {results.extractors}.", ""]
    return "\n".join(lines)


def description(results: Results) -> str:
    """Return the answer and the confirmed configurations' table as Markdown; nothing before any has run."""
    if not results.rows:
        return ""
    answer = [f"- {line}" for line in answer_lines(results)]
    return "\n".join([*answer, "", *_comparison_lines(results)])


def _comparison_lines(results: Results) -> list[str]:
    return [*_markdown_table(configuration_cells(results)), "", legend(results)]


def legend(results: Results) -> str:
    """Say what the columns of the configurations' table hold."""
    count = len(results.verdicts)
    objective = results.sweep.metric
    geometric = (
        f"; of {objective} the geometric mean ×÷ the factor of a deviation" if results.compare == "ratio" else ""
    )
    return (
        f"Mean ± standard deviation over the runs{geometric}. The {results.compare} in {objective} is {EFFECTS[results.compare]}. "
        f"Interval and p are those of Welch's t-test, corrected for {count} comparison{'s' if count > 1 else ''} and all looks: "
        f"any false word has a chance below {LEVEL:.0%}. Where runs were lost, p is that of the ranks."
    ) + (_LEGEND_TOGETHER if results.together else "")


def configuration_cells(results: Results) -> list[Cells]:
    """Return the confirmed configurations as people read them: `50.0 ± 2.0`, `-50 [-62, -38]`."""
    rows = [_configuration_cells(row, results) for row in results.rows]
    widest: Cells = max(rows, key=len, default={})  # it has the order of the columns
    rows += [_together_cells(one) for one in results.together]
    columns = dict.fromkeys(name for row in (widest, *rows) for name in row)
    return [{name: row.get(name, "") for name in columns} for row in rows]


def explored_cells(results: Results) -> list[Cells]:
    """Return the explored trials as people read them, the longest and best first."""
    metrics = list(results.sweep.objectives) or [results.sweep.metric]
    return [
        {
            "trial": trial.name,
            "changes": described_schedule(trial.schedule) or short_overrides(trial.overrides),
            "step": str(trial.step),
            **{metric: number(trial.value(metric)) for metric in metrics},
            "status": trial.status + (f": {trial.reason}" if trial.reason else ""),
        }
        for trial in results.explored
    ]


def configurations_csv(results: Results) -> str:
    """Return one line a confirmed configuration, numbers in full."""
    lines: list[dict[str, object]] = []
    for row in results.rows:
        line: dict[str, object] = {"group": row.group, "configuration": row.configuration, "changes": row.changes}
        line |= {"runs": row.finished, "lost": row.lost, "waiting": row.waiting}
        for metric, measure in row.measures.items():
            line |= {metric: measure.mean, f"{metric}_sd": measure.deviation}
            if measure.published:
                line[published_heading(metric)] = measure.published
        line["compare"] = results.compare
        if verdict := row.verdict:
            line |= {"effect": verdict.effect, "low": verdict.low, "high": verdict.high}
            line |= {"p_value": verdict.p_value, "look": verdict.comparison.look, "verdict": verdict.word}
        lines.append(line)
    for one in results.together:
        effect, pairs = one.effect, one.pairs_won
        line = {"group": "+".join(one.groups), "configuration": one.configuration, "runs": one.runs}
        line |= {"compare": one.compare, "effect": effect.value, "low": effect.low, "high": effect.high}
        line |= {"pairs_won": pairs.value, "pairs_won_low": pairs.low, "pairs_won_high": pairs.high}
        lines.append(line)
    return _csv(lines)


def trials_csv(results: Results) -> str:
    """Return one line a trial, numbers in full."""
    lines = []
    for row in results.trial_rows:
        line = {name: value for name, value in vars(row).items() if name not in ("values", "overrides")}
        lines.append({**line, **row.values, **row.overrides})
    return _csv(lines)


def _csv(lines: Sequence[Mapping[str, object]]) -> str:
    """Write lines as CSV; a column that some of them lack is empty there."""
    columns = list(dict.fromkeys(name for line in lines for name in line))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _configuration_cells(row: ConfigurationRow, results: Results) -> Cells:
    cells = {"group": row.group} if row.group else {}
    others = [f"+{row.lost} lost"] * (row.lost > 0) + [f"+{row.waiting} not judged yet"] * (row.waiting > 0)
    runs = f"{row.finished} ({', '.join(others)})" if others else str(row.finished)
    cells |= {"configuration": row.label}
    if row.label == row.configuration and row.changes != "none":  # else the label says what it changes
        cells["changes"] = row.changes
    cells["runs"] = runs
    objective, *further = row.measures
    cells |= _measure_cells(objective, row.measures[objective])
    effect, p_value, word = "-", "-", "-"
    if verdict := row.verdict:
        if math.isfinite(verdict.effect):
            effect = verdict.estimate.cell(verdict.effect_text)
        judged = verdict.comparison.look > 0
        p_value, word = (number(verdict.p_value, 2), verdict.word) if judged else ("-", "not yet")
    cells |= {results.compare: effect, "p": p_value, "verdict": word}
    for metric in further:
        cells |= _measure_cells(metric, row.measures[metric])
    return cells


def _together_cells(together: Together) -> Cells:
    """Return the row of a configuration over all groups, which has no verdict."""
    return {
        "group": " and ".join(together.groups),
        "configuration": together.label,
        "runs": str(together.runs),
        together.compare: together.effect.cell(together.effect_text),
        "p": "-",
        "verdict": "-",
        "better in": together.pairs_won.cell("{:.0%}".format),
    }


def _measure_cells(metric: str, measure: Measure) -> Cells:
    cells = {metric: str(measure)}
    if measure.published:
        cells[published_heading(metric)] = measure.published
    return cells


def published_heading(metric: str) -> str:
    """Return the heading of others' figures, which is no metric's name."""
    return f"{metric} as published"


def _markdown_table(rows: Sequence[Cells]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = (row.get(name, "").replace("|", "\\|").replace("\n", " ") for name in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return lines
