"""Timing work on a device, and the model that is timed. PyTorch is imported when something is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kgan_ray.settings import Settings, override

if TYPE_CHECKING:
    from kgan_ray.training.gan import GAN


def seconds(work: Callable[[], object], device: str, repeats: int = 1) -> float:
    """Wall time of `work`, once or divided by its repeats, the device's queue included."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def ntu60_gan(device: str, changes: Mapping[str, Any] | None = None) -> GAN:
    """The published model at the shapes of NTU-60."""
    from kgan_ray.skeleton import NTU25, MotionSpec
    from kgan_ray.training.gan import GAN

    names = tuple(f"class {number}" for number in range(60))
    spec = MotionSpec(layout=NTU25, coordinates=3, frames=64, class_names=names, value_range=(-1.0, 1.0))
    return GAN(override(Settings(), changes or {}), spec, device)
