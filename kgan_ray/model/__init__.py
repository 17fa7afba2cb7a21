"""The two networks."""

from kgan_ray.model.discriminator import Discriminator
from kgan_ray.model.generator import Generator

__all__ = ["Discriminator", "Generator"]
