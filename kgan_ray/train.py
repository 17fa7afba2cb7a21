"""Train one Kinetic-GAN on Ray Train, from a dataset that `prepare` wrote or from the demo data.

    python -m kgan_ray.train --data datasets/ntu60 --preset ntu60-xsub --workers 4

Running the same command again continues from the newest checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from kgan_ray.cli import (
    ProgressLine,
    add_settings_options,
    parse_overrides,
    print_settings,
    run_verb,
    settings_of,
    verb_parser,
)
from kgan_ray.run_folder import settings_of_run
from kgan_ray.settings import Settings, UserError, override
from kgan_ray.storage import StorePath

if TYPE_CHECKING:
    import argparse

    from kgan_ray.training.service import TrainedRun

DIVERGED = 3  # the exit code of a run that diverged


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
        "--resume",
        action="store_true",
        help="go on with the run of that name, whose settings need not be given again",
    )
    parser.add_argument(
        "--results", default="results", metavar="DIR", help="where runs are kept (default: results)"
    )
    add_settings_options(parser)
    options = parser.parse_args(arguments)

    settings = (
        _resumed(options)
        if options.resume
        else settings_of(options, default_preset=None if options.data else "demo")
    )
    if options.data:
        settings = override(settings, {"data.path": options.data}, where="--data")
    if options.workers is not None:
        settings = override(settings, _workers(options.workers), where="--workers")
    if options.dry_run:
        print_settings(settings)
        return 0

    from kgan_ray.training.service import train_run

    if options.data and not options.preset and not options.resume:
        print(f"no --preset given: this is the published model, {settings.training.steps:,} steps")
    preset = options.preset or ("run" if options.data else "demo")
    with ProgressLine() as line:
        trained = train_run(
            settings,
            options.name or f"{preset}-seed{settings.seed}",
            options.results,
            show=lambda progress: line(progress.line()),
            say=partial(print, flush=True),
        )
    _print(trained)
    return DIVERGED if trained.outcome.status == "diverged" else 0


def _resumed(options: argparse.Namespace) -> Settings:
    """Return the settings that the run of --name was started with, and those of --set over them."""
    if not options.name or options.preset:
        raise UserError("--resume: give the run's --name, and no --preset: it brings its own settings")
    settings = settings_of_run(StorePath(options.results) / options.name)
    return override(settings, parse_overrides(options.overrides), where="--set")


def _workers(text: str) -> dict[str, int]:
    """Return the settings that --workers stands for."""
    fewest, colon, most = text.rpartition(":")
    if not all(number.isascii() and number.isdigit() for number in ([fewest, most] if colon else [most])):
        raise UserError(f"--workers {text}: expected a number such as 4, or MIN:MAX such as 1:4")
    return {"resources.num_workers": int(most), **({"resources.min_workers": int(fewest)} if colon else {})}


def _print(trained: TrainedRun) -> None:
    outcome = trained.outcome
    scores = "  ".join(f"{name} {value:.4g}" for name, value in outcome.metrics.items() if "/" not in name)
    print(f"{outcome.status} at step {outcome.step} after {trained.seconds:.0f} s  {scores}")
    if outcome.extractor:
        print(f"measured by {outcome.extractor.line()}")
    if outcome.reason:
        print(f"reason: {outcome.reason}")
    print(f"checkpoints: {trained.checkpoints}")
    print(f"compare the runs:  {trained.open_command}")


if __name__ == "__main__":
    run_verb(main)
