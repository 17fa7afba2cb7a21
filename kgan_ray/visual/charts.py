"""Charts as PNG files, with labelled axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Curve = Sequence[tuple[int, float]]  # (step, value)
MOST_IN_LEGEND = 14


def learning_curves(
    curves: Mapping[str, Curve], path: Path | str, *, ylabel: str, title: str, log: bool = True
) -> None:
    """Write one line a curve over training steps; `log` is for values that are all positive."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, curve in curves.items():
        steps, values = [point[0] for point in curve], [point[1] for point in curve]
        axes.plot(steps, values, marker="o", markersize=3, linewidth=1.3, label=name)
    axes.set(xlabel="training step (discriminator steps)", ylabel=ylabel, title=title)
    if log:
        axes.set_yscale("log")
    axes.grid(visible=True, alpha=0.3)
    if 1 < len(curves) <= MOST_IN_LEGEND:
        axes.legend(fontsize=8, ncols=2 if len(curves) > 7 else 1)
    figure.savefig(path, dpi=120)
