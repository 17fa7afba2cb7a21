"""Motions to draw, from wherever they are: a dataset, a checkpoint, Parquet, .npy, one `.skeleton` file.

A motion is (C, T, V), in metres where its source knows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kgan_ray.data.dataset import MANIFEST, Dataset
from kgan_ray.data.motions_file import labels_beside, published_labels_beside, read_parquet
from kgan_ray.settings import DataSettings, UserError
from kgan_ray.skeleton import LAYOUTS, SkeletonLayout, class_numbers, find_layout, read_layout

Titled = list[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Wish:
    """What to draw of a source: `count` motions of each of these classes (None: all of them)."""

    classes: Sequence[str] | None = None
    count: int = 1
    seed: int = 0
    layout: str | None = None  # of an array, which does not say whose joints they are


def motions_of(source: str, wish: Wish) -> tuple[Titled, SkeletonLayout]:
    """The source's motions with their titles, and its skeleton.

    Raises UserError for a source that is none of the kinds, and for classes that it does not have.
    """
    path = Path(source)
    readers = {".parquet": _of_parquet, ".npy": _of_array, ".skeleton": _of_skeleton_file}
    if path.suffix in readers:
        return readers[path.suffix](path, wish)
    if "://" in source or (path / MANIFEST).exists():
        return _of_dataset(source, wish)
    return _of_checkpoint(source, wish)


def _of_dataset(source: str, wish: Wish) -> tuple[Titled, SkeletonLayout]:
    import torch

    view = Dataset.open(source).view(DataSettings(window="resample"))
    held, spec = view.load("train"), view.spec
    order = torch.randperm(len(held.labels), generator=torch.Generator().manual_seed(wish.seed))
    drawn = []
    for number in class_numbers(wish.classes, spec.class_names):
        rows = [int(row) for row in order if held.labels[row] == number][: wish.count]
        drawn += [(spec.class_names[number], held.motions[row]) for row in rows]
    return [(title, spec.to_metres(motion).numpy()) for title, motion in drawn], spec.layout


def _of_checkpoint(source: str, wish: Wish) -> tuple[Titled, SkeletonLayout]:
    import torch

    from kgan_ray.training.checkpoint import load_generator

    gan = load_generator(source)
    spec = gan.spec
    labels = torch.tensor(class_numbers(wish.classes, spec.class_names)).repeat_interleave(wish.count)
    sampled = gan.sample_few(labels, seed=wish.seed)
    titles = [spec.class_names[label] for label in labels.tolist()]
    return list(zip(titles, spec.to_metres(sampled).numpy(), strict=True)), spec.layout


def _of_parquet(path: Path, wish: Wish) -> tuple[Titled, SkeletonLayout]:
    motions, labels, layout = read_parquet(path)
    return _some_of_each(path, motions, labels, wish), layout


def _of_array(path: Path, wish: Wish) -> tuple[Titled, SkeletonLayout]:
    """(N, C, T, V), or Kinetic-GAN's (N, C, T, V, bodies) of which the first body is drawn; labels beside it, or none."""
    try:
        motions = np.load(path, mmap_mode="r", allow_pickle=False)
        if motions.ndim == 5:
            motions = motions[..., 0]
        if motions.ndim != 4 or motions.dtype.kind != "f" or not len(motions):
            raise UserError(f"{path}: shape {motions.shape} of {motions.dtype}; motions are floats (N, C, T, V)")
        labels = _labels_of_array(path, len(motions))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a .npy array of numbers ({str(error).splitlines()[0]})") from None
    layout = _layout_of_array(path, motions.shape[3], wish.layout)
    return _some_of_each(path, motions, labels, wish), layout


def _layout_of_array(path: Path, num_joints: int, wanted: str | None) -> SkeletonLayout:
    if wanted:
        layout = find_layout(wanted) if wanted in LAYOUTS else read_layout(wanted)
        if layout.num_joints != num_joints:
            raise UserError(f"--layout {wanted}: {layout.num_joints} joints, but {path} has {num_joints}")
        return layout
    for layout in LAYOUTS.values():
        if layout.num_joints == num_joints:
            return layout
    raise UserError(f"{path}: {num_joints} joints; say whose with --layout {' | '.join(LAYOUTS)} | FILE.yaml")


def _labels_of_array(path: Path, count: int) -> list[int]:
    for beside in (labels_beside(path), published_labels_beside(path)):
        if beside.exists():
            held = np.load(beside, allow_pickle=False) if beside.suffix == ".npy" else np.loadtxt(beside, ndmin=1)
            if held.shape != (count,):
                raise UserError(f"{beside}: {held.size} labels for {count} motions")
            return [int(label) for label in held]
    return list(range(count))  # each is of its own kind


def _of_skeleton_file(path: Path, wish: Wish) -> tuple[Titled, SkeletonLayout]:
    from kgan_ray.data.recording import RejectedRecording
    from kgan_ray.data.sources.text_sources import SkeletonFiles

    if not path.exists():
        raise UserError(f"{path}: no such file")
    source = SkeletonFiles(path)
    (item,) = source.items()
    try:
        recording = source.parse(item, source.fetch(item))
    except RejectedRecording as error:
        raise UserError(f"{path}: {error}") from None
    title = source.traits.class_names[recording.label]
    return [(title, recording.motion.transpose(2, 0, 1))], source.traits.layout


def _some_of_each(path: Path, motions: Iterable[np.ndarray], labels: Sequence[int], wish: Wish) -> Titled:
    wanted = None if wish.classes is None else {int(word) for word in wish.classes if word.isdigit()}
    drawn, seen = [], dict.fromkeys(labels, 0)
    for motion, label in zip(motions, labels, strict=True):
        if seen[label] < wish.count and (wanted is None or label in wanted):
            drawn.append((f"class {label}", np.asarray(motion, np.float32)))
            seen[label] += 1
    if not drawn:
        raise UserError(f"--classes: {path} has the classes {', '.join(map(str, sorted(seen)))}, by number")
    return drawn
