"""Timing work on a device, what the device can do at most, and the model that is timed."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping

import torch

from kgan_ray.settings import Settings, override
from kgan_ray.skeleton import NTU25, MotionSpec, SkeletonLayout
from kgan_ray.training.gan import GAN


def seconds(work: Callable[[], object], device: str, repeats: int = 1) -> float:
    """Measure the wall time of `work`, or of one of its repeats, the device's queue included."""
    if device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def use_device(device: str) -> None:
    """Let what names no GPU, such as a graph or a synchronisation, mean this one."""
    if ":" in device:
        torch.cuda.set_device(device)


def peak(device: str, dtype: torch.dtype = torch.float32) -> float:
    """Measure GFLOP/s of a large matrix product, the best of several."""
    size = 2048 if device == "cpu" else 8192
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    return max(2e-9 * size**3 / seconds(lambda: a @ b, device) for _ in range(8))


def peak_memory(device: str) -> int:
    """Return the bytes of the device's memory, or of this process's, that were in use at most."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def ntu60_gan(device: str, changes: Mapping[str, object] | None = None) -> GAN:
    """Build the published model at the shapes of NTU-60."""
    return GAN(override(Settings(), changes or {}), shapes_of(NTU25, num_classes=60, frames=64), device)


def shapes_of(layout: SkeletonLayout, num_classes: int, frames: int) -> MotionSpec:
    """Describe motions of these shapes, of which none are needed to measure speed."""
    names = tuple(f"class {number}" for number in range(num_classes))
    return MotionSpec(layout=layout, coordinates=3, frames=frames, class_names=names, value_range=(-1.0, 1.0))
