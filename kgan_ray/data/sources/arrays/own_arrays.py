"""The user's own arrays as a source: one `.npz` of motions and labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kgan_ray.data.recording import Recording
from kgan_ray.data.sources.arrays.array_source import NumberedArrays
from kgan_ray.data.sources.arrays.axes import JOINED, Axes, find_axes, no_axes, no_layout, without_scores
from kgan_ray.data.sources.arrays.labels import counted_from_one, numbered, whole_labels
from kgan_ray.data.sources.arrays.npz import open_npz
from kgan_ray.data.sources.arrays.pickles import text
from kgan_ray.data.sources.bodies import recording_of_bodies
from kgan_ray.data.sources.source import Item, Traits
from kgan_ray.settings import UserError
from kgan_ray.skeleton import SkeletonLayout, find_layout


class OwnArrays(NumberedArrays):
    """The user's `.npz`, of which one motion at a time is read.

    `motions` float (N, T, V, C) in metres, or with its axes in another usual order. Shorter motions are padded with zeros
    or NaN; or `lengths` (N,) says how long they are; or they lie end to end, (sum of lengths, V, C), with `lengths`; or
    they are an array of N arrays. `labels` (N,): numbers, or names. Optional: `layout` (a name), `class_names`, `names`,
    `subjects`, `cameras`, `setups`, each (N,) but the first two.
    """

    kind = "npz"

    def __init__(self, path: Path, layout: SkeletonLayout | None) -> None:
        self.location = str(path.absolute())
        members = open_npz(path)
        for key in ("motions", "labels"):
            if key not in members:
                raise UserError(f"{path}: has no array {key!r}; found: {', '.join(members) or 'none'}")
        arrays = {key: member.array() for key, member in members.items() if key != "motions"}
        if layout is None and "layout" in arrays:
            layout = find_layout(str(arrays["layout"]))
        self._motions, self._is_ragged = members["motions"], members["motions"].dtype.hasobject
        shape = self._motions.shape
        if self._is_ragged:
            shape = next((motion.shape for motion in self._motions.objects() if motion.size), (0,))
        if layout is None:
            raise no_layout(f"{path}: motions", shape)
        self._axes, self._bounds = self._arranged(path, shape, layout, arrays)
        if not self._is_ragged:
            self._motions = self._motions.in_rows()
        self._axes = without_scores(self._axes, layout, self._bodies(0))
        self._labels, names, self._counts_from_one = _labels(path, arrays, len(self._bounds))
        count = len(self._labels)
        self._ids = {key: _ids(path, arrays, key, count) for key in ("setups", "cameras", "subjects")}
        own = _texts(path, arrays, "names")
        if own and len(own) != count:
            raise UserError(f"{path}: {len(own)} names for {count} motions")
        self._names = own or [f"{path.stem}-{index:06}" for index in range(count)]
        self._is_padded = "lengths" not in arrays
        self.traits = Traits(layout=layout, coordinates=self._axes.kept, class_names=names)

    def _arranged(
        self, path: Path, shape: tuple[int, ...], layout: SkeletonLayout, arrays: Mapping[str, np.ndarray]
    ) -> tuple[Axes, list[tuple[int, int]]]:
        """Find the axes, and the first frame and the last + 1 of every motion in its array, or in all frames end to end."""
        lengths = _whole(path, arrays, "lengths", None) if "lengths" in arrays else None
        if self._motions.dtype.kind not in "fiuO":
            raise UserError(f"{path}: motions is {self._motions.dtype}; expected numbers")
        joined = find_axes(shape, layout, JOINED)
        if self._is_ragged:
            if joined is None:
                raise no_axes(f"{path}: one of motions", shape, layout, JOINED)
            return joined, [(0, len(motion)) for motion in self._motions.objects()]
        axes = find_axes(shape, layout)
        if axes is not None:
            count, frames = shape[0], shape[axes.order.index("T")]
            lengths = [frames] * count if lengths is None else lengths
            if len(lengths) != count or not all(0 < length <= frames for length in lengths):
                raise UserError(
                    f"{path}: {len(lengths)} lengths from {min(lengths, default=0)} to {max(lengths, default=0)}; "
                    f"{count} are needed, and 1 to {frames} are possible"
                )
            return axes, [(0, length) for length in lengths]
        if joined is None:
            raise no_axes(f"{path}: motions", shape, layout)
        if lengths is None:
            raise UserError(f"{path}: motions of shape {shape} lie end to end and need `lengths` (N,)")
        if min(lengths, default=0) < 1 or sum(lengths) != shape[0]:
            raise UserError(f"{path}: lengths must be positive and add up to the {shape[0]} frames of motions")
        ends = np.cumsum(lengths).tolist()
        return joined, [(end - length, end) for end, length in zip(ends, lengths, strict=True)]

    @property
    def description(self) -> str:
        traits, axes = self.traits, self._axes
        facts = [f"own arrays {axes}", f"{axes.num_joints} joints as {traits.layout.name}"]
        if axes.num_bodies > 1:
            facts.append(f"{axes.num_bodies} bodies")
        return ", ".join([*facts, *self._remarks()])

    def _bodies(self, index: int) -> np.ndarray:
        """Read one motion as bodies (M, T, V, C), with its padding."""
        first, last = self._bounds[index]
        if self._is_ragged:
            return self._axes.bodies(self._motions.objects()[index])
        if self._axes.order in JOINED:
            return self._axes.bodies(self._motions.rows(first, last))
        return self._axes.bodies(self._motions.rows(index, index + 1)[0])[:, :last]

    def parse(self, item: Item, data: bytes) -> Recording:
        setup, camera, subject = (self._ids[key][item.place] for key in ("setups", "cameras", "subjects"))
        return recording_of_bodies(
            self._bodies(item.place),
            name=item.name,
            label=self._labels[item.place],
            setup=setup,
            camera=camera,
            subject=subject,
            is_padded=self._is_padded,
        )


def _whole(path: Path, arrays: Mapping[str, np.ndarray], key: str, count: int | None) -> list[int]:
    array = arrays[key]
    if (
        array.dtype.kind in "bf"
        and np.isfinite(array).all()
        and np.array_equal(array, np.rint(array.astype(float)))
    ):
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu" or (count is not None and len(array) != count):
        size = "" if count is None else f"{count} "
        raise UserError(f"{path}: {key} is {array.dtype} {array.shape}; expected {size}whole numbers")
    return [int(value) for value in array]


def _labels(path: Path, arrays: Mapping[str, np.ndarray], count: int) -> tuple[list[int], tuple[str, ...], bool]:
    """Return 0-based labels and the class names, from numbers or from names, and whether the numbers count from 1."""
    labels = arrays["labels"]
    if labels.ndim == 2 and (one_hot := whole_labels(labels)) is not None:
        labels = one_hot
    if labels.shape != (count,):
        raise UserError(f"{path}: labels has shape {labels.shape}, expected ({count},): one for each motion")
    given = tuple(_texts(path, arrays, "class_names"))
    if labels.dtype.kind in "US":
        words = _texts(path, arrays, "labels")
        names = given or tuple(sorted(set(words)))
        number = {name: index for index, name in enumerate(names)}
        try:
            return [number[word] for word in words], names, False
        except KeyError as error:
            raise UserError(f"{path}: the label {error} is not among class_names") from None
    numbers = np.array(_whole(path, arrays, "labels", count) if labels is arrays["labels"] else labels)
    if from_one := counted_from_one(numbers, len(given) or None):
        numbers = numbers - 1
    names = given or numbered(min(int(numbers.max()), 9_999) + 1)
    if numbers.min() < 0 or numbers.max() >= len(names):
        raise UserError(f"{path}: labels from {numbers.min()} to {numbers.max()} for {len(names)} classes from 0")
    return numbers.tolist(), names, from_one


def _ids(path: Path, arrays: Mapping[str, np.ndarray], key: str, count: int) -> list[int] | list[None]:
    """Return subjects, cameras or setups: whole numbers, or names, which are numbered from 1 in alphabetical order."""
    if key not in arrays:
        return [None] * count
    if arrays[key].dtype.kind in "US" and arrays[key].shape == (count,):
        return (np.unique(arrays[key], return_inverse=True)[1] + 1).tolist()
    return _whole(path, arrays, key, count)


def _texts(path: Path, arrays: Mapping[str, np.ndarray], key: str) -> list[str]:
    """Return names that an array holds as text, bytes or numbers; none where there is no such array."""
    if key not in arrays:
        return []
    if arrays[key].ndim != 1:
        raise UserError(f"{path}: {key} is {arrays[key].dtype} {arrays[key].shape}; expected text, one dimension")
    return [str(text(name) or name) for name in arrays[key].tolist()]
