"""Motions made elsewhere: a Parquet file, or a .npy array with its labels in a second one.

Shapes: N motions, C coordinates, T frames, V joints.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from kgan_ray.data.loading import MotionTensors
from kgan_ray.settings import UserError
from kgan_ray.skeleton import MotionSpec

SUFFIXES = (".npy", ".parquet")


def read_motions(path: Path, labels: Path | None, spec: MotionSpec, *, units: str = "metres") -> MotionTensors:
    """Read motions and labels from a file, and scale them as the dataset of `spec` does.

    A .npy file holds (N, C, T, V), its `labels` (N,) class numbers; a Parquet file has the columns `motion`, every row
    the T * V * C values of a motion (frames outermost), and `label`. `units` is "metres", relative to what `data.centre`
    names, or "scaled" for values in [-1, 1]. Raises UserError for everything else, for values that are not finite and
    for classes that the dataset does not have.
    """
    if path.suffix == ".parquet":
        motions, classes = _read_parquet(path, spec)
    else:
        if labels is None:
            raise UserError(f"{path}: an array of motions needs --labels FILE.npy, a class number for each")
        motions, classes = _read_array(path), _read_array(labels)
    _check(path, motions, classes, spec)
    if units == "metres":
        low, high = spec.value_range
        motions = (motions - low) * (2.0 / (high - low)) - 1.0
    elif abs(motions).max() > 1.5:
        raise UserError(f"{path}: values reach {abs(motions).max():.4g}; --units scaled means values in [-1, 1]")
    return MotionTensors(
        torch.from_numpy(np.ascontiguousarray(motions, dtype=np.float32)),
        torch.from_numpy(classes.astype(np.int64)),
    )


def _read_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a .npy array of numbers ({str(error).splitlines()[0]})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise UserError(f"{path}: not a .npy array of numbers")
    return array


def _read_parquet(path: Path, spec: MotionSpec) -> tuple[np.ndarray, np.ndarray]:
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from None
    missing = {"motion", "label"} - set(table.column_names)
    if missing:
        raise UserError(f"{path}: no column {' and no column '.join(sorted(missing))}")
    rows = [np.asarray(row.as_py(), dtype=np.float32) for row in table["motion"]]
    coordinates, frames, joints = spec.shape
    for number, row in enumerate(rows):
        if row.size != frames * joints * coordinates:
            raise UserError(
                f"{path}: row {number} holds {row.size} values, expected {frames} frames * {joints} joints * "
                f"{coordinates} coordinates = {frames * joints * coordinates}"
            )
    motions = np.array(rows, dtype=np.float32).reshape(-1, frames, joints, coordinates).transpose(0, 3, 1, 2)
    return motions, table["label"].to_numpy()


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
