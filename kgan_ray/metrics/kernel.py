"""The kernel distance (KID) between two sets of features.

Shapes: n real and m generated motions, D features. Everything is computed in float64 on the features' own device, and
kernels in blocks of rows, so that memory grows with n, not with n squared.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kgan_ray.metrics.features import BLOCK, FeatureLike, as_features, blocks, in_parallel

if TYPE_CHECKING:
    from kgan_ray.metrics.sides import Features


def _sums_of_cubes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Sum (x_i . y_j / D + 1)^3 over j, (n,), and over i, (m,); where x is y, half of the pairs are computed."""

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


def kernel_rows(features: FeatureLike) -> Tensor:
    """Average the kernel (x . y / D + 1)^3 of each of (n, D) features with the other n - 1, (n,)."""
    x = as_features(features)
    if len(x) < 2:
        raise ValueError(f"found {len(x)} motions; the kernel distance needs at least 2 of each")
    right, below = _sums_of_cubes(x, x)
    return (right + below - (x.square().sum(dim=1) / x.shape[1] + 1).pow(3)) / (len(x) - 1)


def kernel_distance(
    real: FeatureLike, generated: FeatureLike, within_real: Tensor | None = None
) -> tuple[float, float]:
    """Compute the unbiased squared MMD with the kernel (x . y / D + 1)^3, and its standard error (Binkowski et al., 2018).

    All pairs are used instead of random subsets, so the value is deterministic. The standard error is that of
    the U-statistic's linear part, sqrt(var_x / n + var_y / m). The value may be negative. `within_real` is
    `kernel_rows(real)`, where it is computed already.
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


def _rows_of(side: Features) -> Tensor:
    return kernel_rows(side.values)


def kid(real: Features, generated: Features) -> dict[str, float]:
    value, error = kernel_distance(real.values, generated.values, real.once(_rows_of))
    return {"kid": value, "kid_std": error}
