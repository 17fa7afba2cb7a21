"""Motions in a file of their own: Parquet rows as in a dataset, or plain `.npy` arrays with their labels beside them.

Shapes: N motions, C coordinates, T frames, V joints; metres unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from kgan_ray.data.loading import MotionTensors
from kgan_ray.data.motion_tables import motion_columns
from kgan_ray.data.recording import Recording
from kgan_ray.data.rows import part_schema, rows_table
from kgan_ray.settings import UserError
from kgan_ray.skeleton import MotionSpec, SkeletonLayout

SUFFIXES = (".npy", ".parquet")
# The whole layout, so that a skeleton of the user's own can be drawn.
_SKELETON = b"kgan_ray.skeleton"


@dataclass(frozen=True)
class MotionFile:
    """What a file holds: motions (C, T, V), the label of each, and whose joints they are, if it says so."""

    motions: Sequence[np.ndarray]
    labels: Sequence[int]
    layout: SkeletonLayout | None


def labels_beside(path: Path) -> Path:
    """Name the file of labels beside motions.npy: motions_labels.npy."""
    return path.with_name(f"{path.stem}_labels.npy")


def published_labels_beside(path: Path) -> Path:
    """Name the file where Kinetic-GAN's own script puts the labels of motions.npy: motions_labels.txt, one a line."""
    return path.with_name(f"{path.stem}_labels.txt")


def write_parquet(path: Path, motions: np.ndarray, labels: Sequence[int], layout: SkeletonLayout) -> None:
    """Write motions (N, C, T, V) as rows of the data contract, in which each of two bodies has a column."""
    rows = []
    for number, (motion, label) in enumerate(zip(motions, labels, strict=True)):
        first, *second = np.split(motion.transpose(1, 2, 0), layout.bodies, axis=1)
        row = Recording(
            name=f"generated-{number:06}",
            label=int(label),
            setup=None,
            camera=None,
            subject=None,
            replication=None,
            num_frames=motion.shape[1],
            num_bodies=layout.bodies,
            motion=first,
            motion_second=second[0] if second else None,
        )
        rows.append(row)
    schema = part_schema(layout, motions.shape[1])
    schema = schema.with_metadata({**schema.metadata, _SKELETON: layout.model_dump_json().encode()})
    pq.write_table(rows_table(rows, schema), path, compression="zstd")


def write_npy(path: Path, motions: np.ndarray, labels: Sequence[int]) -> None:
    """Write motions (N, C, T, V), and the labels (N,) beside them."""
    np.save(path, motions.astype(np.float32))
    np.save(labels_beside(path), np.asarray(labels, np.int64))


def write_published(path: Path, motions: np.ndarray, labels: Sequence[int]) -> None:
    """Write motions (N, C, T, V) in [-1, 1] as Kinetic-GAN's own script does, with one label a line as text."""
    np.save(path, motions.astype(np.float32))
    np.savetxt(published_labels_beside(path), np.asarray(labels), fmt="%d")


def open_motions(path: Path) -> MotionFile:
    """Open a file that stands for itself: Parquet that `generate` wrote, or an array with its labels beside it.

    An array is (N, C, T, V), or Kinetic-GAN's (N, C, T, V, bodies) of which the first body is taken. Without labels,
    each of its motions is of a class of its own. Raises UserError for everything else.
    """
    if path.suffix == ".parquet":
        table = _parquet(path)
        metadata = table.schema.metadata or {}
        try:
            shape = (-1, int(metadata[b"kgan_ray.joints"]), int(metadata[b"kgan_ray.coordinates"]))
            layout = SkeletonLayout.model_validate_json(metadata[_SKELETON])
            rows = _rows(path, table, layout.bodies)
            motions = [np.concatenate([body.reshape(shape) for body in row], axis=1) for row in rows]
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{path}: not a file of motions that `generate` wrote ({str(error).splitlines()[0]})"
            ) from None
        return MotionFile([motion.transpose(2, 0, 1) for motion in motions], table["label"].to_pylist(), layout)
    array = _array(path, in_place=True)
    if array.ndim == 5:
        array = array[..., 0]
    if array.ndim != 4 or array.dtype.kind != "f" or not len(array):
        raise UserError(f"{path}: shape {array.shape} of {array.dtype}; motions are floats (N, C, T, V)")
    return MotionFile(list(array), _labels_beside(path, len(array)), None)


def read_motions(path: Path, labels: Path | None, spec: MotionSpec, *, units: str = "metres") -> MotionTensors:
    """Read motions and labels of a file, as the dataset of `spec` scales them.

    A .npy file holds (N, C, T, V), its `labels` (N,) class numbers; a Parquet file has the columns `motion`, every row
    the T * V * C values of a motion (frames outermost), and `label`. `units` is "metres", relative to what `data.centre`
    names, or "scaled" for values in [-1, 1]. Raises UserError for everything else, for values that are not finite and
    for classes that the dataset does not have.
    """
    if path.suffix == ".parquet":
        table = _parquet(path)
        motions, classes = _shaped(path, _rows(path, table, spec.layout.bodies), spec), table["label"].to_numpy()
    else:
        if labels is None:
            raise UserError(f"{path}: an array of motions needs --labels FILE.npy, a class number for each")
        motions, classes = _array(path), _array(labels)
    _check(path, motions, classes, spec)
    if units == "metres":
        motions = spec.from_metres(motions)
    elif abs(motions).max() > 1.5:
        raise UserError(f"{path}: values reach {abs(motions).max():.4g}; --units scaled means values in [-1, 1]")
    return MotionTensors(
        torch.from_numpy(np.ascontiguousarray(motions, dtype=np.float32)),
        torch.from_numpy(classes.astype(np.int64)),
    )


def _array(path: Path, *, in_place: bool = False) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r" if in_place else None, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a .npy array of numbers ({str(error).splitlines()[0]})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise UserError(f"{path}: not a .npy array of numbers")
    return array


def _labels_beside(path: Path, count: int) -> list[int]:
    for beside in (labels_beside(path), published_labels_beside(path)):
        if not beside.exists():
            continue
        try:
            labels = _array(beside) if beside.suffix == ".npy" else np.loadtxt(beside, ndmin=1)
        except ValueError as error:
            raise UserError(f"{beside}: not one label a line ({str(error).splitlines()[0]})") from None
        if labels.shape != (count,):
            raise UserError(f"{beside}: {labels.size} labels for {count} motions")
        return [int(label) for label in labels]
    return list(range(count))


def _parquet(path: Path) -> pa.Table:
    """Read a table that has motions and labels."""
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from None
    if missing := {"motion", "label"} - set(table.column_names):
        raise UserError(f"{path}: no column {' and no column '.join(sorted(missing))}")
    return table


def _rows(path: Path, table: pa.Table, bodies: int) -> list[list[np.ndarray]]:
    """Return the flat values of each body of each motion."""
    names = motion_columns(bodies)
    for name in names:
        if name not in table.column_names or table[name].null_count:
            raise UserError(f"{path}: expected {bodies} bodies in every row; the column {name} lacks some")
    columns = [[np.asarray(row.as_py(), dtype=np.float32) for row in table[name]] for name in names]
    return [list(row) for row in zip(*columns, strict=True)]


def _shaped(path: Path, rows: Sequence[Sequence[np.ndarray]], spec: MotionSpec) -> np.ndarray:
    """Stack flat motions of one length to (N, C, T, V)."""
    coordinates, frames, joints = spec.shape
    joints //= spec.layout.bodies
    for number, row in enumerate(rows):
        for body in row:
            if body.size != frames * joints * coordinates:
                raise UserError(
                    f"{path}: row {number} holds {body.size} values, expected {frames} frames * {joints} joints * "
                    f"{coordinates} coordinates = {frames * joints * coordinates}"
                )
    stacked = np.array(rows, dtype=np.float32).reshape(len(rows), -1, frames, joints, coordinates)
    return np.concatenate([*stacked.swapaxes(0, 1)], axis=2).transpose(0, 3, 1, 2)


def _check(path: Path, motions: np.ndarray, classes: np.ndarray, spec: MotionSpec) -> None:
    if motions.ndim != 4 or motions.shape[1:] != spec.shape or not len(motions):
        raise UserError(f"{path}: shape {motions.shape}, expected (N, C, T, V) with (C, T, V) = {spec.shape}")
    if classes.shape != motions.shape[:1] or classes.dtype.kind not in "iu":
        raise UserError(
            f"{path}: labels of shape {classes.shape} and type {classes.dtype}; "
            f"expected one whole number for each of {len(motions)} motions"
        )
    unknown = sorted(set(classes[(classes < 0) | (classes >= spec.num_classes)].tolist()))
    if unknown:
        raise UserError(
            f"{path}: unknown class {unknown[0]}; the dataset has the classes 0 to {spec.num_classes - 1}"
        )
    bad = np.flatnonzero(~np.isfinite(motions).all(axis=(1, 2, 3)))
    if len(bad):
        raise UserError(
            f"{path}: {len(bad)} of {len(motions)} motions hold NaN or infinity, first number {bad[0]}"
        )
