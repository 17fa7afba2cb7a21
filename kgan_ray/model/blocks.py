"""The published tables: what each block of the two networks does to channels, joints and frames.

Source: Degardin et al., "Generative Adversarial Graph Convolutional Networks", WACV 2022, arXiv 2110.11191.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kgan_ray.settings import UserError

PARTITIONS = 3  # of a joint's neighbourhood: itself, farther neighbours, nearer neighbours
LEAK = 0.2  # slope of every LeakyReLU below 0
MIN_CHANNELS = 4  # however narrow the network
NOISY_BLOCKS = (0, 2, 4)  # of the discriminator: those that drop joints, where input noise goes


@dataclass(frozen=True)
class BlockDesign:
    """What one graph-convolution block does. `level` is the skeleton's level that its adjacency product works on."""

    in_channels: int
    out_channels: int
    level: int
    in_level: int
    out_level: int
    in_frames: int
    out_frames: int
    residual: Literal["none", "conv", "identity"]
    batch_norm: bool = False


def scaled(channels: int, width: float) -> int:
    """Return a published number of channels times the width factor."""
    return max(MIN_CHANNELS, round(channels * width))


def _residual(first: bool, in_channels: int, out_channels: int) -> Literal["none", "conv", "identity"]:
    if first:
        return "none"
    return "identity" if in_channels == out_channels else "conv"


def generator_design(latent_width: int, coordinates: int, frames: int, width: float) -> list[BlockDesign]:
    """Lay out the generator's seven blocks, from w (latent_width at one joint and frame) up to a motion."""
    channels = [latent_width, *(scaled(c, width) for c in (512, 256, 128, 64, 32)), coordinates, coordinates]
    levels = [3, 3, 3, 2, 2, 1, 1, 0]
    times = [1, 1, frames // 16, frames // 16, frames // 8, frames // 4, frames // 2, frames]
    norms = [False, True, False, True, False, True, False]
    return [
        BlockDesign(
            in_channels=channels[i],
            out_channels=channels[i + 1],
            level=levels[i + 1],
            in_level=levels[i],
            out_level=levels[i + 1],
            in_frames=times[i],
            out_frames=times[i + 1],
            residual="identity" if i == 6 else "none" if i == 0 else "conv",
            batch_norm=norms[i],
        )
        for i in range(7)
    ]


def discriminator_design(
    coordinates: int, num_classes: int, frames: int, latent_dim: int, width: float
) -> list[BlockDesign]:
    """Lay out the discriminator's six blocks, from a motion with its label's channels down to features."""
    channels = [coordinates + num_classes, *(scaled(c, width) for c in (32, 64, 128, 256, 512)), latent_dim]
    levels = [0, 1, 1, 2, 2, 3, 3]
    times = [frames, frames, frames, frames // 2, frames // 4, frames // 8, frames // 16]
    return [
        BlockDesign(
            in_channels=channels[i],
            out_channels=channels[i + 1],
            level=levels[i],
            in_level=levels[i],
            out_level=levels[i + 1],
            in_frames=times[i],
            out_frames=times[i + 1],
            residual=_residual(i == 0, channels[i], channels[i + 1]),
        )
        for i in range(6)
    ]


def check_sizes(coordinates: int, num_classes: int, frames: int, latent_dim: int, mapping_depth: int) -> None:
    """Raise UserError for sizes that no network can have."""
    if coordinates not in (2, 3):
        raise UserError(f"coordinates is {coordinates}; a motion has 2 or 3")
    if frames < 16 or frames % 16:
        raise UserError(f"frames is {frames}; the networks need a multiple of 16")
    for name, value in (
        ("num_classes", num_classes),
        ("latent_dim", latent_dim),
        ("mapping_depth", mapping_depth),
    ):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be at least 1")
