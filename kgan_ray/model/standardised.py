"""Motions less the mean of each joint's coordinates, over their deviation: where both networks start from people who stand.

Of a body in [-1, 1] most is where the joints are, and little is how they move. A network that has to find the former first
spends its first steps on a heap of joints. A joint counts from the root of its own body, so that a body that is elsewhere
is the same body; a root counts from where the coordinates do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kgan_ray.skeleton import SkeletonLayout

LEAST_DEVIATION = 0.3  # of the mean deviation: joints that hardly move are not magnified further
ROOM = 1.25  # how far a tanh may go, beyond the farthest that was measured


class Standardisation(nn.Module):
    """The mean, the deviation and the reach (C, V) of each joint's coordinates over motions and frames; first 0, 1 and 1.

    A coordinate that never changes, as a centred root's, has the deviation 0: it is generated exactly, and not judged.
    """

    mean: Tensor
    deviation: Tensor
    reach: Tensor
    root: Tensor
    is_joint: Tensor

    def __init__(self, coordinates: int, layout: SkeletonLayout) -> None:
        super().__init__()
        shape = coordinates, layout.num_joints
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))
        self.register_buffer("reach", torch.ones(shape))
        root = torch.tensor(layout.roots).repeat_interleave(
            layout.num_joints // layout.bodies
        )  # of each joint's body
        self.register_buffer("root", root, persistent=False)
        self.register_buffer(
            "is_joint", (root != torch.arange(len(root))).float(), persistent=False
        )  # and no root

    @torch.no_grad()
    def set(self, mean: Tensor, square: Tensor, farthest: Tensor) -> None:
        """Take over the means (C, V) of `relative` coordinates, of their squares, and their largest distance from the mean."""
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        moves = deviation > 1e-4
        least = LEAST_DEVIATION * deviation[moves].mean()
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(moves, deviation.clamp(min=least), 0))
        self.reach.copy_(ROOM * torch.maximum(farthest, self.deviation) + ~moves)

    def relative(self, motions: Tensor) -> Tensor:
        """Return motions (..., V) whose joints count from their body's root."""
        return motions - self.is_joint * motions.index_select(-1, self.root)

    def standardised(self, motions: Tensor) -> Tensor:
        """Return motions (N, C, T, V) as the discriminator judges them."""
        divisor = torch.where(self.deviation == 0, 1, self.deviation)
        return (self.relative(motions) - self.mean[:, None]) / divisor[:, None]

    def restored(self, frames: Tensor) -> Tensor:
        """Return frames (N, T, C, V) of the generator's last block as parts of motions, none beyond its reach."""
        relative = torch.addcmul(self.mean, self.reach, torch.tanh(frames * (self.deviation / self.reach)))
        return relative + self.is_joint * relative.index_select(-1, self.root)
