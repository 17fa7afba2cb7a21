"""Charts of runs and configurations, as Plotly figures. Each function returns None where there is nothing to draw.

Backgrounds are transparent and colours are of middle lightness, so that one figure is read on white and on black; the
page sets the colour of the text.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import plotly.graph_objects as go

from kgan_ray.text import short_overrides
from kgan_ray.tuning.answer.rows import ConfigurationRow
from kgan_ray.tuning.answer.verdict import Verdict
from kgan_ray.tuning.search.pareto import pareto_front
from kgan_ray.tuning.state import Trial

GREY, BLUE, ORANGE, GREEN, PURPLE, RED = "#8a8a8a", "#2f7ed8", "#d9822b", "#2a9d6a", "#b0509b", "#d04545"
_CONFIGURATIONS = (GREY, BLUE, ORANGE, GREEN, PURPLE, RED)  # the baseline comes first
_WORDS = {"better": GREEN, "worse": RED, "same": BLUE, "can't tell": GREY}
_FIGURES = ".4~r"  # d3's format of four digits, none of them an exponent
_MARGIN = 0.07  # of a logarithmic axis, at each end
_WIDEST_RATIO = 100.0  # that an axis of ratios shows, unless an effect itself is larger
_NARROW = 0.7  # decades: an axis of fewer has ticks at equal distances
_GRID = "rgba(128, 128, 128, 0.25)"


def confirmed_curves(
    rows: Sequence[ConfigurationRow], metric: str, references: Mapping[str, float] = MappingProxyType({})
) -> go.Figure | None:
    """Draw each configuration's learning curve: the mean over seeds, a band from lowest to highest, a thin line a run.

    `references` are values that are drawn as lines across, by name.
    """
    figure = go.Figure()
    all_values: list[float] = []
    for row, colour in zip(rows, _cycled(len(rows)), strict=True):
        by_step: dict[int, list[float]] = {}
        for run in row.runs:
            for step, value in _finite(run.curve):
                by_step.setdefault(step, []).append(value)
        steps = sorted(by_step)
        all_values += [value for values in by_step.values() for value in values]
        for ends, fill in ((max, None), (min, "tonexty")):
            figure.add_scatter(
                x=steps, y=[ends(by_step[step]) for step in steps], mode="lines", line={"width": 0}, fill=fill,
                fillcolor=_faint(colour), hoverinfo="skip", legendgroup=row.label, showlegend=False,
            )  # fmt: skip
        for run in row.runs:
            name = f"{row.label}, seed {run.seed}"
            _add_curve(figure, run, name, colour, opacity=0.4, group=row.label)
        figure.add_scatter(
            x=steps, y=[sum(by_step[step]) / len(by_step[step]) for step in steps], mode="lines+markers",
            line={"width": 2.5, "color": colour}, marker={"size": 6}, name=row.label,
            legendgroup=row.label, customdata=[len(by_step[step]) for step in steps],
            hovertemplate="%{fullData.name}: mean of %{customdata} runs<br>step %{x}: %{y:.4~r}<extra></extra>",
        )  # fmt: skip
    if len({step for row in rows for run in row.runs for step, _ in run.curve}) < 2:
        return None
    _add_references(figure, references, [step for row in rows for run in row.runs for step, _ in run.curve])
    name_axes(figure, "training step", metric, y_values=[*all_values, *references.values()])
    return laid_out(figure, height=420)


def explored_curves(
    trials: Sequence[Trial],
    metric: str,
    *,
    is_low_good: bool,
    references: Mapping[str, float] = MappingProxyType({}),
) -> go.Figure | None:
    """Draw a line an explored trial; the one that ended best is orange."""
    ended = [(value, trial) for trial in trials if (value := trial.value(metric)) is not None and trial.curve]
    if not ended or max(len(trial.curve) for _, trial in ended) < 2:
        return None
    _, best = (min if is_low_good else max)(ended, key=lambda pair: pair[0])
    figure = go.Figure()
    for trial in [*(trial for trial in trials if trial is not best), best]:  # the best lies over the others
        name = f"{trial.name}: {short_overrides(trial.overrides)}"
        if trial is best:
            _add_curve(figure, trial, name, ORANGE, width=3)
        else:
            _add_curve(figure, trial, name, BLUE, opacity=0.5)
    _add_references(figure, references, [step for trial in trials for step, _ in trial.curve])
    values = [value for trial in trials for _, value in _finite(trial.curve)]
    name_axes(figure, "training step", metric, y_values=[*values, *references.values()])
    return laid_out(figure, height=380)


def intervals(verdicts: Sequence[Verdict], metric: str) -> go.Figure | None:
    """Draw each configuration's effect with the test's interval, over the margin within which it would be about as good.

    A verdict without an interval is left out.
    """
    bounded = [verdict for verdict in verdicts if math.isfinite(verdict.low) and math.isfinite(verdict.high)]
    if not bounded:
        return None
    figure = go.Figure()
    is_ratio = bounded[0].compare == "ratio"
    names = [verdict.name for verdict in bounded]
    for verdict, name in zip(bounded, names, strict=True):
        colour = _WORDS[verdict.word]
        figure.add_scatter(
            x=[verdict.effect], y=[name], mode="markers+text", text=[verdict.word], textposition="top center",
            textfont={"color": colour}, marker={"size": 12, "color": colour},
            error_x={
                "type": "data", "symmetric": False, "array": [verdict.high - verdict.effect],
                "arrayminus": [verdict.effect - verdict.low], "thickness": 3, "width": 8, "color": colour,
            },
            hovertext=[folded(verdict.sentence)], hoverinfo="text", showlegend=False,
        )  # fmt: skip
    figure.add_vline(1 if is_ratio else 0, line={"dash": "dash", "color": GREY}, opacity=0.8)
    margin = bounded[0].margin
    same = [] if margin is None else [1 / margin if is_ratio else -margin, margin]
    if same:
        figure.add_vrect(*same, fillcolor=_WORDS["same"], opacity=0.08, line_width=0, layer="below")
    kind = f"ratio of {metric} to the baseline's" if is_ratio else f"difference in {metric} to the baseline"
    widest = (
        max(_WIDEST_RATIO, *(max(verdict.effect, 1 / verdict.effect) for verdict in bounded)) if is_ratio else 1.0
    )
    ends = [
        1.0,
        *same,
        *(min(max(end, 1 / widest), widest) for verdict in bounded for end in (verdict.low, verdict.high)),
    ]
    name_axes(figure, kind, "", x_values=ends if is_ratio else [])
    figure.update_yaxes(
        range=[len(bounded) - 0.4, -0.7], showgrid=False, categoryorder="array", categoryarray=names
    )
    return laid_out(figure, height=110 + 70 * len(bounded))


def pareto(
    rows: Sequence[ConfigurationRow], metrics: tuple[str, str], is_low_good: tuple[bool, bool]
) -> go.Figure | None:
    """Draw the configurations' means of two metrics; a line joins the front, which no other beats in both."""
    means: dict[str, tuple[float, float]] = {}
    for row in rows:
        across, up = (row.measures[metric].mean for metric in metrics)
        if across is not None and up is not None:
            means[row.label] = (across, up)
    if len(means) < 2 or not all(_stand_apart(rows, metric) for metric in metrics):
        return None
    front = pareto_front(means, is_low_good)
    figure = go.Figure()
    figure.add_scatter(
        x=[means[name][0] for name in front], y=[means[name][1] for name in front], mode="lines",
        line={"color": ORANGE, "width": 2}, hoverinfo="skip",
    )  # fmt: skip
    for row in rows:
        if row.label in means:
            colour = ORANGE if row.label in front else BLUE
            figure.add_scatter(
                x=[means[row.label][0]], y=[means[row.label][1]], mode="markers+text",
                text=[row.label], textposition="top center", cliponaxis=False, marker={"size": 12, "color": colour},
                hovertext=[_measures(row, metrics)], hoverinfo="text",
            )  # fmt: skip
    figure.update_traces(showlegend=False)
    across_values, up_values = zip(*means.values(), strict=True)
    name_axes(figure, *metrics, x_values=across_values, y_values=up_values)
    return laid_out(figure, height=400, top=40)


def _stand_apart(rows: Sequence[ConfigurationRow], metric: str) -> bool:
    """Return whether configurations differ more than runs of one do: else a chart of their means shows luck."""
    samples = [[value for run in row.runs if (value := run.value(metric)) is not None] for row in rows]
    repeated = [statistics.stdev(values) for values in samples if len(values) > 1]
    means = [statistics.fmean(values) for values in samples if values]
    return not repeated or (len(means) > 1 and statistics.stdev(means) > statistics.fmean(repeated))


def _add_references(figure: go.Figure, references: Mapping[str, float], steps: Sequence[int]) -> None:
    """Draw a dotted line across all steps for each value, named in the legend."""
    for (name, value), dash in zip(references.items(), ("dot", "dashdot"), strict=False):
        figure.add_scatter(
            x=[min(steps), max(steps)], y=[value, value], mode="lines", name=name, line={"dash": dash, "color": GREY},
            hovertemplate="%{fullData.name}: %{y:.4~r}<extra></extra>",
        )  # fmt: skip


def _add_curve(
    figure: go.Figure,
    run: Trial,
    name: str,
    colour: str,
    *,
    width: float = 1.2,
    opacity: float = 1,
    group: str = "",
) -> None:
    points = _finite(run.curve)
    figure.add_scatter(
        x=[step for step, _ in points], y=[value for _, value in points], mode="lines+markers", opacity=opacity, marker={"size": 4},
        line={"width": width, "color": colour}, name=folded(name), legendgroup=group, showlegend=False,
        hovertemplate="%{fullData.name}<br>step %{x}: %{y:.4~r}<extra></extra>",
    )  # fmt: skip


def name_axes(
    figure: go.Figure, x: str, y: str, *, x_values: Sequence[float] = (), y_values: Sequence[float] = ()
) -> None:
    """Title the axes; one whose values are given, and all positive, is logarithmic."""
    for update, title, values in ((figure.update_xaxes, x, x_values), (figure.update_yaxes, y, y_values)):
        update(title=title, gridcolor=_GRID, linecolor=_GRID, zeroline=False, automargin=True)
        if values and min(values) > 0:
            low, high = math.log10(min(values)), math.log10(max(values))
            margin = _MARGIN * (high - low) or _MARGIN
            update(type="log", range=[low - margin, high + margin], tickformat=_FIGURES, nticks=8)
            if high - low > _NARROW:
                update(dtick="D2", minorloglabels="complete")  # labels at 1, 2, 5, 10, ...


def laid_out(figure: go.Figure, *, height: int, top: int = 20, sides: int = 10) -> go.Figure:
    return figure.update_layout(
        template="none", height=height, margin={"l": sides, "r": sides, "t": top, "b": 10},
        paper_bgcolor="rgba(0, 0, 0, 0)", plot_bgcolor="rgba(0, 0, 0, 0)",
        font={"family": "system-ui, sans-serif", "size": 13}, hovermode="closest", hoverlabel={"align": "left"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0.0},
        modebar={"bgcolor": "rgba(0, 0, 0, 0)", "color": GREY, "activecolor": BLUE},
    )  # fmt: skip


def _finite(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(step, value) for step, value in curve if math.isfinite(value)]


def _measures(row: ConfigurationRow, metrics: Sequence[str]) -> str:
    lines = [f"{metric} {row.measures[metric]}" for metric in metrics]
    return "<br>".join([f"<b>{row.label}</b>, {row.finished} runs", *lines])


def folded(text: str) -> str:
    """Return a long text in lines as Plotly writes them; any comma may end one."""
    lines = [""]
    for part in text.replace("<", "&lt;").split(", "):
        if len(lines[-1]) + len(part) > 80:
            lines.append("")
        lines[-1] += part + ", "
    return "<br>".join(lines).removesuffix(", ")


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.15)"


def _cycled(count: int) -> list[str]:
    return [_CONFIGURATIONS[index % len(_CONFIGURATIONS)] for index in range(count)]
