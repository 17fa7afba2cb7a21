"""Pictures of motions from wherever they are: what the verb `render` calls, and Python users too.

A motion is (C, T, V), in metres where its place knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from kgan_ray.classes import class_numbers
from kgan_ray.data.dataset import MANIFEST, Dataset
from kgan_ray.data.motions_file import SUFFIXES, open_motions
from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.devices import line_of_device, usable_device
from kgan_ray.model.variation import stochastic_variation
from kgan_ray.named_layouts import BUILT_IN, layouts_of, named_layout
from kgan_ray.publishing import writing_output
from kgan_ray.settings import DataSettings, UserError
from kgan_ray.skeleton import SkeletonLayout, pair_layout
from kgan_ray.storage import StorePath
from kgan_ray.training.checkpoint import load_generator
from kgan_ray.training.gan import GAN
from kgan_ray.visual.stick import Titled, animate, contact_sheet
from kgan_ray.visual.variation import draw_variation


@dataclass(frozen=True)
class Choice:
    """Which motions of a place to draw: `count` of each of these classes (None: all of them)."""

    classes: Sequence[str] | None = None
    count: int = 1
    seed: int = 0
    layout: str | None = None  # of an array, which does not say whose joints they are
    device: str = "cpu"  # that generates them, where the place is a checkpoint
    bodies: Literal[1, 2] = 1  # of a recording or a dataset: 2 = those that show two
    say: Callable[[str], None] = lambda line: None  # takes the line that names it

    def generator(self, place: str) -> GAN:
        """Load the GAN of a checkpoint on the device."""
        device = usable_device(self.device)
        gan = load_generator(place, device)
        self.say(line_of_device(device))
        return gan


def draw_motions(
    places: Sequence[str], output: Path, choice: Choice = Choice(), *, poses: int = 8, fps: int = 30
) -> int:
    """Draw motions of datasets, checkpoints and files beside one another; returns how many.

    `output` is a contact sheet of so many `poses` (.png), or an animation (.gif, .mp4). Raises UserError for a place
    that is none of the kinds, for classes that it does not have, and for skeletons that differ.
    """
    motions, layout = _side_by_side(places, choice)
    with writing_output(output):
        if output.suffix == ".png":
            contact_sheet(motions, layout, output, num_poses=poses)
        else:
            animate(motions, layout, output, fps=fps)
    return len(motions)


def draw_noise(
    checkpoint: str, output: Path, choice: Choice = Choice(), *, draws: int = 64, quantile: float | None = None
) -> int:
    """Draw what a generator's noise moves, for `count` latent points of each class; returns how many points.

    `quantile` is the mask's: None = what the checkpoint was trained with, else 0.5.
    """
    gan = choice.generator(checkpoint)
    techniques, names = gan.settings.techniques, gan.spec.class_names
    mask_quantile = quantile if quantile is not None else techniques.mask_quantile or 0.5
    labels = [label for label in class_numbers(choice.classes, gan.spec) for _ in range(choice.count)]
    variation = stochastic_variation(
        gan.average or gan.generator,
        torch.tensor(labels, device=gan.device),
        draws=draws,
        seed=choice.seed,
        mask_quantile=mask_quantile,
        latent_std=techniques.mask_latent_std,
    )
    with writing_output(output):
        draw_variation(
            variation, gan.spec, [names[label] for label in labels], output, mask_quantile=mask_quantile
        )
    return len(labels)


def _side_by_side(places: Sequence[str], choice: Choice) -> tuple[Titled, SkeletonLayout]:
    """Collect the motions of all places, those of one class after one another where the titles are the same."""
    collected = [_motions_of(place, choice) for place in places]
    layout = collected[0][1]
    for place, (_, other) in zip(places, collected, strict=True):
        if (other.joints, other.bones) != (layout.joints, layout.bones):
            raise UserError(f"{place}: its skeleton {other.name} is not {layout.name}, that of {places[0]}")
    if len(places) == 1:
        return collected[0]
    titles = list(dict.fromkeys(title for motions, _ in collected for title, _ in motions))
    names = [Path(place).stem for place in places]
    return [
        (f"{title}: {name}", motion)
        for wanted in titles
        for name, (motions, _) in zip(names, collected, strict=True)
        for title, motion in motions
        if title == wanted
    ], layout


def _motions_of(place: str, choice: Choice) -> tuple[Titled, SkeletonLayout]:
    """Return the motions of one place with their titles, and its skeleton."""
    path = Path(place)
    if path.suffix in SUFFIXES:
        return _of_file(path, choice)
    if path.suffix == ".skeleton":
        return _of_recording(path, choice.bodies)
    if (StorePath(place) / MANIFEST).exists():
        return _of_dataset(place, choice)
    return _of_checkpoint(place, choice)


def _of_dataset(place: str, choice: Choice) -> tuple[Titled, SkeletonLayout]:
    view = Dataset.open(place).view(DataSettings(window="resample", bodies=choice.bodies))
    train, spec = view.load("train"), view.spec
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(choice.seed))
    chosen = []
    for number in class_numbers(choice.classes, spec):
        chosen += [int(row) for row in order if train.labels[row] == number][: choice.count]
    return [
        (spec.class_names[train.labels[row]], spec.to_metres(train.motions[row]).numpy()) for row in chosen
    ], spec.layout


def _of_checkpoint(place: str, choice: Choice) -> tuple[Titled, SkeletonLayout]:
    gan = choice.generator(place)
    spec = gan.spec
    labels = torch.tensor(class_numbers(choice.classes, spec)).repeat_interleave(choice.count)
    motions = spec.to_metres(gan.sample(labels, seed=choice.seed).cpu()).numpy()
    titles = [spec.class_names[label] for label in labels.tolist()]
    return list(zip(titles, motions, strict=True)), spec.layout


def _of_file(path: Path, choice: Choice) -> tuple[Titled, SkeletonLayout]:
    file = open_motions(path)
    layout = file.layout or _layout_of_array(path, file.motions[0].shape, choice.layout)
    wanted = None if choice.classes is None else {int(word) for word in choice.classes if word.isdigit()}
    chosen, counts = [], dict.fromkeys(file.labels, 0)
    for motion, label in zip(file.motions, file.labels, strict=True):
        if counts[label] < choice.count and (wanted is None or label in wanted):
            chosen.append((f"class {label}", np.asarray(motion, np.float32)))
            counts[label] += 1
    if not chosen:
        raise UserError(f"--classes: {path} has the classes {', '.join(map(str, sorted(counts)))}, by number")
    return chosen, layout


def _layout_of_array(path: Path, shape: tuple[int, ...], wanted: str | None) -> SkeletonLayout:
    coordinates, _, num_joints = shape
    if wanted:
        layout = named_layout(wanted)
        if layout.num_joints != num_joints:
            raise UserError(f"--layout {wanted}: {layout.num_joints} joints, but {path} has {num_joints}")
        return layout
    if len(names := layouts_of(num_joints, coordinates)) == 1:
        return BUILT_IN[names[0]]
    raise UserError(
        f"{path}: {num_joints} joints; say whose with --layout {' | '.join(names or BUILT_IN)} | FILE.yaml"
    )


def _of_recording(path: Path, bodies: int) -> tuple[Titled, SkeletonLayout]:
    if not path.exists():
        raise UserError(f"{path}: no such file")
    source = SkeletonFiles(path)
    (item,) = source.items()
    try:
        recording = source.parse(item, source.fetch(item))
    except RejectedRecording as error:
        raise UserError(f"{path}: {error}") from None
    title, layout = source.traits.class_names[recording.label], source.traits.layout
    if bodies == 1:
        return [(title, recording.motion.transpose(2, 0, 1))], layout
    if not recording.pair_frames:
        raise UserError(f"--bodies 2: {path} never shows two bodies together")
    return [(title, recording.pair.transpose(2, 0, 1))], pair_layout(layout)
