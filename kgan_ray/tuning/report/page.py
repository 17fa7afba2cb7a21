"""A sweep's results as one self-contained HTML page, readable in light and dark."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from kgan_ray.metrics.names import lower_is_better
from kgan_ray.text import duration, number, short_overrides
from kgan_ray.tuning.answer.effects import effects_of, explored_points
from kgan_ray.tuning.answer.results import groups_of
from kgan_ray.tuning.report import charts, tables
from kgan_ray.tuning.state import CONFIRM, Sweep

_LONGEST_UNWRAPPED = 40  # characters of a table cell
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1360px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { padding: .3em .6em; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap }
td.text { white-space: normal; min-width: 14em }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
li { margin: .3em 0 }
.better { color: light-dark(#07622f, #6fd08c) }
.worse { color: light-dark(#a11d1d, #ff8f8f) }
img { max-width: 100%; background: white; border-radius: 6px; padding: 4px }
svg text { fill: currentColor; font-size: 13px; paint-order: stroke; stroke: Canvas; stroke-width: 3px }
svg .axis { stroke: currentColor; opacity: .5 }
footer { margin-top: 3em; opacity: .7; font-size: .9em }
"""

_TITLES = {
    "motions.png": "Motions: the baseline and the best other configuration, the best run of each, first pose to last",
    "motions.gif": "The same in motion",
}


def html(sweep: Sweep, pictures: Sequence[Path]) -> str:
    """The page. `pictures` are PNG and GIF files, put into it; raises UserError as `tables.configuration_rows` does."""
    rows = tables.configuration_rows(sweep)
    parts = [f"<h1>Sweep {escape(sweep.name)}</h1>"]
    if sweep.verdicts:
        parts += ["<h2>Verdicts</h2>", "<ul>"]
        parts += [_verdict(verdict) for verdict in sweep.verdicts]
        parts.append("</ul>")
    if rows:
        parts += ["<h2>Confirmed configurations</h2>", _configurations(sweep, rows)]
        parts.append(charts.intervals([row for row in rows if row["effect"] is not None], sweep.metric))
    for group in groups_of(sweep):
        drawing = charts.bands([run for run in sweep.stage(CONFIRM) if run.group == group], sweep.metric)
        if drawing:
            title = f"Learning curves {group}".strip()
            parts.append(f"<h2>{escape(title)}: mean over seeds, band from lowest to highest</h2>{drawing}")
    parts += [_pareto(sweep, rows, group) for group in groups_of(sweep)]
    parts.append(_effects(sweep))
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        title = _TITLES.get(picture.name, picture.stem.replace("curves-", "Every run's learning curve: "))
        kind = picture.suffix.removeprefix(".")
        parts.append(f'<h2>{escape(title)}</h2><img alt="{escape(title)}" src="data:image/{kind};base64,{data}">')
    explored = tables.ranked_explored(sweep)
    if explored:
        parts.append("<h2>Explored trials: candidates, not evidence</h2>")
        parts.append(
            _table(
                ["trial", "changes", "step", sweep.metric, "status"],
                [
                    [
                        trial.name,
                        short_overrides(trial.overrides),
                        trial.step,
                        number(trial.value(sweep.metric)),
                        trial.status + (f": {trial.reason}" if trial.reason else ""),
                    ]
                    for trial in explored
                ],
            )
        )
    extractors = ", ".join(sorted({value[:12] for value in sweep.extractors.values()})) or "-"
    parts.append(
        f"<footer>Dataset {sweep.dataset_hash[:12] or '-'}, extractor {escape(extractors)}, "
        f"{len(sweep.trials)} trials in {duration(sweep.seconds)}.</footer>"
    )
    head = f'<meta charset="utf-8"><title>Sweep {escape(sweep.name)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _pareto(sweep: Sweep, rows: Sequence[tables.Row], group: str) -> str:
    """The objective against every other metric that the confirmed runs measured."""
    drawings = []
    for metric in tables.metric_names(sweep, sweep.stage(CONFIRM))[1:]:
        values = {
            row["configuration"]: (row[sweep.metric], row[metric])
            for row in rows
            if row["group"] == group and row[sweep.metric] is not None and row.get(metric) is not None
        }
        is_low_good = (sweep.mode == "min", lower_is_better(metric))
        drawings.append(charts.pareto(values, (sweep.metric, metric), is_low_good))
    title = escape(f"Pareto front {group}".strip())
    return (
        f"<h2>{title}: confirmed configurations, orange where no other beats both</h2>{''.join(drawings)}"
        if any(drawings)
        else ""
    )


def _effects(sweep: Sweep) -> str:
    """What each searched setting did, over the explored trials."""
    step, points = explored_points(sweep)
    effects = effects_of(points)
    if not effects:
        return ""
    settings = [effect.setting for effect in effects]
    is_low_good = sweep.mode == "min"
    return (
        "<h2>Effect of each setting</h2>"
        f"<p>Over the {len(points)} explored trials that have a value, at step {step}, which all of them reached; "
        "one seed each, so this shows where to look and proves nothing.</p>"
        + charts.main_effects(effects, sweep.metric)
        + "<h2>Explored configurations</h2>"
        + charts.parallel_axes(points, settings, sweep.metric, is_low_good=is_low_good)
    )


def _verdict(verdict: Mapping[str, Any]) -> str:
    kind = verdict["word"] if verdict["word"] in ("better", "worse") else ""
    return f'<li class="{kind}">{escape(verdict["sentence"])}</li>'


def _configurations(sweep: Sweep, rows: Sequence[tables.Row]) -> str:
    metrics = tables.metric_names(sweep, sweep.stage(CONFIRM))
    shown = [tables.shown_row(row, metrics) for row in rows]
    columns = list(dict.fromkeys(name for row in shown for name in row))
    return _table(columns, [[row.get(name, "") for name in columns] for row in shown])


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th{_kind([row[k] for row in rows])}>{escape(name)}</th>" for k, name in enumerate(columns))
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_kind([other[k] for other in rows])}>{escape(str(cell))}</td>" for k, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _kind(cells: Sequence[Any]) -> str:
    """A column of numbers is set to the right; one with a cell of a line or more, a schedule's, is wrapped."""
    if all(str(cell)[:1] in "-0123456789" for cell in cells):
        return ' class="number"'
    return ' class="text"' if any(len(str(cell)) > _LONGEST_UNWRAPPED for cell in cells) else ""
