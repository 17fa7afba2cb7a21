"""Kinetic-GAN's published arrays as a source: a `.npy` with its labels beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kgan_ray.data.recording import Recording, RejectedRecording, as_float32
from kgan_ray.data.sources import ntu
from kgan_ray.data.sources.labels import read_labels
from kgan_ray.data.sources.source import Item, Source, Traits
from kgan_ray.settings import UserError
from kgan_ray.skeleton import LAYOUTS, NTU25, SkeletonLayout


class PublishedArrays(Source):
    """`*_data.npy` (N, C, T, V, M) or (N, C, T, V), memory-mapped, with `*_label.pkl` (or .npy) beside it.

    Recordings are zero-padded to one length there: the zeros after the last frame with a body are cut off.
    """

    kind = "published"

    def __init__(self, path: Path, layout: SkeletonLayout | None) -> None:
        self.location = str(path.absolute())
        self.label_file = _label_file(path)
        array = _mapped(self.location)
        if array.ndim not in (4, 5) or array.dtype.kind != "f" or 0 in array.shape:
            raise UserError(
                f"{path}: has shape {array.shape} of {array.dtype}; expected float (N, C, T, V, M) or (N, C, T, V)"
            )
        coordinates, _, joints = array.shape[1:4]
        layout = fitting_layout(path, layout, joints, coordinates)
        names, labels = read_labels(self.label_file)
        if len(labels) != len(array):
            raise UserError(
                f"{self.label_file}: {len(labels)} labels for the {len(array)} sequences of {path.name}"
            )
        if labels.min() < 0 or labels.max() >= 10_000:
            raise UserError(f"{self.label_file}: labels from {labels.min()} to {labels.max()}; they count from 0")
        stems = [name.removesuffix(".skeleton") for name in names or []]
        self._names = stems or [f"{path.stem}-{i:06}" for i in range(len(array))]
        self._labels = labels.tolist()
        is_ntu = layout == NTU25 and bool(stems) and all(ntu.parse_name(name) for name in stems)
        count = int(labels.max()) + 1
        self.traits = Traits(
            layout=layout,
            coordinates=coordinates,
            class_names=ntu.action_names(count) if is_ntu and count <= 120 else numbered(count),
            splits=ntu.SPLITS if is_ntu else None,
            known_classes=is_ntu,
        )

    def items(self) -> list[Item]:
        return [Item(name, index) for index, name in enumerate(self._names)]

    def fetch(self, item: Item) -> bytes:
        return b""

    def parse(self, item: Item, data: bytes) -> Recording:
        array = _mapped(self.location)[item.place]
        bodies = array.transpose(3, 1, 2, 0) if array.ndim == 4 else array.transpose(1, 2, 0)[None]  # (M, T, V, C)
        bodies = as_float32(bodies)
        if not np.isfinite(bodies).all():
            raise RejectedRecording("a coordinate is NaN or infinite")
        frames = np.flatnonzero(bodies.any(axis=(0, 2, 3)))
        if not len(frames):
            raise RejectedRecording("no frame holds a body")
        bodies = bodies[:, : frames[-1] + 1]
        if not bodies[0].any():
            raise RejectedRecording("the first body is never seen")
        second = bodies[1] if len(bodies) > 1 and bodies[1].any() else None
        parsed = ntu.parse_name(item.name) or (None,) * 5
        return Recording(
            name=item.name,
            label=self._labels[item.place],
            setup=parsed[0],
            camera=parsed[1],
            subject=parsed[2],
            replication=parsed[3],
            num_frames=bodies.shape[1],
            num_bodies=sum(bool(body.any()) for body in bodies),
            motion=bodies[0],
            motion_second=second,
        )

    def files(self) -> list[Path]:
        return [Path(self.location), self.label_file]


def _label_file(path: Path) -> Path:
    stem = path.stem.removesuffix("_data")
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


def numbered(count: int) -> tuple[str, ...]:
    width = len(str(count - 1))
    return tuple(f"class {label:0{width}}" for label in range(count))


def fitting_layout(path: Path, layout: SkeletonLayout | None, joints: int, coordinates: int) -> SkeletonLayout:
    """Return the layout that is given, or the built-in one of so many joints. Raises UserError if none fits."""
    layout = layout or next((one for one in LAYOUTS.values() if one.num_joints == joints), None)
    if layout is None:
        raise UserError(f"{path}: a skeleton of {joints} joints is not known; describe it with --layout FILE.yaml")
    if layout.num_joints != joints:
        raise UserError(f"{path}: {joints} joints, but the layout {layout.name} has {layout.num_joints}")
    if coordinates not in (2, 3):
        raise UserError(f"{path}: {coordinates} coordinates a joint; 2 or 3 are accepted")
    return layout
