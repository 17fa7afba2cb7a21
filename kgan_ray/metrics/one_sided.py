"""Scores that need no pairs of the two sides: whether motions obey their labels, how much they differ, and how they move.

Shapes: N motions (N, C, T, V) or features (N, D).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kgan_ray.metrics.features import BLOCK, FeatureLike, as_features

if TYPE_CHECKING:
    from kgan_ray.metrics.sides import Features, Motions


def mean_distance(features: FeatureLike, *, seed: int = 0, num_pairs: int = 200) -> float:
    """Average the distance of random pairs of motions (Guo et al., Action2Motion, 2020); 0 for a collapsed generator."""
    tensor = as_features(features)
    if len(tensor) < 2:
        raise ValueError(f"found {len(tensor)} motions; diversity needs at least 2")
    first, second = _random_pairs(len(tensor), num_pairs, seed)
    return (tensor[first] - tensor[second]).norm(dim=1).mean().item()


def mean_distance_within_classes(
    features: FeatureLike, labels: Tensor, *, seed: int = 0, num_pairs: int = 20
) -> float:
    """Average the distance of random pairs within a class over the classes that have two motions or more."""
    tensor = as_features(features)
    distances = []
    for label in labels.unique().tolist():
        own = tensor[(labels == label).to(tensor.device)]
        if len(own) >= 2:
            first, second = _random_pairs(len(own), num_pairs, seed + label)
            distances.append((own[first] - own[second]).norm(dim=1).mean().item())
    if not distances:
        raise ValueError("no class has 2 motions; multimodality needs pairs of one class")
    return sum(distances) / len(distances)


def _random_pairs(count: int, num_pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw the indices of pairs of different motions."""
    random = torch.Generator().manual_seed(seed)
    first = torch.randint(count, (num_pairs,), generator=random)
    return first, (first + torch.randint(1, count, (num_pairs,), generator=random)) % count


def diversity(real: Features, generated: Features) -> dict[str, float]:
    return {"diversity": mean_distance(generated.values)}


def multimodality(real: Features, generated: Features) -> dict[str, float]:
    return {"multimodality": mean_distance_within_classes(generated.values, generated.labels)}


def accuracy(real: Features, generated: Features) -> dict[str, float]:
    return {"accuracy": _is_recognised(generated).mean().item()}


def accuracy_per_class(real: Features, generated: Features) -> dict[str, float]:
    """Compute `accuracy` within each class, as accuracy/<class>, and the mean over classes."""
    right = _is_recognised(generated)
    named = {
        f"accuracy/{generated.class_names[label]}": right[generated.labels == label].mean().item()
        for label in generated.labels.unique().tolist()
    }
    return {"accuracy_per_class": sum(named.values()) / len(named), **named}


def _is_recognised(side: Features) -> Tensor:
    """Return 1.0 for each motion that the extractor gives its own class, else 0.0; float64 (N,)."""
    return (side.extractor.predict(side.values) == side.labels).double()


def mean_jerk(side: Motions) -> float:
    """Average the third difference of frames, without its sign, over (N, C, T - 3, V). Trembling is jerk above all else."""
    parts = side.values.split(BLOCK)
    sums = [float(part.diff(n=3, dim=2).abs().mean(dim=(1, 2, 3)).sum()) for part in parts]
    return sum(sums) / len(side.values)


def deviation_within_classes(side: Motions) -> dict[int, float]:
    """Average the standard deviation of a class's motions over (C, T, V), for each class that has two or more.

    0 for a generator that gives the class one motion.
    """
    classes = {int(label): side.values[side.labels == label] for label in side.labels.unique()}
    return {label: float(own.std(dim=0).mean()) for label, own in classes.items() if len(own) > 1}


def jerk_ratio(real: Motions, generated: Motions) -> dict[str, float]:
    return {"jerk_ratio": mean_jerk(generated) / _not_still(real.once(mean_jerk))}


def deviation_ratio(real: Motions, generated: Motions) -> dict[str, float]:
    """Divide the mean deviation within classes, over those of which both sides have two motions.

    Raises ValueError where there is none.
    """
    ours, recorded = deviation_within_classes(generated), real.once(deviation_within_classes)
    shared = sorted(ours.keys() & recorded.keys())
    if not shared:
        raise ValueError("no class has 2 motions on both sides, which a deviation within classes needs")
    recorded_sum = sum(recorded[label] for label in shared)
    return {"deviation_ratio": sum(ours[label] for label in shared) / _not_still(recorded_sum)}


def _not_still(recorded: float) -> float:
    if not recorded:
        raise ValueError("recorded motions neither move nor differ: there is nothing to compare with")
    return recorded
