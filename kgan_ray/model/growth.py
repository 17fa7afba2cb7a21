"""How a generator block grows joints and repeats frames: its constants, and the products that follow from them.

Shapes: N motions, C channels, T frames, V joints that come in, V' that go out, K partitions, R repeats of a frame.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgan_ray.model.blocks import BlockDesign
from kgan_ray.model.layers import count_partitions, launches_matter
from kgan_ray.skeleton import SkeletonGraph


class GrowthGeometry(nn.Module):
    """The constants of one block: adjacency, growth of joints, partitions that are not zero, repeats of frames."""

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
        self.edges = torch.arange(adjacency.size).view(adjacency.shape)[: self.num_partitions]  # (K, V', V')
        self.register_buffer("unpool", torch.tensor(unpool), persistent=False)
        self.register_buffer("taps", taps, persistent=False)
        if design.residual == "identity":  # in the same form: (S, C, V, R, C, V')
            here = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1, 1, 1, 1).expand(-1, -1, -1, self.repeat, -1, -1)
            same = torch.eye(design.out_channels)[:, None, None, :, None] * self.unpool[:, None, None]
            self.register_buffer("residual_taps", here * same, persistent=False)

    def grown(self, joints: Tensor) -> Tensor:
        """Return (K, V, V'): from the joints that come in to those that go out, through growth and adjacency (K, V', V')."""
        return self.unpool @ joints if self.grows_joints else joints

    def repeated_taps(self, weight: Tensor) -> Tensor:
        """Return a temporal convolution's (C_out, C, 3) as (S, R, C_out, C), from source frame s to copy r."""
        return torch.einsum("srd,ocd->sroc", self.taps, weight)


def blend_of_frames(frames: int, times: int) -> Tensor:
    """Return what blends each frame with its neighbours, so many times (1, 2, 1) / 4: (T, T), its rows' sums 1."""
    blend = torch.zeros(frames, frames, dtype=torch.float64)
    for shift, weight in ((-1, 0.25), (0, 0.5), (1, 0.25)):
        neighbour = (torch.arange(frames) + shift).clamp(0, frames - 1)  # at either end a frame is its own
        blend[torch.arange(frames), neighbour] += weight
    return torch.linalg.matrix_power(blend, times).float()


def neighbouring_frames(x: Tensor) -> Tensor:
    """Put the frame before and the frame after beside each of x (N, T, C): (N, T, 3 * C), zeros beyond the ends."""
    return F.pad(x, (0, 0, 1, 1)).unfold(1, 3, 1).transpose(2, 3).flatten(2)


def repeated_convolution(x: Tensor, weight: Tensor, bias: Tensor, repeat: int) -> Tensor:
    """Repeat every frame of x (N, T, V, C), then convolve over time with weight (C_out, C, 3, 1) and zero padding."""
    if x.shape[1] * repeat == 1:
        return F.linear(x, weight[:, :, 1, 0], bias)
    return (_with_few_launches if launches_matter(x) else _with_few_products)(x, weight, bias, repeat)


def _with_few_launches(x: Tensor, weight: Tensor, bias: Tensor, repeat: int) -> Tensor:
    """Convolve the repeated frames, as published."""
    repeated = x if repeat == 1 else x.repeat_interleave(repeat, dim=1)
    y = F.conv2d(repeated.permute(0, 3, 1, 2), weight, bias, padding=(1, 0))
    return y.permute(0, 2, 3, 1).contiguous()  # no copy: it was computed so


def _with_few_products(x: Tensor, weight: Tensor, bias: Tensor, repeat: int) -> Tensor:
    """Apply the taps to the frames that come in, and add up what falls on each frame that goes out."""
    n, t, v, c = x.shape
    out = len(weight)
    before, here, after = (x @ weight.permute(2, 3, 0, 1).reshape(3 * out, c).T).split(out, dim=3)
    earlier = F.pad(before[:, :-1], (0, 0, 0, 0, 1, 0))  # what the frame before brings
    later = F.pad(after[:, 1:], (0, 0, 0, 0, 0, 1))
    if repeat == 1:
        return earlier + here + later + bias
    both = before + here
    first, last = earlier + (here + after), both + later
    inside = [(both + after)[:, :, None].expand(-1, -1, repeat - 2, -1, -1)] if repeat > 2 else []
    return torch.cat([first[:, :, None], *inside, last[:, :, None]], dim=2).view(n, t * repeat, v, out) + bias
