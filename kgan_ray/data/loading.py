"""A dataset's rows as tensors, and the batches of training.

Shapes: N motions, C coordinates, T frames, V joints; B = global batch size, W = workers.

A global batch does not depend on the number of workers. The training rows, in file order, are cut into B
contiguous lanes of equal length (one longer here and there); every epoch each lane shuffles its own rows, and
batch b takes the b-th row of every lane. Worker r holds the lanes from r B/W to (r + 1) B/W, hence a contiguous
range of the file, and reads no other row group.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kgan_ray.data.dataset import Dataset
from kgan_ray.data.windows import WINDOWS, centred, first_frames
from kgan_ray.settings import DataSettings, UserError
from kgan_ray.skeleton import MotionSpec
from kgan_ray.storage import describe, open_store

BATCHES_AHEAD = 8  # that are fetched from the disk, where the motions are held there


@dataclass
class MotionTensors:
    """Motions with their labels, on the CPU."""

    motions: Tensor  # float32 (n, C, T, V) in [-1, 1]
    labels: Tensor  # int64 (n,)
    file: mmap.mmap | None = None  # that the motions are mapped from


def load_split(
    dataset: Dataset,
    data: DataSettings,
    split: str,
    *,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int | None = None,
) -> MotionTensors:
    """The motions of a split ("train" or "test") in file order, or one worker's share of them.

    With `batch_size`, the share is the rows of the worker's lanes; without, an even contiguous cut. The window
    "random" gives the middle of each recording here, so that statistics of a split are always the same. Values
    beyond the range of the training split are clamped to it. Raises UserError for an empty split.
    """
    spec = dataset.spec(data)
    rows = dataset.rows_of(data.benchmark, split)
    if batch_size is None:
        rows = rows[len(rows) * rank // world_size : len(rows) * (rank + 1) // world_size]
    else:
        rows = np.unique(_lanes(rows, batch_size)[_own_lanes(batch_size, rank, world_size)].ravel())
        rows = rows[rows >= 0]
    motions, file = _empty((len(rows), *spec.shape), data)
    cut = WINDOWS[data.window]
    for number, recording in enumerate(_recordings(dataset, spec, rows)):
        motions[number] = torch.from_numpy(_scaled(cut(recording, spec.frames), spec).transpose(2, 0, 1))
    return MotionTensors(motions, torch.from_numpy(dataset.ids["label"][rows]), file)


def _empty(shape: tuple[int, ...], data: DataSettings) -> tuple[Tensor, mmap.mmap | None]:
    """A float32 tensor to fill: in memory, or mapped from a file, which is gone when the tensor is, and that file.

    The mapped one's pages are in memory only while there is room for them. Raises UserError where the disk has not
    enough for the file; without asking first, a full disk would kill the process as soon as it wrote there.
    """
    size = int(np.prod(shape))
    if data.held_in == "memory" or size == 0:
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
    """The inverse of `MotionSpec.to_metres`, clamped to [-1, 1]."""
    low, high = spec.value_range
    return np.clip((metres - low) * (2.0 / (high - low)) - 1.0, -1.0, 1.0).astype(np.float32)


def _recordings(dataset: Dataset, spec: MotionSpec, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Centred recordings (L, V, C) of the given rows (sorted), reading only the row groups they lie in."""
    store, root = open_store(dataset.path)
    shape = (-1, spec.layout.num_joints, spec.coordinates)
    start = 0
    for part in dataset.manifest.parts:
        end = start + sum(part.row_groups)
        if not np.any((rows >= start) & (rows < end)):
            start = end
            continue
        with (
            dataset.reading(part),
            pq.ParquetFile(f"{root}/{part.file}", filesystem=store, pre_buffer=True) as file,
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


def _lanes(rows: np.ndarray, batch_size: int) -> np.ndarray:
    """(B, longest lane): the rows of each lane, -1 after a shorter lane's end.

    Fewer rows than lanes: lane i holds row i modulo their number.
    """
    if len(rows) < batch_size:
        return rows[np.arange(batch_size) % len(rows)][:, None]
    bounds = np.arange(batch_size + 1) * len(rows) // batch_size
    index = bounds[:-1, None] + np.arange(np.diff(bounds).max())
    return np.where(index < bounds[1:, None], rows[np.minimum(index, len(rows) - 1)], -1)


def _own_lanes(batch_size: int, rank: int, world_size: int) -> slice:
    if batch_size % world_size:
        raise UserError(f"training.batch_size is {batch_size}, which {world_size} workers cannot share evenly")
    share = batch_size // world_size
    return slice(rank * share, (rank + 1) * share)


class Batches:
    """One worker's slice of the endless sequence of global batches.

    Stateless: `batch(step)` depends on the dataset's content, the data settings, `seed` and `step` only, so a run
    that is resumed at a step sees what the undisturbed run would have seen. All data lie on `device`, or on disk
    with `data.held_in`: the batches are the same.
    """

    def __init__(
        self,
        dataset: Dataset,
        data: DataSettings,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: str | torch.device = "cpu",
        balanced: bool = False,
    ) -> None:
        """`balanced`: every lane draws its rows with replacement, all classes as often as one another."""
        self._spec = dataset.spec(data)
        rows = dataset.rows_of(data.benchmark, "train")
        self._lanes = _lanes(rows, batch_size)
        self._own = _own_lanes(batch_size, rank, world_size)
        self.batches_per_epoch = int((self._lanes >= 0).sum(axis=1).min())
        self._weights = self._class_weights(dataset.ids["label"]) if balanced else None
        self._entropy = (int(dataset.hash, 16), seed)
        self._device = torch.device(device)
        self._home = self._device if data.held_in == "memory" else torch.device("cpu")
        self._epoch = -1
        self._rows = torch.empty(0)  # (batches per epoch, B/W): rows of the held tensors
        self._starts = torch.empty(0)  # the same shape: first frames of random crops
        self._is_random = data.window == "random"
        if self._is_random:
            held = self._recordings_held(dataset, data)
        else:
            held = load_split(dataset, data, "train", rank=rank, world_size=world_size, batch_size=batch_size)
        self._motions, self._labels = held.motions.to(self._home), held.labels.to(self._home)
        self._file = held.file
        if self._file is not None:
            self._file.madvise(mmap.MADV_RANDOM)  # read what is asked for, not what lies beside it

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Motions (B/W, C, T, V) and labels (B/W,) of a global step, counted from 0."""
        epoch, number = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._begin(epoch)
            for ahead in range(BATCHES_AHEAD):
                self._read_ahead(number + ahead)
        self._read_ahead(number + BATCHES_AHEAD)
        rows = self._rows[number]
        if self._is_random:
            frames = self._starts[number][:, None] + torch.arange(self._spec.frames, device=self._home)  # (n, T)
            motions = self._motions[frames].transpose(1, 2).contiguous()
        else:
            motions = self._motions[rows]
        return motions.to(self._device), self._labels[rows].to(self._device)

    def _read_ahead(self, number: int) -> None:
        """Have the system fetch a batch of this epoch from the disk while earlier ones are trained on."""
        if self._file is None or number >= self.batches_per_epoch:
            return
        frame = 4 * self._motions[0].numel()  # bytes of what is counted: a frame of random crops, else a motion
        firsts = self._starts[number] if self._is_random else self._rows[number]
        length = frame * (self._spec.frames if self._is_random else 1)
        for first in firsts.tolist():
            start = first * frame // mmap.PAGESIZE * mmap.PAGESIZE
            self._file.madvise(mmap.MADV_WILLNEED, start, first * frame + length - start)

    def _begin(self, epoch: int) -> None:
        """Shuffle the lanes. Every worker draws for all lanes and keeps its own."""
        random = np.random.default_rng([*self._entropy, epoch])
        keys = np.where(self._lanes >= 0, random.random(self._lanes.shape), np.inf)
        if self._weights is None:
            chosen = np.argsort(keys, axis=1, kind="stable")[self._own, : self.batches_per_epoch]
        else:
            drawn = random.random((len(self._lanes), self.batches_per_epoch))[self._own]
            chosen = np.stack(
                [np.searchsorted(w, u, side="right") for w, u in zip(self._weights, drawn, strict=True)]
            )
        rows = np.take_along_axis(self._lanes[self._own], chosen, axis=1)  # (B/W, batches): rows of the dataset
        held = np.unique(self._lanes[self._own])
        rows = np.searchsorted(held[held >= 0], rows).T
        self._rows = torch.from_numpy(rows).to(self._home)
        if self._is_random:
            part = random.random((self.batches_per_epoch, len(self._lanes)))[:, self._own]
            starts = self._first_frame[rows] + np.floor(part * self._num_starts[rows]).astype(np.int64)
            self._starts = torch.from_numpy(starts).to(self._home)
        self._epoch = epoch

    def _class_weights(self, labels: np.ndarray) -> np.ndarray:
        """(B/W, longest lane): the running sum of the rows' chances, which are 1 / (rows of the class in the lane)."""
        lanes = self._lanes[self._own]
        chances = np.zeros(lanes.shape)
        for lane, row in zip(lanes, chances, strict=True):
            classes, counts = np.unique(labels[lane[lane >= 0]], return_counts=True)
            row[lane >= 0] = 1 / (len(classes) * counts[np.searchsorted(classes, labels[lane[lane >= 0]])])
        sums = chances.cumsum(axis=1)
        return sums / sums[:, -1:]

    def _recordings_held(self, dataset: Dataset, data: DataSettings) -> MotionTensors:
        """Whole recordings, end to end (all frames, C, V), each at least T frames long, to crop from."""
        rows = np.unique(self._lanes[self._own])
        rows = rows[rows >= 0]
        lengths = np.maximum(dataset.ids["num_frames"][rows], self._spec.frames)
        self._first_frame = np.cumsum(lengths) - lengths
        self._num_starts = lengths - self._spec.frames + 1
        coordinates, _, joints = self._spec.shape
        motions, file = _empty((int(lengths.sum()), coordinates, joints), data)
        recordings = _recordings(dataset, self._spec, rows)
        for recording, first, length in zip(recordings, self._first_frame, lengths, strict=True):
            whole = _scaled(first_frames(recording, length), self._spec)
            motions[first : first + length] = torch.from_numpy(whole.transpose(0, 2, 1))
        return MotionTensors(motions, torch.from_numpy(dataset.ids["label"][rows]), file)
