"""A sweep's results as one self-contained HTML page, readable in light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from kgan_ray.text import duration
from kgan_ray.tuning.answer.effects import effects_of, explored_points
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.answer.verdict import Verdict
from kgan_ray.tuning.report import charts, tables
from kgan_ray.tuning.state import CONFIRM

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


def html(results: Results, pictures: Sequence[Path]) -> str:
    """Return the page. `pictures` are PNG and GIF files, put into it."""
    sweep = results.sweep
    parts = [f"<h1>Sweep {escape(sweep.name)}</h1>"]
    if results.verdicts:
        parts += ["<h2>Verdicts</h2>", f"<p>{escape(results.notice)}</p>" if results.notice else "", "<ul>"]
        parts += [_verdict(verdict) for verdict in results.verdicts]
        parts.append("</ul>")
    if results.rows:
        parts += ["<h2>Confirmed configurations</h2>", _table(tables.configuration_cells(results))]
        parts.append(charts.intervals(results.verdicts, sweep.metric))
    for group in results.groups:
        drawing = charts.bands([run for run in sweep.stage(CONFIRM) if run.group == group], sweep.metric)
        if drawing:
            title = f"Learning curves {group}".strip()
            parts.append(f"<h2>{escape(title)}: mean over seeds, band from lowest to highest</h2>{drawing}")
    parts += [_pareto(results, group) for group in results.groups]
    parts.append(_effects(results))
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        title = _TITLES.get(picture.name, picture.stem.replace("curves-", "Every run's learning curve: "))
        kind = picture.suffix.removeprefix(".")
        parts.append(f'<h2>{escape(title)}</h2><img alt="{escape(title)}" src="data:image/{kind};base64,{data}">')
    if results.explored:
        parts.append("<h2>Explored trials: candidates, not evidence</h2>")
        parts.append(_table(tables.explored_cells(results)))
    extractors = ", ".join(sorted({value[:12] for value in sweep.extractors.values()})) or "-"
    parts.append(
        f"<footer>Dataset {sweep.dataset_hash[:12] or '-'}, extractor {escape(extractors)}, "
        f"{len(sweep.trials)} trials in {duration(sweep.seconds)}.</footer>"
    )
    head = f'<meta charset="utf-8"><title>Sweep {escape(sweep.name)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _pareto(results: Results, group: str) -> str:
    """The objective against every other metric that the confirmed runs measured."""
    drawings = []
    objective, *others = results.metrics
    for metric in others:
        values = {
            row.configuration: (across, up)
            for row in results.rows
            if row.group == group
            and (across := row.measures[objective].mean) is not None
            and (up := row.measures[metric].mean) is not None
        }
        is_low_good = (results.is_low_good(objective), results.is_low_good(metric))
        drawings.append(charts.pareto(values, (objective, metric), is_low_good))
    title = escape(f"Pareto front {group}".strip())
    return (
        f"<h2>{title}: confirmed configurations, orange where no other beats both</h2>{''.join(drawings)}"
        if any(drawings)
        else ""
    )


def _effects(results: Results) -> str:
    """What each searched setting did, over the explored trials."""
    sweep = results.sweep
    step, points = explored_points(sweep)
    effects = effects_of(points)
    if not effects:
        return ""
    settings = [effect.setting for effect in effects]
    return (
        "<h2>Effect of each setting</h2>"
        f"<p>Over the {len(points)} explored trials that have a value, at step {step}, which all of them reached; "
        "one seed each, so this shows where to look and proves nothing.</p>"
        + charts.main_effects(effects, sweep.metric)
        + "<h2>Explored configurations</h2>"
        + charts.parallel_axes(points, settings, sweep.metric, is_low_good=results.lowest_is_best)
    )


def _verdict(verdict: Verdict) -> str:
    kind = verdict.word if verdict.word in ("better", "worse") else ""
    return f'<li class="{kind}">{escape(verdict.sentence)}</li>'


def _table(lines: Sequence[tables.Cells]) -> str:
    columns = list(dict.fromkeys(name for line in lines for name in line))
    rows = [[line.get(name, "") for name in columns] for line in lines]
    head = "".join(f"<th{_kind([row[k] for row in rows])}>{escape(name)}</th>" for k, name in enumerate(columns))
    body = "".join(
        "<tr>"
        + "".join(f"<td{_kind([other[k] for other in rows])}>{escape(cell)}</td>" for k, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _kind(cells: Sequence[str]) -> str:
    """A column of numbers is set to the right; one with a cell of a line or more, a schedule's, is wrapped."""
    if all(cell[:1] in "-0123456789" for cell in cells):
        return ' class="number"'
    return ' class="text"' if any(len(cell) > _LONGEST_UNWRAPPED for cell in cells) else ""
