"""Motions as tensors, in memory or mapped from a file: collected from tables, which this process may read itself.

Shapes: N motions, C coordinates, T frames, V joints; L frames of a recording.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kgan_ray.data.motion_tables import motion_columns, motion_table
from kgan_ray.data.windows import WHOLE
from kgan_ray.storage import StoreError, describe

if TYPE_CHECKING:
    from kgan_ray.data.view import DataView

VALUES_PER_TABLE = 4 << 20  # 16 MB of motions exist twice while they are read


@dataclass
class MotionTensors:
    """Motions with their labels, on the CPU."""

    motions: Tensor  # float32 (N, C, T, V) in [-1, 1]; of whole recordings (their frames end to end, C, V)
    labels: Tensor  # int64 (N,)
    file: mmap.mmap | None = None  # that the motions are mapped from


def crops(frames: Tensor, firsts: Tensor, length: int) -> Tensor:
    """Cut motions (N, C, length, V) from frames (all of them, C, V), from the first frame (N,) of each on."""
    return frames[firsts[:, None] + torch.arange(length, device=frames.device)].transpose(1, 2)


def load_motions(view: DataView, split: str, rows: slice, window: str) -> MotionTensors:
    """Read these rows of a split from the dataset's files, in this process."""
    return collected(read_tables(view, view.rows(split)[rows], window), view, split, rows, window)


def collected(tables: Iterable[pa.Table], view: DataView, split: str, rows: slice, window: str) -> MotionTensors:
    """Put the motions of these rows of a split, which come as tables in file order, end to end into one tensor."""
    numbers = view.rows(split)[rows]
    coordinates, frames, joints = view.spec.shape
    shape: tuple[int, ...] = (len(numbers), coordinates, frames, joints)
    if window == WHOLE:
        shape = (int(view.lengths(numbers).sum()), coordinates, joints)
    motions, file = _empty(shape, view.settings.held_in)
    values, at = motions.view(-1).numpy(), 0
    labels: list[np.ndarray] = []
    for table in tables:
        labels.append(table["label"].to_numpy())
        for chunk in table["motion"].chunks:
            part = chunk.flatten().to_numpy()
            values[at : at + len(part)] = part
            at += len(part)
    if not np.array_equal(np.concatenate(labels or [numbers[:0]]), view.dataset.ids["label"][numbers]):
        raise RuntimeError(f"{view.path}: the motions came in another order than that of the files")
    return MotionTensors(motions, torch.from_numpy(view.labels_of(numbers)), file)


def read_tables(view: DataView, rows: np.ndarray, window: str) -> Iterator[pa.Table]:
    """Yield the motions of the dataset's `rows` (sorted) as tables, reading only the row groups they lie in."""
    dataset = view.dataset
    start = 0
    for part in dataset.manifest.parts:
        end = start + sum(part.row_groups)
        if not np.any((rows >= start) & (rows < end)):
            start = end
            continue
        with (
            dataset.reading(part) as path,
            pq.ParquetFile(path.path, filesystem=path.filesystem, pre_buffer=True) as file,
        ):
            for group, size in enumerate(part.row_groups):
                inside = rows[(rows >= start) & (rows < start + size)] - start
                start += size
                if len(inside):
                    recordings = file.read_row_group(
                        group, columns=["label", *motion_columns(view.spec.layout.bodies)]
                    )
                    num_tables = 1 + len(inside) * int(np.prod(view.spec.shape)) // VALUES_PER_TABLE
                    for few in np.array_split(inside, num_tables):
                        yield motion_table(recordings, few, view.spec, window)


def _empty(shape: tuple[int, ...], held_in: str) -> tuple[Tensor, mmap.mmap | None]:
    """Make a float32 tensor to fill: in memory, or mapped from a file, which is gone when the tensor is. Return that file too.

    The mapped tensor's pages are in memory only while there is room for them. Raises StoreError where the disk has not
    enough for the file; without asking first, a full disk would kill the process as soon as it wrote there.
    """
    size = int(np.prod(shape))
    if held_in == "memory" or size == 0:
        return torch.empty(shape), None
    with tempfile.NamedTemporaryFile(prefix="kgan_ray-motions-") as file:
        try:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, 4 * size)
            else:
                file.truncate(4 * size)
        except OSError as error:
            raise StoreError(
                f"data.held_in=disk: {tempfile.gettempdir()} has no room for {4 * size / 1e9:.1f} GB "
                f"({describe(error)}); $TMPDIR names another folder"
            ) from None
        mapped = mmap.mmap(file.fileno(), 4 * size)
        return torch.from_numpy(np.frombuffer(mapped, np.float32)).view(shape), mapped
