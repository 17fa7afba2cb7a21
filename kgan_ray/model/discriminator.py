"""The discriminator: which motion is real, given its label.

It computes what the published blocks compute, in another order. A block is linear up to its LeakyReLU:

    y = temporal convolution( sum over partitions k of  A_k applied to the joints of W_k x ) + residual(x)

The joints' part A goes first, while there are few channels, and only to the joints that are kept; its partitions lie
side by side along the joints, so that W_k is a convolution over them with stride K. W and the temporal convolution are
multiplied into one convolution where that costs less, strided where frames are halved. The label's channels are the
same everywhere in (T, V): their share of the first block is a small matrix product, less one tap at the first and at
the last frame, where the padding is.

Shapes: N motions, C channels, T frames, V joints, K partitions. Inside, (N, V, T, C) in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgan_ray.model.blocks import LEAK, NOISY_BLOCKS, PARTITIONS, BlockDesign, check_sizes, discriminator_design
from kgan_ray.model.layers import DiscriminatorBlock, PublishedState, count_partitions, first_partitions
from kgan_ray.settings import TechniqueSettings
from kgan_ray.skeleton import SkeletonGraph, SkeletonLayout

# A training step of batch 32 takes about ten passes over it: so many motions share merged weights.
MOTION_PASSES = 320


class BlockGeometry(nn.Module):
    """The constants of one block: adjacency of the joints that it keeps, partitions that are not zero, stride."""

    adjacency: Tensor
    keep: Tensor

    def __init__(self, design: BlockDesign, graph: SkeletonGraph, own_channels: int) -> None:
        super().__init__()
        level = graph.levels[design.level]
        keep = (
            graph.levels[design.out_level].keep if design.out_level != design.in_level else range(level.num_joints)
        )
        self.drops_joints = design.out_level != design.in_level
        adjacency = level.adjacency[:, :, list(keep)]  # (K, V, V')
        self.num_partitions = count_partitions(adjacency)
        self.stride = design.in_frames // design.out_frames
        self.num_joints, self.num_kept = level.num_joints, len(keep)
        self.register_buffer("adjacency", torch.tensor(adjacency[: self.num_partitions]), persistent=False)
        self.register_buffer("keep", torch.tensor(list(keep)), persistent=False)
        self.merges = self._merging_pays(design, own_channels)

    def _merging_pays(self, design: BlockDesign, in_channels: int) -> bool:
        """Decide whether one convolution in place of the 1x1 and the temporal one saves multiplications in a step."""
        k, c, d = self.num_partitions, in_channels, design.out_channels
        apart = self.num_kept * (design.in_frames * k * c * d + design.out_frames * 3 * d * d)
        merged = self.num_kept * design.out_frames * 3 * k * c * d
        merging = 3 * (3 * k * c * d * d)  # once forward, twice backward
        # By measurement, what lies between two convolutions costs a tenth; small products run at two thirds.
        return merged * MOTION_PASSES + 1.5 * merging < 1.1 * apart * MOTION_PASSES

    def joint_map(self, importance: Tensor) -> Tensor:
        """(V' * K, V): what gathers the joints, every partition for itself."""
        importance = first_partitions(importance, self.num_partitions)
        if self.drops_joints:
            importance = importance.index_select(2, self.keep)
        return (self.adjacency * importance).permute(2, 0, 1).reshape(-1, self.num_joints)


@dataclass
class BlockWeights:
    """One block's weights in the form that they are multiplied in. None where a block has no such part."""

    joints: Tensor  # (V' * K, V)
    point: Tensor | None  # (C_out, C_in, K, 1), or None where it is merged into `time`
    time: Tensor  # (C_out, C_in, K, 3) where merged, else (C_out, C_out, 1, 3)
    bias: Tensor  # (C_out,)
    residual: Tensor | None  # (C_out, C_in)

    def parts(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor | None]:
        return self.joints, self.point, self.time, self.bias, self.residual


@dataclass
class DiscriminatorNoise:
    """The random part of a forward pass, already scaled. None = off."""

    label: Tensor | None = None  # (N, num_classes), added to the label's embedding
    blocks: Sequence[Tensor | None] = (None, None, None)  # of NOISY_BLOCKS: (N, 1, 1, 1) or (N, V, T, C)

    def map(self, change: Callable[[Tensor], Tensor]) -> DiscriminatorNoise:
        """Return the same with every tensor changed."""
        label = None if self.label is None else change(self.label)
        return DiscriminatorNoise(label, [None if t is None else change(t) for t in self.blocks])


class Discriminator(PublishedState):
    """Motions (N, C, T, V) in [-1, 1] and labels (N,) to scores (N,): the higher, the more real.

    `latent_dim` is the number of features before the last layer. Options, all off by default: `techniques`
    (pooling, input noise, label noise; noise only in training mode), `width` (factor on the channels),
    `projection` (Miyato and Koyama, "cGANs with projection discriminator", 2018) and `auxiliary_classifier`
    (Odena et al., "Conditional image synthesis with auxiliary classifier GANs", 2017). With either of the last two
    the label no longer enters beside the motion, as in those papers: a classifier that is told the label has
    nothing to learn. Raises UserError for sizes that do not fit together.
    """

    extra_parameters = ("projection.", "classifier.")

    def __init__(
        self,
        coordinates: int = 3,
        num_classes: int = 60,
        frames: int = 64,
        latent_dim: int = 512,
        layout: str | SkeletonLayout = "ntu25",
        *,
        techniques: TechniqueSettings | None = None,
        width: float = 1.0,
        projection: bool = False,
        auxiliary_classifier: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(coordinates, num_classes, frames, latent_dim, 1)
        graph = SkeletonGraph(layout)
        self.coordinates, self.num_classes, self.frames = coordinates, num_classes, frames
        self.techniques = techniques or TechniqueSettings()
        designs = discriminator_design(coordinates, num_classes, frames, latent_dim, width)
        self.designs = designs
        self.label_emb = nn.Embedding(num_classes, num_classes)
        self.label_beside_motion = not (projection or auxiliary_classifier)
        self.st_gcn_networks = nn.ModuleList(DiscriminatorBlock(design) for design in designs)
        self.geometry = nn.ModuleList(
            BlockGeometry(design, graph, coordinates if i == 0 else design.in_channels)
            for i, design in enumerate(designs)
        )
        sizes = [graph.levels[design.level].num_joints for design in designs]
        self.edge_importance = nn.ParameterList(torch.ones(PARTITIONS, v, v) for v in sizes)
        self.fcn = nn.Linear(latent_dim, 1)
        if projection:
            self.projection = nn.Embedding(num_classes, latent_dim)
            nn.init.zeros_(self.projection.weight)
        if auxiliary_classifier and not projection:
            self.classifier = nn.Linear(latent_dim, num_classes)

    def forward(self, motion: Tensor, label: Tensor, noise: DiscriminatorNoise | None = None) -> Tensor:
        """Score motions: (N,). `noise` of the techniques is drawn from torch's global state unless given."""
        return self.score(self.features(motion, label, noise), label)

    def features(self, motion: Tensor, label: Tensor, noise: DiscriminatorNoise | None = None) -> Tensor:
        """Return what the last block makes of each motion, pooled over (T, V): (N, latent_dim)."""
        if noise is None:
            noise = self.draw_noise(len(motion), device=motion.device) if self.training else DiscriminatorNoise()
        weights = self.block_weights()
        x = motion.permute(0, 3, 2, 1)
        for i, block in enumerate(weights):
            y = self.before_activation(i, block, x)
            if i == 0:
                y = add_label_terms_(y, self.label_terms(label, noise.label))
            if i in NOISY_BLOCKS and (added := noise.blocks[NOISY_BLOCKS.index(i)]) is not None:
                y = y + added
            x = F.leaky_relu(y, LEAK)
        return x.amax(dim=(1, 2)) if self.techniques.pooling == "max" else x.mean(dim=(1, 2))

    def score(self, features: Tensor, label: Tensor) -> Tensor:
        """Score pooled features (N, latent_dim), linearly: (N,)."""
        score: Tensor = self.fcn(features).squeeze(1)
        if hasattr(self, "projection"):
            score = score + (self.projection(label) * features).sum(dim=1)
        return score

    def class_scores(self, features: Tensor) -> Tensor:
        """Return each class's score (N, num_classes) of pooled features: the auxiliary classifier's, before a softmax.

        With the projection these are its products with every label, so that what tells classes apart is part of the
        score itself, whose slope the gradient penalty holds; a head of its own could be fooled by small changes.
        """
        if hasattr(self, "projection"):
            return features @ self.projection.weight.T
        scores: Tensor = self.classifier(features)
        return scores

    def draw_noise(
        self, size: int, *, device: torch.device, num_batches: int = 1, random: torch.Generator | None = None
    ) -> DiscriminatorNoise:
        """Draw the techniques' noise for batches of `size` motions each, one after the other along N.

        Scalar input noise is one number per batch and block, as published; nothing is drawn for what is off.
        """
        techniques = self.techniques
        count = num_batches * size

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, device=device, generator=random)

        noise = DiscriminatorNoise()
        if techniques.label_noise_std:
            noise.label = techniques.label_noise_std * normal(count, self.num_classes)
        if techniques.input_noise_std and techniques.input_noise_kind == "scalar":
            scalars = techniques.input_noise_std * normal(num_batches, len(NOISY_BLOCKS)).repeat_interleave(
                size, dim=0
            )
            noise.blocks = [scalars[:, i, None, None, None] for i in range(len(NOISY_BLOCKS))]
        elif techniques.input_noise_std:
            noise.blocks = [
                techniques.input_noise_std
                * normal(
                    count, self.geometry[i].num_kept, self.designs[i].out_frames, self.designs[i].out_channels
                )
                for i in NOISY_BLOCKS
            ]
        return noise

    def block_weights(self) -> list[BlockWeights]:
        """Return the parameters in the form that they are multiplied in; gradients flow back to them."""
        weights = []
        for i, block in enumerate(self.st_gcn_networks):
            geometry: BlockGeometry = self.geometry[i]
            point = block.gcn.by_partition(geometry.num_partitions)  # (K, C_out, C_in)
            if i == 0:
                point = point[:, :, self.num_classes :]
            time = block.tcn.weight.transpose(2, 3)  # (C_out, C_out, 1, 3)
            if geometry.merges:
                time = merge(time, point)
            bias = block.tcn.bias
            residual = None
            if hasattr(block, "residual"):
                residual = block.residual.weight.flatten(1)
                bias = bias + block.residual.bias
            weights.append(
                BlockWeights(
                    joints=geometry.joint_map(self.edge_importance[i]),
                    point=None if geometry.merges else point.permute(1, 2, 0)[..., None],
                    time=time,
                    bias=bias,
                    residual=residual,
                )
            )
        return weights

    def label_terms(self, label: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the label's share of the first block, for each tap of its temporal convolution: (N, 3, V', C_out)."""
        geometry: BlockGeometry = self.geometry[0]
        block = self.st_gcn_networks[0]
        embedded = self.label_emb(label)
        if not self.label_beside_motion:
            embedded = torch.zeros_like(embedded)
        if noise is not None:
            embedded = embedded + noise
        point = block.gcn.by_partition(geometry.num_partitions)[:, :, : self.num_classes]  # (K, C_out, classes)
        joints = geometry.joint_map(self.edge_importance[0]).sum(dim=1).view(geometry.num_kept, -1)  # (V', K)
        per_partition = torch.einsum("ne,koe->nko", embedded, point)
        per_joint = joints @ per_partition  # (N, V', C_out)
        taps = block.tcn.weight.squeeze(3).permute(2, 1, 0)  # (3, C_out, C_out)
        return per_joint[:, None] @ taps

    def before_activation(self, index: int, weights: BlockWeights, x: Tensor) -> Tensor:
        """Compute block `index` up to its LeakyReLU, without the label's share: (N, V, T, C_in) -> (N, V', T', C_out)."""
        geometry: BlockGeometry = self.geometry[index]
        n, _, t, c = x.shape
        y = torch.matmul(weights.joints, x.flatten(2)).view(n, -1, t, c)  # (N, V' * K, T, C_in)
        y = temporal_convolution(y, weights.point, weights.time, weights.bias, geometry)
        if index == 0:
            return y
        r = x[:, :, :: geometry.stride]
        if geometry.drops_joints:
            r = r.index_select(1, geometry.keep)
        return y + (r if weights.residual is None else r @ weights.residual.T)


def temporal_convolution(
    x: Tensor, point: Tensor | None, time: Tensor, bias: Tensor | None, geometry: BlockGeometry
) -> Tensor:
    """(N, V' * K, T, C_in) to (N, V', T', C_out): over the partitions of each joint, and over time."""
    y, k = x.permute(0, 3, 1, 2), geometry.num_partitions
    if point is not None:
        y, k = F.conv2d(y, point, stride=(k, 1)), 1
    y = F.conv2d(y, time, bias, stride=(k, geometry.stride), padding=(0, 1))
    return y.permute(0, 2, 3, 1)


def add_label_terms_(y: Tensor, terms: Tensor) -> Tensor:
    """Add what the label's channels bring, in place; at either end of time one tap falls on the padding."""
    y += terms.sum(dim=1)[:, :, None]
    y[:, :, 0].sub_(terms[:, 0])  # `-=` would copy the difference onto itself
    y[:, :, -1].sub_(terms[:, 2])
    return y


def merge(time: Tensor, point: Tensor) -> Tensor:
    """1x1 convolutions (K, C, C_in) followed by a temporal one (C_out, C, 1, 3), as one (C_out, C_in, K, 3)."""
    out, middle = time.shape[:2]
    k, _, c = point.shape
    taps = time.squeeze(2).transpose(1, 2).reshape(out * 3, middle)
    merged = taps @ point.transpose(0, 1).reshape(middle, k * c)
    return merged.view(out, 3, k, c).permute(0, 3, 2, 1)
