"""Batch normalisation over the global batch, with published statistics where frames would be repeated.

Source: Ioffe and Szegedy, "Batch normalization", 2015; running variances are unbiased, as PyTorch's are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class BatchStatistics:
    """How a generator's passes in training mode take and keep their statistics."""

    updates: bool = True  # whether running statistics follow
    momentum: float | None = None  # the share of the new ones in them; None: as the norms say
    num_workers: int = 1
    sum_over_workers: Callable[[Tensor], Tensor] | None = None  # differentiable; None: this worker's batch alone


class NormalisedPass:
    """One pass through a network's BatchNorms, which share one momentum.

    In training mode `finish` lets all running statistics follow together: on a GPU that is a few launches for all of
    them, where each by itself would take as many.
    """

    def __init__(self, norms: Sequence[nn.BatchNorm2d], statistics: BatchStatistics) -> None:
        self._statistics = statistics
        moments = {
            norm: (torch.empty_like(norm.weight), torch.empty_like(norm.weight)) for norm in norms if norm.training
        }
        if moments:  # PyTorch gives them the weight 0, which nothing but 0 is sure to survive
            torch._foreach_zero_([moment for pair in moments.values() for moment in pair])
        self._moments = moments
        self._followers: list[tuple[nn.BatchNorm2d, Tensor, Tensor, float]] = []

    def normalise(self, norm: nn.BatchNorm2d, x: Tensor, repeat: int) -> Tensor:
        """Normalise x (N, C, ...) as if each value were there `repeat` times, which only the running variance notices."""
        if not norm.training:
            return F.batch_norm(
                x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
            )
        count = x.numel() // x.shape[1] * self._statistics.num_workers
        total = self._statistics.sum_over_workers
        if total is None and count > 1:
            mean, variance = self._moments[norm]
            y = F.batch_norm(
                x, mean, variance, norm.weight, norm.bias, True, 1.0, norm.eps
            )  # momentum 1: of x alone
            biased = (count - 1) / count
        else:
            y, mean, variance = _over_workers(norm, x, count, total or (lambda total: total))
            biased = 1.0
        self._followers.append((norm, mean, variance, biased * count * repeat / max(count * repeat - 1, 1)))
        return y

    def finish(self) -> None:
        """Let the running statistics follow what was normalised in training mode, if `updates` says so."""
        if not self._followers or not self._statistics.updates:
            return
        norms, means, variances, corrections = (list(column) for column in zip(*self._followers, strict=True))
        variances = list(torch._foreach_mul(variances, corrections))
        momentum = norms[0].momentum if self._statistics.momentum is None else self._statistics.momentum
        torch._foreach_lerp_([norm.running_mean for norm in norms], means, momentum)
        torch._foreach_lerp_([norm.running_var for norm in norms], variances, momentum)
        torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)


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
