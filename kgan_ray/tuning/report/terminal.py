"""A sweep's results in the terminal: every trial, the verdicts, and where to look further."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from kgan_ray.cli import console
from kgan_ray.storage import StorePath
from kgan_ray.text import number, short_overrides
from kgan_ray.tracking.store import ui_command
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.answer.words import answer_lines
from kgan_ray.tuning.state import Sweep, Trial


def print_results(results: Results, folder: StorePath) -> None:
    """Print the trials, where report, model and record of the sweep in `folder` are, and last the answer."""
    sweep = results.sweep
    console().print(trials_table(sweep, sweep.trials))
    print(f"\nreport: {folder / 'report' / 'report.html'}")
    if sweep.model:
        print(f"best confirmed generator: {sweep.model} in MLflow's model registry")
    print(f"compare the runs:  {ui_command(sweep.uri, sweep.experiment)}\n")
    for line in answer_lines(results):
        print(line)


def trials_table(sweep: Sweep, trials: Iterable[Trial]) -> Table:
    """Return the trials as a table for the terminal, with all of their settings and how they ended."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("stage", "trial", "overrides"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "overrides")
    for heading in ("step", sweep.metric):
        table.add_column(heading, overflow="fold", no_wrap=True, justify="right")
    table.add_column("status", overflow="fold", no_wrap=True)
    for trial in trials:
        table.add_row(
            trial.stage,
            trial.name.removeprefix(f"{trial.stage}-"),
            short_overrides(trial.overrides) or "(none)",
            f"{trial.step}/{sweep.total_steps(trial)}",
            number(trial.value(sweep.metric)),
            (trial.status + (f": {trial.reason}" if trial.reason else ""))[:60],
        )
    return table
