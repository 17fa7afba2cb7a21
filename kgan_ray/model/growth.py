"""How a generator block grows joints and repeats frames: its constants, and the products that follow from them.

Shapes: N motions, C channels, T frames, V joints that come in, V' that go out, K partitions, R repeats of a frame.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgan_ray.model.blocks import BlockDesign
from kgan_ray.model.layers import count_partitions, first_partitions
from kgan_ray.skeleton import SkeletonGraph


class GrowthGeometry(nn.Module):
    """The constants of one block: adjacency, growth of joints, partitions that are not zero, repeats of frames."""

    adjacency: Tensor
    unpool: Tensor
    taps: Tensor
    residual_taps: Tensor

    def __init__(self, design: BlockDesign, graph: SkeletonGraph) -> None:
        super().__init__()
        adjacency = graph.levels[design.level].adjacency  # (K, V', V')
        self.num_partitions = count_partitions(adjacency)
        self.grows_joints = design.in_level != design.out_level
        unpool = (
            graph.unpool(design.in_level) if self.grows_joints else np.eye(adjacency.shape[1], dtype=np.float32)
        )
        self.in_joints, self.out_joints = unpool.shape
        self.repeat = design.out_frames // design.in_frames
        # [s, r, d]: in the r-th copy of a frame, tap d falls on the frame before (s = 0), on itself, or after.
        taps = torch.zeros(3, self.repeat, 3)
        for copy in range(self.repeat):
            for tap in range(3):
                taps[(copy + tap - 1) // self.repeat + 1, copy, tap] = 1
        self.register_buffer("adjacency", torch.tensor(adjacency[: self.num_partitions]), persistent=False)
        self.register_buffer("unpool", torch.tensor(unpool), persistent=False)
        self.register_buffer("taps", taps, persistent=False)
        if design.residual == "identity":  # in the same form: (S, C, V, R, C, V')
            here = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1, 1, 1, 1).expand(-1, -1, -1, self.repeat, -1, -1)
            same = torch.eye(design.out_channels)[:, None, None, :, None] * self.unpool[:, None, None]
            self.register_buffer("residual_taps", here * same, persistent=False)

    def joint_map(self, importance: Tensor) -> Tensor:
        """Return (K, V, V'): from the joints that come in to those that go out, through growth and adjacency."""
        adjacency = self.adjacency * first_partitions(importance, self.num_partitions)
        return self.unpool @ adjacency if self.grows_joints else adjacency

    def repeated_taps(self, weight: Tensor) -> Tensor:
        """Return a temporal convolution's (C_out, C, 3) as (S, R, C_out, C), from source frame s to copy r."""
        return torch.einsum("srd,ocd->sroc", self.taps, weight)


def neighbouring_frames(x: Tensor) -> Tensor:
    """Put the frame before and the frame after beside each of x (N, T, C): (N, T, 3 * C), zeros beyond the ends."""
    return F.pad(x, (0, 0, 1, 1)).unfold(1, 3, 1).transpose(2, 3).flatten(2)


def repeated_convolution(x: Tensor, weight: Tensor, repeat: int) -> Tensor:
    """Repeat every frame of x (N, T, V, C), then convolve over time with weight (C_out, C, 3) and zero padding."""
    n, t, v, c = x.shape
    out = len(weight)
    if t * repeat == 1:
        return x @ weight[:, :, 1].T
    before, here, after = (x @ weight.permute(2, 0, 1).reshape(3 * out, c).T).split(out, dim=3)
    earlier = F.pad(before[:, :-1], (0, 0, 0, 0, 1, 0))  # what the frame before brings
    later = F.pad(after[:, 1:], (0, 0, 0, 0, 0, 1))
    if repeat == 1:
        return earlier + here + later
    both = before + here
    first, last = earlier + (here + after), both + later
    inside = [(both + after)[:, :, None].expand(-1, -1, repeat - 2, -1, -1)] if repeat > 2 else []
    return torch.cat([first[:, :, None], *inside, last[:, :, None]], dim=2).view(n, t * repeat, v, out)
