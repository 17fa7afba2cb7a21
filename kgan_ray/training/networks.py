"""The two networks of a run and their optimisers, made from its settings, and the generator's average."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kgan_ray.data.batches import Batches
from kgan_ray.model import Discriminator, Generator
from kgan_ray.settings import Settings, TrainingSettings
from kgan_ray.skeleton import MotionSpec
from kgan_ray.training import distributed

BATCHES_TO_STANDARDISE = 64


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
            standardised=model.standardised,
            smoothing=model.smoothing,
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
            standardised=model.standardised,
        )
    return generator, discriminator


@torch.no_grad()
def standardise(networks: Iterable[Generator | Discriminator], batches: Batches) -> None:
    """Measure on the first batches what new networks with `model.standardised` work beyond. All ranks do it together."""
    standards = [network.standard for network in networks if network.standard]
    first = (batches.batch(number)[0].double() for number in range(BATCHES_TO_STANDARDISE))  # (N, C, T, V)
    relative = [standards[0].relative(motions) for motions in first]
    means = torch.stack([torch.stack([m, m.square()]).mean(dim=(1, 3)) for m in relative]).mean(dim=0)
    mean, square = distributed.sum_over_workers(means) / distributed.world_size()
    farthest = torch.stack([(m - mean[:, None]).abs().amax(dim=(0, 2)) for m in relative])
    farthest = distributed.gathered(farthest).amax(dim=0)
    for standard in standards:
        standard.set(mean, square, farthest)


def build_adam(network: nn.Module, learning_rate: float, training: TrainingSettings) -> torch.optim.Adam:
    """Build the optimiser of one network."""
    return torch.optim.Adam(
        network.parameters(),
        lr=learning_rate,
        betas=(training.beta1, training.beta2),
        fused=True,
        capturable=training.uses_cuda_graph,
    )


def average_decay(decay: float, earlier_steps: int) -> float:
    """Return the share that an average keeps of itself, after so many steps of the generator before this one.

    It rises to `decay`: an average of n steps reaches back a ninth of them at most, so that it does not lag behind a generator
    that still changes fast. The rule is that of TensorFlow's ExponentialMovingAverage with its `num_updates`.
    """
    return min(decay, (1 + earlier_steps) / (10 + earlier_steps))


@torch.no_grad()
def update_average(average: Generator, generator: Generator, taken_in: float | Tensor) -> None:
    """Move the average by the share `taken_in` towards the generator; running statistics are copied."""
    own: list[Tensor] = list(average.parameters())
    change = torch._foreach_sub(list(generator.parameters()), own)
    torch._foreach_mul_(change, taken_in)  # a number on the device stays there, which lerp would fetch
    torch._foreach_add_(own, change)
    statistics, new = ([buffer for norm in net.norms for buffer in norm.buffers()] for net in (average, generator))
    torch._foreach_copy_(statistics, new)
