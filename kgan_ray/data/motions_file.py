"""Motions in a file of their own: Parquet rows as in a dataset, or plain `.npy` arrays.

Shapes: N motions, C coordinates, T frames, V joints; metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kgan_ray.data.prepare.parts import part_schema, rows_table
from kgan_ray.data.recording import Recording
from kgan_ray.settings import UserError
from kgan_ray.skeleton import SkeletonLayout

_SKELETON = b"kgan_ray.skeleton"  # the whole layout, so that a skeleton of the user's own can be drawn


def labels_beside(path: Path) -> Path:
    """Where the labels of motions.npy are: motions_labels.npy."""
    return path.with_name(f"{path.stem}_labels.npy")


def published_labels_beside(path: Path) -> Path:
    """Where Kinetic-GAN's own script puts the labels of motions.npy: motions_labels.txt, one a line."""
    return path.with_name(f"{path.stem}_labels.txt")


def write_parquet(path: Path, motions: np.ndarray, labels: Sequence[int], layout: SkeletonLayout) -> None:
    """Write motions (N, C, T, V) as rows of the data contract."""
    rows = [
        Recording(
            name=f"generated-{number:06}",
            label=int(label),
            setup=None,
            camera=None,
            subject=None,
            replication=None,
            num_frames=motion.shape[1],
            num_bodies=1,
            motion=motion.transpose(1, 2, 0),
        )
        for number, (motion, label) in enumerate(zip(motions, labels, strict=True))
    ]
    schema = part_schema(layout, motions.shape[1])
    schema = schema.with_metadata({**schema.metadata, _SKELETON: layout.model_dump_json().encode()})
    pq.write_table(rows_table(rows, schema), path, compression="zstd")


def write_npy(path: Path, motions: np.ndarray, labels: Sequence[int]) -> None:
    """Write motions (N, C, T, V), and the labels (N,) beside them."""
    np.save(path, motions.astype(np.float32))
    np.save(labels_beside(path), np.asarray(labels, np.int64))


def write_published(path: Path, motions: np.ndarray, labels: Sequence[int]) -> None:
    """What Kinetic-GAN's own script writes: motions (N, C, T, V) in [-1, 1], and one label a line as text."""
    np.save(path, motions.astype(np.float32))
    np.savetxt(published_labels_beside(path), np.asarray(labels), fmt="%d")


def read_parquet(path: Path) -> tuple[list[np.ndarray], list[int], SkeletonLayout]:
    """Motions (C, T, V) in metres, their labels and their skeleton. Raises UserError where they are not there."""
    try:
        table = pq.read_table(path, columns=["label", "motion"], partitioning=None)
        held = table.schema.metadata or {}
        shape = (-1, int(held[b"kgan_ray.joints"]), int(held[b"kgan_ray.coordinates"]))
        layout = SkeletonLayout.model_validate_json(held[_SKELETON])
        rows = [
            np.asarray(row, np.float32).reshape(shape).transpose(2, 0, 1) for row in table["motion"].to_pylist()
        ]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: not a file of motions that `generate` wrote ({str(error).splitlines()[0]})"
        ) from None
    return rows, table["label"].to_pylist(), layout
