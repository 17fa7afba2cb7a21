"""Draw motions: a contact sheet (.png) or an animation (.gif, .mp4) of a dataset, a checkpoint or a file of motions.

python -m kgan_ray.render results/run --output generated.gif
python -m kgan_ray.render datasets/demo results/run --classes walking waving --output both.png
python -m kgan_ray.render results/run --classes walking --variation --output variation.png

Several sources are drawn side by side. A file of motions is .parquet, .npy (N, C, T, V), with its labels in
NAME_labels.npy or NAME_labels.txt beside it, or one .skeleton. --variation draws what the generator's noise moves, for one
latent point a class: the standard deviation by joint and over time, and the joints that the quantile mask would choose.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.settings import UserError

ENDINGS = (".png", ".gif", ".mp4")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("render", __doc__)
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="a dataset's folder, a checkpoint or run, a file of motions"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="picture.png, motion.gif or motion.mp4")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="names or 0-based numbers (default: all)")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="motions of each class (default: 1)")
    parser.add_argument("--poses", type=int, default=8, metavar="N", help="poses of a row of a .png (default: 8)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which motions (default: 0)")
    parser.add_argument("--fps", type=int, default=30, metavar="N", help="frames a second (default: 30)")
    parser.add_argument("--layout", metavar="NAME", help="of a .npy file: a skeleton's name, or its FILE.yaml")
    parser.add_argument(
        "--bodies", type=int, choices=(1, 2), default=1, help="of a dataset or recording (default: 1)"
    )
    parser.add_argument("--variation", action="store_true", help="of a checkpoint: what its noise moves")
    parser.add_argument("--draws", type=int, default=64, metavar="N", help="of the noise (default: 64)")
    parser.add_argument(
        "--quantile",
        type=float,
        metavar="Q",
        help="of the mask (default: what the checkpoint was trained with, else 0.5)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto (default): a GPU where there is one")
    options = parser.parse_args(arguments)
    output = _checked(options)
    from kgan_ray.training.drawing import Choice, draw_motions, draw_noise

    say = cache(print)  # the line of the device once, however many checkpoints
    choice = Choice(
        options.classes, options.count, options.seed, options.layout, options.device, options.bodies, say
    )
    if options.variation:
        points = draw_noise(options.sources[0], output, choice, draws=options.draws, quantile=options.quantile)
        print(f"{output}: {options.draws} draws of the noise for each of {points} latent points")
    else:
        count = draw_motions(options.sources, output, choice, poses=options.poses, fps=options.fps)
        print(f"{output}: {count} motions")
    return 0


def _checked(options: argparse.Namespace) -> Path:
    output = Path(options.output)
    endings = (".png",) if options.variation else ENDINGS
    if output.suffix not in endings:
        raise UserError(
            f"--output {output}: found {output.suffix or 'no ending'}; accepted are {', '.join(endings)}"
        )
    for name, least in (("count", 1), ("poses", 1), ("fps", 1), ("draws", 2)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} {getattr(options, name)}: at least {least} is needed")
    if options.quantile is not None and not 0 <= options.quantile < 1:
        raise UserError(f"--quantile {options.quantile}: expected at least 0 and less than 1")
    if options.variation and len(options.sources) > 1:
        raise UserError(f"--variation: one checkpoint at a time, found {len(options.sources)} sources")
    return output


if __name__ == "__main__":
    run_verb(main)
