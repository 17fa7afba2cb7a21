"""Scores between sets of features: arrays or tensors in, float out.

Shapes: n real and m generated motions, D features. Everything is computed in float64 on the device that the
features are on; kernels and distances in blocks of rows, so that memory grows with n, not with n squared.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

BLOCK = 1024  # rows and columns of a matrix of pairs that exist at a time

Item = TypeVar("Item")
Result = TypeVar("Result")


class FewMotionsWarning(UserWarning):
    """A score was computed from fewer motions than it needs to be trusted."""


def as_features(features: Any) -> Tensor:
    """Features as float64 (N, D) on their own device. Raises ValueError for another shape, NaN or infinity."""
    tensor = torch.as_tensor(features).to(torch.float64)
    if tensor.ndim != 2:
        raise ValueError(f"features have shape {tuple(tensor.shape)}, expected (motions, features)")
    if not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor).all(dim=1)).sum())
        raise ValueError(f"{bad} of {len(tensor)} feature vectors hold NaN or infinity")
    return tensor


@dataclass(frozen=True)
class Gaussian:
    """Mean (D,) and unbiased covariance (D, D), float64, of `count` feature vectors."""

    count: int
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Any) -> Gaussian:
        running = RunningGaussian()
        running.update(features)
        return running.result()


class RunningGaussian:
    """Mean and covariance of features that come in batches (Chan, Golub and LeVeque, 1979).

    Batches may come in any order and size, and `merge` joins what several workers have seen.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.scatter: Tensor | None = None  # sum of outer products of deviations from the mean

    def update(self, features: Any) -> None:
        batch = as_features(features)
        if len(batch):
            mean = batch.mean(dim=0)
            deviations = batch - mean
            self._join(len(batch), mean, deviations.T @ deviations)

    def merge(self, other: RunningGaussian) -> None:
        if other.mean is not None and other.scatter is not None:
            self._join(other.count, other.mean, other.scatter)

    def _join(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if self.mean is None or self.scatter is None:
            self.count, self.mean, self.scatter = count, mean.clone(), scatter.clone()
            return
        total = self.count + count
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def result(self) -> Gaussian:
        """Raises ValueError for fewer than two feature vectors: they have no covariance."""
        if self.count < 2 or self.mean is None or self.scatter is None:
            raise ValueError(f"found {self.count} motions; a covariance needs at least 2")
        return Gaussian(self.count, self.mean, self.scatter / (self.count - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), never negative (Heusel et al., 2017).

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
    """tr((a b)^(1/2)) for symmetric positive semidefinite float64 (D, D) matrices.

    With a = K K^T and b = L L^T it is the sum of the singular values of K^T L.
    """
    return _sum_of_singular_values(_factor(a).T @ _factor(b))


def _factor(matrix: Tensor) -> Tensor:
    """L (D, rank) with L L^T = matrix."""
    root, failed = torch.linalg.cholesky_ex(matrix)  # ten times faster than eigenvectors, but only for full rank
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(matrix)
    # Eigenvalues within rounding of zero are zero: the root would blow 1e-16 up to 1e-8.
    real = values > float(values.max()) * len(values) * torch.finfo(torch.float64).eps
    return vectors[:, real] * values[real].sqrt()


def _sum_of_singular_values(matrix: Tensor) -> Tensor:
    """Through the eigenvalues of M^T M, several times faster than a singular value decomposition and as exact.

    Eigenvalues carry the rounding of the largest one, which is too much for the root of one a million times
    smaller. So the space of the small ones is cut out, and their turn comes again on their own scale.
    """
    total, floor = matrix.new_zeros(()), 0.0
    while matrix.numel():
        gram = matrix.T @ matrix
        values = torch.linalg.eigvalsh(gram)
        largest = float(values[-1])
        if float(values[0]) > largest * 1e-6:
            return total + values.sqrt().sum()
        floor = floor or largest * (len(values) * torch.finfo(torch.float64).eps) ** 2
        if largest <= floor:
            break  # nothing is left but what the very first product was rounded by
        values, vectors = torch.linalg.eigh(gram)  # five times slower with its vectors
        large = values > largest * 1e-6
        total = total + values[large].sqrt().sum()
        matrix = matrix @ vectors[:, ~large]
    return total


def frechet_distance_infinity(real: Gaussian, generated: Any, *, seed: int = 0, num_points: int = 15) -> float:
    """The Fréchet distance extrapolated to endless generated motions (Chong and Forsyth, 2020, arXiv 1911.07023).

    The bias falls as 1/m: a line through the distances of `num_points` random subsets, from a tenth of the
    motions to all, is read off at 1/m = 0. It may come out slightly negative for a perfect generator.
    """
    features = as_features(generated)
    if len(features) < 20:
        raise ValueError(f"found {len(features)} generated motions; fid_infinity needs at least 20")
    sizes = np.linspace(max(len(features) // 10, 2), len(features), num_points).astype(int)
    order = torch.Generator().manual_seed(seed)
    distances = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewMotionsWarning)  # the bias of few motions is what the line removes
        for size in sizes:
            chosen = torch.randperm(len(features), generator=order)[: int(size)]
            distances.append(frechet_distance(real, Gaussian.of(features[chosen.to(features.device)])))
    _, intercept = np.polyfit(1 / sizes, distances, 1)
    return float(intercept)


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item], device: torch.device) -> list[Result]:
    """The function of each item, in their order.

    PyTorch splits each operation over all processors, and where operations are small their threads mostly wait for
    each other. So here each of as many threads takes whole items. On other devices one item follows the other.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        return [function(item) for item in items]
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(threads)


def blocks(count: int, size: int) -> list[slice]:
    """Slices of `count` rows, `size` each."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _sums_of_cubes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over j (n,) and over i (m,) of (x_i . y_j / D + 1)^3; where x is y, the half of them does."""

    def of_rows(rows: slice) -> tuple[Tensor, Tensor]:
        over_columns, over_rows = x.new_zeros(rows.stop - rows.start), x.new_zeros(len(y))
        for columns in blocks(len(y), BLOCK):
            if x is y and columns.stop <= rows.start:
                continue  # symmetric: what is left of the diagonal block also stands above it
            base = (x[rows] @ y[columns].T).div_(x.shape[1]).add_(1)
            cubes = base.square().mul_(base)
            over_columns += cubes.sum(dim=1)
            if x is not y or columns.start > rows.start:
                over_rows[columns] += cubes.sum(dim=0)
        return over_columns, over_rows

    parts = in_parallel(of_rows, blocks(len(x), BLOCK), x.device)
    return torch.cat([part[0] for part in parts]), torch.stack([part[1] for part in parts]).sum(dim=0)


def kernel_rows(features: Any) -> Tensor:
    """For each of (n, D) features, the kernel (x . y / D + 1)^3 with the other n - 1, on average, (n,)."""
    x = as_features(features)
    if len(x) < 2:
        raise ValueError(f"found {len(x)} motions; the kernel distance needs at least 2 of each")
    right, below = _sums_of_cubes(x, x)
    return (right + below - (x.square().sum(dim=1) / x.shape[1] + 1).pow(3)) / (len(x) - 1)


def kernel_distance(real: Any, generated: Any, within_real: Tensor | None = None) -> tuple[float, float]:
    """Unbiased squared MMD with the kernel (x . y / D + 1)^3, and its standard error (Binkowski et al., 2018).

    All pairs are used instead of random subsets, so the value is deterministic. The standard error is that of
    the U-statistic's linear part, sqrt(var_x / n + var_y / m). The value may be negative. `within_real` is
    `kernel_rows(real)`, where it is known.
    """
    x, y = as_features(real), as_features(generated)
    n, m = len(x), len(y)
    within_x = kernel_rows(x) if within_real is None else within_real
    within_y = kernel_rows(y)
    over_y, over_x = _sums_of_cubes(x, y)
    across_x, across_y = over_y / m, over_x / n
    value = within_x.mean() + within_y.mean() - 2 * across_x.mean()
    variance = 4 * ((within_x - across_x).var() / n + (within_y - across_y).var() / m)
    return value.item(), math.sqrt(variance.item())


def diversity(features: Any, *, seed: int = 0, num_pairs: int = 200) -> float:
    """Mean distance of random pairs of motions (Guo et al., Action2Motion, 2020); 0 for a collapsed generator."""
    tensor = as_features(features)
    if len(tensor) < 2:
        raise ValueError(f"found {len(tensor)} motions; diversity needs at least 2")
    first, second = _random_pairs(len(tensor), num_pairs, seed)
    return (tensor[first] - tensor[second]).norm(dim=1).mean().item()


def multimodality(features: Any, labels: Any, *, seed: int = 0, num_pairs: int = 20) -> float:
    """Mean distance of random pairs of motions of one class, averaged over the classes that have two or more."""
    tensor, classes = as_features(features), torch.as_tensor(labels)
    distances = []
    for label in classes.unique().tolist():
        own = tensor[(classes == label).to(tensor.device)]
        if len(own) >= 2:
            first, second = _random_pairs(len(own), num_pairs, seed + label)
            distances.append((own[first] - own[second]).norm(dim=1).mean().item())
    if not distances:
        raise ValueError("no class has 2 motions; multimodality needs pairs of one class")
    return sum(distances) / len(distances)


def _random_pairs(count: int, num_pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of pairs of different motions."""
    random = torch.Generator().manual_seed(seed)
    first = torch.randint(count, (num_pairs,), generator=random)
    return first, (first + torch.randint(1, count, (num_pairs,), generator=random)) % count
