"""The random numbers of a training step.

They are drawn for the global batch, alike on all workers, and each worker takes its own rows: n workers with batch
B / n do what one does with batch B.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kgan_ray.model import Discriminator, Generator
from kgan_ray.model.discriminator import DiscriminatorNoise
from kgan_ray.training import distributed

_TECHNIQUES = 1_000_003  # added to a run's seed


class Draws:
    """Draws this worker's random numbers. `state_dict` is the random state of a checkpoint."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.random = torch.Generator(device).manual_seed(seed)
        # Techniques draw from a generator of their own: switching one on leaves every other draw as it was.
        self.technique_random = torch.Generator(device).manual_seed(seed + _TECHNIQUES)

    def normal(self, size: int, width: int) -> Tensor:
        """Draw (size, width) from N(0, 1)."""
        return _own_normal((size, width), self.random)

    def uniform(self, size: int) -> Tensor:
        """Draw (size,) from [0, 1)."""
        whole = size * distributed.world_size()
        return distributed.own_rows(torch.rand(whole, device=self.random.device, generator=self.random))

    def technique_normal(self, *shape: int) -> Tensor:
        """Draw a tensor from N(0, 1) for a technique."""
        return _own_normal(shape, self.technique_random)

    def generator_noise(self, generator: Generator, size: int) -> list[Tensor]:
        """Draw the noise that the generator's blocks inject, for `size` motions."""
        return generator.split_noise(self.normal(size, generator.noise_width))

    def discriminator_noise(self, discriminator: Discriminator, size: int, num_batches: int) -> DiscriminatorNoise:
        """Draw the discriminator's techniques' noise for batches of `size` motions, one after the other along N."""
        workers, random = distributed.world_size(), self.technique_random
        noise = discriminator.draw_noise(
            size * workers, device=random.device, num_batches=num_batches, random=random
        )
        return noise if workers == 1 else noise.map(lambda t: distributed.own_rows_of_each(t, num_batches))

    # Checkpoints name the generators as they were called when format 1 was made.

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of both generators."""
        return {"chance": self.random.get_state(), "technique_chance": self.technique_random.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on exactly where `state` was taken."""
        self.random.set_state(state["chance"].cpu())
        self.technique_random.set_state(state["technique_chance"].cpu())


def _own_normal(shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    whole = (shape[0] * distributed.world_size(), *shape[1:])
    return distributed.own_rows(torch.randn(whole, device=random.device, generator=random))
