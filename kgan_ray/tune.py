"""Sweep a search space, then judge its best configurations on fresh runs.

    python -m kgan_ray.tune --space search_spaces/disc.yaml

With no --data it makes and uses the demo data set. A sweep that was stopped goes on with --resume.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kgan_ray.cli import add_settings_options, parse_overrides, print_settings, run_verb, verb_parser
from kgan_ray.settings import UserError
from kgan_ray.storage import StorePath

if TYPE_CHECKING:
    import argparse


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    _check(options)

    question: dict[str, Any] = {
        "name": options.name,
        "space": options.space,
        "preset": options.preset,
        "overrides": parse_overrides(options.overrides),
        "data": options.data,
        "results": options.results,
    }
    if options.dry_run:
        from kgan_ray.tuning.request import new_request, resumed_request

        request = (resumed_request if options.resume else new_request)(**question)
        print_settings(request.settings)
        print("\n".join(f"# {line}" for line in request.lines()))
        if options.space:
            print(f"# how long on this machine:  {_estimate_command(options)}")
        return 0

    from kgan_ray.tuning import service
    from kgan_ray.tuning.report.terminal import print_results

    running = {"budget": _budget(options.budget), "concurrent": options.concurrent}
    if options.resume:
        more = {"add_seeds": options.add_seeds, "confirm_only": options.confirm_only}
        results = service.resume_sweep(**question, **running, **more)
    else:
        results = service.run_sweep(**question, **running)
    print_results(results, StorePath(options.results) / results.sweep.name)
    return 0 if results.has_answer else 3


def _parser() -> argparse.ArgumentParser:
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
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.concurrent is not None and options.concurrent < 1:
        raise UserError(f"--concurrent {options.concurrent}: expected 1 or more")
    if options.add_seeds < 0:
        raise UserError(f"--add-seeds {options.add_seeds}: expected 1 or more")
    if not options.space and not (options.resume and options.name):
        raise UserError("--space FILE is missing (or --resume --name NAME, to go on with a sweep)")
    if (options.add_seeds or options.confirm_only) and not options.resume:
        raise UserError("--add-seeds and --confirm-only extend a sweep: give --resume too, and its --name")


def _estimate_command(options: argparse.Namespace) -> str:
    """Return the command that measures how long the sweep would take."""
    words = ["python", "-m", "kgan_ray.benchmark", "--space", options.space]
    for name in ("preset", "data"):
        words += [f"--{name}", value] if (value := getattr(options, name)) else []
    words += [word for one in options.overrides for word in ("--set", one)]
    return shlex.join(words)


def _budget(items: Sequence[str]) -> dict[str, Any]:
    """Return `["hours=3"]` as {"hours": 3}."""
    for item in items:
        if "=" not in item:
            raise UserError(f"--budget {item}: expected NAME=VALUE, for example hours=3")
    return parse_overrides(items)


if __name__ == "__main__":
    run_verb(main)
