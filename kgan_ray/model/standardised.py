"""Motions less the mean of each joint's coordinates, over their deviation: where both networks start from people who stand.

Of a body in [-1, 1] most is where the joints are, and little is how they move. A network that has to find the former first
spends its first steps on a heap of joints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST_DEVIATION = 0.3  # of the mean deviation: joints that hardly move are not magnified further


class Standardisation(nn.Module):
    """The mean and the deviation (C, V) of each joint's coordinates over motions and frames; until `measured`, 0 and 1.

    A coordinate that never changes, as a centred root's, has the deviation 0: it is generated exactly, and not judged.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, coordinates: int, joints: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(coordinates, joints))
        self.register_buffer("deviation", torch.ones(coordinates, joints))

    @torch.no_grad()
    def set(self, mean: Tensor, square: Tensor) -> None:
        """Take over the means (C, V) of the coordinates and of their squares."""
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        moves = deviation > 1e-4
        least = LEAST_DEVIATION * deviation[moves].mean()
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(moves, deviation.clamp(min=least), 0))

    def standardised(self, motions: Tensor) -> Tensor:
        """Return motions (N, C, T, V) as the discriminator judges them."""
        divisor = torch.where(self.deviation == 0, 1, self.deviation)
        return (motions - self.mean[:, None]) / divisor[:, None]

    def restored(self, frames: Tensor) -> Tensor:
        """Return frames (N, T, C, V) of the generator as parts of motions."""
        return torch.addcmul(self.mean, self.deviation, frames)
