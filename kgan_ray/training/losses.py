"""WGAN-GP losses (Gulrajani et al., "Improved training of Wasserstein GANs", 2017).

Shapes: N motions, C coordinates, T frames, V joints. A motion is float32 in [-1, 1]; a score is unbounded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

ScoreFn = Callable[[Tensor, Tensor], Tensor]


def discriminator_loss(real_score: Tensor, fake_score: Tensor) -> Tensor:
    """Mean score of fakes less that of real motions: minus the estimated Wasserstein distance."""
    return fake_score.mean() - real_score.mean()


@cache
def discriminator_loss_gradient(size: int, device: torch.device, slope: float) -> Tensor:
    """Return the gradient of `discriminator_loss` by the scores of `size` real motions and as many fakes, then `slope`, as often.

    (3 * size,). A constant, which lies on the device once it was asked for.
    """
    return torch.tensor([-1 / size, 1 / size, slope]).repeat_interleave(size).to(device)


def generator_loss(fake_score: Tensor) -> Tensor:
    """Minus the mean score of fakes."""
    return -fake_score.mean()


def interpolate(real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """mix real + (1 - mix) fake, with one mix per motion: (N, 1, 1, 1)."""
    return torch.lerp(fake, real, mix)


def slope_penalty(slope: Tensor) -> Tensor:
    """Mean squared distance from 1 of the slopes' length over (C, T, V); slope is (N, C, T, V)."""
    return (torch.linalg.vector_norm(slope, dim=(1, 2, 3)) - 1).square().mean()


def slope_penalty_with_gradient(slope: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """`slope_penalty`, and `weight` times its gradient by the slope, which is 0 where the slope is: (N, C, T, V)."""
    length = torch.linalg.vector_norm(slope, dim=(1, 2, 3), keepdim=True)
    excess = length - 1
    share = excess * (2 * weight / len(slope)) / length.clamp(min=1e-12)
    return excess.square().mean(), share * slope


def gradient_penalty(discriminator: ScoreFn, real: Tensor, fake: Tensor, label: Tensor, mix: Tensor) -> Tensor:
    """`slope_penalty` of the discriminator between each real motion and its fake, by double differentiation.

    For any discriminator. Training uses `model.discriminator_pass`, which needs no second differentiation.
    """
    between = interpolate(real, fake, mix).detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(between, label).sum(), between, create_graph=True)
    return slope_penalty(slope)
