"""The results as one HTML page that needs nothing else: read offline, in light and dark, its charts alive."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from kgan_ray.text import duration
from kgan_ray.tuning.answer.effects import effects_of, explored_points
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.answer.verdict import UNDECIDED
from kgan_ray.tuning.answer.words import Line, answer_lines
from kgan_ray.tuning.report import charts, setting_charts, tables
from kgan_ray.tuning.search.candidates import described_front

_HERE = Path(__file__).parent
_LONGEST_UNWRAPPED = 40  # characters of a table cell
_DOTTED = "Grey and broken, where they were measured: an untrained generator, and real motions against real ones. "
_TITLES = {
    "motions.png": "Motions: the baseline and the best other configuration, the best run of each, first pose to last",
    "motions.gif": "The same in motion",
}


def html(results: Results, pictures: Sequence[Path]) -> str:
    """Return the page. `pictures` are PNG and GIF files, put into it."""
    sweep = results.sweep
    title = escape(f"Sweep {sweep.name}")
    body = "\n".join(
        [_head(results), *_comparison(results), *_pictures(pictures), *_search(results), _foot(results)]
    )
    has_charts = 'class="chart"' in body
    style, draw = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    scripts = f"<script>{get_plotlyjs()}</script>\n<script>{draw}</script>" if has_charts else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head>\n<body>\n{body}\n{scripts}\n</body></html>\n"
    )


def _head(results: Results) -> str:
    sweep = results.sweep
    good = "lower" if results.lowest_is_best else "higher"
    lines = [
        f"<h1>{escape(sweep.name)}</h1>",
        f'<p class="quiet">A sweep of {len(sweep.trials)} trials in {duration(sweep.seconds)}. '
        f"Objective: {escape(sweep.metric)}, {good} is better. Stage: {escape(results.stage)}.</p>",
    ]
    answer = "".join(map(_line, answer_lines(results)))
    return "\n".join([*lines, f'<ul class="answer">{answer}</ul>'])


def _comparison(results: Results) -> Iterator[str]:
    """Write what the confirmation runs show: table, intervals, curves, and the front of every further metric."""
    if not results.rows:
        return
    objective, *others = results.metrics
    yield _section("Confirmed configurations", "Each was run again with fresh seeds. " + tables.legend(results))
    yield _table(tables.configuration_cells(results))
    if figure := charts.intervals(results.verdicts, objective):
        shaded = ", and its margin shaded" if results.sweep.margin else ""
        yield _section(
            "Effects",
            "Dot: the effect. Bar: the test's interval. Dashed: no effect. Green: better. Red: worse. "
            f"Blue: about as good{shaded}. Grey: cannot be told.",
        )
        yield _chart(figure)
    for group in results.groups:
        rows = [row for row in results.rows if row.group == group]
        if figure := charts.confirmed_curves(rows, objective, _references(results, group)):
            yield _section(
                f"Learning curves {group}".strip(),
                "A colour a configuration. Thick: the mean over seeds. Thin: each run. Band: from the lowest to the highest run. "
                f"{_DOTTED}"
                "A click on a name hides its curves.",
            )
            yield _chart(figure)
        for metric in others:
            is_low_good = (results.is_low_good(objective), results.is_low_good(metric))
            if figure := charts.pareto(rows, (objective, metric), is_low_good):
                yield _section(
                    f"{metric} against {objective} {group}".strip(),
                    "The mean of each configuration. Orange is on the Pareto front: no other is better in both.",
                )
                yield _chart(figure)


def _search(results: Results) -> Iterator[str]:
    """Write what the explored trials show: the effect of each setting, all settings at once, curves, the table."""
    if not results.explored:
        return
    metric, is_low_good = results.sweep.metric, results.lowest_is_best
    step, points = explored_points(results.sweep)
    effects = effects_of(points)
    if figure := setting_charts.main_effects(effects, metric):
        yield _section(
            "Effect of each setting",
            f"{len(points)} explored trials at step {step}, which all reached; one that diverged counts as the worst. "
            "Dot: a trial. Orange: the mean. p: how often chance does as much. One seed each: it shows where to look.",
        )
        yield _chart(figure)
        settings = [effect.setting for effect in effects]
        if figure := setting_charts.parallel_coordinates(points, settings, metric, is_low_good=is_low_good):
            yield _section(
                "Explored configurations",
                "A line a trial, orange for the best. Drag along an axis to keep the trials of that range; "
                "drag an axis by its name to move it.",
            )
            yield _chart(figure)
    references = _references(results, "")
    if figure := charts.explored_curves(results.explored, metric, is_low_good=is_low_good, references=references):
        yield _section(
            "Learning curves of the explored trials",
            f"A line a trial, orange for the best, blue for others. {_DOTTED}",
        )
        yield _chart(figure)
    chosen = described_front(results.sweep, results.front) if results.front else ""
    yield _section(
        "Explored trials",
        "One seed each: candidates, not evidence."
        + (f" Confirmed are {chosen}: {', '.join(results.front)}." if chosen else ""),
    )
    yield _table(tables.explored_cells(results))


def _pictures(pictures: Sequence[Path]) -> Iterator[str]:
    for picture in pictures:
        title = _TITLES[picture.name]
        data = base64.b64encode(picture.read_bytes()).decode()
        yield _section(title)
        yield f'<img alt="{title}" src="data:image/{picture.suffix.removeprefix(".")};base64,{data}">'


def _foot(results: Results) -> str:
    sweep = results.sweep
    parts = [
        f"Data {sweep.dataset or 'demo'} ({sweep.dataset_hash[:12] or '-'})",
        results.extractors,
        *(f"{name} {value}" for name, value in sweep.origin.items()),
    ]
    return f"<footer>{escape('; '.join(parts))}.</footer>"


def _references(results: Results, group: str) -> dict[str, float]:
    """Return the values of the objective that are drawn across the curves."""
    references = results.sweep.references.get(group, {})
    names = {"untrained": "untrained", "real": "real against real"}
    return {name: references[key] for key, name in names.items() if key in references}


def _section(title: str, explanation: str = "") -> str:
    text = f'\n<p class="quiet">{escape(explanation)}</p>' if explanation else ""
    return f"<h2>{escape(title)}</h2>{text}"


def _chart(figure: go.Figure) -> str:
    """Write a figure as data, which the page's one script draws."""
    data = figure.to_json().replace("</", "<\\/")
    height = figure.layout.height
    return f'<div class="chart" style="height: {height}px"><script type="application/json">{data}</script></div>'


def _line(line: Line) -> str:
    """Write a line of the answer: its claim in bold, its command as code."""
    text, kind = escape(line.text), str(line.kind)
    if verdict := line.verdict:
        kind = verdict.word if verdict.word != UNDECIDED else kind
        text = f"{escape(verdict.name)} <b>{escape(verdict.claim)}</b>{escape(verdict.grounds)}"
    command = f" <code>{escape(line.command)}</code>" if line.command else ""
    return f'<li class="{kind}">{text}{command}</li>'


def _table(lines: Sequence[tables.Cells]) -> str:
    columns = list(dict.fromkeys(name for line in lines for name in line))
    rows = [[line.get(name, "") for name in columns] for line in lines]
    kinds = [_kind([row[index] for row in rows]) for index in range(len(columns))]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, columns, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{escape(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))}</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _kind(cells: Sequence[str]) -> str:
    """Set a column of numbers to the right, and wrap one with a cell of a line or more."""
    if all(cell[:1] in "-0123456789" for cell in cells):
        return ' class="number"'
    return ' class="text"' if any(len(cell) > _LONGEST_UNWRAPPED for cell in cells) else ""
