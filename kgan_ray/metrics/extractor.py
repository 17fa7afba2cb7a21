"""The extractor of a dataset: trained once, and kept beside the dataset under a name that says what it was made from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from kgan_ray.data.cache import kept_file
from kgan_ray.data.loading import MotionTensors
from kgan_ray.data.view import DataView
from kgan_ray.devices import products
from kgan_ray.metrics.classifier import FEATURES, Classifier, weights_hash
from kgan_ray.metrics.extractor_training import FreshCrops, held_out_rows, train_classifier
from kgan_ray.metrics.names import Recognition
from kgan_ray.publishing import write_whole
from kgan_ray.settings import UserError
from kgan_ray.skeleton import MotionSpec
from kgan_ray.storage import StorePath

# Counts up with every change of network or training: an extractor of another recipe is another extractor.
RECIPE = 4
SEED = 0


@dataclass(frozen=True)
class Extractor:
    """A trained classifier, and how well it recognises motions that it was not trained on."""

    classifier: Classifier
    hash: str
    class_names: tuple[str, ...]
    accuracy: float  # on motions that it was not trained on
    tested_on: str  # which those are
    confusion: tuple[tuple[int, ...], ...]  # [true class][predicted class], of the same
    path: str

    @property
    def device(self) -> torch.device:
        """Return where features are computed."""
        return self.classifier.scale.device

    @property
    def recognition(self) -> Recognition:
        """Return its name and how good it is, without the network."""
        tested = [sum(row) for row in self.confusion]
        return Recognition(self.hash, self.accuracy, self.tested_on, max(tested) / sum(tested))

    @torch.no_grad()
    @products()
    def features(self, motions: Tensor, batch_size: int = 512) -> Tensor:
        """Compute (N, D), float32 proper, of motions (N, C, T, V), on the classifier's device; batch sizes change its rounding."""
        if not len(motions):
            return motions.new_zeros(0, FEATURES, device=self.device)
        return torch.cat([self.classifier.features(part.to(self.device)) for part in motions.split(batch_size)])

    @torch.no_grad()
    @products()
    def predict(self, features: Tensor) -> Tensor:
        """Name the class (N,) of each feature vector (N, D)."""
        return self.classifier.classify(features).argmax(dim=1)

    def mistakes(self, most: int = 3) -> list[str]:
        """Name the classes of those motions that it most often takes for another one, worst first."""
        pairs = [
            (count / sum(row), self.class_names[true], self.class_names[predicted])
            for true, row in enumerate(self.confusion)
            for predicted, count in enumerate(row)
            if count and predicted != true
        ]
        worst = sorted(pairs, key=lambda pair: -pair[0])[:most]
        return [f"{share:.0%} of {true!r} taken for {predicted!r}" for share, true, predicted in worst]


def find_extractor(
    view: DataView,
    device: torch.device,
    progress: Callable[[str], None],
    path: str | Path | None = None,
) -> Extractor:
    """Load the extractor at `path`, or the dataset's own, which is trained now unless it is cached.

    Raises UserError for a file at `path` that is no extractor, or one of other motions.
    """
    if path is None:
        path = kept_file(
            view.dataset,
            f"extractor-{RECIPE}-{view.key}.safetensors",
            lambda file: _train_and_save(view, device, progress, file),
        )
    return _load(Path(path), view.spec, device)


@products()
def _train_and_save(view: DataView, device: torch.device, progress: Callable[[str], None], file: Path) -> None:
    train = view.load("train")
    tested_on, test = _held_out(view, train)
    progress(f"training the extractor of {view.path} on {len(train.labels)} motions (once; it is kept)")
    started = time.perf_counter()
    crops = FreshCrops(view) if view.settings.window == "random" else None
    classifier = train_classifier(view.spec, train, crops=crops, device=device, seed=SEED)
    confusion = _confusion(classifier, test, device)
    accuracy = (confusion.diagonal().sum() / confusion.sum()).item()
    progress(f"extractor: {accuracy:.1%} of {tested_on} right, {time.perf_counter() - started:.0f} s")
    about = {
        "recipe": RECIPE,
        "dataset": view.hash,
        "data": view.settings.model_dump(exclude={"path", "held_in"}),
        "spec": view.spec.model_dump(mode="json"),
        "accuracy": accuracy,
        "tested_on": tested_on,
        "confusion": confusion.tolist(),
    }
    state = {name: tensor.cpu().contiguous() for name, tensor in classifier.state_dict().items()}
    # The same for people to read.
    write_whole(StorePath(file.with_suffix(".json")), json.dumps(about, indent=1) + "\n")
    write_whole(StorePath(file), save(state, metadata={"about": json.dumps(about)}))


def _held_out(view: DataView, train: MotionTensors) -> tuple[str, MotionTensors]:
    """Return motions that the classifier does not learn from: the test split, or the tenth that ends its training early."""
    if view.holds_out:
        test = view.load("test")
        return f"{len(test.labels)} test motions", test
    rows, _ = held_out_rows(len(train.labels), torch.Generator().manual_seed(SEED))
    held_out = MotionTensors(train.motions[rows], train.labels[rows])
    return f"{len(rows)} motions held out of its training (the generator trains on them)", held_out


@torch.no_grad()
def _confusion(classifier: Classifier, test: MotionTensors, device: torch.device) -> Tensor:
    """Count the motions of each true class, a row, that are taken for each class, a column."""
    size = classifier.head.out_features
    counts = torch.zeros(size, size, dtype=torch.int64)
    for motions, labels in zip(test.motions.split(512), test.labels.split(512), strict=True):
        predicted = classifier(motions.to(device)).argmax(dim=1).cpu()
        counts += torch.bincount(labels * size + predicted, minlength=counts.numel()).view_as(counts)
    return counts


def _load(file: Path, spec: MotionSpec, device: torch.device) -> Extractor:
    classifier = Classifier(spec)
    try:
        with safe_open(file, "pt") as opened:
            about = json.loads(opened.metadata()["about"])
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
        class_names=spec.class_names,
        accuracy=about["accuracy"],
        tested_on=about.get("tested_on", "test motions"),
        confusion=tuple(tuple(row) for row in about["confusion"]),
        path=str(file),
    )
