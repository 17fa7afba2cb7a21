"""The Evaluator: measures motions against a dataset, by any metrics of METRICS.

Motions are (N, C, T, V) in [-1, 1]. Generated motions are as many of every class as `evaluation.num_motions` allows, from
the seed in `evaluation.seed`; the real side is the training split. Numbers are comparable only between equal extractor
and dataset hashes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from kgan_ray.data.view import DataView
from kgan_ray.devices import products
from kgan_ray.metrics.extractor import find_extractor
from kgan_ray.metrics.features import FewMotionsWarning
from kgan_ray.metrics.names import METRICS, check_metric_name
from kgan_ray.metrics.real import SplitSide
from kgan_ray.metrics.sides import Side, check_finite
from kgan_ray.settings import EvaluationSettings, UserError
from kgan_ray.skeleton import MotionSpec


class Generates(Protocol):
    """A generator as evaluation sees it: motions (N, C, T, V) in [-1, 1] of labels (N,), the same for the same seed."""

    spec: MotionSpec

    def sample(
        self, labels: Tensor, *, seed: int, truncation: float, batch_norm: Literal["running", "batch"]
    ) -> Tensor: ...


class Evaluator:
    """What measures motions against a dataset. Made once a run, it keeps what follows from the real side alone."""

    def __init__(
        self,
        view: DataView,
        settings: EvaluationSettings,
        device: str | torch.device = "cpu",
        progress: Callable[[str], None] = print,
    ) -> None:
        for name in settings.metrics:
            check_metric_name(name, where="evaluation.metrics")
        self.view, self.settings, self.device = view, settings, torch.device(device)
        self.progress = progress
        self._noted: set[tuple[str, str]] = set()
        self.spec = view.spec
        self.extractor = find_extractor(view, self.device, progress, settings.extractor)

    @cached_property
    def real(self) -> Side:
        """The training split."""
        return SplitSide(self.view, "train", self.extractor)

    @cached_property
    def test(self) -> Side:
        return SplitSide(self.view, "test", self.extractor)

    def side(self, motions: Tensor, labels: Tensor) -> Side:
        return Side(labels.to(self.device), self.extractor, motions=motions.to(self.device))

    def labels(self) -> Tensor:
        """Return the labels of generated motions: as many of every class that the training split has, in turn."""
        present = self.real.labels.unique().cpu()
        per_class = max(1, self.settings.num_motions // len(present))
        return present.repeat(per_class)

    def evaluate(
        self, generator: Generates, metrics: Iterable[str] | None = None, seed: int | None = None
    ) -> dict[str, float]:
        """Measure freshly generated motions. Raises DivergedError where they are not finite."""
        settings, labels = self.settings, self.labels()
        motions = generator.sample(
            labels,
            seed=settings.seed if seed is None else seed,
            truncation=settings.truncation,
            batch_norm=settings.batch_norm,
        )
        return self.score(motions, labels, settings.metrics if metrics is None else metrics)

    def score(self, motions: Tensor, labels: Tensor, metrics: Iterable[str]) -> dict[str, float]:
        """Measure motions (N, C, T, V) in [-1, 1] with labels (N,).

        Raises UserError for another shape, DivergedError for motions that are not finite.
        """
        if tuple(motions.shape[1:]) != self.spec.shape:
            raise UserError(
                f"motions have shape {tuple(motions.shape[1:])}, expected (C, T, V) = {self.spec.shape}"
            )
        check_finite(motions)
        return self.compare(self.real, self.side(motions, labels), metrics)

    def floor(self, metrics: Iterable[str]) -> dict[str, float]:
        """Measure the real test split against the training split: what a perfect generator may reach."""
        return self.compare(self.real, self.test, metrics)

    def halves(self, metrics: Iterable[str]) -> dict[str, float]:
        """Measure two random halves of the training split against each other."""
        random = torch.Generator().manual_seed(0)
        order = torch.randperm(len(self.real.labels), generator=random)
        first, second = (
            Side(self.real.labels[part.to(self.device)], self.extractor, motions=self.real.motions.values[part])
            for part in order.tensor_split(2)
        )
        return self.compare(first, second, metrics)

    @products()
    def compare(self, real: Side, generated: Side, metrics: Iterable[str]) -> dict[str, float]:
        """Compute each metric, in that order, with what stands beside it: kid_std, accuracy/<class>, ..."""
        values: dict[str, float] = {}
        for name in metrics:
            check_metric_name(name, "metrics")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", FewMotionsWarning)
                try:
                    values |= METRICS[name].compute(real, generated)
                except ValueError as error:  # too few motions
                    raise UserError(f"{name}: {error}") from None
            self._note(name, [str(warning.message) for warning in caught])
        return values

    def _note(self, name: str, notes: Iterable[str]) -> None:
        """Say once what makes a number less than it seems."""
        for note in notes:
            if (name, note) not in self._noted:
                self._noted.add((name, note))
                self.progress(f"note: {name}: {note}")
