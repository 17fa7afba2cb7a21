"""The discriminator's parameters in the form that they are multiplied in; gradients flow back to them.

Shapes: N motions, C channels, V joints that come in, V' that are kept, K partitions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kgan_ray.model.blocks import BlockDesign
from kgan_ray.model.layers import DiscriminatorBlock, count_partitions, launches_matter
from kgan_ray.skeleton import SkeletonGraph

# A training step of batch 32 takes about ten passes over it: so many motions share merged weights.
MOTION_PASSES = 320


class BlockGeometry(nn.Module):
    """The constants of one block: the joints that it keeps, its partitions that are not zero, its stride."""

    keep: Tensor

    def __init__(self, design: BlockDesign, graph: SkeletonGraph, own_channels: int) -> None:
        super().__init__()
        level = graph.levels[design.level]
        self.drops_joints = design.out_level != design.in_level
        keep = list(graph.levels[design.out_level].keep if self.drops_joints else range(level.num_joints))
        self.num_joints, self.num_kept = level.num_joints, len(keep)
        self.num_partitions = count_partitions(level.adjacency[:, :, keep])
        self.stride = design.in_frames // design.out_frames
        # Of the adjacency's edges, flat: those to the joints that are kept, in the order of their map.
        edges = torch.arange(level.adjacency.size).view(level.adjacency.shape)[: self.num_partitions, :, keep]
        self.edges = edges.permute(2, 0, 1).flatten(0, 1)  # (V' * K, V)
        self.register_buffer("keep", torch.tensor(keep), persistent=False)
        self.merges = self._merging_pays(design, own_channels)

    def _merging_pays(self, design: BlockDesign, in_channels: int) -> bool:
        """Decide whether one convolution in place of the 1x1 and the temporal one saves multiplications in a step."""
        k, c, d = self.num_partitions, in_channels, design.out_channels
        apart = self.num_kept * (design.in_frames * k * c * d + design.out_frames * 3 * d * d)
        merged = self.num_kept * design.out_frames * 3 * k * c * d
        merging = 3 * (3 * k * c * d * d)  # once forward, twice backward
        # By measurement, what lies between two convolutions costs a tenth; small products run at two thirds.
        return merged * MOTION_PASSES + 1.5 * merging < 1.1 * apart * MOTION_PASSES


@dataclass
class BlockWeights:
    """One block's weights in the form that they are multiplied in. None where a block has no such part."""

    joints: Tensor  # (V' * K, V): what gathers the joints, every partition for itself
    point: Tensor | None  # (C_out, C_in, K, 1), or None where it is merged into `time`
    time: Tensor  # (C_out, C_in, K, 3) where merged, else (C_out, C_out, 1, 3)
    bias: Tensor  # (C_out,)
    residual: Tensor | None  # (C_out, C_in)

    def parts(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor | None]:
        return self.joints, self.point, self.time, self.bias, self.residual


@dataclass
class LabelWeights:
    """What the label's channels, the same everywhere in (T, V), are multiplied with in the first block."""

    point: Tensor  # (K, C, classes)
    joints: Tensor  # (V', K)
    taps: Tensor  # (3, C, C_out)

    def terms(self, embedded: Tensor) -> Tensor:
        """Return the share of labels (N, classes) for each tap of the temporal convolution: (N, 3, V', C_out)."""
        per_partition = torch.einsum("ne,koe->nko", embedded, self.point)
        if not launches_matter(embedded):
            return (self.joints @ per_partition)[:, None] @ self.taps
        per_joint = torch.bmm(self.joints.expand(len(embedded), -1, -1), per_partition)  # (N, V', C)
        by_tap = per_joint.flatten(0, 1) @ self.taps.permute(1, 2, 0).flatten(1)  # (N * V', C_out * 3)
        return by_tap.view(*per_joint.shape, 3).permute(0, 3, 1, 2)


@dataclass
class DiscriminatorWeights:
    """The weights of all blocks, and of the label's share of the first."""

    blocks: list[BlockWeights]
    label: LabelWeights

    def tensors(self) -> list[Tensor]:
        """List all that the blocks have, block by block."""
        return [part for block in self.blocks for part in block.parts() if part is not None]


def block_weights(
    block: DiscriminatorBlock, geometry: BlockGeometry, joints: Tensor, point: Tensor
) -> BlockWeights:
    """Bring a block's parameters into that form, with its map of the joints and its 1x1 convolutions (K, C_out, C_in)."""
    time = block.tcn.weight.squeeze(3).unsqueeze(2)  # (C_out, C_out, 1, 3)
    # A view: its gradient becomes the parameter's as it is, where one that comes to the parameter itself is copied.
    bias, residual = block.tcn.get_parameter("bias").view(-1), None
    if hasattr(block, "residual"):
        bias = bias + block.residual.get_parameter("bias").view(-1)
        residual = block.residual.weight.flatten(1)
    return BlockWeights(
        joints=joints,
        point=None if geometry.merges else point.permute(1, 2, 0)[..., None],
        time=merge(time, point) if geometry.merges else time,
        bias=bias,
        residual=residual,
    )


def merge(time: Tensor, point: Tensor) -> Tensor:
    """1x1 convolutions (K, C, C_in) followed by a temporal one (C_out, C, 1, 3), as one (C_out, C_in, K, 3)."""
    out, middle = time.shape[:2]
    k, _, c = point.shape
    taps = time.squeeze(2).transpose(1, 2).reshape(out * 3, middle)
    merged = torch.bmm(taps.expand(k, -1, -1), point)  # (K, C_out * 3, C_in)
    return merged.view(k, out, 3, c).permute(1, 3, 0, 2)
