"""Sweeps as a service: what the verb `tune` calls, and whoever starts a sweep from Python.

from kgan_ray.tuning.service import run_sweep

results = run_sweep("search_spaces/disc.yaml", data="datasets/ntu60", preset="ntu60-xsub")
for verdict in results.verdicts:
    print(verdict.sentence)
"""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kgan_ray.data.prepare.service import open_dataset
from kgan_ray.data.shared import SharedMotions, bytes_to_share
from kgan_ray.ownership import owned
from kgan_ray.settings import Overrides, UserError, validated
from kgan_ray.storage import StoreError, StorePath, describe
from kgan_ray.tracking.store import prepare_store, tracking_uri
from kgan_ray.training.service import with_whole_paths
from kgan_ray.tuning.answer.power import line_before_start
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.answer.reuse import explored_alike
from kgan_ray.tuning.question.sections import Budget
from kgan_ray.tuning.question.space import Space
from kgan_ray.tuning.report.files import write_report
from kgan_ray.tuning.report.mlflow_view import open_parent, record_verdicts, trial_tags
from kgan_ray.tuning.report.registry import register_best
from kgan_ray.tuning.request import Request, new_request, resumed_request
from kgan_ray.tuning.running.jobs import num_missing
from kgan_ray.tuning.running.preparation import announce_estimate, group_settings, prepare_measures
from kgan_ray.tuning.running.runner import Runner
from kgan_ray.tuning.running.terminal import Display
from kgan_ray.tuning.state import EXPLORE, FILE, Sweep, load_sweep, other_sweeps, resume_command


def run_sweep(
    space: Space | Path | str,
    *,
    preset: str | None = None,
    overrides: Overrides | None = None,
    data: str | None = None,
    name: str | None = None,
    results: Path | str = "results",
    budget: Mapping[str, float] | None = None,
    concurrent: int | None = None,
) -> Results:
    """Explore a search space, confirm its best configurations with fresh seeds, and report what they prove.

    Args:
        space: the question: a search-space file, or one that was read.
        preset: named settings, over the space's own preset.
        overrides: dotted settings, {"training.steps": 600}, over both.
        data: a dataset folder or URI; None = the demo data, made if need be.
        name: of the sweep and its folder; None = the space's.
        results: the folder or URI that holds sweeps.
        budget: {"minutes": 30}, over the space's own budget.
        concurrent: trials at once; None = as many as fit.

    Raises:
        UserError: a mistake in the question, or a sweep of that name is there already.
        KeyboardInterrupt: the user interrupted it; `resume_sweep` goes on.
    """
    request = new_request(space, preset=preset, overrides=overrides, data=data, name=name, results=results)
    with owned(request.folder, f"sweep {request.folder.name}"):
        if (request.folder / FILE).exists():
            raise UserError(
                f"{request.folder} holds a sweep already; --resume goes on with it, --name starts another"
            )
        return _run(request, budget or {}, concurrent)


def resume_sweep(
    name: str | None,
    *,
    space: Path | str | None = None,
    preset: str | None = None,
    overrides: Overrides | None = None,
    data: str | None = None,
    results: Path | str = "results",
    budget: Mapping[str, float] | None = None,
    concurrent: int | None = None,
    add_seeds: int = 0,
    confirm_only: bool = False,
) -> Results:
    """Go on with a sweep that was interrupted, or extend one that has ended. Arguments and errors as for `run_sweep`.

    Args:
        overrides: settings that do not change the sweep's answer, such as resources.
        add_seeds: further fresh seeds for each configuration.
        confirm_only: end the search here and judge what it found.
    """
    request = resumed_request(name, space=space, preset=preset, overrides=overrides, data=data, results=results)
    if request.record is None and (add_seeds or confirm_only):
        raise UserError("--add-seeds and --confirm-only extend a sweep, and there is none of that name yet")
    with owned(request.folder, f"sweep {request.folder.name}"):
        if request.record is None:
            return _run(request, budget or {}, concurrent)
        record = load_sweep(request.folder)  # as it is now that nobody else writes it
        if confirm_only and EXPLORE not in record.done:
            record.done.append(EXPLORE)
        if add_seeds:
            record.rounds.append(add_seeds)
        return _run(replace(request, record=record), budget or {}, concurrent)


def code_version() -> str:
    """Return the commit that runs; outside a checkout, or without git, the installed version."""
    home = Path(__file__).parents[2]
    if (home / ".git").exists() and shutil.which("git"):
        command = ["git", "describe", "--always", "--dirty", "--tags"]
        with suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(
                command, cwd=home, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
    try:
        return version("kgan_ray")
    except PackageNotFoundError:
        return "unknown"


def _origin(request: Request, code: str) -> dict[str, str]:
    """Return what made a sweep that begins, for the foot of its report."""
    words = sys.argv[1:] if Path(sys.argv[0]).name == "tune.py" else []
    return {
        "preset": request.preset or "none",
        **({"command": shlex.join(["python", "-m", "kgan_ray.tune", *words])} if words else {}),
        "kgan_ray": code,
        **{library: version(library) for library in ("torch", "ray", "mlflow")},
        "Python": platform.python_version(),
        "begun": time.strftime("%Y-%m-%d %H:%M"),
    }


def _run(request: Request, budget: Mapping[str, float], concurrent: int | None) -> Results:
    limits = validated(Budget, dict(budget), where="--budget")
    space, folder = request.space, request.folder
    started = time.monotonic()
    record = request.record
    uri = record.uri if record else tracking_uri(request.settings.tracking, folder.parent)
    dataset = open_dataset(request.settings.data.path, partial(print, flush=True))
    settings = with_whole_paths(request.settings, dataset)
    code = code_version()
    sweep = record or Sweep.of(
        space,
        settings,
        name=folder.name,
        uri=uri,
        experiment=settings.tracking.experiment or folder.name,
        origin=_origin(request, code),
    )
    if sweep.dataset_hash not in ("", dataset.hash):
        raise UserError(f"{dataset.path}: not the data of sweep {sweep.name} ({sweep.dataset_hash[:12]})")
    sweep.dataset, sweep.dataset_hash = dataset.path, dataset.hash
    sweep.budget |= limits.model_dump(exclude_none=True)
    views = [dataset.view(one.data) for one in group_settings(space, settings).values()]
    runner = Runner(
        sweep,
        space,
        settings,
        folder,
        Results,
        concurrent=concurrent,
        started=started,
        tags=trial_tags(sweep, code),
        bytes_of_data=bytes_to_share(views),
    )
    # Nothing is recorded before it is known that a trial fits and that there is a measure.
    runner.start()
    prepare_store(uri)
    runner.dataset = dataset.holding(SharedMotions(views))
    guess = announce_estimate(runner, prepare_measures(runner, runner.dataset))
    others = other_sweeps(folder)
    runner.past = explored_alike(sweep, others)
    if not record and space.num_comparisons:
        runner.announce(line_before_start(sweep, space.confirm.seeds_at_most, space.num_comparisons, others))
    parent = open_parent(sweep, space, settings, code)
    earlier = sweep.seconds = sweep.seconds + sweep.session_seconds  # of a session that was killed
    is_complete = False
    with _failures_told(folder):
        try:
            sweep.save(folder)
            is_complete = _run_shown(runner, guess)
        finally:
            sweep.seconds, sweep.session_seconds = earlier + time.monotonic() - started, 0.0
            try:
                sweep.save(folder)
            finally:
                parent.finish("FINISHED" if is_complete or runner.is_spent else "KILLED")
        if failures := [one.reason for one in sweep.trials if one.status == "interrupted" and one.reason]:
            raise StoreError(failures[0])
    if runner.is_spent:
        missing = num_missing(sweep, space)
        runner.announce(
            f"the budget of {runner.budget} is spent, {missing} confirmation runs are missing"
            if missing
            else f"the budget of {runner.budget} has no room for more seeds"
        )
    elif not is_complete:
        raise KeyboardInterrupt(f"stopped; go on with:  {resume_command(folder)}")
    results = Results(sweep, others, folder)
    write_report(results, folder / "report", parent, folder / "trials")
    record_verdicts(results, parent)
    if models := register_best(results, folder):
        sweep.model = ", ".join(models)
        sweep.save(folder)
    return results


@contextmanager
def _failures_told(folder: StorePath) -> Iterator[None]:
    """Say how the sweep goes on after a failure of its surroundings: a full disk, a record that does not answer."""
    try:
        yield
    except OSError as error:
        what = str(error) if isinstance(error, StoreError) else f"{error.filename or folder}: {describe(error)}"
        raise UserError(f"{what}; once that is mended, go on with:  {resume_command(folder)}") from None


def _run_shown(runner: Runner, guess: float | None) -> bool:
    """Run the sweep's stages with a display on the terminal, which expects `guess` seconds; return whether all are done."""
    display = Display(runner.sweep, count=lambda: runner.num_trials, at_once=runner.at_once, guess=guess)
    runner.announce, runner.on_trial_end = display.announce, display.print_ended
    assert runner.board
    with display.shown(runner.board):
        return runner.run()
