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

from kgan_ray.model.blocks import LEAK, NOISY_BLOCKS, PARTITIONS, check_sizes, discriminator_design
from kgan_ray.model.discriminator_weights import (
    BlockGeometry,
    BlockWeights,
    DiscriminatorWeights,
    LabelWeights,
    block_weights,
)
from kgan_ray.model.layers import DiscriminatorBlock, EdgeMaps, PublishedState
from kgan_ray.model.standardised import Standardisation
from kgan_ray.settings import TechniqueSettings
from kgan_ray.skeleton import SkeletonGraph, SkeletonLayout


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
    `projection` (Miyato and Koyama, "cGANs with projection discriminator", 2018), `auxiliary_classifier`
    (Odena et al., "Conditional image synthesis with auxiliary classifier GANs", 2017) and `standardised` (motions are
    judged as `Standardisation` makes them). With projection or classifier the label no longer enters beside the motion,
    as in those papers: a classifier that is told the label has nothing to learn. Raises UserError for sizes that do not fit together.
    """

    extra_parameters = ("projection.", "classifier.", "standard.")

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
        standardised: bool = False,
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
        chosen = [(i, geometry.edges) for i, geometry in enumerate(self.geometry)]
        chosen.append(chosen[0])  # once more, for the label's share
        self.joint_maps = EdgeMaps([graph.levels[design.level].adjacency for design in designs], chosen)
        self.fcn = nn.Linear(latent_dim, 1)
        if projection:
            self.projection = nn.Embedding(num_classes, latent_dim)
            nn.init.zeros_(self.projection.weight)
        if auxiliary_classifier and not projection:
            self.classifier = nn.Linear(latent_dim, num_classes)
        self.standard = Standardisation(coordinates, graph.layout) if standardised else None

    def forward(self, motion: Tensor, label: Tensor, noise: DiscriminatorNoise | None = None) -> Tensor:
        """Score motions: (N,). `noise` of the techniques is drawn from torch's global state unless given."""
        return self.score(self.features(motion, label, noise), label)

    def features(self, motion: Tensor, label: Tensor, noise: DiscriminatorNoise | None = None) -> Tensor:
        """Return what the last block makes of each motion, pooled over (T, V): (N, latent_dim)."""
        if noise is None:
            noise = self.draw_noise(len(motion), device=motion.device) if self.training else DiscriminatorNoise()
        weights = self.weights()
        x = self.judged(motion).permute(0, 3, 2, 1)
        for i, block in enumerate(weights.blocks):
            y = self.before_activation(i, block, x)
            if i == 0:
                y = add_label_terms_(y, weights.label.terms(self.embedded(label, noise.label)))
            if i in NOISY_BLOCKS and (added := noise.blocks[NOISY_BLOCKS.index(i)]) is not None:
                y = y + added
            x = F.leaky_relu(y, LEAK)
        return x.amax(dim=(1, 2)) if self.techniques.pooling == "max" else x.mean(dim=(1, 2))

    def judged(self, motion: Tensor) -> Tensor:
        """Return motions (N, C, T, V) as the first block takes them in, and as the gradient penalty measures slopes along."""
        return self.standard.standardised(motion) if self.standard else motion

    def score(self, features: Tensor, label: Tensor) -> Tensor:
        """Score pooled features (N, latent_dim), linearly: (N,)."""
        score: Tensor = self.fcn(features).squeeze(1)
        if hasattr(self, "projection"):
            score = score + (self.projection(label) * features).sum(dim=1)
        return score

    def change_of_score(self, features: Tensor, label: Tensor) -> Tensor:
        """Return how much the score changes with these changes of the features (N, latent_dim): (N,)."""
        change = (features @ self.fcn.weight.T).squeeze(1)
        return change + (self.projection(label) * features).sum(dim=1) if hasattr(self, "projection") else change

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

    def weights(self) -> DiscriminatorWeights:
        """Return the parameters in the form that they are multiplied in; gradients flow back to them."""
        *joints, first_joints = self.joint_maps(self.edge_importance)
        blocks = []
        for i, block in enumerate(self.st_gcn_networks):
            geometry: BlockGeometry = self.geometry[i]
            point = block.gcn.by_partition(geometry.num_partitions)  # (K, C_out, C_in)
            if i == 0:
                own = point.shape[2] - self.num_classes
                of_label, point = point.split([self.num_classes, own], dim=2)
                taps = block.tcn.weight.squeeze(3).permute(2, 1, 0)
                label = LabelWeights(of_label, first_joints.sum(dim=1).view(geometry.num_kept, -1), taps)
            blocks.append(block_weights(block, geometry, joints[i], point))
        return DiscriminatorWeights(blocks, label)

    def embedded(self, label: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return what stands beside the motion for its label: (N, num_classes)."""
        embedded: Tensor = self.label_emb(label)
        if not self.label_beside_motion:
            embedded = torch.zeros_like(embedded)
        return embedded if noise is None else embedded + noise

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
