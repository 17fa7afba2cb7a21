"""Motions from a trained generator: batched, truncated in w, and the same for the same seed whatever the batch size."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kgan_ray.model.batch_norm import BatchStatistics
from kgan_ray.model.generator import Generator

BLOCK = 64  # motions whose random numbers are drawn together: part of what a seed means
CENTRE_DRAWS = 1000  # Gaussian vectors that the centre of w is the mean of, as published


@torch.no_grad()
def sample(
    generator: Generator,
    labels: Tensor,
    *,
    seed: int = 0,
    truncation: float = 1.0,
    centre: Literal["global", "class"] = "global",
    batch_norm: Literal["running", "batch"] = "running",
    batch_size: int = 512,
) -> Tensor:
    """Motions (N, C, T, V) in [-1, 1] of these labels (N,).

    `truncation` is psi in w <- m + psi (w - m). m is the mapping's mean over 1000 Gaussian vectors of its input width,
    label included, as published ("global"), or over 1000 z with the label itself ("class"). The random numbers of the
    n-th motion depend on seed and n alone; with batch_norm "batch" the motions of a batch still see one another.
    """
    device = labels.device
    rows = max(BLOCK, batch_size // BLOCK * BLOCK)
    middle = None if truncation == 1.0 else _centre_of_style(generator, labels, seed, centre)
    chance = torch.Generator(device).manual_seed(seed)
    was_training = generator.training
    motions = []
    try:
        generator.train(batch_norm == "batch")
        with generator.using_statistics(BatchStatistics(updates=False)):
            for own in labels.split(rows):
                blocks = -(-len(own) // BLOCK)
                width = generator.latent_dim + generator.noise_width
                drawn = torch.cat(
                    [torch.randn(BLOCK, width, device=device, generator=chance) for _ in range(blocks)]
                )[: len(own)]
                w = generator.style(drawn[:, : generator.latent_dim], own)
                if middle is not None:
                    w = torch.lerp(middle[own] if centre == "class" else middle, w, truncation)
                motions.append(generator.synthesise(w, generator.split_noise(drawn[:, generator.latent_dim :])))
    finally:
        generator.train(was_training)
    return torch.cat(motions) if motions else torch.empty(0, *generator.motion_shape, device=device)


def _centre_of_style(
    generator: Generator, labels: Tensor, seed: int, centre: Literal["global", "class"]
) -> Tensor:
    """m for all labels (1, width), or for each class (num_classes, width)."""
    device = labels.device
    chance = torch.Generator(device).manual_seed(seed)
    if centre == "global":
        drawn = torch.randn(CENTRE_DRAWS, generator.style_dim, device=device, generator=chance)
        return generator.mlp(drawn).mean(dim=0, keepdim=True)
    z = torch.randn(CENTRE_DRAWS, generator.latent_dim, device=device, generator=chance)
    middle = torch.zeros(generator.num_classes, generator.style_dim, device=device)
    for label in labels.unique():
        middle[label] = generator.style(z, label.expand(CENTRE_DRAWS)).mean(dim=0)
    return middle
