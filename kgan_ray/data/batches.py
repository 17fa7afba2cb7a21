"""The batches of training.

Shapes: C coordinates, T frames, V joints; B = global batch size, W = workers.

A global batch does not depend on the number of workers. The training rows, in file order, are cut into B
contiguous lanes of equal length (one longer here and there); every epoch each lane shuffles its own rows, and
batch b takes the b-th row of every lane. Worker r holds the lanes from r B/W to (r + 1) B/W, hence a contiguous
range of the file, and reads no other row group. Balanced classes need every class in every lane: there the rows of
each class are dealt out to the lanes in turn, and a worker holds the whole training split.
"""

from __future__ import annotations

import mmap
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kgan_ray.data.loading import crops
from kgan_ray.data.windows import WHOLE
from kgan_ray.settings import UserError

if TYPE_CHECKING:
    from kgan_ray.data.view import DataView

Batch = tuple[Tensor, Tensor]  # motions (B/W, C, T, V), labels (B/W,)

# So many are fetched ahead from the disk, where the motions are held there.
BATCHES_AHEAD = 8


class Batches:
    """One worker's slice of the endless sequence of global batches.

    Stateless: `batch(step)` depends on the dataset's content, the data settings, `seed` and `step` only, so a run
    that is resumed at a step sees what the undisturbed run would have seen. All data lie on `device`, or on disk
    with `data.held_in`: the batches are the same. For a GPU a thread fetches the next one from there meanwhile.
    """

    def __init__(
        self,
        view: DataView,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: str | torch.device = "cpu",
        balanced: bool = False,
    ) -> None:
        """Load the rows of this worker's lanes; `DataView.batches` says what the arguments mean."""
        self._frames = view.spec.frames
        labels = view.labels("train")
        num_rows = len(labels)
        self._lanes = _balanced_lanes(labels, batch_size) if balanced else _lanes(num_rows, batch_size)
        self._own = _own_lanes(batch_size, rank, world_size)
        held = rows_of_worker(num_rows, batch_size, rank, world_size, balanced=balanced)
        self._first_row = held.start
        self.batches_per_epoch = int((self._lanes >= 0).sum(axis=1).min())
        self._weights = self._class_weights(labels) if balanced else None
        self._entropy = (int(view.hash, 16), seed)
        self._device = torch.device(device)
        self._home = self._device if view.settings.held_in == "memory" else torch.device("cpu")
        self._epoch = -1
        self._rows = torch.empty(0)  # (batches per epoch, B/W): rows of the held tensors
        self._starts = torch.empty(0)  # the same shape: first frames of random crops
        self._is_random = view.settings.window == "random"
        if self._is_random:  # to crop from
            lengths = view.lengths(view.rows("train")[held])
            self._first_frame, self._num_starts = np.cumsum(lengths) - lengths, lengths - self._frames + 1
        loaded = view.motions("train", held, training_window(view))
        self._motions, self._labels = loaded.motions.to(self._home), loaded.labels.to(self._home)
        self._file = loaded.file
        # A batch that was asked for before its time, of one step; `_cut` runs in the one thread then.
        self._reader: ThreadPoolExecutor | None = None
        self._ahead: tuple[int, Future[Batch]] | None = None
        if self._file is not None:
            self._file.madvise(mmap.MADV_RANDOM)  # read what is asked for, not what lies beside it
            if self._device != self._home:
                self._reader = ThreadPoolExecutor(1, "reader")

    def batch(self, step: int) -> Batch:
        """Return motions (B/W, C, T, V) and labels (B/W,) of a global step, counted from 0."""
        if self._reader is None:
            return self._cut(step)
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = step, self._reader.submit(self._pinned, step)
        motions, labels = self._ahead[1].result()
        self._ahead = step + 1, self._reader.submit(self._pinned, step + 1)
        return motions.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)

    def _pinned(self, step: int) -> Batch:
        """Return a batch in memory from which a GPU copies it while it computes."""
        motions, labels = self._cut(step)
        return (motions.pin_memory(), labels.pin_memory()) if self._device.type == "cuda" else (motions, labels)

    def _cut(self, step: int) -> Batch:
        """Return a batch where the data lie."""
        epoch, number = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._begin(epoch)
            for ahead in range(BATCHES_AHEAD):
                self._read_ahead(number + ahead)
        self._read_ahead(number + BATCHES_AHEAD)
        rows = self._rows[number]
        if self._is_random:
            motions = crops(self._motions, self._starts[number], self._frames).contiguous()
        else:
            motions = self._motions[rows]
        return motions, self._labels[rows]

    def _read_ahead(self, number: int) -> None:
        """Ask the operating system to fetch a batch of this epoch from the disk while earlier ones are trained on."""
        if self._file is None or number >= self.batches_per_epoch:
            return
        # Bytes of what is counted: a frame of random crops, else a motion.
        frame = 4 * self._motions[0].numel()
        firsts = self._starts[number] if self._is_random else self._rows[number]
        length = frame * (self._frames if self._is_random else 1)
        for first in firsts.tolist():
            start = first * frame // mmap.PAGESIZE * mmap.PAGESIZE
            self._file.madvise(mmap.MADV_WILLNEED, start, first * frame + length - start)

    def _begin(self, epoch: int) -> None:
        """Shuffle the lanes. Every worker draws for all lanes and keeps its own."""
        random = np.random.default_rng([*self._entropy, epoch])
        keys = np.where(self._lanes >= 0, random.random(self._lanes.shape), np.inf)
        if self._weights is None:
            places = np.argsort(keys, axis=1, kind="stable")[self._own, : self.batches_per_epoch]
        else:
            uniform = random.random((len(self._lanes), self.batches_per_epoch))[self._own]
            places = np.stack(
                [np.searchsorted(w, u, side="right") for w, u in zip(self._weights, uniform, strict=True)]
            )
        rows = np.take_along_axis(self._lanes[self._own], places, axis=1)  # (B/W, batches): rows of the split
        rows = rows.T - self._first_row
        self._rows = torch.from_numpy(rows).to(self._home)
        if self._is_random:
            part = random.random((self.batches_per_epoch, len(self._lanes)))[:, self._own]
            starts = self._first_frame[rows] + np.floor(part * self._num_starts[rows]).astype(np.int64)
            self._starts = torch.from_numpy(starts).to(self._home)
        self._epoch = epoch

    def _class_weights(self, labels: np.ndarray) -> np.ndarray:
        """Return the running sum of the rows' chances, 1 / (rows of the class in the lane): (B/W, longest lane)."""
        lanes = self._lanes[self._own]
        chances = np.zeros(lanes.shape)
        for lane, row in zip(lanes, chances, strict=True):
            classes, counts = np.unique(labels[lane[lane >= 0]], return_counts=True)
            row[lane >= 0] = 1 / (len(classes) * counts[np.searchsorted(classes, labels[lane[lane >= 0]])])
        sums = chances.cumsum(axis=1)
        return sums / sums[:, -1:]


def training_window(view: DataView) -> str:
    """Return how recordings are cut when they are read to train on: those of random crops are kept whole."""
    return WHOLE if view.settings.window == "random" else view.settings.window


def sharing_workers(batch_size: int, workers: int) -> int:
    """Return how many of the workers can share a batch evenly; the others wait for the next resize."""
    return max(number for number in range(1, workers + 1) if batch_size % number == 0)


def rows_of_worker(num_rows: int, batch_size: int, rank: int, world_size: int, *, balanced: bool) -> slice:
    """Return the rows of a training split that this worker's lanes lie in: with balanced classes all.

    Raises UserError for workers that cannot share a batch evenly.
    """
    lanes = _own_lanes(batch_size, rank, world_size)
    if balanced:
        return slice(0, num_rows)
    own = _lanes(num_rows, batch_size)[lanes]
    return slice(int(own[own >= 0].min()), int(own.max()) + 1)


def lane_bounds(num_rows: int, batch_size: int) -> np.ndarray:
    """Return the first row of each lane of a training split, and the number of rows. Where rows are few, each is a lane."""
    lanes = min(batch_size, num_rows)
    return np.arange(lanes + 1) * num_rows // lanes


def _lanes(num_rows: int, batch_size: int) -> np.ndarray:
    """Cut the rows of a split into lanes: (B, longest lane), -1 after a shorter lane's end.

    Fewer rows than lanes: lane i holds row i modulo their number.
    """
    if num_rows < batch_size:
        return (np.arange(batch_size) % num_rows)[:, None]
    bounds = lane_bounds(num_rows, batch_size)
    rows = bounds[:-1, None] + np.arange(np.diff(bounds).max())
    return np.where(rows < bounds[1:, None], rows, -1)


def _balanced_lanes(labels: np.ndarray, batch_size: int) -> np.ndarray:
    """Deal the rows of each class of a split out to lanes in turn: (B, longest lane), -1 after a shorter lane's end.

    Every lane has every class, so a batch has each class in B / classes of its motions on average. A class of fewer
    rows than lanes has each of them in several lanes.
    """
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    lanes = [
        np.concatenate([own[lane::batch_size] if lane < len(own) else own[[lane % len(own)]] for own in classes])
        for lane in range(batch_size)
    ]
    longest = max(map(len, lanes))
    return np.stack([np.pad(lane, (0, longest - len(lane)), constant_values=-1) for lane in lanes])


def _own_lanes(batch_size: int, rank: int, world_size: int) -> slice:
    if batch_size % world_size:
        raise UserError(f"training.batch_size is {batch_size}, which {world_size} workers cannot share evenly")
    share = batch_size // world_size
    return slice(rank * share, (rank + 1) * share)
