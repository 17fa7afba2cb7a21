"""The published arrays of many graph networks as a source: a `.npy` with its labels beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kgan_ray.data.recording import Recording
from kgan_ray.data.sources import ntu
from kgan_ray.data.sources.arrays.array_source import NumberedArrays
from kgan_ray.data.sources.arrays.axes import ORDERS, axes_of, no_layout, without_scores
from kgan_ray.data.sources.arrays.labels import counted_from_one, numbered, read_labels
from kgan_ray.data.sources.bodies import recording_of_bodies
from kgan_ray.data.sources.source import Item, Source, Traits
from kgan_ray.data.splits import BY_FOLD
from kgan_ray.settings import UserError
from kgan_ray.skeleton import NTU25, SkeletonLayout

# In these files the bodies come last and the coordinates first.
_ORDERS = ("NCTVM", "NCTV", *ORDERS)
TRAIN, TEST = ("train",), ("val", "test", "eval")
# The other streams of 2s-AGCN, Shift-GCN and MS-G3D: differences of joints or of frames, from which no body can be drawn.
STREAMS = ("bone", "joint_motion", "bone_motion", "motion")


class PublishedArrays(NumberedArrays):
    """`*_data.npy` (N, C, T, V, M) or (N, C, T, V), memory-mapped, with `*_label.pkl` (or .npy) beside it.

    Kinetic-GAN, ST-GCN, 2s-AGCN, Shift-GCN and MS-G3D write them; `*_data_joint.npy` is the newer name. Recordings are
    zero-padded to one length there: the zeros before the first and after the last frame with a body are cut off.

    Args:
        path: the array.
        layout: whose joints they are. None: NTU's, where the recordings have NTU's names.
        fold: of an array that is the training (0) or the test (1) part of a set without published splits.
        num_classes: of the whole set, where this part may lack the last classes.
    """

    kind = "published"

    def __init__(
        self, path: Path, layout: SkeletonLayout | None, fold: int | None = None, num_classes: int = 0
    ) -> None:
        self.location = str(path.absolute())
        self.label_file = _label_file(path)
        array = _mapped(self.location)
        if array.ndim not in (3, 4, 5) or array.dtype.kind not in "fiu" or 0 in array.shape:
            raise UserError(
                f"{path}: has shape {array.shape} of {array.dtype}; expected numbers (N, C, T, V, M) or (N, C, T, V)"
            )
        names, labels = read_labels(self.label_file)
        if len(labels) != len(array):
            raise UserError(
                f"{self.label_file}: {len(labels)} labels for the {len(array)} sequences of {path.name}"
            )
        self._counts_from_one = counted_from_one(labels) and fold is None
        labels = labels - self._counts_from_one
        if labels.min() < 0 or labels.max() >= 10_000:
            raise UserError(f"{self.label_file}: labels from {labels.min()} to {labels.max()}; they count from 0")
        stems = [name.removesuffix(".skeleton") for name in names or []]
        has_ntu_names = bool(stems) and all(ntu.parse_name(name) for name in stems)
        if layout is None and has_ntu_names:
            layout = NTU25
        if layout is None:
            raise no_layout(str(path), array.shape)
        axes = axes_of(str(path), array.shape, layout, _ORDERS)
        self._axes = without_scores(axes, layout, axes.bodies(np.asarray(array[0])))
        self._names = stems or [f"{path.stem}-{i:06}" for i in range(len(array))]
        self._labels: list[int] = labels.tolist()
        self.is_ntu = layout == NTU25 and has_ntu_names
        self._fold = None if self.is_ntu else fold
        count = max(num_classes, int(labels.max()) + 1)
        self.traits = Traits(
            layout=layout,
            coordinates=self._axes.kept,
            class_names=ntu.action_names(count) if self.is_ntu and count <= 120 else numbered(count),
            splits=ntu.SPLITS if self.is_ntu else {"own": BY_FOLD} if fold is not None else None,
            known_classes=self.is_ntu,
        )

    @property
    def description(self) -> str:
        traits, axes = self.traits, self._axes
        facts = [
            f"arrays {axes} with labels, as Kinetic-GAN and 2s-AGCN write them",
            f"{axes.num_joints} joints as {traits.layout.name}",
            "two bodies" if axes.num_bodies == 2 else f"bodies: {axes.num_bodies}",
            "published splits" if self.is_ntu else "own split" if self._fold is not None else "no split",
        ]
        return ", ".join([*facts, *self._remarks()])

    def parse(self, item: Item, data: bytes) -> Recording:
        bodies = self._axes.bodies(np.asarray(_mapped(self.location)[item.place]))
        return recording_of_bodies(bodies, name=item.name, label=self._labels[item.place], fold=self._fold)

    def files(self) -> list[Path]:
        return [Path(self.location), self.label_file]


def arrays_in_folder(paths: Sequence[Path], layout: SkeletonLayout | None) -> list[Source]:
    """Open the arrays of a folder, which may be the training and the test part of one set."""
    folds = [_fold_of(path) for path in paths]
    if set(folds) != {0, 1}:
        return [PublishedArrays(path, layout) for path in paths]
    parts = [PublishedArrays(path, layout, fold) for path, fold in zip(paths, folds, strict=True)]
    if all(part.is_ntu for part in parts):
        return list(parts)
    most = max(len(part.traits.class_names) for part in parts)
    return [PublishedArrays(path, layout, fold, most) for path, fold in zip(paths, folds, strict=True)]


def _fold_of(path: Path) -> int | None:
    first = path.stem.partition("_")[0]
    return 0 if first in TRAIN else 1 if first in TEST else None


def is_joints(name: str) -> bool:
    """Say whether a `.npy` is one of joints, by its name: `*_data.npy`, or the joint stream `*_data_joint.npy`."""
    return name.endswith(("_data.npy", "_data_joint.npy"))


def _label_file(path: Path) -> Path:
    stem = path.stem.partition("_data")[0]
    if any(path.stem.endswith(f"_data_{stream}") for stream in STREAMS):
        raise UserError(f"{path}: the bone or motion stream of a network, not joints; give {stem}_data_joint.npy")
    for name in (f"{stem}_label.pkl", f"{stem}_labels.pkl", f"{stem}_label.npy", f"{stem}_labels.npy"):
        if (path.parent / name).exists():
            return path.parent / name
    raise UserError(f"{path}: its labels are missing; expected {stem}_label.pkl or {stem}_label.npy beside it")


def _mapped(location: str) -> np.ndarray:
    """Map the array anew for each sequence: a map that stays open counts ever more of the file as our memory."""
    try:
        return np.load(location, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{location}: cannot be read as a .npy array of numbers ({error})") from None
