"""Rows of a dataset as tensors, in memory or mapped from a file.

Shapes: N motions, C coordinates, T frames, V joints; L frames of a recording.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kgan_ray.data.windows import WINDOWS, centred, first_frames
from kgan_ray.settings import UserError
from kgan_ray.skeleton import MotionSpec
from kgan_ray.storage import describe

if TYPE_CHECKING:
    from kgan_ray.data.view import DataView


@dataclass
class MotionTensors:
    """Motions with their labels, on the CPU."""

    motions: Tensor  # float32 (n, C, T, V) in [-1, 1]
    labels: Tensor  # int64 (n,)
    file: mmap.mmap | None = None  # that the motions are mapped from


def load_motions(view: DataView, rows: np.ndarray) -> MotionTensors:
    """Load the motions of the dataset's `rows` (sorted), cut to the window's length and scaled to [-1, 1]."""
    spec = view.spec
    motions, file = _empty((len(rows), *spec.shape), view)
    cut = WINDOWS[view.settings.window]
    for number, recording in enumerate(_recordings(view, rows)):
        motions[number] = torch.from_numpy(_scaled(cut(recording, spec.frames), spec).transpose(2, 0, 1))
    return MotionTensors(motions, torch.from_numpy(view.dataset.ids["label"][rows]), file)


def load_recordings(view: DataView, rows: np.ndarray, lengths: np.ndarray) -> MotionTensors:
    """Load whole recordings, end to end (all frames, C, V), each padded to its entry of `lengths`."""
    coordinates, _, joints = view.spec.shape
    frames, file = _empty((int(lengths.sum()), coordinates, joints), view)
    start = 0
    for recording, length in zip(_recordings(view, rows), lengths, strict=True):
        whole = _scaled(first_frames(recording, length), view.spec)
        frames[start : start + length] = torch.from_numpy(whole.transpose(0, 2, 1))
        start += length
    return MotionTensors(frames, torch.from_numpy(view.dataset.ids["label"][rows]), file)


def _empty(shape: tuple[int, ...], view: DataView) -> tuple[Tensor, mmap.mmap | None]:
    """Make a float32 tensor to fill: in memory, or mapped from a file, which is gone when the tensor is. Return that file too.

    The mapped tensor's pages are in memory only while there is room for them. Raises UserError where the disk has not
    enough for the file; without asking first, a full disk would kill the process as soon as it wrote there.
    """
    size = int(np.prod(shape))
    if view.settings.held_in == "memory" or size == 0:
        return torch.empty(shape), None
    with tempfile.NamedTemporaryFile(prefix="kgan_ray-motions-") as file:
        try:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, 4 * size)
            else:
                file.truncate(4 * size)
        except OSError as error:
            raise UserError(
                f"data.held_in=disk: {tempfile.gettempdir()} has no room for {4 * size / 1e9:.1f} GB "
                f"({describe(error)}); $TMPDIR names another folder"
            ) from None
        mapped = mmap.mmap(file.fileno(), 4 * size)
        return torch.from_numpy(np.frombuffer(mapped, np.float32)).view(shape), mapped


def _scaled(metres: np.ndarray, spec: MotionSpec) -> np.ndarray:
    """Scale metres to [-1, 1], clamped: the inverse of `MotionSpec.to_metres`."""
    low, high = spec.value_range
    return np.clip((metres - low) * (2.0 / (high - low)) - 1.0, -1.0, 1.0).astype(np.float32)


def _recordings(view: DataView, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the centred recordings (L, V, C) of `rows` (sorted), reading only the row groups they lie in."""
    dataset, spec = view.dataset, view.spec
    shape = (-1, spec.layout.num_joints, spec.coordinates)
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
                if not len(inside):
                    continue
                column = file.read_row_group(group, columns=["motion"])["motion"].combine_chunks()
                offsets, values = column.offsets.to_numpy(), column.values.to_numpy()
                for row in inside:
                    recording = values[offsets[row] : offsets[row + 1]].reshape(shape)
                    yield centred(recording, spec.layout.root, spec.centre)
