"""How long training takes on this machine's CPU, from a few measured steps."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from kgan_ray.devices import cpu_threads
from kgan_ray.presets import EVENING
from kgan_ray.settings import Settings
from kgan_ray.skeleton import MotionSpec
from kgan_ray.text import duration
from kgan_ray.training.gan import GAN

_LEAST_S = 1.0  # that steps are measured: single ones vary by a third
_DAY = 24 * 3600.0


def seconds_per_step(gan: GAN) -> float:
    """Measure a step of one worker with its share of a batch: the mean of a cycle of discriminator and generator steps."""
    training = gan.settings.training
    motions, labels = random_share(gan)
    with cpu_threads(gan.settings.resources.threads):
        gan.step(motions, labels)  # warms up
        started, cycles = time.perf_counter(), 0
        while (spent := time.perf_counter() - started) < _LEAST_S or not cycles:
            for _ in range(training.n_critic):
                gan.step(motions, labels)
            cycles += 1
        return spent / (cycles * training.n_critic)


def random_share(gan: GAN) -> tuple[Tensor, Tensor]:
    """Return one worker's share of a batch of noise: motions (n, C, T, V) and labels (n,)."""
    size = gan.settings.training.batch_size // gan.settings.resources.num_workers
    return torch.rand(size, *gan.spec.shape) * 2 - 1, torch.arange(size) % gan.spec.num_classes


def line_of_length(settings: Settings, spec: MotionSpec, step: int) -> str:
    """Say how long a run on CPUs will take from this step on, and what makes one of more than a day shorter."""
    left = max(0, settings.training.steps - step)
    each = seconds_per_step(GAN(settings, spec))
    line = f"{left:,} steps of {each:.2g} s: about {duration(left * each)}, evaluations aside"
    if left * each < _DAY:
        return line
    return f"{line}; a GPU, fewer training.steps or the smaller networks of --preset {EVENING} end sooner"
