"""The golden arrays, and the rule that gives the weights they were computed with.

Every tensor of a published state is drawn from its own generator, seeded by its name, so no weights are stored.
"""

import zlib
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "data/golden_ntu25_mlp4.npz"
STRIDE = 97  # gradients of more than 20 000 entries are stored flattened with this stride


def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays}


def golden_state(state: dict[str, torch.Tensor], tag: str) -> dict[str, torch.Tensor]:
    """The golden values of a published state; `tag` is "generator" or "discriminator"."""
    return {name: _value(tag, name, tensor) for name, tensor in state.items()}


def golden_noise(shapes: torch.Tensor) -> list[torch.Tensor]:
    """What was added in each block of the generator: 7 tensors (N, 1, T_i, V_i)."""
    return [
        torch.from_numpy(np.random.default_rng(100 + block).standard_normal(tuple(shape)).astype(np.float32))
        for block, shape in enumerate(shapes.tolist())
    ]


def stored(gradient: torch.Tensor) -> torch.Tensor:
    """A gradient as the file holds it."""
    return gradient.flatten()[::STRIDE] if gradient.numel() > 20_000 else gradient


def _value(tag: str, name: str, like: torch.Tensor) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    shape = tuple(like.shape)
    n = np.random.default_rng(zlib.crc32(f"{tag}:{name}".encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        value = 1 + 0.1 * np.abs(n)
    elif name.startswith("edge_importance") or (len(shape) == 1 and not name.endswith(("bias", "running_mean"))):
        value = 1 + 0.1 * n
    elif name.startswith("label_emb"):
        value = n
    elif name.endswith(("bias", "running_mean")) or ".noise." in name:
        value = 0.1 * n
    else:
        value = n / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, np.float32))
