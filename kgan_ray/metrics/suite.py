"""The Evaluator: computes every metric of `names` against a dataset.

Motions are (N, C, T, V) in [-1, 1]. Generated motions are as many of every class as `evaluation.num_motions` allows, from
the seed in `evaluation.seed`; the real side is the training split. Numbers are comparable only between equal extractor
and dataset hashes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from kgan_ray.data.loading import MotionTensors
from kgan_ray.data.view import DataView
from kgan_ray.metrics import mmd
from kgan_ray.metrics.extractor_training import Extractor, find_extractor
from kgan_ray.metrics.inception import inception_distance
from kgan_ray.metrics.manifold import manifold_overlap, radii
from kgan_ray.metrics.names import check_metric_name
from kgan_ray.metrics.scores import (
    BLOCK,
    FewMotionsWarning,
    Gaussian,
    diversity,
    frechet_distance,
    frechet_distance_infinity,
    kernel_distance,
    kernel_rows,
    multimodality,
)
from kgan_ray.settings import EvaluationSettings, UserError

Sample = Callable[[Tensor, int], Tensor]  # (labels (N,), seed) -> motions (N, C, T, V)
MOST_NEIGHBOURS = 10_000  # motions of a side that nearest-neighbour scores look at
_OVERLAP = ("precision", "recall", "density", "coverage")


class DivergedError(Exception):
    """A generator gave motions, or a training run losses, that are not finite."""


@dataclass
class Side:
    """One side of a comparison: motions, labels and, once asked for, features and what follows from them alone."""

    motions: Tensor
    labels: Tensor
    extractor: Extractor
    overlap: dict[str, float] | None = None  # with the other side of the comparison it is made for
    mmd_within: dict[str, mmd.Within] = field(default_factory=lambda: {"mmd_avg": {}, "mmd_seq": {}})

    @cached_property
    def features(self) -> Tensor:
        return self.extractor.features(self.motions)

    @cached_property
    def gaussian(self) -> Gaussian:
        return Gaussian.of(self.features)

    @cached_property
    def kernel_rows(self) -> Tensor:
        return kernel_rows(self.features)

    @cached_property
    def some_features(self) -> Tensor:
        """What nearest-neighbour scores look at."""
        return _every_nth(self.features, MOST_NEIGHBOURS)

    @cached_property
    def radii(self) -> Tensor:
        return radii(self.some_features)


class Evaluator:
    """Computes metrics against a dataset; made once a run, it keeps what the real side needs."""

    def __init__(
        self,
        view: DataView,
        settings: EvaluationSettings,
        device: str | torch.device = "cpu",
        progress: Callable[[str], None] = print,
    ) -> None:
        self.view, self.settings, self.device = view, settings, torch.device(device)
        self.progress = progress
        self._noted: set[tuple[str, str]] = set()
        self.spec = view.spec
        self.extractor = find_extractor(view, self.device, progress, settings.extractor)
        self.extractor_hash = self.extractor.hash
        self.extractor_accuracy = self.extractor.accuracy

    @cached_property
    def real(self) -> Side:
        """The training split."""
        return self._split("train")

    @cached_property
    def test(self) -> Side:
        return self._split("test")

    def side(self, motions: MotionTensors) -> Side:
        return Side(motions.motions.to(self.device), motions.labels.to(self.device), self.extractor)

    def _split(self, split: str) -> Side:
        held = self.view.load(split)
        is_on_disk = self.view.settings.held_in == "disk"
        return Side(held.motions, held.labels, self.extractor) if is_on_disk else self.side(held)

    def labels(self) -> Tensor:
        """The labels of generated motions: as many of every class that the training split has, one after the other."""
        present = self.real.labels.unique().cpu()
        per_class = max(1, self.settings.num_motions // len(present))
        return present.repeat(per_class)

    def evaluate(
        self, sample: Sample, metrics: Iterable[str] | None = None, seed: int | None = None
    ) -> dict[str, float]:
        """Each metric of freshly generated motions. Raises DivergedError where they are not finite."""
        names = tuple(metrics if metrics is not None else self.settings.metrics)
        labels = self.labels()
        motions = sample(labels, self.settings.seed if seed is None else seed)
        return self.score(motions, labels, names)

    def score(self, motions: Tensor, labels: Tensor, metrics: Iterable[str]) -> dict[str, float]:
        """Each metric of motions (N, C, T, V) in [-1, 1] with labels (N,).

        Raises UserError for another shape, DivergedError for motions that are not finite.
        """
        if tuple(motions.shape[1:]) != self.spec.shape:
            raise UserError(
                f"motions have shape {tuple(motions.shape[1:])}, expected (C, T, V) = {self.spec.shape}"
            )
        bad = sum(int((~part.flatten(1).isfinite().all(dim=1)).sum()) for part in motions.split(BLOCK))
        if bad:
            raise DivergedError(f"{bad} of {len(motions)} generated motions hold NaN or infinity")
        return self.compare(self.real, self.side(MotionTensors(motions, labels)), tuple(metrics))

    def score_features(
        self, features: Tensor, labels: Tensor, metrics: Iterable[str], motions: Tensor | None = None
    ) -> dict[str, float]:
        """`score` where the features (N, D) are known; motions are needed for NEED_MOTIONS only."""
        generated = Side(self.real.motions[:0] if motions is None else motions, labels, self.extractor)
        generated.features = features  # in place of computing them
        return self.compare(self.real, generated, tuple(metrics))

    def floor(self, metrics: Iterable[str] | None = None) -> dict[str, float]:
        """The same metrics of the real test split against the training split: what a perfect generator may reach."""
        return self.compare(self.real, self.test, tuple(metrics or self.settings.metrics))

    def halves(self, metrics: Iterable[str] | None = None) -> dict[str, float]:
        """The same metrics between two random halves of the training split."""
        order = torch.randperm(len(self.real.labels), generator=torch.Generator().manual_seed(0)).to(self.device)
        first, second = (
            Side(self.real.motions[part], self.real.labels[part], self.extractor) for part in order.tensor_split(2)
        )
        return self.compare(first, second, tuple(metrics or self.settings.metrics))

    def compare(self, real: Side, generated: Side, names: tuple[str, ...]) -> dict[str, float]:
        """Each named metric, in that order; kid brings kid_std, fid_per_class and accuracy_per_class their classes."""
        values: dict[str, float] = {}
        for name in names:
            check_metric_name(name, "metrics")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", FewMotionsWarning)
                try:
                    values |= self._metric(name, real, generated)
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

    def _metric(self, name: str, real: Side, generated: Side) -> dict[str, float]:
        if name == "fid":
            return {name: frechet_distance(real.gaussian, generated.gaussian)}
        if name == "fid_infinity":
            return {name: frechet_distance_infinity(real.gaussian, generated.features)}
        if name == "fid_per_class":
            return self._fid_per_class(real, generated)
        if name == "kid":
            value, error = kernel_distance(real.features, generated.features, real.kernel_rows)
            return {"kid": value, "kid_std": error}
        if name in _OVERLAP:
            return {name: self._overlap(real, generated)[name]}
        if name == "accuracy":
            return self._accuracy(generated)
        if name == "accuracy_per_class":
            per_class = self.accuracy_per_class(generated)
            mean = sum(per_class.values()) / len(per_class)
            return {name: mean, **{f"accuracy/{label}": share for label, share in per_class.items()}}
        if name == "diversity":
            return {name: diversity(generated.features)}
        if name == "multimodality":
            return {name: multimodality(generated.features, generated.labels)}
        if name in ("mmd_avg", "mmd_seq"):
            return {name: _mean(_discrepancies(name, real, generated))}
        if name in ("mmd_avg_published", "mmd_seq_published"):
            firsts = [_first_of_each_class(side) for side in (real, generated)]
            shared = firsts[0].keys() & firsts[1].keys()
            pairs = ({label: first[label] for label in shared} for first in firsts)
            return {name: mmd.published_mmd(*pairs, mode=name.split("_")[1])}
        return {name: inception_distance(real.motions, generated.motions, self.device)}

    def _accuracy(self, generated: Side) -> dict[str, float]:
        right = self.extractor.predict(generated.features) == generated.labels
        return {"accuracy": right.double().mean().item()}

    def accuracy_per_class(self, generated: Side) -> dict[str, float]:
        """The share of each class's motions that the extractor gives that class."""
        right = (self.extractor.predict(generated.features) == generated.labels).double()
        return {
            self.spec.class_names[label]: right[generated.labels == label].mean().item()
            for label in generated.labels.unique().tolist()
        }

    def _fid_per_class(self, real: Side, generated: Side) -> dict[str, float]:
        values = {}
        classes = real.labels.unique().tolist()
        for label in classes:
            pair = [side.features[side.labels == label] for side in (real, generated)]
            if min(len(features) for features in pair) > pair[0].shape[1]:
                distance = frechet_distance(*(Gaussian.of(features) for features in pair))
                values[f"fid/{self.spec.class_names[label]}"] = distance
        if not values:
            raise ValueError(
                f"no class has more than {real.features.shape[1]} motions on both sides, "
                "the number of features; raise evaluation.num_motions or use more data"
            )
        if len(values) < len(classes):
            _warn(f"{len(classes) - len(values)} of {len(classes)} classes have too few motions and are left out")
        return {"fid_per_class": sum(values.values()) / len(values), **values}

    def _overlap(self, real: Side, generated: Side) -> dict[str, float]:
        """All four at once, kept for the others that are asked for."""
        if generated.overlap is None:
            generated.overlap = manifold_overlap(
                real.some_features, generated.some_features, real_radii=real.radii
            )
        return generated.overlap


def _every_nth(features: Tensor, most: int) -> Tensor:
    """At most `most` rows, evenly spread."""
    return features if len(features) <= most else features[torch.linspace(0, len(features) - 1, most).long()]


def _discrepancies(name: str, real: Side, generated: Side) -> dict[int, float]:
    function = mmd.mmd_avg if name == "mmd_avg" else mmd.mmd_seq
    per_class = function(real.motions, real.labels, generated.motions, generated.labels, real.mmd_within[name])
    left_out = len(generated.labels.unique()) - len(per_class)
    if left_out:
        _warn(f"{left_out} classes with fewer than two motions on a side are left out")
    return per_class


def _mean(per_class: dict[int, float]) -> float:
    if not per_class:
        raise ValueError("no class has two motions on both sides")
    return sum(per_class.values()) / len(per_class)


def _warn(note: str) -> None:
    warnings.warn(note, FewMotionsWarning, stacklevel=2)


def _first_of_each_class(side: Side) -> dict[int, Tensor]:
    return {
        label: side.motions[int(torch.nonzero(side.labels == label)[0, 0])].cpu()
        for label in side.labels.unique().tolist()
    }
