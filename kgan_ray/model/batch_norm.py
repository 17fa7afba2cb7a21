"""Batch normalisation over the global batch, with published statistics where frames would be repeated.

Source: Ioffe and Szegedy, "Batch normalization", 2015; running variances are unbiased, as PyTorch's are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class BatchStatistics:
    """How a generator's passes in training mode take and keep their statistics."""

    updates: bool = True  # whether running statistics follow
    num_workers: int = 1
    sum_over_workers: Callable[[Tensor], Tensor] | None = None  # differentiable; None: this worker's batch alone


def batch_norm(norm: nn.BatchNorm2d, x: Tensor, repeat: int, statistics: BatchStatistics) -> Tensor:
    """Normalise x (N, C, ...) as if each value were there `repeat` times, which only the running variance notices."""
    if not norm.training:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    count = x.numel() // x.shape[1] * statistics.num_workers
    if statistics.sum_over_workers is None and count > 1:
        mean, variance = torch.zeros_like(norm.weight), torch.zeros_like(norm.weight)
        y = F.batch_norm(x, mean, variance, norm.weight, norm.bias, True, 1.0, norm.eps)  # momentum 1: of x alone
        variance = variance * ((count - 1) / count)  # not in place: the backward pass looks at the tensor
    else:
        y, mean, variance = _over_workers(norm, x, count, statistics.sum_over_workers or (lambda total: total))
    if statistics.updates and norm.running_mean is not None and norm.running_var is not None:
        unbiased = count * repeat / max(count * repeat - 1, 1)
        momentum = norm.momentum or 0.0
        norm.running_mean.lerp_(mean, momentum)
        norm.running_var.lerp_(variance * unbiased, momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked += 1
    return y


def _over_workers(
    norm: nn.BatchNorm2d, x: Tensor, count: int, total: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the normalised x, and the mean and biased variance over all workers, each (C,)."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    mean = total(x.sum(dim=axes)) / count
    centred = x - mean.view(shape)
    variance = total(centred.square().sum(dim=axes)) / count
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return torch.addcmul(norm.bias.view(shape), centred, scale.view(shape)), mean.detach(), variance.detach()
