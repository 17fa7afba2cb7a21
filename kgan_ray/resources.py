"""The settings of what one training run may use."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from kgan_ray.validation import FrozenModel


class ResourceSettings(FrozenModel):
    """What one training run may use, and what that comes to for a worker, a run and a trial."""

    num_workers: PositiveInt = 1  # that share every batch
    # Train on as few as these while there are no more; None = exactly num_workers.
    min_workers: PositiveInt | None = None
    cpus_per_worker: PositiveFloat = 1.0  # cores, and threads to compute with
    # At most 1; a part of one for several runs on a GPU. auto = one where the cluster has enough, else none.
    gpus_per_worker: NonNegativeFloat | Literal["auto"] = "auto"

    @model_validator(mode="after")
    def _gpus_can_be_used(self) -> ResourceSettings:
        if self.gpus > 1:
            raise ValueError(
                f"gpus_per_worker is {self.gpus:g}, and a worker computes on one GPU; num_workers takes several"
            )
        if 0 < self.gpus < 1 and self.num_workers > 1:
            raise ValueError(
                f"gpus_per_worker is {self.gpus:g}, and {self.num_workers} workers of one run cannot share a GPU; "
                "it needs to be 1, or num_workers 1"
            )
        return self

    @property
    def gpus(self) -> float:
        """GPUs of a worker; none while that is undecided."""
        return 0.0 if self.gpus_per_worker == "auto" else self.gpus_per_worker

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The kind of device that a worker computes on."""
        return "cuda" if self.gpus else "cpu"

    @property
    def threads(self) -> int:
        """CPU threads that a worker computes with."""
        return max(1, int(self.cpus_per_worker))

    @property
    def fewest_workers(self) -> int:
        """Workers without which a run waits."""
        return self.min_workers or self.num_workers

    @property
    def worker_range(self) -> int | tuple[int, int]:
        """Workers as Ray Train's ScalingConfig takes them: a number, or the fewest and the most."""
        return self.num_workers if self.min_workers is None else (self.min_workers, self.num_workers)

    @property
    def devices(self) -> float:
        """Devices that a whole run holds: GPUs if it uses any, else CPU cores."""
        return self.num_workers * (self.gpus or self.cpus_per_worker)

    def needed_by(self, workers: int) -> dict[str, float]:
        """Return what so many workers ask Ray for by kind, {"CPU": 2.0, "GPU": 1.0}; a kind that none uses is left out."""
        amounts = {"CPU": workers * self.cpus_per_worker, "GPU": workers * self.gpus}
        return {kind: amount for kind, amount in amounts.items() if amount}

    def needed_by_trial(self) -> dict[str, float]:
        """Return what a Tune trial asks Ray for: a worker's share where it trains in its own process.

        A trial of several workers only waits for them. It must not take a CPU that they need, and Ray refuses a trial
        that asks for nothing: it asks for one byte of memory.
        """
        return self.needed_by(1) if self.num_workers == 1 else {"memory": 1}
