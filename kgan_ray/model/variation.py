"""Stochastic variation: what a generator's injected noise does, and what the quantile mask would choose.

One latent point, many draws of the noise. A joint that moves from draw to draw is one that the noise decides. The
quantile mask looks at another thing, the step that a motion makes when its latent point is moved a little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kgan_ray.devices import products
from kgan_ray.model.generator import Generator

COMPANY = 512  # motions drawn at a time: the mask's quantile is that of a batch


def quantile(values: Tensor, q: float) -> Tensor:
    """Return the smallest of the values that is at or above their q-quantile.

    So `values >= quantile(values, q)` selects what `values >= torch.quantile(values, q)` does, which refuses more than
    16 million values.
    """
    k = math.ceil(q * (values.numel() - 1)) + 1
    return values.flatten().kthvalue(k).values


@dataclass(frozen=True)
class Variation:
    """How N latent points vary with the noise, in units of the generator's motions, [-1, 1]. On the CPU."""

    mean: Tensor  # (N, C, T, V): the motion, without its noise
    deviation: Tensor  # (N, C, T, V): standard deviation over draws of the noise
    chosen: Tensor  # (N, V): share of a joint's values that the quantile mask takes


@torch.no_grad()
@products()
def stochastic_variation(
    generator: Generator,
    labels: Tensor,
    *,
    draws: int = 64,
    seed: int = 0,
    mask_quantile: float = 0.5,
    latent_std: float = 0.01,
) -> Variation:
    """Measure the variation of one latent point for each of these labels (N,).

    The mask is that of the technique: of |G(z) - G(z + e)|, e ~ N(0, latent_std²), all that is at or above its
    quantile, with the same noise on both sides, over all motions drawn beside one another.
    """
    count, device = len(labels), labels.device
    labels = labels.repeat(-(-max(COMPANY, count) // count))
    random = torch.Generator().manual_seed(seed)  # same seed, same draws on every device

    def normal(width: int) -> Tensor:
        return torch.randn(len(labels), width, generator=random).to(device)

    z = normal(generator.latent_dim)
    w, moved = generator.style(z, labels), generator.style(z + latent_std * normal(z.shape[1]), labels)
    total = squares = torch.zeros((), dtype=torch.float64, device=device)
    chosen = torch.zeros((), device=device)
    was_training = generator.training
    try:
        generator.eval()
        for _ in range(draws):
            noise = generator.split_noise(normal(generator.noise_width))
            motions = generator.synthesise(w, noise)
            change = (motions - generator.synthesise(moved, noise)).abs()
            mask = change[:count] >= quantile(change, mask_quantile)
            chosen = chosen + mask.float().mean(dim=(1, 2)) / draws
            motions = motions[:count].double()
            total, squares = total + motions, squares + motions.square()
    finally:
        generator.train(was_training)
    mean = total / draws
    variance = (squares / draws - mean.square()).clamp(min=0) * draws / max(1, draws - 1)
    return Variation(mean.float().cpu(), variance.sqrt().float().cpu(), chosen.cpu())
