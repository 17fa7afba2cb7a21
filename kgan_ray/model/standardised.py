"""Motions less the mean of each joint's coordinates, over their deviation: where both networks start from people who stand.

Of a body in [-1, 1] most is where the joints are, and little is how they move. A network that has to find the former first
spends its first steps on a heap of joints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST_DEVIATION = 0.3  # of the mean deviation: joints that hardly move are not magnified further
ROOM = 1.25  # how far a tanh may go, beyond the farthest that was measured


class Standardisation(nn.Module):
    """The mean, the deviation and the reach (C, V) of each joint's coordinates over motions and frames; first 0, 1 and 1.

    A coordinate that never changes, as a centred root's, has the deviation 0: it is generated exactly, and not judged.
    """

    mean: Tensor
    deviation: Tensor
    reach: Tensor

    def __init__(self, coordinates: int, joints: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(coordinates, joints))
        self.register_buffer("deviation", torch.ones(coordinates, joints))
        self.register_buffer("reach", torch.ones(coordinates, joints))

    @torch.no_grad()
    def set(self, mean: Tensor, square: Tensor, farthest: Tensor) -> None:
        """Take over the coordinates' means (C, V), those of their squares, and their largest distance from the mean."""
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        moves = deviation > 1e-4
        least = LEAST_DEVIATION * deviation[moves].mean()
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(moves, deviation.clamp(min=least), 0))
        self.reach.copy_(ROOM * torch.maximum(farthest, self.deviation) + ~moves)

    def standardised(self, motions: Tensor) -> Tensor:
        """Return motions (N, C, T, V) as the discriminator judges them."""
        divisor = torch.where(self.deviation == 0, 1, self.deviation)
        return (motions - self.mean[:, None]) / divisor[:, None]

    def restored(self, frames: Tensor) -> Tensor:
        """Return frames (N, T, C, V) of the generator's last block as parts of motions, none beyond its reach."""
        return torch.addcmul(self.mean, self.reach, torch.tanh(frames * (self.deviation / self.reach)))
