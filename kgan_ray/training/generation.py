"""Motions from a trained generator, into a file: what the verb `generate` calls, and Python users too."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from kgan_ray.classes import class_numbers
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.motions_file import write_npy, write_parquet, write_published
from kgan_ray.devices import line_of_device, usable_device
from kgan_ray.publishing import writing_output
from kgan_ray.settings import Settings, UserError
from kgan_ray.training.checkpoint import load_generator
from kgan_ray.training.gan import GAN

FORMS = (".parquet", ".npy")
WEIGHTS = (".pth", ".pt")


@dataclass(frozen=True)
class Written:
    """What was written: motions of so many classes, and tensors of weights; 0 where none were wanted."""

    motions: int = 0
    classes: int = 0
    tensors: int = 0


def generate_motions(
    source: str,
    output: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    count: int = 10,
    truncation: float = 1.0,
    truncation_mode: Literal["global", "class"] = "global",
    seed: int = 0,
    batch_size: int = 512,
    device: str = "auto",
    published: bool = False,
    export_published: str | None = None,
    settings: Settings = Settings(),
    say: Callable[[str], None] = lambda line: None,
) -> Written:
    """Write motions of wanted classes to `output`, and the generator's weights to `export_published`.

    Args:
        source: a checkpoint, a run's folder, or a published generator's weights (.pth).
        output: ends in .parquet (rows as in a dataset, metres) or .npy (N, C, T, V); None = no motions.
        classes: names or 0-based numbers; None = all.
        count: motions of each class.
        truncation: psi in w, above 0 and at most 1; 1 = off. `truncation_mode` says towards which mean.
        published: write Kinetic-GAN's own form: .npy in [-1, 1], and labels as text.
        device: cpu, cuda, or auto: a GPU where there is one. The same seed gives the same motions on all, up to rounding.
        settings: with published weights, those of the model; `data.path` is the dataset that it was trained on.
        say: takes the line that names the device.

    Raises UserError for a mistake in any of these, before anything is written.
    """
    if not output and not export_published:
        raise UserError("nothing to do: give --output FILE or --export-published FILE")
    if output and Path(output).suffix not in FORMS:
        raise UserError(f"--output {output}: expected a name that ends in .parquet or .npy")
    if published and not str(output).endswith(".npy"):
        raise UserError("--published: its form is .npy; give --output FILE.npy")
    if count < 1 or batch_size < 1:
        raise UserError(f"--count {count}, --batch-size {batch_size}: at least 1 is needed")
    if not 0.0 < truncation <= 1.0:
        raise UserError(f"--truncation {truncation}: expected more than 0 and at most 1")
    device = usable_device(device)
    say(line_of_device(device))
    gan = load_source(source, settings, device)
    numbers = class_numbers(classes, gan.spec) if output else []
    tensors = export_weights(gan, Path(export_published)) if export_published else 0
    if not output:
        return Written(tensors=tensors)
    labels = torch.tensor(numbers).repeat_interleave(count)
    motions = gan.sample(
        labels,
        seed=seed,
        truncation=truncation,
        centre=truncation_mode,
        batch_size=batch_size,
    ).cpu()
    path = Path(output)
    with writing_output(path):
        if published:
            write_published(path, motions.numpy(), labels.tolist())
        elif path.suffix == ".npy":
            write_npy(path, gan.spec.to_metres(motions).numpy(), labels.tolist())
        else:
            write_parquet(path, gan.spec.to_metres(motions).numpy(), labels.tolist(), gan.spec.layout)
    return Written(len(labels), len(numbers), tensors)


def load_source(source: str, settings: Settings = Settings(), device: str = "cpu") -> GAN:
    """Load the generator of a checkpoint, or published weights into one that the settings describe. Raises UserError."""
    if source.endswith(WEIGHTS):
        return load_published_generator(source, settings, device)
    if settings != Settings():
        raise UserError(
            f"{source}: a checkpoint brings its own settings and data; "
            f"--preset, --set and --data are for published weights ({', '.join(WEIGHTS)})"
        )
    return load_generator(source, device)


def load_published_generator(path: str, settings: Settings, device: str = "cpu") -> GAN:
    """Load a published generator's weights into a GAN of the shape that the settings and their dataset give it.

    Raises UserError for a file that holds more than tensors by name: nothing in it is run.
    """
    if settings.data.path is None:
        raise UserError(f"{path}: weights alone say nothing of classes and metres; give --data and --preset")
    gan = GAN(settings, Dataset.open(settings.data.path).view(settings.data).spec, device)
    try:
        state = torch.load(path, weights_only=True, map_location=device)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not weights alone ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: found {type(state).__name__}, expected tensors by name")
    (gan.average or gan.generator).load_published_state(state)  # the one that is sampled
    return gan


def export_weights(gan: GAN, path: Path) -> int:
    """Write the averaged generator where there is one, else the generator, by its published names; return how many tensors."""
    state = (gan.average or gan.generator).published_state()
    try:
        torch.save({name: tensor.cpu() for name, tensor in state.items()}, path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"--export-published {path}: cannot be written ({str(error).splitlines()[0]})") from None
    return len(state)
