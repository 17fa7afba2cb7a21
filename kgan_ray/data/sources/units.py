"""Metres or not: a person of 1700 metres is in millimetres, and one of 400 in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.source import Item, Source
from kgan_ray.data.windows import frames_with_body
from kgan_ray.settings import UserError

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


def check_units(sources: Sequence[Source]) -> None:
    """Read a few recordings of each source, and raise UserError if persons are too tall for metres."""
    for source in sources:
        if source.scale is not None and len(source.scale) not in (1, source.traits.coordinates):
            raise UserError(
                f"--scale: {len(source.scale)} numbers, but {source.location} has {source.traits.coordinates} coordinates"
            )
        items = source.items()
        sizes = [size for item in items[:: max(1, len(items) // _PROBES)] if (size := _size(source, item))]
        size = float(np.median(sizes)) if sizes else 0.0
        if size > TALLEST:
            raise UserError(f"{source.location}: {_what_unit(size, source)}")


def _size(source: Source, item: Item) -> float | None:
    """Return the largest extent of the body along an axis, in the middle one of the frames; None without a body."""
    try:
        motion = source.read(item, source.fetch(item)).motion
    except RejectedRecording:
        return None
    body = motion[frames_with_body(motion)]
    return float(np.median((body.max(axis=1) - body.min(axis=1)).max(axis=1)))


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
