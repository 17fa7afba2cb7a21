"""Precision, recall, density and coverage: how two sets of features overlap, by nearest neighbours; and whether one copies.

Sources: Kynkäänniemi et al., 2019 (arXiv 1904.06991) for precision and recall; Naeem et al., 2020 (arXiv
2002.09797) for density and coverage. The ball of a motion reaches to its k-th nearest neighbour in its own set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kgan_ray.data.classes import stratified
from kgan_ray.metrics.features import BLOCK, FeatureLike, as_features, blocks, in_parallel

if TYPE_CHECKING:
    from kgan_ray.metrics.sides import Features

NEIGHBOURS = 5
MOST_MOTIONS = 10_000  # of a side that are looked at; a copy is looked for among all real motions


def manifold_overlap(
    real: FeatureLike, generated: FeatureLike, *, neighbours: int = NEIGHBOURS, real_radii: Tensor | None = None
) -> dict[str, float]:
    """Compute precision, recall, density and coverage of (n, D) real and (m, D) generated features.

    `real_radii` is `radii(real, neighbours)`, where it is computed already.

    A motion on the rim of a ball lies in it. So where all motions of a set are the same (radius 0), copies of that
    motion are inside and everything else is outside. Raises ValueError for too few motions.
    """
    x, y = as_features(real), as_features(generated)
    if min(len(x), len(y)) <= neighbours:
        raise ValueError(
            f"found {min(len(x), len(y))} motions; {neighbours} neighbours need {neighbours + 1} of each"
        )
    radius_x = radii(x, neighbours) if real_radii is None else real_radii
    radius_y = radii(y, neighbours)
    # real balls that hold each generated motion
    inside_real = torch.zeros(len(y), device=y.device, dtype=torch.float64)
    recalled = covered = 0
    for start in range(0, len(x), BLOCK):
        block = slice(start, start + BLOCK)
        distance = _distances(x[block], y)
        inside = distance <= radius_x[block, None]
        inside_real += inside.sum(dim=0)
        recalled += int((distance <= radius_y).any(dim=1).sum())
        covered += int(inside.any(dim=1).sum())
    return {
        "precision": (inside_real > 0).double().mean().item(),
        "recall": recalled / len(x),
        "density": (inside_real.sum() / (neighbours * len(y))).item(),
        "coverage": covered / len(x),
    }


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # Through a matrix product, copies would end up some 1e-8 apart, and outside a ball of radius 0.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def radii(features: FeatureLike, neighbours: int = NEIGHBOURS) -> Tensor:
    """Return the distance of each motion to its k-th nearest other one, (N,)."""
    features = as_features(features)
    if len(features) <= neighbours:
        raise ValueError(f"found {len(features)} motions; {neighbours} neighbours need {neighbours + 1} of each")
    rows = []
    for start in range(0, len(features), BLOCK):
        distance = _distances(features[start : start + BLOCK], features)
        nearest = distance.topk(neighbours + 1, dim=1, largest=False).values  # the nearest is the motion itself
        rows.append(nearest[:, -1])
    return torch.cat(rows)


def expected_coverage(num_real: int, num_generated: int, neighbours: int = NEIGHBOURS) -> float:
    """Return the coverage of a perfect generator on average (Naeem et al., 2020, their appendix).

    A real motion is missed where all of its k nearest among both sets are real.
    """
    missed = 1.0
    for number in range(1, neighbours + 1):
        missed *= (num_real - number) / (num_real + num_generated - number)
    return 1.0 - missed


def precision(real: Features, generated: Features) -> dict[str, float]:
    return {"precision": generated.once(_overlap_with, real)["precision"]}


def recall(real: Features, generated: Features) -> dict[str, float]:
    return {"recall": generated.once(_overlap_with, real)["recall"]}


def density(real: Features, generated: Features) -> dict[str, float]:
    return {"density": generated.once(_overlap_with, real)["density"]}


def coverage(real: Features, generated: Features) -> dict[str, float]:
    """Compute coverage, and beside it what a perfect generator has at these counts."""
    counts = (min(len(side.values), MOST_MOTIONS) for side in (real, generated))
    value = generated.once(_overlap_with, real)["coverage"]
    return {"coverage": value, "coverage_expected": expected_coverage(*counts)}


def _overlap_with(generated: Features, real: Features) -> dict[str, float]:
    return manifold_overlap(_some(real), _some(generated), real_radii=real.once(_radii))


def _radii(side: Features) -> Tensor:
    return radii(_some(side))


def _some(side: Features) -> Tensor:
    """Return the features, or a random MOST_MOTIONS of them, the same each time, each class with its share."""
    return side.values if len(side.values) <= MOST_MOTIONS else side.values[_some_rows(side)]


def _some_rows(side: Features) -> Tensor:
    rows = stratified(side.labels, min(len(side.labels), MOST_MOTIONS), torch.Generator().manual_seed(0))
    return rows.to(side.values.device)


def nearest_distances(asked: FeatureLike, real: FeatureLike, own_rows: Tensor | None = None) -> Tensor:
    """Return the distance of each of (m, D) features to the nearest of (n, D), (m,).

    `own_rows` (m,) are the rows of `real` that the asked ones are themselves: another one is looked for then.
    """
    x, y = as_features(asked), as_features(real)
    norms = y.square().sum(dim=1)

    def of_rows(rows: slice) -> Tensor:
        part = x[rows]
        squared = torch.addmm(norms, part, y.T, alpha=-2)  # less the squared norm of the asked ones
        if own_rows is not None:
            squared.scatter_(1, own_rows[rows, None], torch.inf)
        return (squared.amin(dim=1) + part.square().sum(dim=1)).clamp(min=0).sqrt()

    return torch.cat(in_parallel(of_rows, blocks(len(x), BLOCK), x.device))


def nearest_ratio(real: Features, generated: Features) -> dict[str, float]:
    """Divide the mean distance of generated motions to the nearest real one by that of real motions to the nearest other."""
    if min(len(real.values), len(generated.values)) < 2:
        raise ValueError("found fewer than 2 motions; nearest_ratio needs 2 of each")
    apart = real.once(_distance_within)
    apart_from_real = nearest_distances(_some(generated), real.values).mean().item()
    return {"nearest_ratio": apart_from_real / max(apart, 1e-12)}


def _distance_within(real: Features) -> float:
    rows = _some_rows(real)
    return nearest_distances(real.values[rows], real.values, rows).mean().item()
