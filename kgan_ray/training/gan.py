"""The GAN: both networks, both optimisers, the generator's average, the random state, and one training step.

It knows no Ray and no data. With several workers (torch.distributed) every random number is drawn for the global
batch from the one seed and each worker takes its slice: n workers with batch B / n do what one does with batch B.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor

from kgan_ray.model import Discriminator, Generator
from kgan_ray.settings import Settings
from kgan_ray.skeleton import MotionSpec
from kgan_ray.training import distributed
from kgan_ray.training.losses import discriminator_loss, generator_loss, interpolate, slope_penalty


def build_networks(settings: Settings, spec: MotionSpec) -> tuple[Generator, Discriminator]:
    """New networks, drawn from `settings.seed` and nothing else."""
    model = settings.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        generator = Generator(
            latent_dim=model.latent_dim,
            coordinates=spec.coordinates,
            num_classes=spec.num_classes,
            frames=spec.frames,
            mapping_depth=model.mapping_depth,
            layout=spec.layout,
            width=model.width,
            mapping_gain=model.mapping_gain,
        )
        discriminator = Discriminator(
            coordinates=spec.coordinates,
            num_classes=spec.num_classes,
            frames=spec.frames,
            latent_dim=model.latent_dim,
            layout=spec.layout,
            techniques=settings.techniques,
            width=model.width,
            projection=model.projection,
            auxiliary_classifier=model.auxiliary_classifier,
        )
    return generator, discriminator


class GAN:
    """Everything that trains. `state_dict` names in one place all that must survive a restart."""

    def __init__(self, settings: Settings, spec: MotionSpec, device: str | torch.device = "cpu") -> None:
        self.settings, self.spec, self.device = settings, spec, torch.device(device)
        self.step_count = 0
        self.generator, self.discriminator = (net.to(self.device) for net in build_networks(settings, spec))
        self.average = copy.deepcopy(self.generator).requires_grad_(False) if settings.training.ema_decay else None
        training = settings.training
        betas = (training.beta1, training.beta2)
        self.generator_adam = torch.optim.Adam(
            self.generator.parameters(), lr=training.generator_learning_rate, betas=betas, fused=True
        )
        self.discriminator_adam = torch.optim.Adam(
            self.discriminator.parameters(), lr=training.discriminator_learning_rate, betas=betas, fused=True
        )
        # Techniques draw from a generator of their own: switching one on leaves every other draw as it was.
        self.chance = torch.Generator(self.device).manual_seed(settings.seed)
        self.technique_chance = torch.Generator(self.device).manual_seed(settings.seed + 1_000_003)
        self._generator_loss = torch.zeros((), device=self.device)

    def step(self, motions: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One discriminator step, and every `n_critic`-th time, from the first on, a generator step on the same z.

        motions (N, C, T, V) and labels (N,) are this worker's share of the global batch. Metrics are scalars on the
        device, of this worker's share; nothing waits for the device.
        """
        size = len(motions)
        z = self._normal(size, self.settings.model.latent_dim)
        with torch.no_grad():
            fake = self.generator(z, labels, self._generator_noise(size))
        real_score, fake_score = self.discriminator(torch.cat([motions, fake]), torch.cat([labels, labels])).chunk(
            2
        )
        between = interpolate(motions, fake, self._uniform(size)[:, None, None, None]).requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(between, labels).sum(), between, create_graph=True)
        penalty = slope_penalty(slope)
        loss = discriminator_loss(real_score, fake_score) + self.settings.training.gradient_penalty * penalty
        self.discriminator_adam.zero_grad()
        loss.backward()
        distributed.average_gradients(self.discriminator.parameters())
        self.discriminator_adam.step()
        if self.step_count % self.settings.training.n_critic == 0:
            self._generator_loss = self._generator_step(z, labels)
        self.step_count += 1
        return {
            "discriminator/loss": loss.detach(),
            "discriminator/gradient_penalty": penalty.detach(),
            "discriminator/real_score": real_score.detach().mean(),
            "discriminator/fake_score": fake_score.detach().mean(),
            "generator/loss": self._generator_loss,
        }

    def _generator_step(self, z: Tensor, labels: Tensor) -> Tensor:
        loss = generator_loss(self.discriminator(self.generator(z, labels, self._generator_noise(len(z))), labels))
        self.generator_adam.zero_grad()
        loss.backward()
        distributed.average_gradients(self.generator.parameters())
        self.generator_adam.step()
        return loss.detach()

    def _normal(self, size: int, width: int) -> Tensor:
        drawn = torch.randn(size * distributed.world_size(), width, device=self.device, generator=self.chance)
        return distributed.own_slice(drawn)

    def _uniform(self, size: int) -> Tensor:
        drawn = torch.rand(size * distributed.world_size(), device=self.device, generator=self.chance)
        return distributed.own_slice(drawn)

    def _generator_noise(self, size: int) -> list[Tensor]:
        return self.generator.split_noise(self._normal(size, self.generator.noise_width))

    @torch.no_grad()
    def sample(
        self,
        labels: Tensor,
        *,
        seed: int = 0,
        truncation: float = 1.0,
        batch_norm: Literal["running", "batch"] = "running",
        batch_size: int = 512,
    ) -> Tensor:
        """Motions (N, C, T, V) of these labels (N,), from the average if there is one.

        The same seed gives the same motions whatever the batch size (with running statistics). `truncation` is psi in
        w <- m + psi (w - m), m being the mapping's mean over 1000 Gaussian vectors.
        """
        generator = self.average or self.generator
        chance = torch.Generator(self.device).manual_seed(seed)
        labels = labels.to(self.device)
        size, width = len(labels), generator.latent_dim
        centre = generator.mlp(torch.randn(1000, generator.style_dim, device=self.device, generator=chance)).mean(
            0
        )
        z = torch.randn(size, width, device=self.device, generator=chance)
        drawn = torch.randn(size, generator.noise_width, device=self.device, generator=chance)
        generator.train(batch_norm == "batch")
        motions = []
        for at in range(0, size, batch_size):
            rows = slice(at, at + batch_size)
            w = torch.lerp(centre, generator.style(z[rows], labels[rows]), truncation)
            motions.append(generator.synthesise(w, generator.split_noise(drawn[rows])))
        generator.train()
        return torch.cat(motions)

    def state_dict(self) -> dict[str, Any]:
        """All that must survive: weights, optimisers, random state, step."""
        nets = {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}
        return {
            "weights": {f"{net}.{name}": t for net, m in nets.items() if m for name, t in m.state_dict().items()},
            "optimisers": {
                "generator": self.generator_adam.state_dict(),
                "discriminator": self.discriminator_adam.state_dict(),
            },
            "random": {"chance": self.chance.get_state(), "technique_chance": self.technique_chance.get_state()},
            "step": self.step_count,
            "generator_loss": self._generator_loss,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken. Strict: raises RuntimeError where tensors do not fit."""
        nets = {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}
        for net, module in nets.items():
            if module:
                prefix = f"{net}."
                module.load_state_dict(
                    {n.removeprefix(prefix): t for n, t in state["weights"].items() if n.startswith(prefix)}
                )
        self.generator_adam.load_state_dict(state["optimisers"]["generator"])
        self.discriminator_adam.load_state_dict(state["optimisers"]["discriminator"])
        self.chance.set_state(state["random"]["chance"].cpu())
        self.technique_chance.set_state(state["random"]["technique_chance"].cpu())
        self.step_count = state["step"]
        self._generator_loss = state["generator_loss"].to(self.device)
