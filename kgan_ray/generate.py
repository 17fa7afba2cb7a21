"""Generate motions of wanted actions from a checkpoint, or from a published Kinetic-GAN generator (.pth).

    python -m kgan_ray.generate results/run --classes walking 3 --count 100 --output motions.parquet

--output decides the form: .parquet (rows as in a dataset, metres), or .npy (N, C, T, V) in metres with the labels
in a second file. With --published it is what Kinetic-GAN's own script writes: .npy in [-1, 1] and labels as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgan_ray.cli import add_settings_options, parse_overrides, run_verb, verb_parser
from kgan_ray.settings import UserError, override, resolve_settings
from kgan_ray.skeleton import class_numbers

if TYPE_CHECKING:
    import argparse

    from kgan_ray.training.gan import GAN


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
    parser.add_argument(
        "--batch-norm",
        choices=("running", "batch"),
        default="running",
        help="whose statistics BatchNorm uses; with batch, motions depend on those beside them (default: running)",
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--output", metavar="FILE", help="motions.parquet or motions.npy")
    parser.add_argument("--published", action="store_true", help="write Kinetic-GAN's own form (.npy in [-1, 1])")
    parser.add_argument(
        "--export-published", metavar="FILE", help="write the generator's weights as a published .pth"
    )
    parser.add_argument("--data", metavar="DIR", help="with a published .pth: the dataset that it was trained on")
    add_settings_options(parser)
    options = parser.parse_args(arguments)
    _check(options)
    gan = _load(options)
    if options.export_published:
        _export(gan, Path(options.export_published))
    if options.output:
        _generate(options, gan)
    return 0


def _check(options: argparse.Namespace) -> None:
    if not options.output and not options.export_published:
        raise UserError("nothing to do: give --output FILE or --export-published FILE")
    if options.output and Path(options.output).suffix not in (".parquet", ".npy"):
        raise UserError(f"--output {options.output}: expected a name that ends in .parquet or .npy")
    if options.published and not str(options.output).endswith(".npy"):
        raise UserError("--published: its form is .npy; give --output FILE.npy")
    if options.count < 1 or options.batch_size < 1:
        raise UserError(f"--count {options.count}, --batch-size {options.batch_size}: at least 1 is needed")
    if not 0.0 < options.truncation <= 1.0:
        raise UserError(f"--truncation {options.truncation}: expected more than 0 and at most 1")


def _load(options: argparse.Namespace) -> GAN:
    import torch

    from kgan_ray.training.checkpoint import load_generator

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {options.device}: PyTorch finds no GPU here")
    if not options.source.endswith((".pth", ".pt")):
        return load_generator(options.source, options.device)
    return _load_published(options)


def _load_published(options: argparse.Namespace) -> GAN:
    """A published generator's weights, in a GAN of the dataset's shape."""
    import pickle

    import torch

    from kgan_ray.data.dataset import Dataset
    from kgan_ray.training.gan import GAN

    if not options.data:
        raise UserError(
            f"{options.source}: weights alone say nothing of classes and metres; give --data and --preset"
        )
    settings = override(
        resolve_settings(options.preset, parse_overrides(options.overrides)), {"data.path": options.data}
    )
    gan = GAN(settings, Dataset.open(options.data).view(settings.data).spec, options.device)
    try:
        state = torch.load(options.source, weights_only=True, map_location=options.device)
    except FileNotFoundError:
        raise UserError(f"{options.source}: no such file") from None
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"{options.source}: not weights alone ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict):
        raise UserError(f"{options.source}: found {type(state).__name__}, expected tensors by name")
    gan.generator.load_published_state(state)
    return gan


def _export(gan: GAN, path: Path) -> None:
    """The averaged generator where there is one, else the generator, by its published names."""
    import torch

    state = (gan.average or gan.generator).published_state()
    try:
        torch.save({name: tensor.cpu() for name, tensor in state.items()}, path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"--export-published {path}: cannot be written ({str(error).splitlines()[0]})") from None
    print(f"{path}: {len(state)} tensors by their published names")


def _generate(options: argparse.Namespace, gan: GAN) -> None:
    import torch

    from kgan_ray.data.motions_file import write_npy, write_parquet, write_published

    classes = class_numbers(options.classes, gan.spec.class_names)
    labels = torch.tensor(classes).repeat_interleave(options.count)
    motions = gan.sample(
        labels,
        seed=options.seed,
        truncation=options.truncation,
        centre=options.truncation_mode,
        batch_norm=options.batch_norm,
        batch_size=options.batch_size,
    ).cpu()
    path = Path(options.output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if options.published:
            write_published(path, motions.numpy(), labels.tolist())
        elif path.suffix == ".npy":
            write_npy(path, gan.spec.to_metres(motions).numpy(), labels.tolist())
        else:
            write_parquet(path, gan.spec.to_metres(motions).numpy(), labels.tolist(), gan.spec.layout)
    except OSError as error:
        raise UserError(f"--output {path}: cannot be written ({error.strerror or error})") from None
    print(f"{path}: {len(labels)} motions of {len(classes)} classes")


if __name__ == "__main__":
    run_verb(main)
