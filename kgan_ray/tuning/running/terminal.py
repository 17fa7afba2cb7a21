"""What a sweep shows in the terminal: a live table, or a line a trial where output goes to a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from kgan_ray.cli import console
from kgan_ray.text import duration, number, setting_value, short_overrides
from kgan_ray.training.progress import Progress, ProgressBoard, watched
from kgan_ray.tuning.state import EXPLORE, Sweep, Trial

_LINES_AROUND = (
    6  # of the live table: its heading and the table's, a line of what is left out, and what stood before
)
_WHOLE_WORD, _SHORT_WORD = 5, 4  # letters of a setting's name in the live table


class Display:
    """The sweep on the terminal while it runs: `announce` and `print_ended` are for the runner."""

    def __init__(
        self,
        sweep: Sweep,
        *,
        count: Callable[[], int],
        at_once: int,
        guess: float | None = None,
        output: Console | None = None,
    ) -> None:
        """`count()` trials, which further seeds may make more, so many at once, will take about `guess` seconds."""
        self.sweep, self.count, self.at_once, self.guess = sweep, count, at_once, guess
        self.console = output or console()
        self._started = time.monotonic()
        self._progress: Mapping[str, Progress] = {}

    @contextmanager
    def shown(self, board: ProgressBoard) -> Iterator[None]:
        """Show a live table meanwhile, where standard output is a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with (
            Live(console=self.console, get_renderable=self.render, refresh_per_second=1, transient=True),
            watched(board, self._take, every=1.0),
        ):
            yield

    def announce(self, line: str) -> None:
        """Print a line, above the live table if there is one."""
        self.console.print(line, markup=False)
        sys.stdout.flush()

    def print_ended(self, trial: Trial) -> None:
        """Print a line about a trial that has ended, where there is no live table."""
        if self.console.is_terminal:
            return
        what = short_overrides(trial.overrides) or "baseline"
        value = f"{self.sweep.metric} {number(trial.value(self.sweep.metric))}"
        reason = f" ({trial.reason})" if trial.reason else ""
        self.announce(
            f"  {self._num_ended()}/{self.count()}  {trial.name}  {what}  step {trial.step}  {value}  "
            f"{trial.status}{reason}  {duration(self.seconds_left())} left"
        )

    def seconds_left(self) -> float | None:
        """Estimate from the trials so far; before one whole run has been trained, from the guess.

        Explored trials that are to come are thought to end as early as those before, confirming ones to run to their end.
        """
        trials = self.sweep.trials
        if sum(map(self._share, trials)) < 1:
            return None if self.guess is None else self.guess - (time.monotonic() - self._started)
        per_step = sum(trial.seconds for trial in trials) / max(1, sum(trial.step for trial in trials))
        whole = per_step * self.sweep.settings.training.steps
        open_steps = sum(self.sweep.total_steps(one) - one.step for one in trials if self._share(one) < 1)
        ended = [trial.seconds for trial in self.sweep.stage(EXPLORE) if self._share(trial) == 1]
        unborn = self.count() - len(trials)
        to_explore = min(unborn, max(0, self.sweep.num_explored - len(self.sweep.stage(EXPLORE))))
        explored = to_explore * (sum(ended) / len(ended) if ended else whole)
        return (open_steps * per_step + explored + (unborn - to_explore) * whole) / self.at_once

    def render(self) -> Group:
        """Return the live table: what runs, the best so far, the last that ended, as far as the terminal has room."""
        trials = list(self.sweep.trials)
        stage = trials[-1].stage if trials else ""
        running = [trial for trial in trials if trial.status == "running"]
        ended = [trial for trial in trials if trial.has_ended and trial.stage == stage][::-1]
        scored = [(value, trial) for trial in ended if (value := trial.value(self.sweep.metric)) is not None]
        best = (min if self.sweep.mode == "min" else max)(scored, key=lambda pair: pair[0])[1] if scored else None
        others = [trial for trial in ended if trial is not best]
        ordered = [*running, *([best] if best else []), *others]
        room = max(1, self.console.height - _LINES_AROUND)
        if best and len(running) >= room:
            ordered = [*running[: room - 1], best, *running[room - 1 :]]
        elapsed = duration(self.sweep.seconds + time.monotonic() - self._started)
        parts: list[str | Table] = [
            f"{self.sweep.name}: {self._num_ended()} of {self.count()} trials ended, {elapsed} gone, "
            f"about {duration(self.seconds_left())} left",
            self._table(ordered[:room], best),
        ]
        if hidden := sum(trial.status == "running" for trial in ordered[room:]):
            parts.append(f"and {hidden} more that run")
        return Group(*parts, "Ctrl-C stops; --resume goes on")

    def _table(self, trials: Sequence[Trial], best: Trial | None) -> Table:
        """Return one line a trial, with the settings in which the sweep's trials differ."""
        short = short_names(differing(self.sweep.trials))
        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        table.add_column("trial", no_wrap=True)
        table.add_column("what differs", no_wrap=True, overflow="ellipsis", ratio=1)
        for heading in ("step", self.sweep.metric, "left"):
            table.add_column(heading, no_wrap=True, justify="right")
        for trial in trials:
            here = self._progress.get(trial.name)
            is_running = trial.status == "running"
            table.add_row(
                trial.name.removeprefix(f"{trial.stage}-"),
                " ".join(
                    f"{short[name]}={setting_value(value)}"
                    for name, value in trial.overrides.items()
                    if name in short
                )
                or trial.configuration,
                f"{max(trial.step, here.step if here else 0)}/{self.sweep.total_steps(trial)}",
                number(trial.value(self.sweep.metric)),
                "best"
                if trial is best
                else (duration(here.seconds_left) if here else "")
                if is_running
                else trial.status,
            )
        return table

    def _take(self, progress: Mapping[str, Progress]) -> None:
        self._progress = progress

    def _num_ended(self) -> int:
        return sum(trial.has_ended and self._share(trial) == 1 for trial in self.sweep.trials)

    def _share(self, trial: Trial) -> float:
        """Return the trained part of what a trial will train: one that finished a round of several, only its steps."""
        if trial.has_ended and trial.status != "finished":
            return 1.0
        return min(1.0, trial.step / self.sweep.total_steps(trial))


def differing(trials: Sequence[Trial]) -> list[str]:
    """Return the settings in which the trials differ."""
    names = dict.fromkeys(name for trial in trials for name in trial.overrides)
    return [name for name in names if len({repr(trial.overrides.get(name, ...)) for trial in trials}) > 1]


def short_names(settings: Sequence[str]) -> dict[str, str]:
    """Return names for a narrow table: `pool` for techniques.pooling; whole leaves where that would not tell them apart."""
    leaves = {name: name.rsplit(".", 1)[-1] for name in settings}
    words = {name: leaf.split("_")[0] for name, leaf in leaves.items()}
    short = {name: word if len(word) <= _WHOLE_WORD else word[:_SHORT_WORD] for name, word in words.items()}
    shared = {word for word in short.values() if list(short.values()).count(word) > 1 or len(word) < 2}
    return {name: leaves[name] if word in shared else word for name, word in short.items()}
