"""The real side of a comparison: a split of a dataset, whose features are computed once and kept beside it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from kgan_ray.data.cache import kept_file
from kgan_ray.data.view import DataView
from kgan_ray.metrics.extractor import Extractor
from kgan_ray.metrics.sides import Features, Motions, Side
from kgan_ray.publishing import write_whole
from kgan_ray.storage import StorePath


class SplitSide(Side):
    """A split of a dataset. Its motions are loaded where a metric asks for them, and for its features the first time.

    The motions stay where they are: a GPU has those already that it trains on.
    """

    def __init__(self, view: DataView, split: str, extractor: Extractor) -> None:
        super().__init__(torch.from_numpy(view.labels(split)).to(extractor.device), extractor)
        self.view, self.split = view, split

    @cached_property
    def motions(self) -> Motions:
        loaded = self.view.load(self.split)
        return Motions(loaded.motions, loaded.labels, self.labels.device)

    @cached_property
    def features(self) -> Features:
        return Features(split_features(self.view, self.split, self.extractor), self.labels, self.extractor)


def split_features(view: DataView, split: str, extractor: Extractor) -> Tensor:
    """Return the features (N, D) of a split, on the extractor's device: computed now, or as the dataset's cache has them."""

    def make(file: Path) -> None:
        values = extractor.features(view.load(split).motions).cpu().contiguous()
        write_whole(StorePath(file), save({"features": values}))

    # The extractor may be another one at any time, and each kind of device rounds in its own way.
    name = f"features-{view.key}-{split}-{extractor.hash}-{extractor.device.type}.safetensors"
    file = kept_file(view.dataset, name, make)
    return load_file(file)["features"].to(extractor.device)
