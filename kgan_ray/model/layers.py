"""Parameters under their published names, and the constants of a skeleton that go with them.

These modules only hold parameters: the networks' own `forward` decides in which order to multiply.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kgan_ray.model.blocks import LEAK, PARTITIONS, BlockDesign
from kgan_ray.settings import UserError


def count_partitions(adjacency: np.ndarray) -> int:
    """Count the partitions of an adjacency (K, V, V') up to the last that is not zero: the others drop out by slicing."""
    return 1 + int(np.flatnonzero(adjacency.any(axis=(1, 2))).max())


def first_partitions(x: Tensor, count: int) -> Tensor:
    """Return the first of x (K, ...); all of them are x itself, which autograd follows at no cost."""
    return x if count == len(x) else x[:count]


def launches_matter(x: Tensor) -> bool:
    """Say whether small operations on x cost their launch rather than their arithmetic: on all devices but the CPU."""
    return x.device.type != "cpu"


class EdgeMaps(nn.Module):
    """Each block's adjacency times the learned importance of its edges, for all blocks at once.

    On a GPU that is three launches, where each block by itself would take as many. `chosen` has for each map its block
    and, in the map's shape, which of that block's edges stand in it: numbers in its adjacency (K, V, V), flat.
    """

    edges: Tensor
    adjacency: Tensor

    def __init__(self, adjacencies: Sequence[np.ndarray], chosen: Sequence[tuple[int, Tensor]]) -> None:
        super().__init__()
        firsts = np.cumsum([0, *(adjacency.size for adjacency in adjacencies)])
        edges = torch.cat([int(firsts[block]) + numbers.flatten() for block, numbers in chosen])
        whole = torch.cat([torch.tensor(adjacency).flatten() for adjacency in adjacencies])
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("adjacency", whole[edges], persistent=False)
        self.shapes = [numbers.shape for _, numbers in chosen]

    def forward(self, importance: Iterable[Tensor]) -> list[Tensor]:
        """Return the maps; `importance` is each block's, (K, V, V)."""
        edges = torch.cat([block.flatten() for block in importance]).index_select(0, self.edges)
        maps = (self.adjacency * edges).split([shape.numel() for shape in self.shapes])
        return [flat.view(shape) for flat, shape in zip(maps, self.shapes, strict=True)]


class GraphConvolution(nn.Module):
    """A 1x1 convolution to one group of channels per partition: `conv.weight` (K * C_out, C_in, 1, 1)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, PARTITIONS * out_channels, 1, bias=False)

    def by_partition(self, num_partitions: int) -> Tensor:
        """Return the weights of the first partitions, (K', C_out, C_in)."""
        return first_partitions(self.conv.weight.view(PARTITIONS, -1, self.conv.in_channels), num_partitions)


class InjectedNoise(nn.Module):
    """The strength per channel of the noise that a generator block adds: `weight` (1, C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, 1, 1))


class GeneratorBlock(nn.Module):
    """Parameters of one generator block."""

    def __init__(self, design: BlockDesign) -> None:
        super().__init__()
        channels = design.out_channels
        self.gcn = GraphConvolution(design.in_channels, channels)
        self.tcn = nn.Sequential(nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)))
        if design.batch_norm:
            self.tcn.append(nn.BatchNorm2d(channels))
        if design.residual == "conv":
            self.residual = nn.Sequential(nn.Conv2d(design.in_channels, channels, 1), nn.BatchNorm2d(channels))
        self.noise = InjectedNoise(channels)


class DiscriminatorBlock(nn.Module):
    """Parameters of one discriminator block."""

    def __init__(self, design: BlockDesign) -> None:
        super().__init__()
        self.gcn = GraphConvolution(design.in_channels, design.out_channels)
        self.tcn = nn.Conv2d(design.out_channels, design.out_channels, (3, 1), padding=(1, 0))
        # A tap's channels lie beside one another: they are multiplied, and their gradient comes, without a copy.
        self.tcn.weight.data = self.tcn.weight.data.contiguous(memory_format=torch.channels_last)
        if design.residual == "conv":
            self.residual = nn.Conv2d(design.in_channels, design.out_channels, 1)


class MappingNetwork(nn.Module):
    """`depth` linear layers with LeakyReLU between (label embedding, z) and w: `mlp.{0,2,..}.{weight,bias}`.

    Its weights start from N(0, gain^2), as published with gain 1; its biases from 0.
    """

    def __init__(self, width: int, depth: int, gain: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            linear = nn.Linear(width, width)
            nn.init.normal_(linear.weight, std=gain)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.LeakyReLU(LEAK)]
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        w: Tensor = self.mlp(x)
        return w


class PublishedState(nn.Module):
    """A network whose parameters carry the published names."""

    extra_parameters: tuple[str, ...] = ()  # of options that the published networks do not have

    def published_state(self) -> dict[str, Tensor]:
        """Return the weights under their published names, detached; parameters of options left out."""
        return {
            name: tensor.detach().clone()
            for name, tensor in self.state_dict().items()
            if not name.startswith(self.extra_parameters or ("\0",))
        }

    def load_published_state(self, state: Mapping[str, Tensor]) -> None:
        """Load published weights. Raises UserError naming the first tensor that is missing, too much or misshapen."""
        ours = {name: tuple(tensor.shape) for name, tensor in self.published_state().items()}
        theirs = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if ours != theirs:
            differ = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
            name = differ[0]
            raise UserError(
                f"published weights of another model: {len(differ)} tensors differ, first {name} "
                f"(found {theirs.get(name, 'none')}, this model has {ours.get(name, 'none')})"
            )
        self.load_state_dict({**self.state_dict(), **state})
