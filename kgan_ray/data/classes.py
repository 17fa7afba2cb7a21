"""How many motions of which class: counts in proportion, labels in turn, and random subsets that keep the classes' shares."""

from __future__ import annotations

import torch
from torch import Tensor


def proportional(counts: Tensor, total: int) -> Tensor:
    """Split `total` into whole numbers (K,) in proportion to `counts` (K,), by the largest remainders."""
    shares = counts.double() * total / counts.sum()
    whole = shares.floor().long()
    rest = total - int(whole.sum())
    whole[(shares - whole).argsort(descending=True, stable=True)[:rest]] += 1
    return whole


def in_turn(counts: Tensor) -> Tensor:
    """Return `counts` (K,) labels of each class, one of every class in turn for as long as it lasts, (sum of counts,)."""
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    return labels[places_in_class(labels).argsort(stable=True)]


def places_in_class(labels: Tensor) -> Tensor:
    """Count the motions of each class from 0, in their order, (N,)."""
    order = labels.argsort(stable=True)
    counts = labels.bincount()
    firsts = counts.cumsum(dim=0) - counts
    places = torch.empty_like(labels)
    places[order] = torch.arange(len(labels)) - firsts[labels[order]]
    return places


def stratified(labels: Tensor, size: int, random: torch.Generator) -> Tensor:
    """Choose `size` of the motions with labels (N,) at random, each class with its share: sorted indices, on the CPU."""
    order = torch.randperm(len(labels), generator=random)
    shuffled = labels.cpu()[order]
    wanted = proportional(shuffled.bincount(), size)
    return order[places_in_class(shuffled) < wanted[shuffled]].sort().values


def stratified_halves(labels: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut motions with labels (N,) into two random halves with each class's share: sorted indices, on the CPU."""
    first = stratified(labels, len(labels) // 2, random)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[first] = False
    return first, rest.nonzero().flatten()


def other_classes(labels: Tensor, reference: Tensor) -> float:
    """Return the share of motions that would need another label to have the reference's classes: 0 where they have, at most 1."""
    size = int(torch.cat([labels.cpu(), reference.cpu()]).max()) + 1
    shares = [side.cpu().bincount(minlength=size).double() / len(side) for side in (labels, reference)]
    return float((shares[0] - shares[1]).abs().sum() / 2)
