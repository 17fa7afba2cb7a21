"""How long training takes on this machine's CPU, from a few measured steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kgan_ray.settings import Settings
from kgan_ray.skeleton import MotionSpec
from kgan_ray.text import duration
from kgan_ray.training.gan import GAN

_DAY = 24 * 3600.0


def seconds_per_step(settings: Settings, spec: MotionSpec) -> float:
    """Measure a step of one worker with its share of a batch: the mean of a cycle of discriminator and generator steps."""
    size, cycle = settings.training.batch_size // settings.resources.num_workers, settings.training.n_critic
    motions, labels = torch.rand(size, *spec.shape) * 2 - 1, torch.arange(size) % spec.num_classes
    with cpu_threads(settings.resources.threads):
        gan = GAN(settings, spec)
        gan.step(motions, labels)  # warms up
        started = time.perf_counter()
        for _ in range(cycle):
            gan.step(motions, labels)
        return (time.perf_counter() - started) / cycle


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Let PyTorch compute with so many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def line_of_length(settings: Settings, spec: MotionSpec, step: int) -> str:
    """Say how long a run on CPUs will take from this step on, and what makes one of more than a day shorter."""
    left = max(0, settings.training.steps - step)
    each = seconds_per_step(settings, spec)
    line = f"{left:,} steps of {each:.2g} s: about {duration(left * each)}, evaluations aside"
    if left * each < _DAY:
        return line
    smaller = "--set model.width=0.25 --set model.latent_dim=64"
    return f"{line}; fewer training.steps, a GPU or a smaller network ({smaller}) end sooner"
