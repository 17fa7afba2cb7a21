"""Drawings of the report's page as inline SVG, which follows the page's colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from matplotlib.ticker import LogLocator, MaxNLocator

from kgan_ray.text import number
from kgan_ray.tuning.answer.effects import Effect, Point, shown
from kgan_ray.tuning.answer.verdict import Verdict
from kgan_ray.tuning.search.pareto import pareto_front
from kgan_ray.tuning.state import Trial

_LEFT, _WIDTH = 220, 640  # pixels: where the drawing begins, and how wide it is
_COLOURS = (
    "#8a8a8a",
    "#2f7ed8",
    "#d9822b",
    "#2a9d6a",
    "#b0509b",
    "#c23b3b",
)  # the baseline is grey; seen on both grounds
_FEWEST_TICKS, _MOST_TICKS = 3, 8
_MOST_LISTED = 6  # a number with more values than this is placed by its size
_MOST_NAMED = 12  # values of a listed setting that are written beside its axis

Place = Callable[[float], float]


def bands(runs: Sequence[Trial], metric: str) -> str:
    """Learning curves of the confirmed configurations: the mean over seeds, in a band from the lowest to the highest."""
    curves: dict[str, dict[int, list[float]]] = {}
    for trial in runs:
        for step, value in trial.curve:
            if math.isfinite(value):
                curves.setdefault(trial.configuration, {}).setdefault(step, []).append(value)
    values = [value for curve in curves.values() for found in curve.values() for value in found]
    steps = [step for curve in curves.values() for step in curve]
    if len(set(steps)) < 2:
        return ""
    left, top, height = 90, 10, 300
    x, y = _scale(steps, left, left + _WIDTH, log=False), _scale(values, top + height, top)
    parts = [_frame(left, top, _WIDTH, height)]
    parts += [_text(x(step), top + height + 18, str(round(step)), "middle") for step in _ticks(steps, log=False)]
    parts += [_text(left - 8, y(value) + 4, number(value), "end") for value in _ticks(values, log=min(values) > 0)]
    for index, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        ordered = sorted(curve.items())
        upper = [f"{x(step):.1f},{y(max(found)):.1f}" for step, found in ordered]
        lower = [f"{x(step):.1f},{y(min(found)):.1f}" for step, found in reversed(ordered)]
        mean = [f"{x(step):.1f},{y(sum(found) / len(found)):.1f}" for step, found in ordered]
        parts.append(f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" opacity=".2"/>')
        parts.append(f'<polyline points="{" ".join(mean)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = top + 12 + 20 * index
        parts.append(f'<rect x="{left + _WIDTH + 16}" y="{at}" width="14" height="10" fill="{colour}"/>')
        parts.append(_text(left + _WIDTH + 36, at + 10, name, "start"))
    parts.append(_text(left + _WIDTH / 2, top + height + 40, "step", "middle"))
    parts.append(_turned(18, top + height / 2, f"{metric}{_log_note(values)}"))
    label = f"{metric} over training steps: mean over seeds, band from lowest to highest"
    return _svg(parts, left + _WIDTH + 220, top + height + 52, label)


def intervals(verdicts: Sequence[Verdict], metric: str) -> str:
    """Each configuration's difference or ratio to the baseline with its 95 % interval, and a line where there is none.

    A verdict without an interval is left out.
    """
    verdicts = [verdict for verdict in verdicts if math.isfinite(verdict.low) and math.isfinite(verdict.high)]
    if not verdicts:
        return ""
    is_ratio = verdicts[0].compare == "ratio"
    same = 1.0 if is_ratio else 0.0
    values = [same, *(end for verdict in verdicts for end in (verdict.low, verdict.high))]
    x = _scale(values, _LEFT, _LEFT + _WIDTH, log=is_ratio)
    bottom = 30 * len(verdicts) + 16
    parts = [
        f'<line class="axis" x1="{x(same):.1f}" x2="{x(same):.1f}" y1="4" y2="{bottom}" stroke-dasharray="4 3"/>',
        _line(_LEFT, bottom, _LEFT + _WIDTH, bottom),
        *(_text(x(value), bottom + 18, number(value), "middle") for value in _ticks(values, log=is_ratio)),
    ]
    for index, row in enumerate(verdicts):
        y = 30 * index + 20
        parts.append(_text(_LEFT - 12, y + 4, f"{row.group} {row.configuration}".strip(), "end"))
        parts.append(
            f'<line x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}" stroke="currentColor" '
            f'stroke-width="2"/><circle cx="{x(row.effect):.1f}" cy="{y}" r="5" fill="currentColor"/>'
        )
    kind = "ratio of geometric means to the baseline's" if is_ratio else "difference to the baseline"
    label = f"{kind} in {metric} (95 % interval{', logarithmic' if is_ratio else ''})"
    parts.append(_text(_LEFT + _WIDTH / 2, bottom + 38, label, "middle"))
    return _svg(parts, _LEFT + _WIDTH + 60, bottom + 48, label)


def main_effects(effects: Sequence[Effect], metric: str) -> str:
    """A row a value of each setting: every trial's objective as a dot, the mean as a bar."""
    values = [value for effect in effects for _, found in effect.levels for value in found]
    if not values:
        return ""
    x = _scale(values, _LEFT, _LEFT + _WIDTH)
    parts, y = [], 10
    for effect in effects:
        y += 22
        parts.append(_text(8, y, f"{effect.setting}: goes with {effect.importance:.0%} of the spread", "start"))
        for name, found in effect.levels:
            y += 24
            parts.append(_line(_LEFT, y, _LEFT + _WIDTH, y))
            parts.append(_text(_LEFT - 12, y + 4, name, "end"))
            parts += [
                f'<circle cx="{x(value):.1f}" cy="{y}" r="4" fill="{_COLOURS[1]}" opacity=".6"/>'
                for value in found
            ]
            mean = x(_mean(found, values))
            parts.append(f'<rect x="{mean - 1.5:.1f}" y="{y - 9}" width="3" height="18" fill="currentColor"/>')
        y += 8
    y += 26
    parts += [_text(x(value), y, number(value), "middle") for value in _ticks(values, log=min(values) > 0)]
    parts.append(_text(_LEFT + _WIDTH / 2, y + 22, f"{metric}{_log_note(values)}", "middle"))
    return _svg(parts, _LEFT + _WIDTH + 60, y + 34, f"{metric} at each value of each searched setting")


def parallel_axes(points: Sequence[Point], settings: Sequence[str], metric: str, *, is_low_good: bool) -> str:
    """A vertical axis a setting and one for the objective; a line a trial, the stronger the better it is."""
    if len(points) < 2:
        return ""
    top, height, gap = 60, 240, max(150, 760 // max(1, len(settings)))
    parts, texts, places = [], [], []
    for index, setting in enumerate((*settings, metric)):
        x = 80 + gap * index
        found = [point.value if setting == metric else point.chosen.get(setting) for point in points]
        place, labels = _axis(found, top, top + height, listed=setting != metric)
        places.append((x, [place(value) for value in found]))
        parts.append(_line(x, top, x, top + height))
        texts.append(_text(x, top - 18 - 16 * (index % 2), setting.split(".", 1)[-1], "middle"))
        texts += [_text(x - 6, place(value) + 4, label, "end") for value, label in labels]
    ranked = sorted(range(len(points)), key=lambda index: points[index].value, reverse=is_low_good)
    for rank, index in enumerate(ranked):  # the best is drawn last, over the others
        line = " ".join(f"{x},{ys[index]:.1f}" for x, ys in places)
        share = rank / (len(ranked) - 1)
        colour = _COLOURS[2] if rank == len(ranked) - 1 else _COLOURS[1]
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{1 + 2 * share:.1f}" '
            f'opacity="{0.2 + 0.8 * share:.2f}"><title>{escape(points[index].trial)}</title></polyline>'
        )
    label = f"settings and {metric} of each explored trial; the best is orange"
    return _svg([*parts, *texts], 80 + gap * len(settings) + 80, top + height + 16, label)


def pareto(
    values: Mapping[str, tuple[float, float]], metrics: tuple[str, str], is_low_good: tuple[bool, bool]
) -> str:
    """Two metrics of each configuration against each other; the front, which nothing beats in both, is joined."""
    if len(values) < 2:
        return ""
    left, top, width, height = 90, 16, 520, 300
    across, up = zip(*values.values(), strict=True)
    x, y = _scale(across, left + 30, left + width - 30), _scale(up, top + height - 24, top + 24)
    front = pareto_front(values, is_low_good)
    line = " ".join(f"{x(values[name][0]):.1f},{y(values[name][1]):.1f}" for name in front)
    parts = [_frame(left, top, width, height)]
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_COLOURS[2]}" stroke-width="2"/>')
    parts += [
        _text(x(value), top + height + 18, number(value), "middle")
        for value in _ticks(across, log=min(across) > 0)
    ]
    parts += [_text(left - 8, y(value) + 4, number(value), "end") for value in _ticks(up, log=min(up) > 0)]
    for name, (first, second) in values.items():
        colour = _COLOURS[2] if name in front else _COLOURS[1]
        parts.append(f'<circle cx="{x(first):.1f}" cy="{y(second):.1f}" r="5" fill="{colour}"/>')
        parts.append(_text(x(first) + 9, y(second) - 7, name, "start"))
    parts.append(_text(left + width / 2, top + height + 40, metrics[0] + _log_note(across), "middle"))
    parts.append(_turned(18, top + height / 2, metrics[1] + _log_note(up)))
    label = f"{metrics[1]} against {metrics[0]}, the mean of each configuration; the front is orange"
    return _svg(parts, left + width + 140, top + height + 52, label)


def _axis(
    found: Sequence[Any], top: int, bottom: int, *, listed: bool
) -> tuple[Callable[[Any], float], list[tuple[Any, str]]]:
    """Where each value lies on a vertical axis, and what is written beside it."""
    is_number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found)
    distinct = list(dict.fromkeys(found))
    if is_number and (not listed or len(distinct) > _MOST_LISTED):
        place = _scale(found, bottom, top)
        return place, [(value, number(value)) for value in _ticks(found, log=min(found) > 0)]
    names = {shown(value): value for value in distinct}
    order = sorted(names, key=lambda name: (isinstance(names[name], str), _size(names[name]), name))
    step = (bottom - top) / max(1, len(order) - 1)
    heights = {name: bottom - step * index for index, name in enumerate(order)}
    few = order if len(order) <= _MOST_NAMED else [order[0], order[-1]]
    return lambda value: heights[shown(value)], [(names[name], name) for name in few]


def _size(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.inf


def _mean(found: Sequence[float], values: Sequence[float]) -> float:
    if min(values) > 0:
        return math.exp(sum(math.log(value) for value in found) / len(found))
    return sum(found) / len(found)


def _scale(values: Sequence[float], first: float, last: float, *, log: bool | None = None) -> Place:
    """The axis from `first` (the lowest value) to `last`, in pixels; logarithmic where all values are positive."""
    is_log = min(values) > 0 if log is None else log
    measure: Place = math.log if is_log else float
    low, high = measure(min(values)), measure(max(values))
    reach = (high - low) or 1.0
    return lambda value: first + (last - first) * (measure(value) - low) / reach


def _ticks(values: Sequence[float], *, log: bool) -> list[float]:
    """Round numbers from the lowest to the highest value; on a logarithmic axis 1, 2, 5, 10, ... or powers of ten."""
    low, high = min(values), max(values)
    if low == high:
        return [low]
    decades = [LogLocator(subs=subs, numticks=_MOST_TICKS**2) for subs in ((1.0, 2.0, 5.0), (1.0,))] if log else []
    for locator in (*decades, MaxNLocator(_MOST_TICKS - 2, steps=[1, 2, 2.5, 5, 10])):
        ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
        if _FEWEST_TICKS <= len(ticks) <= _MOST_TICKS:
            break
    return ticks


def _log_note(values: Sequence[float]) -> str:
    return " (logarithmic)" if min(values) > 0 else ""


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _turned(x: float, y: float, text: str) -> str:
    turn = f'transform="rotate(-90 {x} {y})"'
    return f'<text x="{x}" y="{y}" {turn} text-anchor="middle">{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line class="axis" x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}"/>'


def _frame(x: float, y: float, width: float, height: float) -> str:
    return _line(x, y, x, y + height) + _line(x, y + height, x + width, y + height)


def _svg(parts: Sequence[str], width: float, height: float, label: str) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="width: 100%; max-width: {width:.0f}px"'
    return f'<svg role="img" aria-label="{escape(label)}" {size}>{"".join(parts)}</svg>'
