"""What a sweep is doing, in ten lines, and where training runs stand."""

from __future__ import annotations

import time
from collections import Counter

from kgan_ray.run_folder import RUN, run_line
from kgan_ray.storage import StorePath, folders_with
from kgan_ray.text import duration, number, short_overrides
from kgan_ray.tracking.run import metric_history
from kgan_ray.tracking.store import ui_command
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.state import ENDED, FILE, Sweep, Trial, find_sweep, load_sweep

MOST_RUNNING = 3  # trials that have a line each
MOST_VERDICTS = 2


def standing_of(results_folder: StorePath, name: str | None = None) -> list[str]:
    """Describe the named sweep or training run; without a name the sweep that was active last, and name all others.

    Raises UserError where there is none.
    """
    if name and (results_folder / name / RUN).exists():
        return [run_line(results_folder / name)]
    runs = [] if name else [run_line(folder) for folder in reversed(folders_with(results_folder, RUN))]
    if runs and not folders_with(results_folder, FILE):
        return runs
    folder = find_sweep(results_folder, name)
    age = time.time() - (folder / FILE).modified()
    others = [] if name else [one.name for one in folders_with(results_folder, FILE) if one.name != folder.name]
    also = [f"other sweeps: {', '.join(others)}"] if others else []
    return [*standing_lines(Results(load_sweep(folder), folder=folder), age), *also, *runs]


def standing_lines(results: Results, age: float) -> list[str]:
    """Return at most ten lines: the stage, counts, the trials that run, the best one, the verdicts.

    `age` is the number of seconds since the record changed last.
    """
    sweep = results.sweep
    counts = Counter(trial.status for trial in sweep.trials)
    by_status = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no trials yet"
    ended = sum(counts[status] for status in ENDED)
    running = [trial for trial in sweep.trials if trial.status == "running"]
    hidden = f"; {len(running) - MOST_RUNNING} more run" if len(running) > MOST_RUNNING else ""
    lines = [
        f"sweep {sweep.name}: {results.stage}; last change {duration(age)} ago",
        f"trials: {ended} of {len(sweep.trials)} recorded ones ended ({by_status}){hidden}",
        *(_running_line(sweep, trial) for trial in running[:MOST_RUNNING]),
    ]
    scored = [(value, trial) for trial in sweep.trials if (value := trial.value(sweep.metric)) is not None]
    if scored:
        value, trial = (min if results.lowest_is_best else max)(scored, key=lambda pair: pair[0])
        overrides = short_overrides(trial.overrides) or "no change"
        lines.append(
            f"best single run: {trial.name}  {sweep.metric} {number(value)}{_by(sweep, trial)}  ({overrides})"
        )
    if broken := [trial for trial in sweep.trials if trial.reason]:
        lines.append(f"last trouble: {broken[-1].name}: {broken[-1].reason.splitlines()[0][:100]}")
    so_far = "" if results.is_judged else "so far: "
    lines += [so_far + verdict.sentence for verdict in results.verdicts[:MOST_VERDICTS]]
    if sweep.uri:
        lines.append(f"runs: {ui_command(sweep.uri, sweep.experiment)}")
    return lines


def _by(sweep: Sweep, trial: Trial) -> str:
    """Say how good the extractor is that a trial's scores are of; nothing where the record does not know."""
    recognition = sweep.recognitions.get(trial.group)
    return f", {recognition.brief()}" if recognition else ""


def _running_line(sweep: Sweep, trial: Trial) -> str:
    """Say where a running trial is: MLflow knows the losses between the evaluations that the sweep is told of."""
    step, speed = trial.step, ""
    if trial.run_id and sweep.uri:
        history = metric_history(sweep.uri, trial.run_id, ["discriminator/loss", "time/steps_per_second"])
        step = max([step, *(points[-1][0] for points in history.values())])
        if "time/steps_per_second" in history:
            speed = f"  {history['time/steps_per_second'][-1][1]:.2f} steps/s"
    score = number(trial.value(sweep.metric))
    return f"  {trial.name}: step {step}/{sweep.total_steps(trial)}{speed}  {sweep.metric} {score}  {short_overrides(trial.overrides)}"
