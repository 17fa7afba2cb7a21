"""The two networks of a run, made from its settings, and the generator's average."""

from __future__ import annotations

import torch

from kgan_ray.model import Discriminator, Generator
from kgan_ray.settings import Settings
from kgan_ray.skeleton import MotionSpec


def build_networks(settings: Settings, spec: MotionSpec) -> tuple[Generator, Discriminator]:
    """Build both networks, whose weights follow from `settings.seed` and nothing else."""
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


@torch.no_grad()
def update_average(average: Generator, generator: Generator, decay: float) -> None:
    """Set average <- decay average + (1 - decay) generator; running statistics are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - decay)
    own, new = ([buffer for norm in net.norms for buffer in norm.buffers()] for net in (average, generator))
    torch._foreach_copy_(own, new)
