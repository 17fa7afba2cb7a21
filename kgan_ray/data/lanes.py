"""The lanes of a training split as Ray Train's workers get them: read once, a block each, dealt out whole.

A batch takes a row from every lane, so it does not depend on how many workers share the lanes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray.data
from ray.data import DataIterator, Dataset
from ray.train import DataConfig

from kgan_ray.data.batches import lane_bounds, rows_of_worker, sharing_workers, training_window
from kgan_ray.data.loading import MotionTensors, collected
from kgan_ray.data.ray_dataset import blocks, tables_of

if TYPE_CHECKING:
    from kgan_ray.data.view import DataView


def by_lanes(view: DataView, batch_size: int) -> Dataset:
    """Have the cluster read the training split; return it in the object store, a block for each lane.

    The driver puts the blocks there, so they are not lost with another node: a run that shrinks reads nothing again.
    """
    sizes = np.diff(lane_bounds(len(view.rows("train")), batch_size))
    with tables_of(view, training_window(view)) as tables:
        lanes = [ray.data.from_blocks([lane]) for lane in _cut(tables, sizes)]
    return lanes[0].union(*lanes[1:]).materialize()


def _cut(tables: Iterator[pa.Table], sizes: Iterable[int]) -> Iterator[pa.Table]:
    """Cut a stream of tables anew, into tables of these sizes."""
    waiting: list[pa.Table] = []
    for size in sizes:
        while sum(map(len, waiting)) < size:
            waiting.append(next(tables))
        joined = pa.concat_tables(waiting)
        yield joined.slice(0, size).combine_chunks()
        waiting = [joined.slice(size)]


class LaneShards(DataConfig):
    """Gives every worker its own lanes of a dataset that holds a lane a block, or all where classes are balanced.

    Ray Train asks anew whenever the number of workers changes. Nothing is computed here: the workers have all the CPUs.
    """

    def __init__(self, batch_size: int, *, balanced: bool) -> None:
        super().__init__()
        self.batch_size, self.balanced = batch_size, balanced

    def configure(
        self, datasets: dict[str, Dataset], world_size: int, *args: Any, **kwargs: Any
    ) -> list[dict[str, DataIterator]]:
        """Return each worker's shares by name; those that wait for the next resize get one too, as Ray Train demands."""
        workers = sharing_workers(self.batch_size, world_size)
        return [
            {name: self._share(dataset, rank % workers, workers) for name, dataset in datasets.items()}
            for rank in range(world_size)
        ]

    def _share(self, dataset: Dataset, rank: int, workers: int) -> DataIterator:
        lanes = dataset.split(dataset.num_blocks())
        ends = list(accumulate(lane.count() for lane in lanes))
        rows = rows_of_worker(ends[-1], self.batch_size, rank, workers, balanced=self.balanced)
        own = [lane for lane, end in zip(lanes, ends, strict=True) if rows.start < end <= rows.stop]
        return own[0].union(*own[1:]).iterator()


class LaneShare:
    """A worker's rows of the training split, from the lanes that Ray Train has dealt out to it."""

    def __init__(self, shard: DataIterator, rows: slice) -> None:
        self._shard, self._rows = shard, rows

    def motions(self, view: DataView, split: str, rows: slice, window: str) -> MotionTensors | None:
        """Collect the worker's own rows; nothing else is held."""
        if (split, rows, window) != ("train", self._rows, training_window(view)):
            return None
        return collected(blocks(self._shard), view, split, rows, window)
