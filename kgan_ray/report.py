"""Write a sweep's results: tables (HTML, Markdown, CSV) and learning curves (PNG), and log them to MLflow.

python -m kgan_ray.report disc
"""

from __future__ import annotations

from collections.abc import Sequence

from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.settings import UserError
from kgan_ray.storage import AnyPath, any_path, folders_with
from kgan_ray.text import close_match


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("report", __doc__)
    parser.add_argument("sweep", metavar="SWEEP", help="a sweep's name, or its folder")
    parser.add_argument("--results", default="results", metavar="DIR", help="where sweeps are kept")
    parser.add_argument("--output", metavar="DIR", help="where to write (default: SWEEP's folder/report)")
    parser.add_argument("--offline", action="store_true", help="write the files only, log nothing to MLflow")
    options = parser.parse_args(arguments)

    from kgan_ray.tracking.run import start_run
    from kgan_ray.tuning.report.files import write_report
    from kgan_ray.tuning.state import load_sweep

    folder = find_sweep(options.sweep, any_path(options.results))
    sweep = load_sweep(folder)
    run = None
    output = any_path(options.output) if options.output else folder / "report"
    if sweep.parent_id and not options.offline:
        run = start_run(sweep.uri, experiment=sweep.experiment, name=sweep.name, run_id=sweep.parent_id)
    files = write_report(sweep, output, run, folder / "trials")
    if run:
        run.finish()
    print(files[0].read_text(encoding="utf-8"))
    for file in files:
        print(file)
    return 0


def find_sweep(name: str, results: AnyPath) -> AnyPath:
    """The folder of a sweep that is given by its folder, or by its name in `results`."""
    from kgan_ray.tuning.state import FILE

    for folder in (any_path(name), results / name):
        if (folder / FILE).exists():
            return folder
    known = sorted(folder.name for folder in folders_with(results, FILE))
    there = f"there are: {', '.join(known)}" if known else "there is none"
    raise UserError(f"{name}: no sweep of that name in {results}.{close_match(name, known)} {there}")


if __name__ == "__main__":
    run_verb(main)
