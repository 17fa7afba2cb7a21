"""Train the extractor of a dataset once, and keep it beside the dataset under a name that says what it was made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kgan_ray.data.dataset import Dataset
from kgan_ray.data.loading import MotionTensors
from kgan_ray.data.view import DataView
from kgan_ray.metrics.extractor import FEATURES, Classifier, weights_hash
from kgan_ray.settings import UserError
from kgan_ray.skeleton import MotionSpec
from kgan_ray.storage import is_uri, open_store, read_bytes, write_bytes

# Counts up with every change of network or training: an extractor of another recipe is another extractor.
RECIPE = 3
EPOCHS = 40
PATIENCE = 12  # epochs without a better held-out loss
MOST_STEPS = 4_000  # of a large data set not all epochs are needed
BATCH = 64
LEARNING_RATE = 3e-3
MOST_NOISE = 0.03  # standard deviation, where coordinates are in [-1, 1]: about 3 cm


@dataclass(frozen=True)
class Extractor:
    """A trained classifier and what is known of it."""

    classifier: Classifier
    hash: str
    accuracy: float  # on the test split
    confusion: tuple[tuple[int, ...], ...]  # [true class][predicted class], test split
    path: str

    @torch.no_grad()
    def features(self, motions: Tensor, batch_size: int = 512) -> Tensor:
        """(N, D) float32 of motions (N, C, T, V), on the classifier's device; the same at any batch size up to rounding."""
        device = self.classifier.scale.device
        if not len(motions):
            return motions.new_zeros(0, FEATURES, device=device)
        return torch.cat([self.classifier.features(part.to(device)) for part in motions.split(batch_size)])

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """The class (N,) of each feature vector."""
        return self.classifier.classify(features).argmax(dim=1)

    def mistakes(self, class_names: Sequence[str], most: int = 3) -> list[str]:
        """The classes of test motions that it most often takes for another one, as sentences."""
        pairs = [
            (count / sum(row), class_names[true], class_names[taken])
            for true, row in enumerate(self.confusion)
            for taken, count in enumerate(row)
            if count and taken != true
        ]
        worst = sorted(pairs, key=lambda pair: -pair[0])[:most]
        return [f"{share:.0%} of {true!r} taken for {taken!r}" for share, true, taken in worst]


def find_extractor(
    view: DataView,
    device: torch.device,
    progress: Callable[[str], None],
    path: str | None = None,
) -> Extractor:
    """The extractor at `path`; or the dataset's own, trained now unless it is cached.

    Several processes may ask at once: one trains, the others wait for it. A dataset behind a URI keeps its extractor
    beside it too, so that every machine measures with the same one. Raises UserError for a file at `path` that is
    no extractor, or one of other motions.
    """
    dataset = view.dataset
    if path is not None:
        return _load(Path(path), view.spec, device)
    file = cache_folder(dataset) / f"extractor-{_key(view)}.safetensors"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            if not file.exists() and not _fetched(dataset, file):
                _train_and_save(view, device, progress, file)
                _keep_beside(dataset, file)
    except OSError as error:
        raise UserError(f"{file.parent}: cannot keep the extractor there ({error.strerror or error})") from None
    return _load(file, view.spec, device)


def cache_folder(dataset: Dataset) -> Path:
    """`cache` in the dataset's folder; for a dataset behind a URI, or one that cannot be written, the user's cache."""
    if not is_uri(dataset.path) and os.access(dataset.path, os.W_OK):
        return Path(dataset.path) / "cache"
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "kgan_ray" / dataset.hash


def _fetched(dataset: Dataset, file: Path) -> bool:
    """Whether the dataset's store had the file, which is now here."""
    if not is_uri(dataset.path):
        return False
    store, root = open_store(dataset.path)
    try:
        data = read_bytes(store, f"{root}/cache/{file.name}")
    except OSError:
        return False
    part = file.with_suffix(".part")
    part.write_bytes(data)
    part.replace(file)
    return True


def _keep_beside(dataset: Dataset, file: Path) -> None:
    """Put the file into the dataset's store, unless this machine may not write there."""
    if is_uri(dataset.path):
        store, root = open_store(dataset.path)
        with contextlib.suppress(OSError):
            store.create_dir(f"{root}/cache")
            write_bytes(store, f"{root}/cache/{file.name}", file.read_bytes())


def _key(view: DataView) -> str:
    data = view.settings
    made_from = [RECIPE, view.hash, data.benchmark, data.frames, data.window, data.centre]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def _train_and_save(
    view: DataView,
    device: torch.device,
    progress: Callable[[str], None],
    file: Path,
) -> None:
    spec = view.spec
    train, test = view.load("train"), view.load("test")
    progress(f"training the extractor of {view.path} on {len(train.labels)} motions (once; it is kept)")
    started = time.perf_counter()
    classifier = train_classifier(spec, train, device=device)
    confusion = torch.zeros(spec.num_classes, spec.num_classes, dtype=torch.int64)
    with torch.no_grad():
        for motions, labels in zip(test.motions.split(512), test.labels.split(512), strict=True):
            predicted = classifier(motions.to(device)).argmax(dim=1).cpu()
            confusion += torch.bincount(
                labels * spec.num_classes + predicted, minlength=confusion.numel()
            ).view_as(confusion)
    accuracy = (confusion.diagonal().sum() / confusion.sum()).item()
    progress(
        f"extractor: {accuracy:.1%} of {len(test.labels)} test motions right, {time.perf_counter() - started:.0f} s"
    )
    about = {
        "recipe": RECIPE,
        "dataset": view.hash,
        "data": view.settings.model_dump(exclude={"path", "held_in"}),
        "spec": spec.model_dump(mode="json"),
        "accuracy": accuracy,
        "confusion": confusion.tolist(),
    }
    state = {name: tensor.cpu().contiguous() for name, tensor in classifier.state_dict().items()}
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        part = Path(scratch) / file.name
        save_file(state, part, metadata={"about": json.dumps(about)})
        description = part.with_suffix(".json")  # the same for people to read
        description.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        description.replace(file.with_suffix(".json"))
        part.replace(file)


def _load(file: Path, spec: MotionSpec, device: torch.device) -> Extractor:
    from safetensors import safe_open

    classifier = Classifier(spec)
    try:
        with safe_open(file, "pt") as opened:
            about: dict[str, Any] = json.loads(opened.metadata()["about"])
        classifier.load_state_dict(load_file(file))
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"{file}: not an extractor ({str(error).splitlines()[0]})") from None
    except RuntimeError:
        there = about["spec"]
        raise UserError(
            f"{file}: an extractor of {there['layout']['name']}, {len(there['class_names'])} classes; "
            f"here are {spec.layout.name}, {spec.num_classes} classes"
        ) from None
    theirs = {name: about["spec"][name] for name in ("frames", "centre", "value_range", "class_names")}
    ours = spec.model_dump(mode="json", include=set(theirs))
    for name, value in theirs.items():
        if value != ours[name]:
            raise UserError(f"{file}: an extractor of motions with {name} {value}, here it is {ours[name]}")
    classifier.to(device).eval().requires_grad_(False)
    return Extractor(
        classifier=classifier,
        hash=weights_hash(classifier.state_dict()),
        accuracy=about["accuracy"],
        confusion=tuple(tuple(row) for row in about["confusion"]),
        path=str(file),
    )


def train_classifier(
    spec: MotionSpec, train: MotionTensors, *, device: torch.device | str = "cpu", seed: int = 0
) -> Classifier:
    """A classifier of the motions, in evaluation mode; the same for the same seed and thread count.

    A tenth of the training motions is held out to stop early; the weights of its lowest loss are kept.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(spec)
        classifier.scale.copy_(_spread(train.motions, spec.layout.root).clamp(min=1e-6))
        classifier.to(device)
        random = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(train.labels), generator=random)
        num_held = max(1, len(order) // 10)
        held, used = order[:num_held], order[num_held:] if len(order) > 20 else order
        _fit(classifier, train, used, held, random, torch.device(device))
    return classifier.eval()


def _spread(motions: Tensor, root: int) -> Tensor:
    """The standard deviation of all coordinates relative to the root joint, without a copy of the motions."""
    sums = torch.zeros(2, dtype=torch.float64)  # of values, of their squares
    for part in motions.split(1024):
        relative = (part - part[..., root : root + 1]).double()
        sums += torch.stack([relative.sum(), relative.square().sum()])
    total, squares = sums
    return ((squares - total.square() / motions.numel()) / (motions.numel() - 1)).sqrt()


def _fit(
    classifier: Classifier,
    train: MotionTensors,
    used: Tensor,
    held: Tensor,
    random: torch.Generator,
    device: torch.device,
) -> None:
    batches = max(1, len(used) // BATCH)
    epochs = max(2, min(EPOCHS, MOST_STEPS // batches))
    adam = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, LEARNING_RATE, total_steps=epochs * batches)
    best: tuple[float, dict[str, Tensor]] = (math.inf, {})
    best_epoch = 0
    for epoch in range(epochs):
        classifier.train()
        order = used[torch.randperm(len(used), generator=random)]
        for chosen in order.chunk(batches):
            motions = augmented(train.motions[chosen], random).to(device)
            scores = classifier(motions)
            loss = F.cross_entropy(scores, train.labels[chosen].to(device), label_smoothing=0.1)
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
        value = _loss(classifier.eval(), train, held, device)
        if value < best[0]:
            best = value, {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
            best_epoch = epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    if best[1]:
        classifier.load_state_dict(best[1])


@torch.no_grad()
def _loss(classifier: Classifier, train: MotionTensors, rows: Tensor, device: torch.device) -> float:
    losses = [
        F.cross_entropy(classifier(train.motions[part].to(device)), train.labels[part].to(device), reduction="sum")
        for part in rows.split(512)
    ]
    return float(torch.stack(losses).sum() / len(rows))


def augmented(motions: Tensor, random: torch.Generator) -> Tensor:
    """Motions (N, C, T, V) seen from elsewhere (up to 60 degrees about the vertical), larger, faster, cut, noisier.

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
