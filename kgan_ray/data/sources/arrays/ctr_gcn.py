"""CTR-GCN's `.npz` as a source, as dozens of later networks have it: NTU60_CS.npz, NTU120_CSet.npz."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kgan_ray.data.recording import Recording
from kgan_ray.data.sources import ntu
from kgan_ray.data.sources.arrays.array_source import ArraySource
from kgan_ray.data.sources.arrays.axes import axes_of, no_layout, without_scores
from kgan_ray.data.sources.arrays.labels import counted_from_one, numbered, whole_labels
from kgan_ray.data.sources.arrays.npz import Member, open_npz
from kgan_ray.data.sources.bodies import recording_of_bodies
from kgan_ray.data.sources.source import Item, Traits
from kgan_ray.data.splits import BY_FOLD
from kgan_ray.settings import UserError
from kgan_ray.skeleton import NTU25, SkeletonLayout

PARTS = ("train", "test")
_BENCHMARKS = {
    "CS": "xsub",
    "CSUB": "xsub",
    "XSUB": "xsub",
    "CV": "xview",
    "XVIEW": "xview",
    "CSET": "xset",
    "XSET": "xset",
}


class CtrGcnArrays(ArraySource):
    """x_train and x_test (N, 300, 150), y_train and y_test one-hot; 150 is two bodies of 25 joints of x, y, z.

    Recordings have no names there: the split is the file's own, under the name of the benchmark that the file's name
    says. Each is moved so that the middle of the spine is at 0 in its first frame.
    """

    kind = "ctr-gcn"

    def __init__(self, path: Path, layout: SkeletonLayout | None) -> None:
        self.location = str(path.absolute())
        members = open_npz(path)
        parts = [part for part in PARTS if {f"x_{part}", f"y_{part}"} <= members.keys()]
        self._x = {part: members[f"x_{part}"] for part in parts if members[f"x_{part}"].shape[:1] != (0,)}
        if not self._x:
            raise UserError(f"{path}: x_train and x_test hold no recordings")
        labels, count = _labels(path, members, self._x)
        self._labels = {part: array.tolist() for part, array in labels.items()}
        shapes = {member.shape[1:] for member in self._x.values()}
        member = next(iter(self._x.values()))
        if len(shapes) > 1 or not all(one.dtype.kind in "fiu" for one in self._x.values()):
            raise UserError(
                f"{path}: its parts are {', '.join(f'{name} {one.dtype} {one.shape}' for name, one in self._x.items())}; expected "
                "numbers, of one shape but for their count"
            )
        if layout is None and member.shape[-1] in (75, 150):
            layout = NTU25
        if layout is None:
            raise no_layout(f"{path}: {member.name}", member.shape)
        axes = axes_of(f"{path}: {member.name}", member.shape, layout)
        self._x = {part: one.in_rows() for part, one in self._x.items()}
        self._axes = without_scores(axes, layout, axes.bodies(next(iter(self._x.values())).rows(0, 1)[0]))
        self._stem = path.stem
        self.benchmark = _benchmark(path.stem)
        is_ntu = layout == NTU25 and count in (60, 120)
        self.traits = Traits(
            layout=layout,
            coordinates=self._axes.kept,
            class_names=ntu.action_names(count) if is_ntu else numbered(count),
            splits={self.benchmark: BY_FOLD} if len(self._x) == 2 else None,
            known_classes=is_ntu,
        )

    @property
    def description(self) -> str:
        parts = " and ".join(f"{len(labels)} {part}" for part, labels in self._labels.items())
        bodies = "two bodies" if self._axes.num_bodies == 2 else "one body"
        split = f"own split ({self.benchmark})" if len(self._x) == 2 else "no split"
        joints = f"{self._axes.num_joints} joints as {self.traits.layout.name}"
        return f"CTR-GCN arrays, {joints}, {bodies}, {split}: {parts}"

    def items(self) -> list[Item]:
        return [
            Item(f"{self._stem}-{part}-{index:06}", [part, index])
            for part, labels in self._labels.items()
            for index in range(len(labels))
        ]

    def parse(self, item: Item, data: bytes) -> Recording:
        part, index = item.place
        fold = PARTS.index(part) if len(self._x) == 2 else None
        bodies = self._axes.bodies(np.asarray(self._x[part].rows(index, index + 1)[0]))
        return recording_of_bodies(bodies, name=item.name, label=self._labels[part][index], fold=fold)


def _labels(
    path: Path, members: Mapping[str, Member], parts: Mapping[str, Member]
) -> tuple[dict[str, np.ndarray], int]:
    """Read the labels of each part, from 0, and the number of classes. Raises UserError."""
    labels, count = {}, 0
    for part, x in parts.items():
        array = members[f"y_{part}"].array()
        whole = whole_labels(array)
        if whole is None or len(whole) != x.shape[0] or whole.min() < 0:
            raise UserError(
                f"{path}: y_{part} is {array.dtype} {array.shape}; expected one-hot rows or whole numbers from 0, one for "
                f"each of {x.shape[0]} recordings"
            )
        labels[part] = whole
        count = max(count, array.shape[1] if array.ndim == 2 and array.shape[1] > 1 else int(whole.max()) + 1)
    if counted_from_one(np.concatenate(list(labels.values()))):
        return {part: whole - 1 for part, whole in labels.items()}, count - 1
    return labels, count


def _benchmark(stem: str) -> str:
    """Return the benchmark that a file's name says: NTU60_CS, NTU120_CSet, ntu60_xview; else "own"."""
    for word in re.split(r"[^A-Za-z0-9]+", stem.upper()):
        if word in _BENCHMARKS:
            return _BENCHMARKS[word]
    return "own"
