"""Draw motions: a contact sheet (.png) or an animation (.gif, .mp4) of a dataset, a checkpoint or a file of motions.

python -m kgan_ray.render results/run --output generated.gif
python -m kgan_ray.render datasets/demo --classes walking waving --count 2 --output recorded.png
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.settings import UserError

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from kgan_ray.skeleton import SkeletonLayout

    Drawn = tuple[
        list[tuple[str, np.ndarray]], SkeletonLayout
    ]  # titles with motions (C, T, V) in metres, skeleton

ENDINGS = (".png", ".gif", ".mp4")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("render", __doc__)
    parser.add_argument(
        "source", metavar="SOURCE", help="a dataset's folder, a checkpoint or run, a .parquet file"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="picture.png, motion.gif or motion.mp4")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="names or 0-based numbers (default: all)")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="motions of each class (default: 1)")
    parser.add_argument("--poses", type=int, default=8, metavar="N", help="poses of a row of a .png (default: 8)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which motions (default: 0)")
    parser.add_argument("--fps", type=int, default=30, metavar="N", help="frames a second (default: 30)")
    options = parser.parse_args(arguments)
    output = Path(options.output)
    if output.suffix not in ENDINGS:
        raise UserError(
            f"--output {output}: found {output.suffix or 'no ending'}; accepted are {', '.join(ENDINGS)}"
        )
    for name in ("count", "poses", "fps"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: at least 1 is needed")
    from kgan_ray.visual.stick import animate, contact_sheet

    motions, layout = _motions(options)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.suffix == ".png":
            contact_sheet(motions, layout, output, num_poses=options.poses)
        else:
            animate(motions, layout, output, fps=options.fps)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror or error})") from None
    print(f"{output}: {len(motions)} motions")
    return 0


def _motions(options: argparse.Namespace) -> Drawn:
    from kgan_ray.data.dataset import MANIFEST

    source = Path(options.source)
    if source.suffix == ".parquet":
        return _of_file(options, source)
    if "://" in options.source or (source / MANIFEST).exists():
        return _of_dataset(options)
    return _of_checkpoint(options)


def _of_dataset(options: argparse.Namespace) -> Drawn:
    import torch

    from kgan_ray.cli import class_numbers
    from kgan_ray.data.dataset import Dataset
    from kgan_ray.data.loading import load_split
    from kgan_ray.settings import DataSettings

    dataset = Dataset.open(options.source)
    data = DataSettings(window="resample")
    held = load_split(dataset, data, "train")
    order = torch.randperm(len(held.labels), generator=torch.Generator().manual_seed(options.seed))
    drawn = []
    for number in class_numbers(options.classes, dataset.class_names):
        rows = [int(row) for row in order if held.labels[row] == number][: options.count]
        drawn += [(dataset.class_names[number], held.motions[row]) for row in rows]
    spec = dataset.spec(data)
    return [(title, spec.to_metres(motion).numpy()) for title, motion in drawn], dataset.layout


def _of_checkpoint(options: argparse.Namespace) -> Drawn:
    import torch

    from kgan_ray.cli import class_numbers
    from kgan_ray.training.checkpoint import load_generator

    gan = load_generator(options.source)
    spec = gan.spec
    labels = torch.tensor(class_numbers(options.classes, spec.class_names)).repeat_interleave(options.count)
    sampled = gan.sample_few(labels, seed=options.seed)
    titles = [spec.class_names[label] for label in labels.tolist()]
    return list(zip(titles, spec.to_metres(sampled).numpy(), strict=True)), spec.layout


def _of_file(options: argparse.Namespace, path: Path) -> Drawn:
    from kgan_ray.data.motions_file import read_parquet

    motions, labels, layout = read_parquet(path)
    wanted = None if options.classes is None else {int(word) for word in options.classes if word.isdigit()}
    drawn, seen = [], dict.fromkeys(labels, 0)
    for motion, label in zip(motions, labels, strict=True):
        if seen[label] < options.count and (wanted is None or label in wanted):
            drawn.append((f"class {label}", motion))
            seen[label] += 1
    if not drawn:
        raise UserError(f"--classes: {path} has the classes {', '.join(map(str, sorted(seen)))}, by number")
    return drawn, layout


if __name__ == "__main__":
    run_verb(main)
