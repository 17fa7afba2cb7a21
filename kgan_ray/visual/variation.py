"""The figure of stochastic variation: what the generator's noise moves, by joint and over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

    from kgan_ray.model.variation import Variation
    from kgan_ray.skeleton import MotionSpec


def draw_variation(
    variation: Variation, spec: MotionSpec, titles: Sequence[str], path: Path, *, mask_quantile: float
) -> None:
    """Write a row for each latent point: deviation on the skeleton and over time, and the quantile mask's joints."""
    low, high = spec.value_range
    # A joint's deviation is the root of the summed variance of its coordinates.
    centimetres = variation.deviation.norm(dim=1).numpy() * 100 * (high - low) / 2  # (N, T, V)
    mean, chosen = spec.to_metres(variation.mean.numpy()), variation.chosen.numpy()
    most, most_chosen = centimetres.mean(axis=1).max(), chosen.max()
    rows = len(titles)
    figure = Figure(figsize=(13, 4.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, 3, squeeze=False, width_ratios=[1, 2, 1])
    for row, title in zip(range(rows), titles, strict=True):
        by_joint = centimetres[row].mean(axis=0)
        left, middle, right = grid[row]
        dots = _skeleton(left, mean[row], spec, by_joint, most)
        left.set_title(f"{title}: moved by the noise", fontsize=10)
        figure.colorbar(dots, ax=left, label="standard deviation, mean over time (cm)", shrink=0.8)
        picture = middle.imshow(centimetres[row].T, aspect="auto", interpolation="nearest", cmap="viridis", vmin=0)
        middle.set_yticks(range(len(spec.layout.joints)), spec.layout.joints, fontsize=7)
        middle.set_xlabel("frame")
        middle.set_title("the same over time", fontsize=10)
        figure.colorbar(picture, ax=middle, label="standard deviation (cm)", shrink=0.8)
        dots = _skeleton(right, mean[row], spec, chosen[row], most_chosen)
        right.set_title(f"chosen by the quantile mask ({mask_quantile:g})", fontsize=10)
        figure.colorbar(dots, ax=right, label="share of the joint's values", shrink=0.8)
    figure.savefig(path, dpi=100)


def _skeleton(axes: Axes, motion: np.ndarray, spec: MotionSpec, values: np.ndarray, most: float) -> PathCollection:
    """Draw the middle frame's pose, each joint coloured and sized by its value; mirrored as a viewer sees it."""
    across, up = -motion[0, motion.shape[1] // 2], motion[1, motion.shape[1] // 2]
    for a, b in spec.layout.bones:
        axes.plot(across[[a, b]], up[[a, b]], color="0.7", linewidth=2, zorder=1)
    sizes = 20 + 160 * values / max(most, 1e-12)
    dots = axes.scatter(
        across, up, c=values, s=sizes, cmap="viridis", vmin=0, vmax=most, zorder=2, edgecolor="0.3"
    )
    axes.set_aspect("equal")
    axes.margins(0.15)
    axes.axis("off")
    return dots
