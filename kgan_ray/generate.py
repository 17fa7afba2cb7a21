"""Generate motions of wanted actions from a checkpoint, or from a published Kinetic-GAN generator (.pth).

    python -m kgan_ray.generate results/run --classes walking 3 --count 100 --output motions.parquet

--output decides the form: .parquet (rows as in a dataset, metres), or .npy (N, C, T, V) in metres with the labels
in a second file. With --published it is what Kinetic-GAN's own script writes: .npy in [-1, 1] and labels as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kgan_ray.cli import add_settings_options, print_settings, run_verb, settings_of, verb_parser
from kgan_ray.settings import override


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("generate", __doc__)
    parser.add_argument("source", metavar="CHECKPOINT", help="a checkpoint, a run's folder, or a published .pth")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="names or 0-based numbers (default: all)")
    parser.add_argument("--count", type=int, default=10, metavar="N", help="motions of each class (default: 10)")
    parser.add_argument("--truncation", type=float, default=1.0, metavar="PSI", help="psi in w, 0 to 1; 1 = off")
    parser.add_argument(
        "--truncation-mode",
        choices=("global", "class"),
        default="global",
        help="towards which mean (default: global)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="same seed, same motions (default: 0)")
    parser.add_argument("--batch-size", type=int, default=512, metavar="N", help="how many at a time")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto (default): a GPU where there is one")
    parser.add_argument("--output", metavar="FILE", help="motions.parquet or motions.npy")
    parser.add_argument("--published", action="store_true", help="write Kinetic-GAN's own form (.npy in [-1, 1])")
    parser.add_argument(
        "--export-published", metavar="FILE", help="write the generator's weights as a published .pth"
    )
    parser.add_argument("--data", metavar="DIR", help="with a published .pth: the dataset that it was trained on")
    add_settings_options(parser)
    options = parser.parse_args(arguments)
    settings = settings_of(options)
    if options.data:
        settings = override(settings, {"data.path": options.data}, where="--data")

    from kgan_ray.training.generation import generate_motions, load_source

    if options.dry_run:
        print_settings(load_source(options.source, settings).settings)
        return 0
    written = generate_motions(
        options.source,
        options.output,
        classes=options.classes,
        count=options.count,
        truncation=options.truncation,
        truncation_mode=options.truncation_mode,
        seed=options.seed,
        batch_size=options.batch_size,
        device=options.device,
        published=options.published,
        export_published=options.export_published,
        settings=settings,
        say=print,
    )
    if options.export_published:
        print(f"{options.export_published}: {written.tensors} tensors by their published names")
    if options.output:
        print(f"{Path(options.output)}: {written.motions} motions of {written.classes} classes")
    return 0


if __name__ == "__main__":
    run_verb(main)
