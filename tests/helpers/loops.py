"""The training loop in this process, with a context that needs no Ray."""

import dataclasses

from kgan_ray.data.dataset import Dataset
from kgan_ray.training.loop import train
from kgan_ray.training.progress import Outcome


@dataclasses.dataclass
class PlainContext:
    """A context that remembers what it was told."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    reports: list = dataclasses.field(default_factory=list)
    lines: list = dataclasses.field(default_factory=list)
    interrupted_at: int | None = None

    def report(self, metrics):
        self.reports.append(metrics)

    def progress(self, progress):
        self.lines.append(progress)

    def is_interrupted(self):
        return self.interrupted_at in [line.step for line in self.lines]


def run(settings, folder, context=None, record=None) -> Outcome:
    """Train in this process, in `folder`, or go on with what is there."""
    return train(settings, Dataset.open(settings.data.path), str(folder), context or PlainContext(), record)
