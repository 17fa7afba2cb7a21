"""The Evaluator: measures motions against a dataset, by any metrics of METRICS.

Motions are (N, C, T, V) in [-1, 1]. Generated motions come from the seed in `evaluation.seed`; the real side is the training
split. Metrics that compare all classes at once take `evaluation.num_motions` with each class's share of the training split:
otherwise a perfect generator would differ from it by its classes alone. Metrics of single classes take as many of every
class. Numbers are comparable only between equal extractor and dataset hashes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from kgan_ray.data.classes import in_turn, places_in_class, proportional, stratified_halves
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

    def sample(self, labels: Tensor, *, seed: int, truncation: float) -> Tensor: ...


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
        """The test split. Raises UserError where the benchmark holds nothing out."""
        if not self.view.holds_out:
            raise UserError(
                f"data.benchmark=all trains on every motion of {self.view.path}: none is left to be a floor; "
                "choose a benchmark that holds some out"
            )
        return SplitSide(self.view, "test", self.extractor)

    def side(self, motions: Tensor, labels: Tensor) -> Side:
        return Side(labels.to(self.device), self.extractor, motions=motions.to(self.device))

    @cached_property
    def _counts(self) -> tuple[Tensor, Tensor]:
        """The numbers of generated motions of each class: even, and in the training split's proportions, (K,) each."""
        trained = self.real.labels.cpu().bincount()
        present = trained > 0
        even = present * max(1, self.settings.num_motions // int(present.sum()))
        return even, proportional(trained, int(even.sum()))

    def labels(self) -> Tensor:
        """Return the labels of generated motions, classes in turn: enough of each for either kind of metric."""
        return in_turn(torch.maximum(*self._counts))

    def evaluate(
        self, generator: Generates, metrics: Iterable[str] | None = None, seed: int | None = None
    ) -> dict[str, float]:
        """Measure freshly generated motions. Raises DivergedError where they are not finite."""
        settings, labels = self.settings, self.labels()
        motions = generator.sample(
            labels,
            seed=settings.seed if seed is None else seed,
            truncation=settings.truncation,
        )
        check_finite(motions)
        return self.measure(self.side(motions, labels), settings.metrics if metrics is None else metrics)

    def measure(self, generated: Side, metrics: Iterable[str]) -> dict[str, float]:
        """Measure motions of `labels()`, by each metric those that it takes."""
        labels = generated.labels.cpu()
        places = places_in_class(labels)
        even, as_trained = (
            generated if bool(wanted.all()) else generated.subset(wanted)
            for wanted in (places < counts[labels] for counts in self._counts)
        )
        values: dict[str, float] = {}
        for name in metrics:
            check_metric_name(name, "metrics")
            values |= self.compare(self.real, even if METRICS[name].takes_even_classes else as_trained, [name])
        return values

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
        return self.compare(self.real, self.test, _without_own_floor(metrics))

    def halves(self, metrics: Iterable[str]) -> dict[str, float]:
        """Measure two random halves of the training split, with the same share of every class, against each other."""
        random = torch.Generator().manual_seed(0)
        first, second = (self.real.subset(half) for half in stratified_halves(self.real.labels, random))
        return self.compare(first, second, _without_own_floor(metrics))

    @products()
    def compare(self, real: Side, generated: Side, metrics: Iterable[str]) -> dict[str, float]:
        """Compute each metric, in that order, with what stands beside it: kid_std, accuracy/<class>, ..."""
        values: dict[str, float] = {}
        for name in metrics:
            check_metric_name(name, "metrics")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", FewMotionsWarning)
                try:
                    metric = METRICS[name]
                    values |= metric.compute(real, generated, self.test if metric.needs_test else None)
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


def _without_own_floor(metrics: Iterable[str]) -> list[str]:
    return [name for name in metrics if name not in METRICS or not METRICS[name].needs_test]
