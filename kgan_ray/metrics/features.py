"""Features as the scores take them, and how scores over all pairs of motions are computed: in blocks, side by side."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgan_ray.devices import cpu_threads

BLOCK = 1024  # rows and columns of a matrix of pairs that exist at a time

FeatureLike = Tensor | NDArray[np.floating]  # (N, D)
Item = TypeVar("Item")
Result = TypeVar("Result")


class FewMotionsWarning(UserWarning):
    """A score was computed from fewer motions than it needs to be trusted."""


def warn_of_few(note: str) -> None:
    warnings.warn(note, FewMotionsWarning, stacklevel=2)


def as_features(features: FeatureLike) -> Tensor:
    """Return features as float64 (N, D) on their own device. Raises ValueError for another shape, NaN or infinity."""
    tensor = torch.as_tensor(features).to(torch.float64)
    if tensor.ndim != 2:
        raise ValueError(f"features have shape {tuple(tensor.shape)}, expected (motions, features)")
    if not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor).all(dim=1)).sum())
        raise ValueError(f"{bad} of {len(tensor)} feature vectors hold NaN or infinity")
    return tensor


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item], device: torch.device) -> list[Result]:
    """Apply the function to each item, and return the results in order.

    PyTorch splits each operation over all processors, and where operations are small their threads mostly wait for
    each other. So here each of as many threads takes whole items. On other devices one item follows the other.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        return [function(item) for item in items]
    with cpu_threads(1), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def blocks(count: int, size: int) -> list[slice]:
    """Return slices that cover `count` rows, `size` each."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
