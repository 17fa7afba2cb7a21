"""Metres or not: a person of 1700 metres is in millimetres, and one of 400 in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.source import Item, Source
from kgan_ray.data.windows import frames_with_body
from kgan_ray.settings import UserError
from kgan_ray.skeleton import SkeletonLayout
from kgan_ray.storage import reading

TALLEST = 10.0  # metres from the lowest joint of a person to the highest; beyond, the unit is another
_PROBES = 24


def parse_scale(text: str) -> tuple[float, ...]:
    """Read `--scale`: metres a unit, one for all axes or one for each, such as 0.001 or 0.004,-0.004. Raises UserError."""
    try:
        scale = tuple(float(word) for word in text.split(","))
    except ValueError:
        scale = ()
    if len(scale) not in (1, 2, 3) or not all(np.isfinite(factor) and factor != 0 for factor in scale):
        raise UserError(
            f"--scale {text}: expected metres a unit, such as 0.001 for millimetres, or one number for each axis with commas "
            "(0.004,-0.004 for pixels, y down)"
        )
    return scale


def check_units(sources: Sequence[Source]) -> list[str]:
    """Read a few recordings of each source, and raise UserError if persons are too tall for metres.

    Return a line on each source in which heads lie below feet, as they do in images.
    """
    remarks = []
    for source in sources:
        if source.scale is not None and len(source.scale) not in (1, source.traits.coordinates):
            raise UserError(
                f"--scale: {len(source.scale)} numbers, but {source.location} has {source.traits.coordinates} coordinates"
            )
        items = source.items()
        poses = [
            pose for item in items[:: max(1, len(items) // _PROBES)] if (pose := _pose(source, item)) is not None
        ]
        sizes = [float(np.ptp(pose, axis=0).max()) for pose in poses]
        size = float(np.median(sizes)) if sizes else 0.0
        if size > TALLEST:
            raise UserError(f"{source.location}: {_what_unit(size, source)}")
        if (
            poses
            and float(np.median([_height_of_head(pose, source.traits.layout) for pose in poses])) < -0.3 * size
        ):
            factors = source.scale or (1.0,)
            turned = ",".join(
                f"{factors[min(axis, len(factors) - 1)] * (-1 if axis == 1 else 1):g}"
                for axis in range(source.traits.coordinates)
            )
            remarks.append(
                f"{source.location}: heads lie below feet, so y points down; --scale {turned} turns it up"
            )
    return remarks


def _pose(source: Source, item: Item) -> np.ndarray | None:
    """Return the middle one of the frames with a body, (V, C); None for a recording that cannot be read."""
    try:
        with reading(source.location):
            motion = source.read(item, source.fetch(item)).motion
    except RejectedRecording:
        return None
    body = motion[frames_with_body(motion)]
    return np.asarray(body[len(body) // 2])


def _height_of_head(pose: np.ndarray, layout: SkeletonLayout) -> float:
    """Return how much higher (y) the head or nose lies than the feet or ankles; 0 for a layout without names for them."""
    head = [joint for joint, name in enumerate(layout.joints) if name in ("head", "nose")]
    feet = [joint for joint, name in enumerate(layout.joints) if name.endswith(("_foot", "_ankle"))]
    return float(pose[head, 1].mean() - pose[feet, 1].mean()) if head and feet else 0.0


def _what_unit(size: float, source: Source) -> str:
    if source.scale is not None:
        return (
            f"with --scale {','.join(f'{factor:g}' for factor in source.scale)} a person is {size:.4g} metres tall"
        )
    if source.traits.coordinates == 2:
        metres = f"{1.7 / size:.2g}"
        return (
            f"a person is {size:.4g} units tall, which is pixels, not metres; --scale {metres},-{metres} makes persons of "
            "1.7 m, y up"
        )
    unit, factor = ("centimetres", "0.01") if size < 500 else ("millimetres", "0.001")
    return f"a person is {size:.4g} units tall, which is {unit}, not metres; --scale {factor} makes metres of them"
