"""Measure this machine: matrix-product peak, training, sampling, loading, evaluation. Everything as ratios in one run.

    python -m kgan_ray.benchmark training sampling
    python -m kgan_ray.benchmark reading --files nturgbd_skeletons_s001_to_s017.zip
    python -m kgan_ray.benchmark workers --figure scaling.png
    python -m kgan_ray.benchmark gpu --output table.json
    python -m kgan_ray.benchmark --space search_spaces/disc.yaml --data datasets/ntu60 --workers 8

Training and sampling are measured at the shapes of NTU-60: 60 classes, 64 frames, 25 joints, batch 32, published widths.
`presets` measures training at the shapes of demo, ucla-xview and ntu60-xsub, in float32 and bfloat16, beside both peaks.
`workers` measures two workers of one thread (or GPU) each beside one, and draws what many would gain on several networks.
`gpu` measures all that is asked of a GPU: each way to train, 1 to 8 trials at once, memory, kernels, an evaluation; whether a graph
trains as single launches do, and a checkpoint survives the way to a CPU and back. Some ten minutes; please send us the table.
With --space nothing but that sweep is estimated: how long it would take here, and on N workers like this machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from kgan_ray.benchmarks.rows import PARTS, USUAL_PARTS, by_name
from kgan_ray.cli import parse_overrides, run_verb, verb_parser
from kgan_ray.publishing import writing_output
from kgan_ray.settings import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("benchmark", __doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"of {', '.join(PARTS)} (default: {' '.join(USUAL_PARTS)})",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto (default): a GPU where there is one")
    parser.add_argument("--files", metavar="PATH", help="with reading: a folder or zip of .skeleton files")
    parser.add_argument("--figure", metavar="FILE", help="with workers: draw the model of many workers there")
    parser.add_argument("--output", metavar="FILE", help="write the rows as JSON too")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")
    parser.add_argument("--space", metavar="FILE", help="estimate how long this search space would take")
    parser.add_argument("--data", metavar="DIR", help="with --space: the dataset (default: the demo data)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="with --space: workers like this one")
    parser.add_argument("--preset", metavar="NAME", help="with --space: named settings in place of its own")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="with --space: one setting",
    )
    options = parser.parse_args(arguments)
    if options.space:
        from kgan_ray.benchmarks.sweep import estimate_sweep

        overrides = parse_overrides(options.overrides)
        question = {"preset": options.preset, "overrides": overrides, "data": options.data}
        print("\n".join(estimate_sweep(options.space, options.workers, **question)))
        return 0
    if options.preset or options.overrides:
        raise UserError("--preset and --set belong to --space: the parts are measured at the shapes of NTU-60")

    from kgan_ray.benchmarks.parts import run_benchmark

    rows = run_benchmark(
        options.parts or USUAL_PARTS,
        device=options.device,
        threads=options.threads,
        files=options.files,
        figure=options.figure,
        say=(lambda line: None) if options.json else partial(print, flush=True),
    )
    print(json.dumps(by_name(rows)) if options.json else "\n".join(row.line() for row in rows))
    if options.output:
        figures = [{key: asdict(row)[key] for key in ("what", "value", "unit")} for row in rows]
        output = Path(options.output)
        with writing_output(output):
            output.write_text(json.dumps(figures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_verb(main)
