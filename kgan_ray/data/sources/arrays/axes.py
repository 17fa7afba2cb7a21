"""Which axis of an array is which, and whose joints it holds.

Letters: N motions, M bodies, T frames, V joints, C coordinates; D is M * V * C in one axis, as CTR-GCN writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kgan_ray.layouts import TABLES
from kgan_ray.settings import UserError
from kgan_ray.skeleton import LAYOUTS, SkeletonLayout

MOST_BODIES = 10
# The usual orders; those of one length are tried from the left.
ORDERS = ("NTVC", "NCTV", "NTCV", "NCVT", "NVCT", "NVTC", "NCTVM", "NMTVC", "NTMVC", "NMCTV", "NTVCM", "NTD")
JOINED = ("TVC", "TCV", "TD")  # motions end to end


@dataclass(frozen=True)
class Axes:
    """The order of an array's axes, and how many bodies and coordinates it holds."""

    order: str
    num_bodies: int
    num_joints: int
    coordinates: int
    kept: int  # coordinates without a score or visibility behind them

    def bodies(self, motion: np.ndarray) -> np.ndarray:
        """Turn one motion, which has the axes but N, into bodies (M, T, V, C)."""
        order = self.order.removeprefix("N")
        if order == "TD":
            motion = motion.reshape(len(motion), self.num_bodies, self.num_joints, self.coordinates)
            order = "TMVC"
        if "M" not in order:
            motion, order = motion[None], f"M{order}"
        return motion.transpose([order.index(axis) for axis in "MTVC"])[..., : self.kept]

    def __str__(self) -> str:
        return f"({', '.join(self.order)})"


def find_axes(shape: Sequence[int], layout: SkeletonLayout, orders: Sequence[str] = ORDERS) -> Axes | None:
    """Find the order of axes in which an array holds the joints of `layout`, the first of `orders` that fits."""
    return next((axes for order in orders if (axes := _fit(order, shape, layout.num_joints))), None)


def axes_of(where: str, shape: Sequence[int], layout: SkeletonLayout, orders: Sequence[str] = ORDERS) -> Axes:
    """Find the order of axes as `find_axes` does. Raises UserError, which begins with `where`, if none fits."""
    axes = find_axes(shape, layout, orders)
    if axes is None:
        raise no_axes(where, shape, layout, orders)
    return axes


def no_layout(where: str, shape: Sequence[int]) -> UserError:
    """Make the error of an array that does not say whose joints it holds; it names the layouts that would fit."""
    names = [name for name, layout in LAYOUTS.items() if find_axes(shape, layout, (*ORDERS, *JOINED))]
    fitting = f"{', '.join(names)} would fit, or" if names else f"known are {', '.join(LAYOUTS)}, or it names"
    return UserError(
        f"{where} has shape {tuple(shape)}, and nothing says whose joints these are; --layout says it: {fitting} a FILE.yaml "
        "of your own"
    )


def no_axes(where: str, shape: Sequence[int], layout: SkeletonLayout, orders: Sequence[str] = ORDERS) -> UserError:
    """Make the error of an array in which the joints of `layout` cannot be found; it names the orders that are known."""
    return UserError(
        f"{where} has shape {tuple(shape)}: no order of axes gives the {layout.num_joints} joints of {layout.name} with 2 or 3 "
        f"coordinates; expected are {', '.join(_spelt(order) for order in orders)}"
    )


def _spelt(order: str) -> str:
    return f"({', '.join(order)})".replace("D", "M*V*C")


def _fit(order: str, shape: Sequence[int], num_joints: int) -> Axes | None:
    if len(order) != len(shape) or 0 in shape:
        return None
    size = dict(zip(order, shape, strict=True))
    if "D" in size:
        for bodies, coordinates in ((1, 3), (2, 3), (1, 2), (2, 2)):
            if size["D"] == bodies * num_joints * coordinates:
                return Axes(order, bodies, num_joints, coordinates, coordinates)
        return None
    bodies, coordinates = size.get("M", 1), size["C"]
    if size["V"] != num_joints or coordinates not in (2, 3, 4) or bodies > MOST_BODIES:
        return None
    return Axes(order, bodies, num_joints, coordinates, min(coordinates, 3))


def without_scores(axes: Axes, layout: SkeletonLayout, sample: np.ndarray) -> Axes:
    """Leave out the third coordinate of joints that were found in images, where it is a score from 0 to 1.

    `sample` holds some bodies (..., C).
    """
    is_flat = layout.name in TABLES and TABLES[layout.name].flat
    if not is_flat or axes.kept != 3:
        return axes
    third = sample[..., 2]
    is_score = bool(((third >= 0) & (third <= 1)).all() and third.any())
    return Axes(axes.order, axes.num_bodies, axes.num_joints, axes.coordinates, 2) if is_score else axes
