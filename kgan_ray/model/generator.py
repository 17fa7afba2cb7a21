"""The generator: a motion from a latent point, a label and injected noise.

It computes what the published blocks compute, in another order. Growing joints and repeating frames commute with
everything that is pointwise, so the 1x1 convolution, the residual and the taps of the temporal convolution are applied
to the few joints and frames that come in; joints grow inside the adjacency product, and frames are repeated where
shifted taps are added up. In the last two blocks, which have as few channels as a motion has coordinates, joints and
channels together are one matrix per tap.

Shapes: N motions, C channels, T frames, V joints, K partitions. Inside, (N, T, V, C); in the last two, (N, T, C, V).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgan_ray.model.batch_norm import BatchStatistics, NormalisedPass
from kgan_ray.model.blocks import LEAK, PARTITIONS, check_sizes, generator_design
from kgan_ray.model.growth import GrowthGeometry, blend_of_frames, neighbouring_frames, repeated_convolution
from kgan_ray.model.layers import EdgeMaps, GeneratorBlock, MappingNetwork, PublishedState
from kgan_ray.model.standardised import Standardisation
from kgan_ray.skeleton import SkeletonGraph, SkeletonLayout

FIRST_NARROW, LAST = 5, 6  # block 5 comes down to the coordinates, block 6 stays there


class Generator(PublishedState):
    """Latent points z (N, latent_dim) and labels (N,) to motions (N, C, T, V) in [-1, 1].

    `width` is a factor on the channels, `mapping_gain` one on the mapping network's first weights; 1 is published. With
    `standardised` a `Standardisation` makes motions of what the last block gives, which a tanh makes else; before that
    neighbouring frames are blended `smoothing` times, which leaves noise of single frames no way out.
    Raises UserError for sizes that do not fit together.
    """

    extra_parameters = ("standard.",)
    blend: Tensor | None

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
        standardised: bool = False,
        smoothing: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(coordinates, num_classes, frames, latent_dim, mapping_depth)
        graph = SkeletonGraph(layout)
        self.latent_dim, self.num_classes, self.style_dim = latent_dim, num_classes, latent_dim + num_classes
        self.motion_shape = (coordinates, frames, graph.layout.num_joints)
        self.designs = generator_design(self.style_dim, coordinates, frames, width)
        self.label_emb = nn.Embedding(num_classes, num_classes)
        self.mlp = MappingNetwork(self.style_dim, mapping_depth, mapping_gain)
        self.st_gcn_networks = nn.ModuleList(GeneratorBlock(design) for design in self.designs)
        self.geometry = nn.ModuleList(GrowthGeometry(design, graph) for design in self.designs)
        sizes = [graph.levels[design.level].num_joints for design in self.designs]
        self.edge_importance = nn.ParameterList(torch.ones(PARTITIONS, v, v) for v in sizes)
        chosen = [(i, geometry.edges) for i, geometry in enumerate(self.geometry)]
        self.joint_maps = EdgeMaps([graph.levels[design.level].adjacency for design in self.designs], chosen)
        self.noise_shapes = [(design.out_frames, v) for design, v in zip(self.designs, sizes, strict=True)]
        self.norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        self.statistics = BatchStatistics()
        self.standard = Standardisation(coordinates, graph.layout) if standardised else None
        self.register_buffer("blend", blend_of_frames(frames, smoothing) if smoothing else None, persistent=False)

    def forward(self, z: Tensor, label: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Generate motions (N, C, T, V). `noise` is 7 tensors (N, 1, T_i, V_i), drawn from torch's global state by default."""
        return self.synthesise(self.style(z, label), noise)

    def style(self, z: Tensor, label: Tensor) -> Tensor:
        """Map z (N, latent_dim) and labels (N,) to w (N, latent_dim + num_classes)."""
        w: Tensor = self.mlp(torch.cat([self.label_emb(label), z], dim=1))
        return w

    @property
    def noise_width(self) -> int:
        """How many random numbers one motion takes."""
        return sum(t * v for t, v in self.noise_shapes)

    def split_noise(self, numbers: Tensor) -> list[Tensor]:
        """Split random numbers (N, noise_width) into what each of the seven blocks takes."""
        parts = numbers.split([t * v for t, v in self.noise_shapes], dim=1)
        return [part.view(len(numbers), 1, *shape) for part, shape in zip(parts, self.noise_shapes, strict=True)]

    @contextmanager
    def using_statistics(self, statistics: BatchStatistics) -> Iterator[None]:
        """Let BatchNorm in training mode take and keep its statistics so, within the context."""
        usual, self.statistics = self.statistics, statistics
        try:
            yield
        finally:
            self.statistics = usual

    def synthesise(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Generate motions (N, C, T, V) from w (N, latent_dim + num_classes)."""
        if noise is None:
            noise = self.split_noise(torch.randn(len(w), self.noise_width, device=w.device, dtype=w.dtype))
        norms = NormalisedPass(self.norms, self.statistics)
        maps = self.joint_maps(self.edge_importance)
        joints = [geometry.grown(edges) for geometry, edges in zip(self.geometry, maps, strict=True)]
        x = w[:, None, None, :]  # (N, T, V, C)
        for i in range(FIRST_NARROW):
            strength = self.st_gcn_networks[i].noise.weight.flatten()
            y = torch.addcmul(self._wide_block(i, x, joints[i], norms), noise[i].permute(0, 2, 3, 1), strength)
            x = F.leaky_relu(y, LEAK)
        y = self._add_noise(FIRST_NARROW, self._narrowing_block(x, joints[FIRST_NARROW], norms), noise)
        y = self._add_noise(LAST, self._last_block(F.leaky_relu(y, LEAK), joints[LAST]), noise)
        norms.finish()
        if self.blend is not None:
            y = (self.blend @ y.flatten(2)).view_as(y)
        return (self.standard.restored(y) if self.standard else torch.tanh(y)).transpose(1, 2)

    def _add_noise(self, index: int, y: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Add to y (N, T, C, V) its channels' share of the noise."""
        strength = self.st_gcn_networks[index].noise.weight.view(-1, 1)
        return torch.addcmul(y, noise[index].transpose(1, 2), strength)

    def _wide_block(self, index: int, x: Tensor, joints: Tensor, norms: NormalisedPass) -> Tensor:
        """Compute block `index` before noise and LeakyReLU: (N, T, V, C_in) to (N, T', V', C_out)."""
        block, geometry, design = self.st_gcn_networks[index], self.geometry[index], self.designs[index]
        n, t, v, _ = x.shape
        point = block.gcn.by_partition(geometry.num_partitions)  # (K, C_out, C_in)
        k, c = point.shape[:2]
        y = x @ point.flatten(0, 1).T  # (N, T, V, K * C_out)
        if k == v == geometry.out_joints == 1:
            y = y * joints.view(1)
        else:
            joints = joints.permute(2, 1, 0).reshape(-1, v * k)  # (V', V * K)
            y = torch.matmul(joints, y.reshape(n * t, v * k, c)).view(n, t, -1, c)  # (N, T, V', C_out)
        y = repeated_convolution(y, block.tcn[0].weight, block.tcn[0].bias, geometry.repeat)
        if design.batch_norm:
            y = norms.normalise(block.tcn[1], y.view(-1, c), 1).view_as(y)
        if design.residual == "conv":
            weight, bias = block.residual[0].weight.flatten(1), block.residual[0].bias
            if geometry.grows_joints:
                r = (x @ weight.T).flatten(0, 1)  # (N * T, V, C_out)
                r = torch.baddbmm(bias, geometry.unpool.T.expand(len(r), -1, -1), r)
            else:
                r = F.linear(x, weight, bias)
            r = norms.normalise(block.residual[1], r.view(-1, c), geometry.repeat).view(n, t, -1, c)
            y = (y.view(n, t, -1, *y.shape[2:]) + r[:, :, None]).view_as(y)  # on each copy of a frame
        return y

    def _narrowing_block(self, x: Tensor, joints: Tensor, norms: NormalisedPass) -> Tensor:
        """Compute block 5 before noise and LeakyReLU: (N, T, V, C_in) to (N, T', C_out, V')."""
        block, geometry = self.st_gcn_networks[FIRST_NARROW], self.geometry[FIRST_NARROW]
        n, t, _v, _ = x.shape
        repeat, c = geometry.repeat, self.designs[FIRST_NARROW].out_channels
        point = block.gcn.by_partition(geometry.num_partitions)  # (K, C, C_in)
        y = x @ torch.cat([point.flatten(0, 1), block.residual[0].weight.flatten(1)]).T  # (N, T, V, (K + 1) * C)
        main, r = y[..., :-c].reshape(n, t, -1), y[..., -c:].transpose(2, 3)  # (N, T, V * K * C), (N, T, C, V)
        taps = geometry.repeated_taps(block.tcn[0].weight.squeeze(3))
        dense = torch.einsum("sroc,kvw->svkcrow", taps, joints).reshape(3 * main.shape[2], -1)
        bias = block.tcn[0].bias[:, None].expand(repeat, c, geometry.out_joints).flatten()
        main = torch.addmm(bias, neighbouring_frames(main).reshape(n * t, -1), dense)
        main = norms.normalise(block.tcn[1], main.view(n * t * repeat, c, -1), 1)
        if geometry.grows_joints:
            r = r @ geometry.unpool
        r = r + block.residual[0].bias[:, None]
        r = norms.normalise(block.residual[1], r.reshape(n * t, c, -1), repeat)
        return (main.view(n, t, repeat, c, -1) + r.view(n, t, 1, c, -1)).view(n, t * repeat, c, -1)

    def _last_block(self, x: Tensor, joints: Tensor) -> Tensor:
        """Compute block 6 before noise and tanh: (N, T, C, V) to (N, T', C, V')."""
        block, geometry = self.st_gcn_networks[LAST], self.geometry[LAST]
        n, t, c, v = x.shape
        taps = geometry.repeated_taps(block.tcn[0].weight.squeeze(3))
        point = block.gcn.by_partition(geometry.num_partitions)  # (K, C, C_in)
        mixed = torch.einsum("sroc,kci->srkoi", taps, point)
        dense = torch.einsum("srkoi,kvw->sivrow", mixed, joints)
        dense = (dense + geometry.residual_taps).reshape(3 * c * v, -1)
        bias = block.tcn[0].bias[:, None].expand(geometry.repeat, c, geometry.out_joints).flatten()
        y = torch.addmm(bias, neighbouring_frames(x.reshape(n, t, c * v)).reshape(n * t, -1), dense)
        return y.view(n, t * geometry.repeat, c, -1)
