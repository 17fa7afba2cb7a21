"""How the extractor's classifier is trained: early stopping on a held-out tenth, and motions seen from elsewhere.

`extractor.RECIPE` counts up with every change here that changes the weights.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kgan_ray.data.loading import MotionTensors, crops
from kgan_ray.data.view import DataView
from kgan_ray.data.windows import WHOLE
from kgan_ray.devices import cpu_threads
from kgan_ray.metrics.classifier import Classifier
from kgan_ray.skeleton import MotionSpec

EPOCHS = 40
PATIENCE = 12  # epochs without a better held-out loss
MOST_STEPS = 4_000  # of a large data set not all epochs are needed
BATCH = 64
LEARNING_RATE = 3e-3
MOST_NOISE = 0.03  # standard deviation, where coordinates are in [-1, 1]: about 3 cm


class FreshCrops:
    """The training split of the window "random": crops of its recordings, other ones whenever they are asked for."""

    def __init__(self, view: DataView) -> None:
        lengths = view.lengths(view.rows("train"))
        self._frames = view.motions("train", slice(0, len(lengths)), WHOLE).motions
        self._firsts = torch.from_numpy(np.cumsum(lengths) - lengths)
        self._num_starts = torch.from_numpy(lengths - view.spec.frames + 1)
        self._length = view.spec.frames

    def __call__(self, rows: Tensor, random: torch.Generator) -> Tensor:
        """Crop the recordings of these rows of the split, (N, C, T, V)."""
        starts = (torch.rand(len(rows), generator=random) * self._num_starts[rows]).long()
        return crops(self._frames, self._firsts[rows] + starts, self._length)


def train_classifier(
    spec: MotionSpec,
    train: MotionTensors,
    *,
    crops: FreshCrops | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Classifier:
    """Train a classifier of the motions, in evaluation mode; the same for the same seed, whatever the number of threads.

    With `crops` it learns from those: crops that it saw again and again would not look to it like others of the same recordings.
    A tenth of the training motions is held out to stop early; the weights of its lowest loss are kept. On a CPU one
    thread computes: more would add up in another order, and hundreds of steps blow that up to percents of FID.
    """
    with torch.random.fork_rng(devices=[]), cpu_threads(1):
        torch.manual_seed(seed)
        classifier = Classifier(spec)
        classifier.scale.copy_(_spread(train.motions, spec.layout.root).clamp(min=1e-6))
        classifier.to(device)
        random = torch.Generator().manual_seed(seed)
        validation, training = held_out_rows(len(train.labels), random)
        _fit(classifier, train, crops, training, validation, random, torch.device(device))
    return classifier.eval()


def held_out_rows(count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Divide `count` motions at random into a tenth that ends training early, and those that are trained on.

    Of 20 motions or fewer all are trained on.
    """
    order = torch.randperm(count, generator=random)
    num_held_out = max(1, count // 10)
    return order[:num_held_out], order[num_held_out:] if count > 20 else order


def _spread(motions: Tensor, root: int) -> Tensor:
    """Compute the standard deviation of all coordinates relative to the root joint, without a copy of the motions."""
    sums = torch.zeros(2, dtype=torch.float64)  # of values, of their squares
    for part in motions.split(1024):
        relative = (part - part[..., root : root + 1]).double()
        sums += torch.stack([relative.sum(), relative.square().sum()])
    total, squares = sums
    return ((squares - total.square() / motions.numel()) / (motions.numel() - 1)).sqrt()


def _fit(
    classifier: Classifier,
    data: MotionTensors,
    crops: FreshCrops | None,
    training: Tensor,
    validation: Tensor,
    random: torch.Generator,
    device: torch.device,
) -> None:
    batches = max(1, len(training) // BATCH)
    epochs = max(2, min(EPOCHS, MOST_STEPS // batches))
    adam = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, LEARNING_RATE, total_steps=epochs * batches)
    best: tuple[float, dict[str, Tensor]] = (math.inf, {})
    best_epoch = 0
    for epoch in range(epochs):
        classifier.train()
        order = training[torch.randperm(len(training), generator=random)]
        for chosen in order.chunk(batches):
            motions = crops(chosen, random) if crops else data.motions[chosen]
            motions = augmented(motions, random).to(device)
            scores = classifier(motions)
            loss = F.cross_entropy(scores, data.labels[chosen].to(device), label_smoothing=0.1)
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
        value = _loss(classifier.eval(), data, validation, device)
        if value < best[0]:
            best = value, {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
            best_epoch = epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    if best[1]:
        classifier.load_state_dict(best[1])


@torch.no_grad()
def _loss(classifier: Classifier, data: MotionTensors, rows: Tensor, device: torch.device) -> float:
    losses = [
        F.cross_entropy(classifier(data.motions[part].to(device)), data.labels[part].to(device), reduction="sum")
        for part in rows.split(512)
    ]
    return float(torch.stack(losses).sum() / len(rows))


def augmented(motions: Tensor, random: torch.Generator) -> Tensor:
    """Show motions (N, C, T, V) from elsewhere (up to 60 degrees about the vertical), larger, faster, cut, noisier.

    The noise is for `accuracy`: without it a jitter of 1 cm hides which action it is, and generated motion trembles
    long after it obeys its label. `fid` still sees a jitter of more than the noise.
    """
    n, c, t, v = motions.shape
    if c == 3:
        angle = (torch.rand(n, 1, 1, generator=random) - 0.5) * (2 * math.pi / 3)
        x, y, z = motions.unbind(dim=1)
        motions = torch.stack([angle.cos() * x + angle.sin() * z, y, angle.cos() * z - angle.sin() * x], dim=1)
    motions = motions * (0.9 + 0.2 * torch.rand(n, 1, 1, 1, generator=random))
    length = 0.6 + 0.4 * torch.rand(n, 1, generator=random)
    start = (1 - length) * torch.rand(n, 1, generator=random)
    at = (start + length * torch.linspace(0, 1, t)) * (t - 1)  # (N, T), in frames
    before = at.floor().long().clamp(max=t - 2)
    index = before[:, None, :, None].expand(n, c, t, v)
    part = (at - before)[:, None, :, None]
    motions = torch.lerp(motions.gather(2, index), motions.gather(2, index + 1), part)
    noise = MOST_NOISE * torch.rand(n, 1, 1, 1, generator=random)
    return motions + noise * torch.randn(motions.shape, generator=random)
