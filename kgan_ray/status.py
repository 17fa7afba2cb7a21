"""Say what a sweep is doing and where training runs stand, from their records alone: no Ray, and nothing is disturbed.

python -m kgan_ray.status             # the sweep in results/ that was active last
python -m kgan_ray.status disc --results results
"""

from __future__ import annotations

from collections.abc import Sequence

from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.storage import StorePath


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("status", __doc__)
    parser.add_argument(
        "sweep",
        nargs="?",
        metavar="NAME",
        help="a sweep or training run (default: the sweep that was active last, and all others by name)",
    )
    parser.add_argument("--results", default="results", metavar="DIR", help="where sweeps and runs are kept")
    options = parser.parse_args(arguments)

    from kgan_ray.tuning.report.standing import standing_of

    print("\n".join(standing_of(StorePath(options.results), options.sweep)))
    return 0


if __name__ == "__main__":
    run_verb(main)
