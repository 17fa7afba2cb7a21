"""Recordings that lie together in one file of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kgan_ray.data.sources.arrays.axes import Axes
from kgan_ray.data.sources.source import Item, Source


class ArraySource(Source):
    """A file of arrays: `parse` reads a recording where it lies, so there are no bytes to fetch."""

    def fetch(self, item: Item) -> bytes:
        return b""

    def files(self) -> list[Path]:
        return [Path(self.location)]


class NumberedArrays(ArraySource):
    """One array of all motions, of which a recording is a number."""

    _names: Sequence[str]
    _axes: Axes
    _counts_from_one: bool  # the labels

    def items(self) -> list[Item]:
        return [Item(name, index) for index, name in enumerate(self._names)]

    def _remarks(self) -> list[str]:
        """Say what is left out of the motions, and how labels count where that is not from 0."""
        is_scored = self._axes.kept < self._axes.coordinates
        return [
            *["the last coordinate is a score and left out"] * is_scored,
            *["labels count from 1"] * self._counts_from_one,
        ]
