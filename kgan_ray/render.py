"""Draw motions: a contact sheet (.png) or an animation (.gif, .mp4) of a dataset, a checkpoint or a file of motions.

python -m kgan_ray.render results/run --output generated.gif
python -m kgan_ray.render datasets/demo results/run --classes walking waving --output both.png
python -m kgan_ray.render results/run --classes walking --variation --output variation.png

Several sources are drawn side by side. A file of motions is .parquet, .npy (N, C, T, V), with its labels in
NAME_labels.npy or NAME_labels.txt beside it, or one .skeleton. --variation draws what the generator's noise moves, for one
latent point a class: the standard deviation by joint and over time, and the joints that the quantile mask would choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.settings import UserError
from kgan_ray.skeleton import class_numbers

if TYPE_CHECKING:
    import argparse

    from kgan_ray.skeleton import SkeletonLayout
    from kgan_ray.visual.sources import Titled

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
    parser.add_argument("--variation", action="store_true", help="of a checkpoint: what its noise moves")
    parser.add_argument("--draws", type=int, default=64, metavar="N", help="of the noise (default: 64)")
    parser.add_argument(
        "--quantile",
        type=float,
        metavar="Q",
        help="of the mask (default: what the checkpoint was trained with, else 0.5)",
    )
    options = parser.parse_args(arguments)
    output = _checked(options)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if options.variation:
            return _draw_variation(options, output)
        return _draw_motions(options, output)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror or error})") from None


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


def _draw_motions(options: argparse.Namespace, output: Path) -> int:
    from kgan_ray.visual.stick import animate, contact_sheet

    motions, layout = _side_by_side(options)
    if output.suffix == ".png":
        contact_sheet(motions, layout, output, num_poses=options.poses)
    else:
        animate(motions, layout, output, fps=options.fps)
    print(f"{output}: {len(motions)} motions")
    return 0


def _side_by_side(options: argparse.Namespace) -> tuple[Titled, SkeletonLayout]:
    """The motions of all sources, those of one class after one another where the titles are the same."""
    from kgan_ray.visual.sources import Wish, motions_of

    wish = Wish(options.classes, options.count, options.seed, options.layout)
    found = [motions_of(source, wish) for source in options.sources]
    layout = found[0][1]
    for source, (_, other) in zip(options.sources, found, strict=True):
        if (other.joints, other.bones) != (layout.joints, layout.bones):
            raise UserError(
                f"{source}: its skeleton {other.name} is not {layout.name}, that of {options.sources[0]}"
            )
    if len(found) == 1:
        return found[0]
    titles = list(dict.fromkeys(title for motions, _ in found for title, _ in motions))
    names = [Path(source).stem for source in options.sources]
    return [
        (f"{title}: {name}", motion)
        for wanted in titles
        for name, (motions, _) in zip(names, found, strict=True)
        for title, motion in motions
        if title == wanted
    ], layout


def _draw_variation(options: argparse.Namespace, output: Path) -> int:
    import torch

    from kgan_ray.model.variation import stochastic_variation
    from kgan_ray.training.checkpoint import load_generator
    from kgan_ray.visual.variation import draw_variation

    gan = load_generator(options.sources[0])
    techniques, names = gan.settings.techniques, gan.spec.class_names
    mask_quantile = options.quantile if options.quantile is not None else techniques.mask_quantile or 0.5
    labels = class_numbers(options.classes, names)
    variation = stochastic_variation(
        gan.average or gan.generator,
        torch.tensor(labels).repeat_interleave(options.count),
        draws=options.draws,
        seed=options.seed,
        mask_quantile=mask_quantile,
        latent_std=techniques.mask_latent_std,
        batch_norm=gan.settings.evaluation.batch_norm,
    )
    titles = [names[label] for label in labels for _ in range(options.count)]
    draw_variation(variation, gan.spec, titles, output, mask_quantile=mask_quantile)
    print(f"{output}: {options.draws} draws of the noise for each of {len(titles)} latent points")
    return 0


if __name__ == "__main__":
    run_verb(main)
