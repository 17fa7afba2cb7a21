"""How generated motions move, beside recorded ones: scores of the motions themselves, which a classifier's features hardly see.

Shapes: N motions (N, C, T, V).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from kgan_ray.metrics.features import BLOCK

if TYPE_CHECKING:
    from kgan_ray.metrics.sides import Motions


def mean_jerk(motions: Tensor) -> float:
    """Average the third difference of frames, without its sign, over (N, C, T - 3, V). Trembling is jerk above all else."""
    return sum(
        float(part.diff(n=3, dim=2).abs().mean(dim=(1, 2, 3)).sum()) for part in motions.split(BLOCK)
    ) / len(motions)


def deviation_within_classes(motions: Tensor, labels: Tensor) -> float:
    """Average the standard deviation of a class's motions over (C, T, V), and over the classes that have two or more.

    0 for a generator that gives each class one motion. Raises ValueError where no class has two.
    """
    classes = (motions[labels == label] for label in labels.unique())
    deviations = [float(own.std(dim=0).mean()) for own in classes if len(own) > 1]
    if not deviations:
        raise ValueError("no class has 2 motions, which a deviation within classes needs")
    return sum(deviations) / len(deviations)


def jerk_ratio(real: Motions, generated: Motions) -> dict[str, float]:
    return {"jerk_ratio": mean_jerk(generated.values) / _not_still(real.once(_jerk))}


def deviation_ratio(real: Motions, generated: Motions) -> dict[str, float]:
    deviation = deviation_within_classes(generated.values, generated.labels)
    return {"deviation_ratio": deviation / _not_still(real.once(_deviation))}


def _jerk(side: Motions) -> float:
    return mean_jerk(side.values)


def _deviation(side: Motions) -> float:
    return deviation_within_classes(side.values, side.labels)


def _not_still(recorded: float) -> float:
    if not recorded:
        raise ValueError("recorded motions neither move nor differ: there is nothing to compare with")
    return recorded
