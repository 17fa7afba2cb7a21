"""The published networks and training step, written down literally: slow, plain, and what the fast ones must equal.

Parameter names are the published ones, so states go back and forth. Everything is (N, C, T, V), as in the paper.
The tests compare losses with `LiteralGAN`, the verb benchmark its speed.
Source: Degardin et al., "Generative Adversarial Graph Convolutional Networks", WACV 2022, arXiv 2110.11191.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgan_ray.model.blocks import LEAK, PARTITIONS, BlockDesign, discriminator_design, generator_design
from kgan_ray.skeleton import SkeletonGraph


class LiteralMapping(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(width, width), nn.LeakyReLU(LEAK)]
            nn.init.normal_(layers[-2].weight)  # type: ignore[arg-type]
            nn.init.zeros_(layers[-2].bias)  # type: ignore[arg-type]
        self.mlp = nn.Sequential(*layers)


class LiteralGraphConvolution(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, PARTITIONS * out_channels, 1, bias=False)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = self.conv(x)
        x = x.view(len(x), PARTITIONS, -1, *x.shape[2:])
        return torch.einsum("nkctv,kvw->nctw", x, adjacency)


class LiteralNoise(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, 1, 1))


class LiteralGeneratorBlock(nn.Module):
    def __init__(self, design: BlockDesign, *, last: bool) -> None:
        super().__init__()
        self.design, self.last = design, last
        channels = design.out_channels
        self.gcn = LiteralGraphConvolution(design.in_channels, channels)
        self.tcn = nn.Sequential(nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)))
        if design.batch_norm:
            self.tcn.append(nn.BatchNorm2d(channels))
        if design.residual == "conv":
            self.residual = nn.Sequential(nn.Conv2d(design.in_channels, channels, 1), nn.BatchNorm2d(channels))
        self.noise = LiteralNoise(channels)

    def forward(self, x: Tensor, adjacency: Tensor, unpool: Tensor | None, noise: Tensor) -> Tensor:
        if unpool is not None:
            x = x @ unpool
        x = F.interpolate(x, size=(self.design.out_frames, x.shape[-1]))
        y = self.tcn(self.gcn(x, adjacency))
        if self.design.residual == "conv":
            y = y + self.residual(x)
        elif self.design.residual == "identity":
            y = y + x
        y = y + self.noise.weight * noise
        return torch.tanh(y) if self.last else F.leaky_relu(y, LEAK)


class LiteralGenerator(nn.Module):
    """Generator: latent z (N, latent_dim), labels (N,), noise: 7 tensors (N, 1, T_i, V_i) -> (N, C, T, V)."""

    def __init__(
        self, graph: SkeletonGraph, coordinates: int, num_classes: int, frames: int, latent_dim: int, depth: int
    ) -> None:
        super().__init__()
        designs = generator_design(latent_dim + num_classes, coordinates, frames, 1.0)
        self.label_emb = nn.Embedding(num_classes, num_classes)
        self.mlp = LiteralMapping(latent_dim + num_classes, depth)
        self.st_gcn_networks = nn.ModuleList(
            LiteralGeneratorBlock(design, last=i == 6) for i, design in enumerate(designs)
        )
        self.adjacency = [torch.tensor(graph.levels[design.level].adjacency) for design in designs]
        self.unpool = [
            torch.tensor(graph.unpool(design.in_level)) if design.in_level != design.out_level else None
            for design in designs
        ]
        self.edge_importance = nn.ParameterList(torch.ones_like(a) for a in self.adjacency)
        self.noise_shapes = [(design.out_frames, graph.levels[design.level].num_joints) for design in designs]

    def forward(self, z: Tensor, labels: Tensor, noise: Sequence[Tensor]) -> Tensor:
        w = self.mlp.mlp(torch.cat([self.label_emb(labels), z], dim=1))
        x = w[:, :, None, None]
        for i, block in enumerate(self.st_gcn_networks):
            x = block(x, self.adjacency[i] * self.edge_importance[i], self.unpool[i], noise[i])
        return x


class LiteralDiscriminatorBlock(nn.Module):
    def __init__(self, design: BlockDesign) -> None:
        super().__init__()
        self.design = design
        self.gcn = LiteralGraphConvolution(design.in_channels, design.out_channels)
        self.tcn = nn.Conv2d(design.out_channels, design.out_channels, (3, 1), padding=(1, 0))
        if design.residual == "conv":
            self.residual = nn.Conv2d(design.in_channels, design.out_channels, 1)

    def forward(self, x: Tensor, adjacency: Tensor, keep: Sequence[int] | None) -> Tensor:
        y = self.tcn(self.gcn(x, adjacency))
        if self.design.residual == "conv":
            y = y + self.residual(x)
        elif self.design.residual == "identity":
            y = y + x
        if keep is not None:
            y = y[..., list(keep)]
        y = F.interpolate(y, size=(self.design.out_frames, y.shape[-1]))
        return F.leaky_relu(y, LEAK)


class LiteralDiscriminator(nn.Module):
    """Discriminator: motion (N, C, T, V), labels (N,) -> score (N,)."""

    def __init__(
        self, graph: SkeletonGraph, coordinates: int, num_classes: int, frames: int, latent_dim: int
    ) -> None:
        super().__init__()
        designs = discriminator_design(coordinates, num_classes, frames, latent_dim, 1.0)
        self.label_emb = nn.Embedding(num_classes, num_classes)
        self.st_gcn_networks = nn.ModuleList(LiteralDiscriminatorBlock(design) for design in designs)
        self.adjacency = [torch.tensor(graph.levels[design.level].adjacency) for design in designs]
        self.keep = [
            graph.levels[design.out_level].keep if design.in_level != design.out_level else None
            for design in designs
        ]
        self.edge_importance = nn.ParameterList(torch.ones_like(a) for a in self.adjacency)
        self.fcn = nn.Linear(latent_dim, 1)

    def forward(self, motion: Tensor, labels: Tensor) -> Tensor:
        embedded = self.label_emb(labels)[:, :, None, None].expand(-1, -1, *motion.shape[2:])
        x = torch.cat([embedded, motion], dim=1)
        for i, block in enumerate(self.st_gcn_networks):
            x = block(x, self.adjacency[i] * self.edge_importance[i], self.keep[i])
        return self.fcn(x.mean(dim=(2, 3))).squeeze(1)


class LiteralGAN:
    """Both networks, their optimisers and the published step; every random draw is the caller's."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, *, n_critic: int = 5) -> None:
        self.generator, self.discriminator, self.n_critic = generator, discriminator, n_critic
        self.generator_adam = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.discriminator_adam = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.step_count = 0

    def step(
        self,
        motions: Tensor,
        labels: Tensor,
        z: Tensor,
        mix: Tensor,
        noise: Sequence[Tensor],
        generator_noise: Sequence[Tensor],
    ) -> dict[str, float]:
        """Take one step on real motions; `mix` (N, 1, 1, 1) places the interpolates between real (1) and fake (0)."""
        self.discriminator_adam.zero_grad()
        fake = self.generator(z, labels, noise)
        real_score = self.discriminator(motions, labels).mean()
        fake_score = self.discriminator(fake, labels).mean()
        between = (mix * motions + (1 - mix) * fake).detach().requires_grad_()
        score = self.discriminator(between, labels)
        (slope,) = torch.autograd.grad(score, between, torch.ones_like(score), create_graph=True)
        penalty = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        loss = fake_score - real_score + 10 * penalty
        loss.backward()
        self.discriminator_adam.step()
        losses = {"discriminator/loss": loss.item(), "discriminator/gradient_penalty": penalty.item()}
        if self.step_count % self.n_critic == 0:
            self.generator_adam.zero_grad()
            generator_loss = -self.discriminator(self.generator(z, labels, generator_noise), labels).mean()
            generator_loss.backward()
            self.generator_adam.step()
            losses["generator/loss"] = generator_loss.item()
        self.step_count += 1
        return losses
