"""The generator: a motion from a latent point, a label and injected noise.

It computes what the published blocks compute, in another order. Growing joints and repeating frames commute with
everything that is pointwise, so the 1x1 convolution, the residual and the taps of the temporal convolution are applied
to the few joints and frames that come in; joints grow inside the adjacency product, and frames are repeated where
shifted taps are added up. The last two blocks have as few channels as a motion has coordinates and are computed with
channels first.

Shapes: N motions, C channels, T frames, V joints, K partitions. Inside, (N, T, V, C) but in the last two blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgan_ray.model.layers import GeneratorBlock, MappingNetwork, PublishedState
from kgan_ray.model.plan import LEAK, PARTITIONS, BlockPlan, check_sizes, generator_plan
from kgan_ray.skeleton import SkeletonGraph, SkeletonLayout


class GrowthGeometry(nn.Module):
    """The constants of one block: adjacency, growth of joints, partitions that are not zero."""

    adjacency: Tensor
    unpool: Tensor

    def __init__(self, plan: BlockPlan, graph: SkeletonGraph) -> None:
        super().__init__()
        adjacency = graph.levels[plan.level].adjacency  # (K, V', V')
        self.partitions = [k for k in range(PARTITIONS) if np.any(adjacency[k])]
        self.grows_joints = plan.in_level != plan.out_level
        unpool = graph.unpool(plan.in_level) if self.grows_joints else np.eye(adjacency.shape[1], dtype=np.float32)
        self.in_joints, self.out_joints = unpool.shape
        self.repeat = plan.out_frames // plan.in_frames
        self.register_buffer("adjacency", torch.tensor(adjacency[self.partitions]), persistent=False)
        self.register_buffer("unpool", torch.tensor(unpool), persistent=False)

    def joint_map(self, importance: Tensor) -> Tensor:
        """(K, V, V'): from the joints that come in to those that go out, through growth and adjacency."""
        kept = importance[self.partitions] if len(self.partitions) < PARTITIONS else importance
        adjacency = self.adjacency * kept
        return self.unpool @ adjacency if self.grows_joints else adjacency


class Generator(PublishedState):
    """Latent points z (N, latent_dim) and labels (N,) to motions (N, C, T, V) in [-1, 1].

    `width` is a factor on the channels, `mapping_gain` one on the mapping network's first weights; 1 is published.
    Raises UserError for sizes that do not fit together.
    """

    def __init__(
        self,
        latent_dim: int = 512,
        coordinates: int = 3,
        num_classes: int = 60,
        frames: int = 64,
        mapping_depth: int = 4,
        layout: str | SkeletonLayout = "ntu25",
        *,
        width: float = 1.0,
        mapping_gain: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes(coordinates, num_classes, frames, latent_dim, mapping_depth)
        graph = SkeletonGraph(layout)
        self.latent_dim, self.num_classes, self.style_dim = latent_dim, num_classes, latent_dim + num_classes
        self.plans = generator_plan(self.style_dim, coordinates, frames, width)
        self.label_emb = nn.Embedding(num_classes, num_classes)
        self.mlp = MappingNetwork(self.style_dim, mapping_depth, mapping_gain)
        self.st_gcn_networks = nn.ModuleList(GeneratorBlock(plan) for plan in self.plans)
        self.geometry = nn.ModuleList(GrowthGeometry(plan, graph) for plan in self.plans)
        sizes = [graph.levels[plan.level].num_joints for plan in self.plans]
        self.edge_importance = nn.ParameterList(torch.ones(PARTITIONS, v, v) for v in sizes)
        self._tracks_statistics = True
        self.noise_shapes = [(plan.out_frames, v) for plan, v in zip(self.plans, sizes, strict=True)]

    def forward(self, z: Tensor, label: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Motions (N, C, T, V). `noise` is 7 tensors (N, 1, T_i, V_i), drawn from torch's global state unless given."""
        return self.synthesise(self.style(z, label), noise)

    @contextmanager
    def statistics_frozen(self) -> Iterator[None]:
        """Within it, training-mode passes leave BatchNorm's running statistics alone."""
        self._tracks_statistics = False
        try:
            yield
        finally:
            self._tracks_statistics = True

    def style(self, z: Tensor, label: Tensor) -> Tensor:
        """The mapping network: (N, latent_dim) and (N,) to w (N, latent_dim + num_classes)."""
        return self.mlp(torch.cat([self.label_emb(label), z], dim=1))

    def draw_noise(
        self, size: int, *, device: torch.device, generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """What the seven blocks add: N(0, 1), 7 tensors (N, 1, T_i, V_i)."""
        return self.split_noise(torch.randn(size, self.noise_width, device=device, generator=generator))

    @property
    def noise_width(self) -> int:
        """Random numbers that one motion takes."""
        return sum(t * v for t, v in self.noise_shapes)

    def split_noise(self, drawn: Tensor) -> list[Tensor]:
        """(N, noise_width) as the seven blocks take it."""
        parts = drawn.split([t * v for t, v in self.noise_shapes], dim=1)
        return [part.view(len(drawn), 1, *shape) for part, shape in zip(parts, self.noise_shapes, strict=True)]

    def synthesise(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Motions (N, C, T, V) from w (N, latent_dim + num_classes)."""
        if noise is None:
            noise = self.draw_noise(len(w), device=w.device)
        x = w[:, None, None, :]  # (N, 1, 1, C)
        last = len(self.plans) - 1
        for i, plan in enumerate(self.plans):
            y = self._before_activation(i, plan, x) + self._scaled_noise(i, noise[i])
            x = torch.tanh(y) if i == last else F.leaky_relu(y, LEAK)
        return x.permute(0, 3, 1, 2)

    def _scaled_noise(self, index: int, noise: Tensor) -> Tensor:
        strength = self.st_gcn_networks[index].noise.weight.flatten()
        return noise.permute(0, 2, 3, 1) * strength

    def _before_activation(self, index: int, plan: BlockPlan, x: Tensor) -> Tensor:
        block, geometry = self.st_gcn_networks[index], self.geometry[index]
        n, t, v, _ = x.shape
        point = block.gcn.by_partition(geometry.partitions)  # (K, C_out, C_in)
        k, c = point.shape[:2]
        joints = geometry.joint_map(self.edge_importance[index])  # (K, V, V')
        joints = joints.permute(2, 1, 0).reshape(-1, v * k)  # (V', V * K)
        y = x @ point.flatten(0, 1).T  # (N, T, V, K * C_out)
        y = torch.matmul(joints, y.reshape(n * t, v * k, c)).view(n, t, -1, c)  # (N, T, V', C_out)
        y = repeated_convolution(y, block.tcn[0].weight.squeeze(3), geometry.repeat) + block.tcn[0].bias
        if plan.batch_norm:
            y = batch_norm(block.tcn[1], y)
        if plan.residual != "none":
            r = x
            if plan.residual == "conv":
                r = x @ block.residual[0].weight.flatten(1).T
            if geometry.grows_joints:
                r = torch.matmul(geometry.unpool.T, r)
            if plan.residual == "conv":
                r = batch_norm(block.residual[1], r + block.residual[0].bias, geometry.repeat)
            y = y + r.repeat_interleave(geometry.repeat, dim=1)
        return y


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
    first, last = earlier + here + after, before + here + later
    inside = (before + here + after)[:, :, None].expand(-1, -1, repeat - 2, -1, -1)
    return torch.cat([first[:, :, None], inside, last[:, :, None]], dim=2).view(n, t * repeat, v, out)


def batch_norm(norm: nn.Module, x: Tensor, repeat: int = 1) -> Tensor:
    """Batch normalisation of (N, T, V, C), as if every value were there `repeat` times."""
    y = x.repeat_interleave(repeat, dim=1).permute(0, 3, 1, 2)
    y = norm(y).permute(0, 2, 3, 1)
    return y[:, ::repeat]
