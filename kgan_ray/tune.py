"""Sweep a search space, then judge its best configurations on fresh runs.

    python -m kgan_ray.tune --space search_spaces/disc.yaml

With no --data it makes and uses the demo data set. A sweep that was stopped goes on with --resume.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from kgan_ray.cli import add_settings_options, parse_overrides, print_settings, run_verb, verb_parser
from kgan_ray.settings import Settings, UserError, changed_settings, flatten, override
from kgan_ray.storage import AnyPath, any_path

if TYPE_CHECKING:
    import argparse

    from kgan_ray.data.dataset import Dataset
    from kgan_ray.tracking.run import Run
    from kgan_ray.tuning.question.space import Space
    from kgan_ray.tuning.running.runner import Runner
    from kgan_ray.tuning.state import Sweep


def main(arguments: Sequence[str] | None = None) -> int:
    from kgan_ray.tuning.question.sections import Budget
    from kgan_ray.tuning.running.budget import parse_budget

    parser = verb_parser("tune", __doc__)
    parser.add_argument("--space", metavar="FILE", help="the question, for example search_spaces/disc.yaml")
    parser.add_argument("--data", metavar="DIR", help="a dataset folder or URI; default: the demo data")
    parser.add_argument("--name", help="the sweep's name (default: that of the search-space file)")
    parser.add_argument("--results", default="results", metavar="DIR", help="where sweeps are kept")
    parser.add_argument("--resume", action="store_true", help="go on with the sweep of that name")
    parser.add_argument("--concurrent", type=int, metavar="N", help="trials at once (default: as many as fit)")
    parser.add_argument(
        "--add-seeds", type=int, default=0, metavar="K", help="with --resume: K more fresh seeds a configuration"
    )
    parser.add_argument(
        "--confirm-only", action="store_true", help="with --resume: end the search here and judge what it found"
    )
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="minutes, hours or device_hours of it all",
    )
    add_settings_options(parser)
    options = parser.parse_args(arguments)
    if options.concurrent is not None and options.concurrent < 1:
        raise UserError(f"--concurrent {options.concurrent}: expected 1 or more")
    if options.add_seeds < 0:
        raise UserError(f"--add-seeds {options.add_seeds}: expected 1 or more")

    parse_budget(options.budget, Budget())

    space, settings, name, known = _question(options)
    if options.dry_run:
        print_settings(settings)
        _print_space(space)
        return 0
    folder = any_path(options.results) / name
    return _run(options, space, settings, folder, known)


def _question(options: argparse.Namespace) -> tuple[Space, Settings, str, Sweep | None]:
    """The space, the settings, the sweep's name, and its record where one is to be resumed."""
    from kgan_ray.tuning.question.space import base_settings, load_space, parse_space
    from kgan_ray.tuning.state import FILE, load_sweep

    if not options.space and not (options.resume and options.name):
        raise UserError("--space FILE is missing (or --resume --name NAME, to go on with a sweep)")
    space = load_space(options.space) if options.space else None
    name = options.name or (space.name if space else "")
    if Path(name).name != name or name.startswith("."):
        raise UserError(f"--name {name!r}: expected a name without slashes")
    folder = any_path(options.results) / name
    exists = (folder / FILE).exists()
    if exists and not options.resume and not options.dry_run:
        raise UserError(f"{folder} holds a sweep already; --resume goes on with it, --name starts another")
    if (options.add_seeds or options.confirm_only) and not (exists and options.resume):
        raise UserError("--add-seeds and --confirm-only extend a sweep: give --resume too, and its --name")
    known = load_sweep(folder) if exists and options.resume else None
    if space is None and known is None:
        raise UserError(f"{folder}: no sweep here to resume (expected {FILE})")
    if known is not None:
        if space is not None and space.tree != known.space:
            raise UserError(
                f"{options.space} differs from the space that {folder} was started with; use another --name"
            )
        space = parse_space(known.space, name=name, where=str(folder / FILE))
        settings = _resumed_settings(known, options)
    else:
        assert space is not None
        settings = base_settings(space, options.preset, parse_overrides(options.overrides))
    if options.data:
        settings = override(settings, {"data.path": options.data}, where="--data")
    return space, settings, name, known


def _resumed_settings(known: Sweep, options: argparse.Namespace) -> Settings:
    """The sweep's own settings; --set may change what does not change its answer."""
    from kgan_ray.settings import resolve_settings, settings_from_flat

    before = settings_from_flat(known.settings, where="sweep.json")
    changes = parse_overrides(options.overrides)
    if options.preset:
        changes = {**flatten(resolve_settings(options.preset)), **known.space.get("settings", {}), **changes}
        changes.pop("evaluation.metrics", None)
    after = override(before, changes, where="--set")
    for name, (earlier, value) in changed_settings(before, after).items():
        raise UserError(
            f"--set {name}: the sweep was started with {earlier}, found {value}; "
            "a sweep cannot change its question, use another --name"
        )
    return after


def _print_space(space: Space) -> None:
    from kgan_ray.tuning.search.proposals import num_explored

    print(f"# {num_explored(space)} explored trials ({space.search.algorithm})")
    for domain in space.domains:
        print(f"# {domain.name}: {domain}")
    for name, overrides in space.configurations.items():
        print(f"# {name}: {overrides}")


def _run(
    options: argparse.Namespace, space: Space, settings: Settings, folder: AnyPath, known: Sweep | None
) -> int:
    from kgan_ray.tracking.store import prepare_store, tracking_uri, ui_command
    from kgan_ray.tuning.report.mlflow_view import open_parent
    from kgan_ray.tuning.running.budget import described, parse_budget
    from kgan_ray.tuning.state import EXPLORE, Sweep

    started = time.monotonic()
    uri = known.uri if known else tracking_uri(settings.tracking, any_path(options.results))
    prepare_store(uri)
    dataset = _dataset(settings)
    settings = override(settings, {"data.path": dataset.path})
    sweep = known or Sweep(
        name=folder.name,
        space=space.tree,
        settings=flatten(settings),
        metric=space.objective.metric,
        mode=space.mode,
        objectives=space.modes if len(space.objectives) > 1 else {},
        uri=uri,
        experiment=settings.tracking.experiment or folder.name,
        rounds=[space.confirm.seeds],
    )
    budget = parse_budget(options.budget, space.budget.model_copy(update=sweep.budget))
    sweep.budget = {name: value for name, value in budget.model_dump().items() if value is not None}
    if sweep.dataset_hash not in ("", dataset.hash):
        raise UserError(f"{dataset.path}: not the data of sweep {sweep.name} ({sweep.dataset_hash[:12]})")
    sweep.dataset, sweep.dataset_hash = dataset.path, dataset.hash
    if options.confirm_only and EXPLORE not in sweep.done:
        sweep.done.append(EXPLORE)
    if options.add_seeds:
        sweep.rounds.append(options.add_seeds)
    parent = open_parent(sweep, space, settings, code_version())
    sweep.save(folder)
    runner = _runner(options, sweep, space, settings, folder)
    earlier = sweep.seconds = sweep.seconds + sweep.session_seconds  # of a session that was killed
    is_complete = False
    try:
        guess = _prepare_measures(sweep, space, settings, dataset, runner)
        is_complete = _run_shown(runner, guess)
        if runner.is_spent:
            runner.judge()
    finally:
        sweep.seconds, sweep.session_seconds = earlier + time.monotonic() - started, 0.0
        sweep.save(folder)
        parent.finish("FINISHED" if is_complete or runner.is_spent else "KILLED")
    if runner.is_spent:
        print(
            f"the budget of {described(runner.budget)} is spent, {runner.num_missing()} confirmation runs are missing; "
            f"go on with:  {resume_command(folder)} --budget NAME=MORE"
        )
    elif not is_complete:
        print(f"stopped; go on with:  {resume_command(folder)}")
        return 130
    return _conclude(sweep, folder, parent, ui_command(uri, sweep.experiment))


def _dataset(settings: Settings) -> Dataset:
    from kgan_ray.data.dataset import Dataset
    from kgan_ray.data.prepare.ingest import demo_dataset

    if settings.data.path is None:
        folder = Path("datasets/demo")
        print(f"no --data given: using the demo data set of synthetic motion in {folder}", flush=True)
        return demo_dataset(folder)
    return Dataset.open(settings.data.path)


def _runner(
    options: argparse.Namespace, sweep: Sweep, space: Space, settings: Settings, folder: AnyPath
) -> Runner:
    from kgan_ray.tuning.running.runner import Runner

    tags = {"sweep": sweep.name, "dataset": sweep.dataset_hash, "code": code_version()}
    return Runner(sweep, space, settings, folder, concurrent=options.concurrent, tags=tags)


def _prepare_measures(
    sweep: Sweep, space: Space, settings: Settings, dataset: Dataset, runner: Runner
) -> float | None:
    """Train or load each group's extractor before any trial needs it, and say how long the sweep will take."""
    from kgan_ray.metrics.suite import Evaluator
    from kgan_ray.text import duration
    from kgan_ray.tuning.running.estimate import explored_share, seconds_per_run
    from kgan_ray.tuning.search.proposals import num_explored

    at_once = runner.connect()  # first: a trial that cannot fit is refused before anything is trained
    evaluator = None
    for group, changes in (space.groups or {"": {}}).items():
        mine = override(settings, changes)
        evaluator = Evaluator(
            dataset.view(mine.data), mine.evaluation, progress=lambda line: print(line, flush=True)
        )
        before = sweep.extractors.setdefault(group, evaluator.extractor_hash)
        if before != evaluator.extractor_hash:
            raise UserError(
                f"the extractor of {dataset.path} is not the one that sweep {sweep.name} began with "
                f"({evaluator.extractor_hash[:12]}, {before[:12]}): its results could not be compared"
            )
    assert evaluator is not None
    resources = settings.resources
    if resources.num_workers > 1 or resources.device != "cpu":
        print(
            f"{planned_trials(sweep, space)} trials of up to {settings.training.steps} steps, {at_once} at a time"
            + _limit(runner)
        )
        return None
    per_run = seconds_per_run(settings, evaluator)
    explored = num_explored(space) * explored_share(space.scheduler, settings)
    confirmed = planned_trials(sweep, space) - num_explored(space)
    guess = (explored + confirmed) * per_run / at_once
    print(
        f"{planned_trials(sweep, space)} trials, {at_once} at a time, some {per_run:.0f} s for a whole one: "
        f"about {duration(guess)} in all{_limit(runner)}",
        flush=True,
    )
    return guess


def _limit(runner: Runner) -> str:
    from kgan_ray.tuning.running.budget import described

    limit = described(runner.budget)
    return f"; the budget is {limit}" if limit else ""


def planned_trials(sweep: Sweep, space: Space) -> int:
    """How many trials the whole sweep has, if all goes well."""
    from kgan_ray.tuning.running.jobs import num_confirmed
    from kgan_ray.tuning.search.proposals import num_explored

    return num_explored(space) + num_confirmed(sweep, space)


def _run_shown(runner: Runner, guess: float | None) -> bool:
    from kgan_ray.tuning.running.terminal import Display

    total = planned_trials(runner.sweep, runner.space)
    with Display(runner.sweep, total=total, board=runner.board, at_once=runner.connect(), guess=guess) as display:
        runner.announce, runner.ended = display.say, display.ended
        return runner.run()


def _conclude(sweep: Sweep, folder: AnyPath, parent: Run, open_record: str) -> int:
    from kgan_ray.text import duration
    from kgan_ray.tuning.answer.results import Results
    from kgan_ray.tuning.report.files import write_report
    from kgan_ray.tuning.report.mlflow_view import record_verdicts
    from kgan_ray.tuning.report.registry import register_best
    from kgan_ray.tuning.running.terminal import console, trials_table

    console().print(trials_table(sweep, sweep.trials))
    print()
    results = Results(sweep)
    for verdict in results.verdicts:
        print(verdict.sentence)
    write_report(results, folder / "report", parent, folder / "trials")
    record_verdicts(results, parent)
    print(f"\nwall time {duration(sweep.seconds)}; report: {folder / 'report' / 'report.html'}")
    if model := register_best(results, folder):
        print(f"best confirmed generator: {model} in MLflow's model registry")
    print(f"compare the runs:  {open_record}")
    return 0


def resume_command(folder: AnyPath) -> str:
    results = "" if str(folder.parent) == "results" else f" --results {folder.parent}"
    return f"python -m kgan_ray.tune --resume --name {folder.name}{results}"


def code_version() -> str:
    """The commit that runs, or the installed version."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--tags"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    is_ours = (Path(__file__).parents[1] / ".git").exists()
    if described.returncode == 0 and is_ours:
        return described.stdout.strip()
    try:
        return version("kgan_ray")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    run_verb(main)
