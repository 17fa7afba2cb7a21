"""The Fréchet distance between two sets of features.

Shapes: n real and m generated motions, D features. Everything is computed in float64 on the features' own device.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kgan_ray.data.classes import stratified
from kgan_ray.metrics.features import FeatureLike, FewMotionsWarning, as_features, warn_of_few

if TYPE_CHECKING:
    from kgan_ray.metrics.sides import Features


@dataclass(frozen=True)
class Gaussian:
    """Mean (D,) and unbiased covariance (D, D), float64, of `count` feature vectors."""

    count: int
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: FeatureLike) -> Gaussian:
        running = RunningGaussian()
        running.update(features)
        return running.result()


class RunningGaussian:
    """Mean and covariance of features that come in batches of any size and order (Chan, Golub and LeVeque, 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.scatter: Tensor | None = None  # sum of outer products of deviations from the mean

    def update(self, features: FeatureLike) -> None:
        """Add a batch (n, D), which may be empty."""
        batch = as_features(features)
        if not len(batch):
            return
        mean = batch.mean(dim=0)
        deviations = batch - mean
        scatter = deviations.T @ deviations
        if self.mean is None or self.scatter is None:
            self.count, self.mean, self.scatter = len(batch), mean, scatter
            return
        total = self.count + len(batch)
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(shift, shift) * (self.count * len(batch) / total)
        self.mean = self.mean + shift * (len(batch) / total)
        self.count = total

    def result(self) -> Gaussian:
        """Return the Gaussian of all so far. Raises ValueError for fewer than two features: they have no covariance."""
        if self.count < 2 or self.mean is None or self.scatter is None:
            raise ValueError(f"found {self.count} motions; a covariance needs at least 2")
        return Gaussian(self.count, self.mean, self.scatter / (self.count - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Compute |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), never negative (Heusel et al., 2017).

    With S_a = L L^T, S_a S_b has the eigenvalues of the symmetric L^T S_b L, so the trace of the root is the sum
    of their square roots: real whatever the rank. Warns with FewMotionsWarning where a covariance is singular.
    """
    dimensions = len(a.mean)
    if len(b.mean) != dimensions:
        raise ValueError(f"features of {dimensions} and {len(b.mean)} dimensions cannot be compared")
    fewest = min(a.count, b.count)
    if fewest <= dimensions:
        warnings.warn(
            f"the covariance of {fewest} motions in {dimensions} dimensions is singular and the distance biased "
            f"upward: use more than {dimensions} motions",
            FewMotionsWarning,
            stacklevel=2,
        )
    gap = (a.mean - b.mean).square().sum()
    spread = a.covariance.trace() + b.covariance.trace()
    return max((gap + spread - 2 * _trace_of_root(a.covariance, b.covariance)).item(), 0.0)


def _trace_of_root(a: Tensor, b: Tensor) -> Tensor:
    """Compute tr((a b)^(1/2)) of symmetric positive semidefinite float64 (D, D) matrices.

    With a = K K^T and b = L L^T it is the sum of the singular values of K^T L.
    """
    return torch.linalg.svdvals(_factor(a).T @ _factor(b)).sum()


def _factor(matrix: Tensor) -> Tensor:
    """Return L (D, rank) with L L^T = matrix."""
    root, failed = torch.linalg.cholesky_ex(matrix)  # ten times faster than eigenvectors, but only for full rank
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(matrix)
    # Eigenvalues within rounding of zero are zero: the root would blow 1e-16 up to 1e-8.
    real = values > float(values.max()) * len(values) * torch.finfo(torch.float64).eps
    return vectors[:, real] * values[real].sqrt()


def frechet_distance_infinity(
    real: Gaussian, generated: FeatureLike, *, seed: int = 0, num_points: int = 15
) -> float:
    """Extrapolate the Fréchet distance to endless generated motions (Chong and Forsyth, 2020, arXiv 1911.07023).

    The bias falls as 1/m: a line through the distances of `num_points` random subsets, from a tenth of the
    motions to all, is read off at 1/m = 0. It may come out slightly negative for a perfect generator. Below twice as
    many motions as features the bias is steeper than 1/m and the line would be read off too low: no subset is smaller.
    """
    features = as_features(generated)
    fewest = 2 * features.shape[1]
    if len(features) < 2 * fewest:
        raise ValueError(
            f"found {len(features)} generated motions; fid_infinity of {features.shape[1]} features needs {2 * fewest}"
        )
    sizes = np.linspace(max(len(features) // 10, fewest), len(features), num_points).astype(int)
    random = torch.Generator().manual_seed(seed)
    distances = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewMotionsWarning)  # the bias of few motions is what the line removes
        for size in sizes:
            chosen = torch.randperm(len(features), generator=random)[: int(size)]
            distances.append(frechet_distance(real, Gaussian.of(features[chosen.to(features.device)])))
    _, intercept = np.polyfit(1 / sizes, distances, 1)
    return float(intercept)


def expected_distance(real: Gaussian, num_generated: int) -> float:
    """Return the Fréchet distance of `num_generated` motions of the very same Gaussian on average: what their number makes.

    To second order in the error of the estimates. With L the covariance's eigenvalues it is (1/n + 1/m) (sum of L_i +
    sum over i, j of L_i L_j (1 + [i = j]) / (2 (L_i + L_j))): the variance of a mean, and Bures' distance between
    covariances that differ by E[D_ij²] = L_i L_j (1 + [i = j]) (1/n + 1/m).
    """
    values = torch.linalg.eigvalsh(real.covariance).clamp(min=0)
    products, sums = torch.outer(values, values), values[:, None] + values
    pairs = torch.where(sums > 0, products / (2 * sums), 0.0)
    per_motion = values.sum() + pairs.sum() + pairs.diagonal().sum()
    return float(per_motion) * (1 / real.count + 1 / num_generated)


def _gaussian(side: Features) -> Gaussian:
    return Gaussian.of(side.values)


def fid(real: Features, generated: Features) -> dict[str, float]:
    return {"fid": frechet_distance(real.once(_gaussian), generated.once(_gaussian))}


def fid_test(real: Features, generated: Features, test: Features) -> dict[str, float]:
    """Compute `fid` between each two of generated, training and test motions, of as many a side as the smallest has.

    At equal counts fid_test (generated, test) and fid_train (generated, training) can be compared, and fid_train_test
    is what a generator that gives the training split has against the test split.
    """
    size = min(len(side.values) for side in (real, generated, test))
    train, fake, unseen = (side.once(_gaussian_of, size) for side in (real, generated, test))
    return {
        "fid_test": frechet_distance(unseen, fake),
        "fid_train": frechet_distance(train, fake),
        "fid_train_test": frechet_distance(train, unseen),
    }


def _gaussian_of(side: Features, size: int) -> Gaussian:
    rows = stratified(side.labels, size, torch.Generator().manual_seed(0))
    return Gaussian.of(side.values[rows.to(side.values.device)])


def fid_infinity(real: Features, generated: Features) -> dict[str, float]:
    return {"fid_infinity": frechet_distance_infinity(real.once(_gaussian), generated.values)}


def fid_per_class(real: Features, generated: Features) -> dict[str, float]:
    """Compute `fid` within each class, as fid/<class>, and the mean over classes.

    fid_per_class_expected is the mean that a perfect generator would have, for no other reason than few motions.
    """
    values, biases = {}, []
    classes = real.labels.unique().tolist()
    dimensions = real.values.shape[1]
    for label in classes:
        pair = [side.values[side.labels == label] for side in (real, generated)]
        if min(len(features) for features in pair) > dimensions:
            own, other = (Gaussian.of(features) for features in pair)
            values[f"fid/{real.class_names[label]}"] = frechet_distance(own, other)
            biases.append(expected_distance(own, other.count))
    if not values:
        raise ValueError(
            f"no class has more than {dimensions} motions on both sides, the number of features; "
            "raise evaluation.num_motions or use more data"
        )
    if len(values) < len(classes):
        warn_of_few(
            f"{len(classes) - len(values)} of {len(classes)} classes have too few motions and are left out"
        )
    expected = sum(biases) / len(biases)
    return {"fid_per_class": sum(values.values()) / len(values), "fid_per_class_expected": expected, **values}
