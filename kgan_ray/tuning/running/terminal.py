"""What a sweep shows in the terminal: a live table, or a line a trial where output goes to a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kgan_ray.text import duration, number, short_overrides
from kgan_ray.training.progress import watched
from kgan_ray.tuning.state import ENDED, Sweep, Trial

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from kgan_ray.training.progress import Progress, ProgressBoard

_MOST_ROWS = 24
_WIDTH_OF_FILES = 150


def trials_table(sweep: Sweep, trials: Iterable[Trial], progress: Mapping[str, Progress] | None = None) -> Table:
    """The trials as a table for the terminal; `progress` is the board's."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (
        ("stage", "left"), ("trial", "left"), ("overrides", "left"), ("step", "right"),
        (sweep.metric, "right"), ("status", "left"), ("time left", "right"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading != "overrides")  # type: ignore[arg-type]
    for trial in trials:
        here = (progress or {}).get(trial.name)
        step = max(trial.step, here.step if here else 0)
        left = duration(here.seconds_left) if trial.status == "running" and here else ""
        name = trial.name.removeprefix(f"{trial.stage}-")
        status = trial.status + (f": {trial.reason}" if trial.reason else "")
        table.add_row(
            trial.stage,
            name,
            short_overrides(trial.overrides) or "(none)",
            f"{step}/{_total_steps(sweep, trial)}",
            number(trial.value(sweep.metric)),
            status[:60],
            left,
        )
    return table


def _total_steps(sweep: Sweep, trial: Trial) -> int:
    return int(trial.overrides.get("training.steps", sweep.settings["training.steps"]))


def console() -> Console:
    """Standard output; a file or pipe gets lines wide enough for a whole table."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)


class Display:
    """The sweep on the terminal while it runs. A context manager; the runner gets `say` and `ended`."""

    def __init__(
        self, sweep: Sweep, *, total: int, board: ProgressBoard | None, at_once: int, guess: float | None = None
    ) -> None:
        self.sweep, self.total, self.board, self.at_once, self.guess = sweep, total, board, at_once, guess
        self.console = console()
        self._started = time.monotonic()
        self._progress: Mapping[str, Progress] = {}
        self._live: Any = None
        self._watching = ExitStack()

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live(
                console=self.console, get_renderable=self._render, refresh_per_second=1, transient=True
            )
            self._live.start()
            if self.board is not None:
                self._watching.enter_context(watched(self.board, self._take, every=1.0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self._watching.close()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)
        sys.stdout.flush()

    def ended(self, trial: Trial) -> None:
        """One line about a trial that has ended, where there is no live table."""
        if self._live is not None:
            return
        what = short_overrides(trial.overrides) or "baseline"
        value = f"{self.sweep.metric} {number(trial.value(self.sweep.metric))}"
        reason = f" ({trial.reason})" if trial.reason else ""
        self.say(
            f"  {self._num_ended()}/{self.total}  {trial.name}  {what}  step {trial.step}  {value}  "
            f"{trial.status}{reason}  {duration(self.seconds_left())} left"
        )

    def seconds_left(self) -> float | None:
        """From the trials so far; before one whole run has been trained, from the estimate."""
        trained = sum(map(self._share, self.sweep.trials))
        if trained >= 1:
            spent = sum(trial.seconds for trial in self.sweep.trials)
            return (self.total / trained - 1) * spent / self.at_once
        return None if self.guess is None else self.guess - (time.monotonic() - self._started)

    def _num_ended(self) -> int:
        return sum(trial.status in ENDED and self._share(trial) == 1 for trial in self.sweep.trials)

    def _share(self, trial: Trial) -> float:
        """How much of what it will train a trial has trained: one that finished a round of several, only its steps."""
        if trial.status in ENDED and trial.status != "finished":
            return 1.0
        return min(1.0, trial.step / _total_steps(self.sweep, trial))

    def _take(self, newest: Mapping[str, Progress]) -> None:
        self._progress = newest

    def _render(self) -> Table:
        from rich.table import Table

        trials = list(self.sweep.trials)
        running = [trial for trial in trials if trial.status == "running"]
        ended = [trial for trial in trials if trial.status in ENDED]
        room = max(1, min(_MOST_ROWS, self.console.height - 6) - len(running))
        page = Table.grid()
        elapsed = duration(self.sweep.seconds + time.monotonic() - self._started)
        page.add_row(
            f"{self.sweep.name}: {self._num_ended()} of {self.total} trials, {elapsed} gone, "
            f"about {duration(self.seconds_left())} left. Ctrl-C stops; --resume goes on."
        )
        page.add_row(trials_table(self.sweep, [*ended[-room:], *running], self._progress))
        return page
