"""Small networks, and motions for them."""

import torch

from kgan_ray.settings import Settings, override
from kgan_ray.skeleton import NTU25, MotionSpec

NUM_CLASSES = 4
NARROW = {"model.width": 0.0625, "model.latent_dim": 12, "model.mapping_depth": 2, "training.batch_size": 8}


def motion_spec(frames=16):
    """Return what motions of four classes look like."""
    return MotionSpec(
        layout=NTU25, coordinates=3, frames=frames, class_names=tuple("abcd"), value_range=(-1.0, 1.0)
    )


def narrow(overrides=None):
    """Return settings of networks a sixteenth as wide as the published ones."""
    return override(Settings(), {**NARROW, **(overrides or {})})


def batch(spec, size=8, seed=0):
    """Return random motions (size, C, T, V) in [-1, 1] and labels (size,)."""
    random = torch.Generator().manual_seed(seed)
    return torch.rand(size, *spec.shape, generator=random) * 2 - 1, torch.arange(size) % spec.num_classes
