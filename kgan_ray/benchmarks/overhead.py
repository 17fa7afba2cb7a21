"""What a sweep costs beside training: `python -m kgan_ray.benchmarks.overhead --trials 1000 --seconds 0.3`.

Trials that only sleep, through the same runner, record and searcher as a sweep's. The ideal time is what the sleeping
itself takes, as many at once as the machine has cores.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kgan_ray.settings import Settings
from kgan_ray.training.progress import Outcome

if TYPE_CHECKING:
    from kgan_ray.data.dataset import Dataset
    from kgan_ray.tracking.run import Run
    from kgan_ray.tuning.running.runner import Runner
    from kgan_ray.tuning.running.trial import TuneContext


class Sleeper:
    """A trial that evaluates once, after `seconds`."""

    def __init__(self, seconds: float, marks: str) -> None:
        self.seconds, self.marks = seconds, marks

    def __call__(
        self, settings: Settings, dataset: Dataset, folder: str, context: TuneContext, run: Run | None
    ) -> Outcome:
        Path(self.marks, Path(folder).name).write_text(repr(time.time()))  # the first step
        time.sleep(self.seconds)
        step = settings.training.steps
        metrics = {"fid": settings.techniques.label_noise_std}
        context.report({**metrics, "step": float(step)})
        return Outcome("finished", step, metrics)


@dataclass(frozen=True)
class Overhead:
    """Seconds that trials which sleep for `sleep` seconds took, `at_once` at a time, and what of it was not sleep."""

    num_trials: int
    sleep: float
    at_once: int
    connect: float
    first_step: float
    wall: float

    @property
    def ideal(self) -> float:
        """What the sleeping alone takes."""
        return self.sleep * math.ceil(self.num_trials / self.at_once)

    @property
    def share(self) -> float:
        """What comes on top of the ideal, as a share of it."""
        return self.wall / self.ideal - 1

    @property
    def per_trial(self) -> float:
        """Seconds of a core that a trial costs beside its sleep."""
        return (self.wall - self.ideal) * self.at_once / self.num_trials

    def lines(self) -> list[str]:
        """Lay out the table."""
        names = ("connect", "first_step", "wall", "ideal", "per_trial")
        seconds = [f"{name:20} {getattr(self, name):10.2f} s" for name in names]
        return [*seconds, f"{'share':20} {100 * self.share:10.1f} %"]


def measure(num_trials: int, seconds: float, *, with_record: bool, scratch: Path) -> Overhead:
    """Run a sweep of `num_trials` explored trials that sleep, and of those that confirm, which count as well.

    The start of Ray itself, once a sweep, is `connect`; `first_step` is from then to the first trial's first step.
    """
    runner = _runner(num_trials, seconds, with_record=with_record, scratch=scratch)
    started = time.perf_counter()
    runner.start()
    connected, began = time.perf_counter(), time.time()
    if not runner.run():
        raise KeyboardInterrupt
    wall = time.perf_counter() - connected
    first = min(float(mark.read_text()) for mark in (scratch / "marks").iterdir())
    return Overhead(runner.num_trials, seconds, runner.at_once, connected - started, first - began, wall)


def _runner(num_trials: int, seconds: float, *, with_record: bool, scratch: Path) -> Runner:
    from kgan_ray.storage import StorePath
    from kgan_ray.tracking.run import start_run
    from kgan_ray.tracking.store import prepare_store
    from kgan_ray.tuning.answer.results import Results
    from kgan_ray.tuning.question.space import base_settings, parse_space
    from kgan_ray.tuning.running.runner import Runner
    from kgan_ray.tuning.state import Sweep

    tree = {
        "preset": "demo",
        "search": {"algorithm": "random", "num_trials": num_trials},
        "space": {"techniques.label_noise_std": {"uniform": [0.0, 1.0]}},
    }
    space = parse_space(tree, name="overhead", where="overhead")
    settings = base_settings(space, None, {})
    sweep = Sweep.of(space, settings)
    if with_record:
        sweep.uri = f"sqlite:///{scratch}/mlflow.db"
        prepare_store(sweep.uri)
        sweep.parent_id = start_run(sweep.uri, experiment="overhead", name="overhead").id
    (scratch / "marks").mkdir()
    return Runner(
        sweep,
        space,
        settings,
        StorePath(scratch / "sweep"),
        Results,
        trial_function=Sleeper(seconds, str(scratch / "marks")),
        announce=lambda line: None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kgan_ray.benchmarks.overhead", description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0, help="what each trial sleeps")
    parser.add_argument("--no-record", action="store_true", help="without MLflow")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cost = measure(options.trials, options.seconds, with_record=not options.no_record, scratch=Path(scratch))
    print("\n".join(cost.lines()))


if __name__ == "__main__":
    main()
