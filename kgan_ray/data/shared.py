"""Training splits that a sweep reads once: in Ray's object store, from where every process of a node maps them.

It imports Ray when it is asked to read: a verb's first checks need only the sizes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from kgan_ray.data.batches import training_window
from kgan_ray.data.loading import MotionTensors, collected
from kgan_ray.data.windows import WHOLE
from kgan_ray.settings import DataSettings

if TYPE_CHECKING:
    from ray import ObjectRef

    from kgan_ray.data.view import DataView


class SharedMotions:
    """Training splits in Ray's object store, where each is read once and every process of a node maps it without a copy."""

    def __init__(self, views: Iterable[DataView]) -> None:
        """Have the cluster read the splits of these views, one after the other."""
        import ray

        from kgan_ray.data.ray_dataset import tables_of

        self._splits: dict[tuple[DataSettings, str], ObjectRef[np.ndarray]] = {}
        for view, window in _to_share(views):
            rows = slice(0, len(view.rows("train")))
            with tables_of(view, window) as tables:
                loaded = collected(tables, view, "train", rows, window)
                self._splits[view.settings, window] = ray.put(loaded.motions.numpy())

    def motions(self, view: DataView, split: str, rows: slice, window: str) -> MotionTensors | None:
        """Map rows of a training split; nothing else is held."""
        import ray

        shared = self._splits.get((view.settings, window))
        if split != "train" or shared is None:
            return None
        numbers = view.rows("train")
        first, last = rows.start, rows.stop
        if window == WHOLE:  # what lies in the tensor are frames
            first, last = (int(view.lengths(numbers[:row]).sum()) for row in (first, last))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the memory cannot be written to
            motions = torch.from_numpy(ray.get(shared)[first:last])
        return MotionTensors(motions, torch.from_numpy(view.labels("train")[rows]))


def bytes_to_share(views: Iterable[DataView]) -> int:
    """Return the bytes that `SharedMotions` of these views takes."""
    return sum(_bytes(view, window) for view, window in _to_share(views))


def _to_share(views: Iterable[DataView]) -> Iterator[tuple[DataView, str]]:
    """Give the windows in which training splits are needed: to train on, and to measure by. None of those held on disk."""
    for view in views:
        if view.settings.held_in == "memory":
            yield from ((view, window) for window in {view.settings.window, training_window(view)})


def _bytes(view: DataView, window: str) -> int:
    if window != WHOLE:
        return view.bytes_of("train")
    coordinates, _, joints = view.spec.shape
    return 4 * coordinates * joints * int(view.lengths(view.rows("train")).sum())
