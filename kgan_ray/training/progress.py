"""How far runs are and how they ended: one board that keeps it, in a Ray actor, and one thread that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from kgan_ray.cluster import meanwhile, on_this_node
from kgan_ray.metrics.names import Recognition
from kgan_ray.settings import UserError

if TYPE_CHECKING:
    import threading

    from ray.actor import ActorHandle

_SECONDS_TO_ANSWER = 5.0  # of the board's actor, before whoever asks gives up


@dataclass(frozen=True)
class Progress:
    """Where a run is. Rates are of this process's own steps, evaluations left out."""

    step: int
    steps: int
    steps_per_second: float
    seconds_left: float
    metrics: Mapping[str, float]
    extractor: Recognition | None = None  # that measures the run

    def line(self) -> str:
        """Describe it in one line: step, speed, time left and the scores that all runs have."""
        scores = [f"{name} {value:.4g}" for name, value in self.metrics.items() if name in ("fid", "accuracy")]
        minutes, seconds = divmod(round(self.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02}:{seconds:02}"
        if scores and self.extractor:
            scores.append(f"({self.extractor.brief()})")
        parts = [f"step {self.step}/{self.steps}", f"{self.steps_per_second:.2f} steps/s", f"{left} left", *scores]
        return "  ".join(parts)


RunStatus = Literal["finished", "diverged", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended, or where it was interrupted. `metrics` are the last finite ones; `reason` says why it diverged."""

    status: RunStatus
    step: int
    metrics: dict[str, float]
    reason: str = ""
    extractor: Recognition | None = None  # that measured them


class Context(Protocol):
    """The loop's view of the process that runs it."""

    rank: int
    world_size: int
    device: str

    def report(self, metrics: dict[str, float]) -> None:
        """Take the metrics after each evaluation, on every rank; only rank 0's are full."""

    def progress(self, progress: Progress) -> None:
        """Take the progress every `training.log_every` steps, on rank 0."""

    def is_interrupted(self) -> bool:
        """Say whether the run is to save and stop: asked every `training.log_every` steps, on rank 0."""


@dataclass(frozen=True)
class Ending:
    """What a run's last worker said: an outcome, or what ended it, the user's mistake or a full disk."""

    outcome: Outcome | None = None
    error: UserError | None = None


class ProgressBoard:
    """The newest progress of every run by its name, and the ending of those that ended.

    All of it is in a Ray actor: whatever process holds this board, or was sent it, writes to and reads from the same.
    """

    def __init__(self, actor: ActorHandle) -> None:
        self._actor = actor

    def put(self, run: str, progress: Progress) -> None:
        """Replace the run's progress, without waiting for the actor."""
        self._actor.put.remote(run, progress)

    def newest(self) -> dict[str, Progress]:
        """Return every run's newest progress. Raises RayError where the actor does not answer."""
        import ray

        progress: dict[str, Progress] = ray.get(self._actor.newest.remote(), timeout=_SECONDS_TO_ANSWER)
        return progress

    def end(self, run: str, ending: Ending) -> None:
        """Keep how a run ended, and wait until it is kept."""
        import ray

        ray.get(self._actor.end.remote(run, ending))

    def ending(self, run: str) -> Ending:
        """Return how a run ended; an empty Ending while it has not."""
        import ray

        ending: Ending = ray.get(self._actor.ending.remote(run))
        return ending

    def interrupt(self, run: str) -> None:
        """Ask a run to save and stop, without waiting for the actor."""
        self._actor.interrupt.remote(run)

    def is_interrupted(self, run: str) -> bool:
        """Say whether a run was asked to save and stop."""
        import ray

        return bool(ray.get(self._actor.is_interrupted.remote(run)))

    def close(self) -> None:
        """End the actor."""
        import ray

        ray.kill(self._actor)


class _Board:
    """What the actor keeps."""

    def __init__(self) -> None:
        self._progress: dict[str, Progress] = {}
        self._endings: dict[str, Ending] = {}
        self._interrupted: set[str] = set()

    def put(self, run: str, progress: Progress) -> None:
        self._progress[run] = progress

    def newest(self) -> dict[str, Progress]:
        return self._progress

    def end(self, run: str, ending: Ending) -> None:
        self._endings[run] = ending

    def ending(self, run: str) -> Ending:
        return self._endings.get(run, Ending())

    def interrupt(self, run: str) -> None:
        self._interrupted.add(run)

    def is_interrupted(self, run: str) -> bool:
        return run in self._interrupted


def start_board() -> ProgressBoard:
    """Start an empty board on this node of the connected cluster; it takes no CPU."""
    import ray

    return ProgressBoard(ray.remote(num_cpus=0, scheduling_strategy=on_this_node())(_Board).remote())


@contextmanager
def watched(
    board: ProgressBoard, show: Callable[[Mapping[str, Progress]], None], *, every: float = 0.5
) -> Iterator[None]:
    """Call `show` with every run's newest progress, from a thread, each time that some run's has changed.

    The board is read every so many seconds, and once more at the end. A board that does not answer shows nothing new.
    """
    import ray

    def watch(is_over: threading.Event) -> None:
        before: Mapping[str, Progress] = {}
        is_last = False
        while not is_last:
            is_last = is_over.wait(every)
            try:
                newest = board.newest()
            except ray.exceptions.RayError:
                continue
            if newest != before:
                show(newest)
                before = newest

    with meanwhile(watch):
        yield
