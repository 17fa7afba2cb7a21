"""Write a sweep's report: one HTML page, its tables as Markdown and CSV, its motions; and log them to MLflow.

python -m kgan_ray.report disc
"""

from __future__ import annotations

from collections.abc import Sequence

from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.storage import StorePath


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("report", __doc__)
    parser.add_argument("sweep", metavar="SWEEP", help="a sweep's name, or its folder")
    parser.add_argument("--results", default="results", metavar="DIR", help="where sweeps are kept")
    parser.add_argument("--output", metavar="DIR", help="where to write (default: SWEEP's folder/report)")
    parser.add_argument("--offline", action="store_true", help="write the files only, log nothing to MLflow")
    options = parser.parse_args(arguments)

    from kgan_ray.tuning.report.files import report_sweep

    results = StorePath(options.results)
    markdown, *others = report_sweep(options.sweep, results, options.output, log=not options.offline)
    print(markdown.read_text(encoding="utf-8"))
    for file in (markdown, *others):
        print(file)
    return 0


if __name__ == "__main__":
    run_verb(main)
