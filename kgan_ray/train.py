"""Train one Kinetic-GAN on Ray Train, from a dataset that `prepare` wrote or from the demo data.

    python -m kgan_ray.train --data datasets/ntu60 --preset ntu60-xsub --workers 4

Running the same command again continues from the newest checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgan_ray.cli import ProgressLine, add_settings_options, print_settings, run_verb, settings_of, verb_parser
from kgan_ray.settings import (
    MAY_CHANGE,
    Settings,
    UserError,
    changed_settings,
    flatten,
    override,
    settings_from_flat,
)
from kgan_ray.storage import AnyPath, any_path

if TYPE_CHECKING:
    from kgan_ray.tracking.run import Run
    from kgan_ray.training.launch import RunRecord
    from kgan_ray.training.progress import Outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("train", __doc__)
    parser.add_argument(
        "--data", metavar="DIR", help="a dataset folder or URI; default: the demo data, made if need be"
    )
    parser.add_argument(
        "--workers",
        metavar="N | MIN:MAX",
        help="how many share every batch; MIN:MAX goes on with fewer when a node goes",
    )
    parser.add_argument("--name", help="the run's name (default: preset and seed)")
    parser.add_argument(
        "--results", default="results", metavar="DIR", help="where runs are kept (default: results)"
    )
    add_settings_options(parser)
    options = parser.parse_args(arguments)

    settings = settings_of(options, default_preset=None if options.data else "demo")
    if options.data:
        settings = override(settings, {"data.path": options.data}, where="--data")
    if options.workers is not None:
        settings = override(settings, _workers(options.workers), where="--workers")
    if options.dry_run:
        print_settings(settings)
        return 0
    name = options.name or f"{options.preset or ('run' if options.data else 'demo')}-seed{settings.seed}"
    return train_run(settings, name, any_path(options.results))


def _workers(wanted: str) -> dict[str, int]:
    """The settings that --workers stands for."""
    fewest, colon, most = wanted.rpartition(":")
    if not all(number.isascii() and number.isdigit() for number in ([fewest, most] if colon else [most])):
        raise UserError(f"--workers {wanted}: expected a number such as 4, or MIN:MAX such as 1:4")
    return {"resources.num_workers": int(most), **({"resources.min_workers": int(fewest)} if colon else {})}


def train_run(settings: Settings, name: str, results: AnyPath) -> int:
    """Train in results/`name`, recorded in MLflow; returns the exit code, 3 for a run that diverged."""
    from kgan_ray.metrics.names import check_metric_name
    from kgan_ray.tracking.store import prepare_store, tracking_uri, ui_command
    from kgan_ray.training.launch import launch_training

    for metric in settings.evaluation.metrics:
        check_metric_name(metric, where="evaluation.metrics")
    uri = tracking_uri(settings.tracking, results)
    settings = _with_data(settings)
    folder = results / name
    _check_same_settings(folder, settings)
    prepare_store(uri)
    run, record = _open_run(uri, settings, name, folder)
    print(f"training {name} in {folder}; Ctrl-C stops it, the same command goes on", flush=True)
    started = time.perf_counter()
    try:
        with ProgressLine() as line:
            outcome = launch_training(
                settings,
                str(settings.data.path),
                str(folder.absolute()),
                name=name,
                record=record,
                show=lambda progress: line(progress.line()),
            )
    except KeyboardInterrupt:
        run.finish("KILLED")
        raise
    except UserError:
        run.finish("FAILED")
        raise
    run.finish("FINISHED" if outcome.status != "diverged" else "FAILED")
    _print_outcome(outcome, time.perf_counter() - started, folder)
    print(f"compare the runs:  {ui_command(uri, record.experiment)}")
    return 3 if outcome.status == "diverged" else 0


def _with_data(settings: Settings) -> Settings:
    """Settings that name a dataset: the demo's, made on first use, where none was given."""
    from kgan_ray.data.dataset import Dataset
    from kgan_ray.data.prepare.ingest import demo_dataset

    if settings.data.path is None:
        folder = Path("datasets/demo")
        print(f"no --data given: using the demo data set of synthetic motion in {folder}", flush=True)
        return override(settings, {"data.path": demo_dataset(folder).path})
    return override(
        settings, {"data.path": Dataset.open(settings.data.path).path}
    )  # whole: workers start elsewhere


def _check_same_settings(folder: AnyPath, settings: Settings) -> None:
    """Note the run's settings, or refuse to continue a run of that name that was started with others."""
    file = folder / "settings.json"
    if file.exists():
        before = settings_from_flat(json.loads(file.read_text(encoding="utf-8")), where=str(file))
        for name, (earlier, value) in changed_settings(
            before, settings, free=(*MAY_CHANGE, "training.steps")
        ).items():
            raise UserError(
                f"{folder} holds a run with {name}={earlier}, this one has {value}; "
                f"choose another --name, or give the same settings to continue"
            )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(flatten(settings), indent=1), encoding="utf-8")


def _open_run(uri: str, settings: Settings, name: str, folder: AnyPath) -> tuple[Run, RunRecord]:
    """Start the MLflow run, or the one that this folder was recorded in before."""
    from kgan_ray.tracking.run import start_run
    from kgan_ray.training.launch import RunRecord

    experiment = settings.tracking.experiment or "train"
    file = folder / "run.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    run_id = known["id"] if known.get("uri") == uri else None
    run = start_run(uri, experiment=experiment, name=name, run_id=run_id, params=flatten(settings))
    run.set_tags({"folder": str(folder), "seed": str(settings.seed)})
    file.write_text(json.dumps({"uri": uri, "id": run.id}), encoding="utf-8")
    return run, RunRecord(uri=uri, experiment=experiment, name=name, id=run.id)


def _print_outcome(outcome: Outcome, seconds: float, folder: AnyPath) -> None:
    scores = "  ".join(f"{name} {value:.4g}" for name, value in outcome.metrics.items() if "/" not in name)
    print(f"{outcome.status} at step {outcome.step} after {seconds:.0f} s  {scores}")
    if outcome.reason:
        print(f"reason: {outcome.reason}")
    print(f"checkpoints: {folder / 'checkpoints'}")


if __name__ == "__main__":
    run_verb(main)
