"""The training loop in this process, with a context that needs no Ray."""

import dataclasses

from kgan_ray.training.loop import Outcome, train


@dataclasses.dataclass
class PlainContext:
    """A context that remembers what it was told."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    stop_after: int = 10**9
    reports: list = dataclasses.field(default_factory=list)
    lines: list = dataclasses.field(default_factory=list)

    def report(self, metrics):
        self.reports.append(metrics)

    def progress(self, progress):
        self.lines.append(progress)

    def should_stop(self):
        return self.reports[-1]["step"] >= self.stop_after


def run(settings, folder, context=None, record=None) -> Outcome:
    """Train in this process, in `folder`, or go on with what is there."""
    return train(settings, settings.data.path, str(folder), context or PlainContext(), record)
