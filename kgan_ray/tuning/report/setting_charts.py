"""Charts of what the searched settings did, as Plotly figures. Each function returns None where there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from kgan_ray.text import number, short_overrides
from kgan_ray.tuning.answer.effects import Effect, Point, label_order, value_label
from kgan_ray.tuning.report.charts import BLUE, ORANGE, folded, laid_out, name_axes

_PANELS_IN_A_ROW = 3
_MOST_LISTED = 6  # a number with more values than this is placed by its size
_MOST_NAMED = 12  # values of a listed setting that are written beside its axis
_DECADES = 2.0  # positive numbers that reach over so many powers of ten are placed by their logarithm
_FEWEST_TICKS = 3
FEWEST_FOR_A_SHARE = 20  # trials, of which a setting's part of the spread is told
_PALE = "#a9b7c6"


def main_effects(effects: Sequence[Effect], metric: str) -> go.Figure | None:
    """Draw a panel a setting: every trial's objective over the value that it chose, and the mean of each value."""
    values = [value for effect in effects for level in effect.levels for value in level.values]
    if not values:
        return None
    columns = 2 if len(effects) == 4 else min(_PANELS_IN_A_ROW, len(effects))
    lines = math.ceil(len(effects) / columns)
    titles = [f"{_leaf(effect.setting)}<br><sup>{_importance(effect)}</sup>" for effect in effects]
    figure = make_subplots(
        lines, columns, shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03,
        vertical_spacing=0.3 / lines,
    )  # fmt: skip
    for index, effect in enumerate(effects):
        at = {"row": index // columns + 1, "col": index % columns + 1}
        for level in effect.levels:
            figure.add_scatter(
                x=[level.name] * len(level.points), y=level.values, mode="markers",
                marker={"size": 9, "color": BLUE, "opacity": 0.6},
                hovertext=[_hover(point, metric) for point in level.points], hoverinfo="text", showlegend=False, **at,
            )  # fmt: skip
        figure.add_scatter(
            x=[level.name for level in effect.levels], y=[_mean(level.values, values) for level in effect.levels],
            mode="markers", marker={"symbol": "line-ew-open", "size": 34, "color": ORANGE, "line": {"width": 3}},
            hovertemplate="mean %{y:.4~r}<extra></extra>", showlegend=False, **at,
        )  # fmt: skip
    figure.update_xaxes(type="category")
    name_axes(figure, "", "", y_values=values)
    figure.update_yaxes(title=metric, col=1)
    return laid_out(figure, height=60 + 310 * lines, top=70)


def parallel_coordinates(
    points: Sequence[Point], settings: Sequence[str], metric: str, *, is_low_good: bool
) -> go.Figure | None:
    """Draw a vertical axis a setting and one for the objective, and a line a trial through them, orange for the best."""
    if len(points) < 2:
        return None
    objective = _dimension(metric, [point.value for point in points], listed=False)
    dimensions = [
        _dimension(_leaf(setting), [point.chosen.get(setting) for point in points], listed=True)
        for setting in settings
    ]
    ranked = sorted(range(len(points)), key=lambda index: points[index].value, reverse=not is_low_good)
    rank = {index: place for place, index in enumerate(ranked)}
    first = 0.5 / (len(points) - 1)  # between the best and the second
    scale = [[0.0, ORANGE], [first, ORANGE], [first, BLUE], [1.0, _PALE]]
    figure = go.Figure(
        go.Parcoords(
            dimensions=[dimension.as_plotly() for dimension in (*dimensions, objective)],
            line={"color": [rank[index] for index in range(len(points))], "colorscale": scale},
            labelangle=-12,
            labelside="top",
        )
    )
    return laid_out(figure, height=400, top=90, sides=70)


@dataclass(frozen=True)
class _Dimension:
    """One axis of the parallel coordinates: where each trial lies on it, and its ticks."""

    label: str
    places: list[float]
    ticks: Mapping[str, float]  # what is written, and where

    def as_plotly(self) -> dict[str, object]:
        ends = min(self.places), max(self.places)
        margin = 0.04 * (ends[1] - ends[0]) or 0.5
        return {
            "label": self.label,
            "values": self.places,
            "range": [ends[0] - margin, ends[1] + margin],
            "tickvals": list(self.ticks.values()),
            "ticktext": list(self.ticks),
        }


def _dimension(label: str, values: Sequence[object], *, listed: bool) -> _Dimension:
    """Place numbers by their size, those over several powers of ten by their logarithm, and anything else by its order."""
    distinct = sorted(dict.fromkeys(values), key=label_order)
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < len(values) or (listed and len(distinct) <= _MOST_LISTED):
        names = [value_label(value) for value in distinct]
        named = names if len(names) <= _MOST_NAMED else [names[0], names[-1]]
        order = {name: float(place) for place, name in enumerate(names)}
        return _Dimension(
            label, [order[value_label(value)] for value in values], {name: order[name] for name in named}
        )
    low, high = min(numbers), max(numbers)
    if low > 0 and (not listed or math.log10(high / low) >= _DECADES):
        return _Dimension(
            label,
            [math.log10(value) for value in numbers],
            {number(tick): math.log10(tick) for tick in _ticks(low, high)},
        )
    return _Dimension(label, numbers, {number(tick, 3): float(tick) for tick in np.linspace(low, high, 5)})


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10, ... from low to high; where that is too few, five numbers at equal distances."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside if len(inside) >= _FEWEST_TICKS else [float(tick) for tick in np.linspace(low, high, 5)]


def _mean(values: Sequence[float], all_values: Sequence[float]) -> float:
    """Return the mean; the geometric one where the axis is logarithmic."""
    if min(all_values) > 0:
        return math.exp(sum(math.log(value) for value in values) / len(values))
    return sum(values) / len(values)


def _hover(point: Point, metric: str) -> str:
    return folded(f"{point.trial}: {metric} {number(point.value)}, {short_overrides(point.chosen)}")


def _importance(effect: Effect) -> str:
    """Say how much of the spread goes with a setting, of few trials only how often chance does as much."""
    num_trials = sum(len(level.points) for level in effect.levels)
    chance = f"permutation p = {effect.p_value:.2g}"
    if num_trials < FEWEST_FOR_A_SHARE:
        return f"{chance}; too few trials for a share"
    return f"goes with {effect.importance:.0%} of the spread; {chance}"


def _leaf(setting: str) -> str:
    return setting.rsplit(".", 1)[-1]
