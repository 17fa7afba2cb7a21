"""Motions from a trained generator: batched, truncated in w, and the same for the same seed whatever the batch size.

`sample` is the one generator that evaluations measure and users get; `recalibrate` settles its BatchNorm before.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kgan_ray.devices import products
from kgan_ray.model.batch_norm import BatchStatistics
from kgan_ray.model.generator import Generator

BLOCK = 64  # motions whose random numbers are drawn together: part of what a seed means
CENTRE_DRAWS = 1000  # Gaussian vectors that the centre of w is the mean of, as published


@torch.no_grad()
@products()
def sample(
    generator: Generator,
    labels: Tensor,
    *,
    seed: int = 0,
    truncation: float = 1.0,
    centre: Literal["global", "class"] = "global",
    batch_size: int = 512,
    share: tuple[int, int] = (0, 1),
) -> Tensor:
    """Generate motions (N, C, T, V) in [-1, 1] of labels (N,); or this worker's `share` of them, (worker, workers).

    `truncation` is psi in w <- m + psi (w - m). m is the mapping's mean over 1000 Gaussian vectors of its input width,
    label included, as published ("global"), or over 1000 z with the label itself ("class"). The random numbers of the
    n-th motion depend on seed and n alone, not on the device: they are drawn on the CPU. BatchNorm takes its running
    statistics: a motion does not depend on those beside it.
    """
    device = labels.device
    mine = share_of(labels, share)
    if not mine:
        return torch.empty(0, *generator.motion_shape, device=device)
    rows = max(BLOCK, batch_size // BLOCK * BLOCK)
    middle = None if truncation == 1.0 else _centre_of_style(generator, labels, seed, centre)
    random = torch.Generator().manual_seed(seed)
    width = generator.latent_dim + generator.noise_width
    was_training = generator.training
    motions = []
    try:
        generator.eval()
        # Those before one's own only move the random numbers on.
        for _ in range(0, mine.start, BLOCK):
            torch.randn(BLOCK, width, generator=random)
        for own in labels[mine.start : mine.stop].split(rows):
            z, noise = _normal(generator, len(own), random, device)
            w = generator.style(z, own)
            if middle is not None:
                w = torch.lerp(middle[own] if centre == "class" else middle, w, truncation)
            # What a tanh does not bound is clamped, as recordings are that go beyond the training split's range.
            motions.append(generator.synthesise(w, generator.split_noise(noise)).clamp(-1, 1))
    finally:
        generator.train(was_training)
    return torch.cat(motions)


def share_of(labels: Tensor, share: tuple[int, int]) -> range:
    """Return the motions of one worker of several: neighbours, in whole blocks of random numbers."""
    worker, workers = share
    blocks = -(-len(labels) // BLOCK)
    first, last = (min(blocks * number // workers * BLOCK, len(labels)) for number in (worker, worker + 1))
    return range(first, last)


@torch.no_grad()
@products()
def recalibrate(generator: Generator, labels: Tensor, *, seed: int = 0, batch_size: int = 512) -> None:
    """Set BatchNorm's running statistics to their mean over batches of freshly generated motions of labels (N,).

    Those that training leaves follow the last few batches, and with an averaged generator they are another generator's
    (Wu and Johnson, "Rethinking batch in BatchNorm", 2021). Give each batch the classes that training gives.
    """
    random = torch.Generator().manual_seed(seed)
    was_training = generator.training
    try:
        generator.train()
        for number, own in enumerate(labels.split(batch_size)):
            z, noise = _normal(generator, len(own), random, labels.device)
            with generator.using_statistics(BatchStatistics(momentum=1 / (number + 1))):
                generator.synthesise(generator.style(z, own), generator.split_noise(noise))
    finally:
        generator.train(was_training)


def _normal(generator: Generator, size: int, random: torch.Generator, device: torch.device) -> list[Tensor]:
    """Draw z and the injected noise of `size` motions, in whole blocks."""
    width = generator.latent_dim + generator.noise_width
    blocks = [torch.randn(BLOCK, width, generator=random) for _ in range(-(-size // BLOCK))]
    numbers = torch.cat(blocks)[:size].to(device)
    return list(numbers.split([generator.latent_dim, generator.noise_width], dim=1))


def _centre_of_style(
    generator: Generator, labels: Tensor, seed: int, centre: Literal["global", "class"]
) -> Tensor:
    """Return m for all labels (1, width), or for each class (num_classes, width)."""
    device = labels.device
    random = torch.Generator().manual_seed(seed)
    if centre == "global":
        inputs = torch.randn(CENTRE_DRAWS, generator.style_dim, generator=random).to(device)
        return generator.mlp(inputs).mean(dim=0, keepdim=True)
    z = torch.randn(CENTRE_DRAWS, generator.latent_dim, generator=random).to(device)
    middle = torch.zeros(generator.num_classes, generator.style_dim, device=device)
    for label in labels.unique():
        middle[label] = generator.style(z, label.expand(CENTRE_DRAWS)).mean(dim=0)
    return middle
