"""Measure a generator, or motions from elsewhere, by any metrics, with error bars and the real data's own floor.

python -m kgan_ray.evaluate results/run --data datasets/ntu60 --metrics fid accuracy --repeats 5
python -m kgan_ray.evaluate motions.npy --labels labels.npy --data datasets/ntu60
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgan_ray.cli import add_settings_options, parse_overrides, print_settings, run_verb, verb_parser
from kgan_ray.devices import line_of_device, usable_device
from kgan_ray.settings import Settings, UserError, override, resolve_settings

if TYPE_CHECKING:
    import argparse

    from kgan_ray.training.gan import GAN


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("evaluate", __doc__)
    parser.add_argument(
        "source", metavar="SOURCE", help="a checkpoint or a run's folder, a .npy or a .parquet file"
    )
    parser.add_argument("--data", metavar="DIR", help="the dataset to measure against (default: the checkpoint's)")
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="default: those of evaluation.metrics")
    parser.add_argument("--repeats", type=int, default=1, metavar="K", help="draw generated motions K times")
    parser.add_argument("--num-motions", type=int, metavar="N", help="generated motions of each draw")
    parser.add_argument("--truncation", type=float, metavar="X", help="psi in w; 1 = off")
    parser.add_argument("--labels", metavar="FILE", help="class numbers of the motions in a .npy file")
    parser.add_argument(
        "--units", choices=("metres", "scaled"), default="metres", help="of a file's motions (scaled: in [-1, 1])"
    )
    parser.add_argument("--no-floor", action="store_true", help="leave out the real data against itself")
    parser.add_argument("--compare", metavar="FILE", help="an earlier --output to set beside")
    parser.add_argument("--output", metavar="FILE", help="write the record as .json, or the table as .csv")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto (default): a GPU where there is one")
    add_settings_options(parser)
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        raise UserError(f"--repeats {options.repeats}: at least 1 is needed")
    if options.output and Path(options.output).suffix not in (".json", ".csv"):
        raise UserError(f"--output {options.output}: expected a name that ends in .json or .csv")
    return _evaluate(options)


def _evaluate(options: argparse.Namespace) -> int:
    from kgan_ray.data.motions_file import SUFFIXES
    from kgan_ray.metrics.names import check_metric_name
    from kgan_ray.metrics.service import evaluate_generator, evaluate_motions
    from kgan_ray.training.checkpoint import load_generator

    for name in options.metrics or ():
        check_metric_name(name, where="--metrics")
    is_file = Path(options.source).suffix in SUFFIXES
    if is_file and options.repeats > 1:
        raise UserError(f"--repeats {options.repeats}: motions of a file cannot be drawn again; give a checkpoint")
    device = usable_device(options.device)
    gan = None if is_file else load_generator(options.source, device)
    settings = _settings(options, gan)
    if options.dry_run:
        print_settings(settings)
        return 0
    print(line_of_device(device), flush=True)
    floors = not options.no_floor
    compare = Path(options.compare) if options.compare else None
    if gan:
        evaluation = evaluate_generator(
            gan,
            settings,
            source=options.source,
            repeats=options.repeats,
            floors=floors,
            compare=compare,
            device=device,
        )
    else:
        labels = Path(options.labels) if options.labels else None
        evaluation = evaluate_motions(
            Path(options.source),
            settings,
            labels=labels,
            units=options.units,
            floors=floors,
            compare=compare,
            device=device,
        )
    print(evaluation.table())
    if options.output:
        evaluation.write(Path(options.output))
    return 0


def _settings(options: argparse.Namespace, gan: GAN | None) -> Settings:
    """Resolve the checkpoint's settings, or those of --preset, with what the options change."""
    if gan and options.preset:
        raise UserError("--preset: a checkpoint brings its own settings; change single ones with --set")
    overrides = parse_overrides(options.overrides)
    settings = override(gan.settings, overrides) if gan else resolve_settings(options.preset, overrides)
    given = {
        "data.path": options.data,
        "evaluation.metrics": options.metrics,
        "evaluation.num_motions": options.num_motions,
        "evaluation.truncation": options.truncation,
    }
    return override(settings, {name: value for name, value in given.items() if value is not None})


if __name__ == "__main__":
    run_verb(main)
