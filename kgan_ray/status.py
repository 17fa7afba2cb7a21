"""Say what a sweep is doing, from its record alone: no Ray, and nothing is disturbed.

python -m kgan_ray.status             # the sweep in results/ that was active last
python -m kgan_ray.status disc --results results
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.settings import UserError
from kgan_ray.storage import AnyPath, any_path, folders_with, modified
from kgan_ray.text import close_match, duration, number, short_overrides
from kgan_ray.tracking.run import metric_history
from kgan_ray.tracking.store import ui_command
from kgan_ray.tuning.state import ENDED, FILE, Sweep, Trial, load_sweep

MOST_RUNNING = 4  # trials shown one by one


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("status", __doc__)
    parser.add_argument("sweep", nargs="?", metavar="SWEEP", help="its name (default: the one active last)")
    parser.add_argument("--results", default="results", metavar="DIR", help="where sweeps are kept")
    options = parser.parse_args(arguments)
    folder = find_sweep(any_path(options.results), options.sweep)
    age = time.time() - modified(folder / FILE)
    print("\n".join(status_lines(load_sweep(folder), age)))
    return 0


def find_sweep(results: AnyPath, name: str | None) -> AnyPath:
    """The folder of the named sweep, or of the one whose record changed last. Raises UserError for none."""
    names = [folder.name for folder in folders_with(results, FILE)]
    if not names:
        raise UserError(f"--results {results}: no sweep here (expected folders with {FILE}, which `tune` writes)")
    if name is not None and name not in names:
        raise UserError(f"{results}: no sweep {name!r}.{close_match(name, names)} Known: {', '.join(names)}")
    return results / (name or names[-1])


def status_lines(sweep: Sweep, age: float) -> list[str]:
    """About ten lines: counts, the trials that run, the best one, verdicts. `age`: seconds since the last change."""
    counts = Counter(trial.status for trial in sweep.trials)
    stage = sweep.trials[-1].stage if sweep.trials else "not begun"
    by_status = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no trials yet"
    ended = sum(counts[status] for status in ENDED)
    lines = [
        f"sweep {sweep.name}: {'judged' if sweep.verdicts else stage}; last change {duration(age)} ago",
        f"trials: {ended} of {len(sweep.trials)} known ones ended ({by_status})",
    ]
    running = [trial for trial in sweep.trials if trial.status == "running"]
    lines += [_running_line(sweep, trial) for trial in running[:MOST_RUNNING]]
    if len(running) > MOST_RUNNING:
        lines.append(f"  and {len(running) - MOST_RUNNING} more")
    scored = [(value, trial) for trial in sweep.trials if (value := trial.value(sweep.metric)) is not None]
    if scored:
        value, trial = (min if sweep.mode == "min" else max)(scored, key=lambda pair: pair[0])
        overrides = short_overrides(trial.overrides) or "no change"
        lines.append(f"best single run: {trial.name}  {sweep.metric} {number(value)}  ({overrides})")
    broken = [trial for trial in sweep.trials if trial.reason]
    if broken:
        lines.append(f"last trouble: {broken[-1].name}: {broken[-1].reason.splitlines()[0][:100]}")
    lines += [verdict["sentence"] for verdict in sweep.verdicts[:3]]
    if sweep.uri:
        lines.append(f"runs: {ui_command(sweep.uri, sweep.experiment)}")
    return lines


def _running_line(sweep: Sweep, trial: Trial) -> str:
    """Where a running trial is: MLflow knows the losses between the evaluations that the sweep is told of."""
    steps = trial.overrides.get("training.steps", sweep.settings.get("training.steps", 0))
    step, speed = trial.step, ""
    if trial.run_id and sweep.uri:
        history = metric_history(sweep.uri, trial.run_id, ["discriminator/loss", "time/steps_per_second"])
        step = max([step, *(points[-1][0] for points in history.values())])
        if "time/steps_per_second" in history:
            speed = f"  {history['time/steps_per_second'][-1][1]:.2f} steps/s"
    score = number(trial.value(sweep.metric))
    return (
        f"  {trial.name}: step {step}/{steps}{speed}  {sweep.metric} {score}  {short_overrides(trial.overrides)}"
    )


if __name__ == "__main__":
    run_verb(main)
