"""The two sides of a comparison: real and generated motions, and their features.

A metric's function gets the `Features` of both sides or, where METRICS says `needs_motions`, their `Motions`. Neither
holds the other: in a training on several workers, motions are brought together only for metrics that say so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from kgan_ray.metrics.extractor import Extractor
from kgan_ray.metrics.features import BLOCK

Result = TypeVar("Result")


class DivergedError(Exception):
    """A generator gave motions, or a training run losses, that are not finite."""


class _Labelled:
    """A row of `values` and a label for each motion, and what was computed from them."""

    def __init__(self, values: Tensor, labels: Tensor) -> None:
        self.values, self.labels = values, labels
        self._results: dict[tuple[object, ...], object] = {}

    def once(self, compute: Callable[..., Result], *others: object) -> Result:
        """Return `compute(self, *others)`, computed on the first call: what follows from real motions serves a whole run."""
        key = (compute, *others)
        if key not in self._results:
            self._results[key] = compute(self, *others)
        return self._results[key]  # type: ignore[return-value]


class Motions(_Labelled):
    """`values` are motions (N, C, T, V) in [-1, 1], where there is room for them; `device` is where they are compared."""

    def __init__(self, values: Tensor, labels: Tensor, device: torch.device | None = None) -> None:
        super().__init__(values, labels)
        self.device = device or values.device


class Features(_Labelled):
    """`values` are the extractor's features (N, D), float32 on its device."""

    def __init__(self, values: Tensor, labels: Tensor, extractor: Extractor) -> None:
        super().__init__(values, labels)
        self.extractor = extractor

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.extractor.class_names


class Side:
    """Motions with their labels (N,), as features and as motions; either may be given alone.

    They are measured on the labels' device, wherever the motions lie. Features that are not given are extracted when a metric first asks for them.
    """

    def __init__(
        self,
        labels: Tensor,
        extractor: Extractor,
        *,
        motions: Tensor | None = None,
        features: Tensor | None = None,
    ) -> None:
        self.labels, self.extractor = labels, extractor
        self._motions, self._features = motions, features

    @cached_property
    def motions(self) -> Motions:
        assert self._motions is not None, "only metrics that need motions ask for them"
        return Motions(self._motions, self.labels.to(self._motions.device), self.labels.device)

    @cached_property
    def features(self) -> Features:
        values = self.extractor.features(self.motions.values) if self._features is None else self._features
        return Features(values, self.labels.to(values.device), self.extractor)

    def subset(self, rows: Tensor) -> Side:
        """Return the side of these rows (a mask or indices) alone, whose features are extracted with those of all."""
        return _Subset(self, rows)


class _Subset(Side):
    """Some rows of a side, which are taken from it when a metric asks for them."""

    def __init__(self, whole: Side, rows: Tensor) -> None:
        super().__init__(whole.labels[rows.to(whole.labels.device)], whole.extractor)
        self._whole, self._rows = whole, rows

    @cached_property
    def motions(self) -> Motions:
        whole = self._whole.motions
        rows = self._rows.to(whole.values.device)
        return Motions(whole.values[rows], whole.labels[rows], whole.device)

    @cached_property
    def features(self) -> Features:
        whole = self._whole.features
        rows = self._rows.to(whole.values.device)
        return Features(whole.values[rows], whole.labels[rows], whole.extractor)


def check_finite(motions: Tensor, over_workers: Callable[[Tensor], Tensor] = lambda counts: counts) -> None:
    """Raise DivergedError where motions (N, C, T, V) hold NaN or infinity.

    `over_workers` sums up the counts of all workers that hold a share of the motions each, so that all of them raise.
    """
    broken = sum(int((~part.flatten(1).isfinite().all(dim=1)).sum()) for part in motions.split(BLOCK))
    counts = torch.tensor([broken, len(motions)], dtype=torch.float64, device=motions.device)
    num_broken, num_motions = (int(count) for count in over_workers(counts))
    if num_broken:
        raise DivergedError(f"{num_broken} of {num_motions} generated motions hold NaN or infinity")
