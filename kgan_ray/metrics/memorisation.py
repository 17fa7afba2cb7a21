"""Whether generated motions are copies: how near they come to motions of the training split.

Shapes: n real and m generated motions, D features, in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kgan_ray.metrics.classes import stratified
from kgan_ray.metrics.features import BLOCK, FeatureLike, as_features, blocks, in_parallel

if TYPE_CHECKING:
    from kgan_ray.metrics.sides import Features

MOST_ASKED = (
    10_000  # of the generated motions, and of the real ones among themselves; they are compared with all real ones
)


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
    asked = generated.values[_some_rows(generated)]
    return {"nearest_ratio": nearest_distances(asked, real.values).mean().item() / max(apart, 1e-12)}


def _distance_within(real: Features) -> float:
    rows = _some_rows(real)
    return nearest_distances(real.values[rows], real.values, rows).mean().item()


def _some_rows(side: Features) -> Tensor:
    rows = stratified(side.labels, min(len(side.labels), MOST_ASKED), torch.Generator().manual_seed(0))
    return rows.to(side.values.device)
