"""A dataset bound to data settings: the one door to loaded motions.

Shapes: N motions, C coordinates, T frames, V joints.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from kgan_ray.data.batches import Batches
from kgan_ray.data.loading import MotionTensors, load_motions
from kgan_ray.data.splits import holds_out
from kgan_ray.settings import DataSettings
from kgan_ray.skeleton import MotionSpec, pair_layout

if TYPE_CHECKING:
    from kgan_ray.data.dataset import Dataset


@dataclass(frozen=True)
class DataView:
    """A dataset as `settings` see it: which rows train and which test, and what motions are made of them.

    `Dataset.view` makes it. Like a dataset, it is cheap to make and to pickle.
    """

    dataset: Dataset
    settings: DataSettings

    @property
    def hash(self) -> str:
        """Name the dataset's content: 16 hexadecimal digits."""
        return self.dataset.hash

    @property
    def path(self) -> str:
        return self.dataset.path

    @cached_property
    def spec(self) -> MotionSpec:
        """Describe the motions, as the networks need to know them."""
        manifest, settings = self.dataset.manifest, self.settings
        layout, class_names, ranges = manifest.layout, manifest.class_names, manifest.ranges
        class_labels = None
        if settings.bodies == 2:
            pairs = self.dataset.pairs
            layout, ranges, class_labels = pair_layout(layout), pairs.ranges, pairs.labels
            class_names = tuple(class_names[label] for label in pairs.labels)
        return MotionSpec(
            layout=layout,
            coordinates=manifest.coordinates,
            frames=settings.frames,
            class_names=class_names,
            value_range=ranges[settings.benchmark][settings.centre],
            centre=settings.centre,
            class_labels=class_labels,
        )

    @property
    def holds_out(self) -> bool:
        """Return whether the test split has motions that are not trained on."""
        return holds_out(self.settings.benchmark, self.dataset.manifest.splits)

    @cached_property
    def key(self) -> str:
        """Name what its motions are and which of them train, by 16 hexadecimal digits: what files follow from is in their names.

        The dataset's hash alone does not say how `prepare` split it.
        """
        settings = self.settings.model_dump(mode="json", exclude={"path", "held_in"})
        digest = hashlib.sha256(self.rows("train").tobytes())
        digest.update(json.dumps([self.hash, settings]).encode())
        return digest.hexdigest()[:16]

    def rows(self, split: str) -> np.ndarray:
        """Return the indices (N,) of a split's rows ("train" or "test") in the dataset, in file order."""
        return self.dataset.rows_of(self.settings.benchmark, split, bodies=self.settings.bodies)

    def labels(self, split: str) -> np.ndarray:
        """Return the labels (N,) of a split, in file order, without reading its motions."""
        return self.labels_of(self.rows(split))

    def labels_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the labels of the dataset's `rows`; those of pairs are counted anew."""
        labels = self.dataset.ids["label"][rows]
        return np.searchsorted(self.dataset.pairs.labels, labels) if self.settings.bodies == 2 else labels

    def bytes_of(self, split: str) -> int:
        """Return the bytes that a split's motions take as float32, without reading any."""
        count = getattr(self.dataset.split_counts(self.settings), split)
        return 4 * int(np.prod((count, *self.spec.shape)))

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return the frames that each of the dataset's `rows` has as a whole recording, at least a motion's."""
        column = "pair_frames" if self.settings.bodies == 2 else "num_frames"
        return np.maximum(self.dataset.ids[column][rows], self.settings.frames)

    def load(self, split: str, *, rank: int = 0, world_size: int = 1) -> MotionTensors:
        """Load the motions of a split in file order, or the part of them that is this worker's.

        The window "random" gives one random crop of each recording here, always the same: a split as training sees it,
        whose statistics do not change. Values beyond the range of the training split are clamped to it.
        """
        count = len(self.rows(split))
        rows = slice(count * rank // world_size, count * (rank + 1) // world_size)
        return self.motions(split, rows, self.settings.window)

    def motions(self, split: str, rows: slice, window: str) -> MotionTensors:
        """Return these rows of a split, as other processes have read them already or else from the dataset's files."""
        held = self.dataset.held
        return (held.motions(self, split, rows, window) if held else None) or load_motions(
            self, split, rows, window
        )

    def batches(
        self,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: str | torch.device = "cpu",
        balanced: bool = False,
    ) -> Batches:
        """Load what this worker trains on, and return its slice of the endless sequence of global batches.

        With `balanced`, rows are drawn with replacement, all classes as often as one another in the batch. Raises
        UserError for workers that cannot share a batch evenly.
        """
        return Batches(
            self,
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
            device=device,
            balanced=balanced,
        )
