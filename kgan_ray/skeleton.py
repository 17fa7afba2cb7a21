"""Skeletons: layouts of joints and bones, their coarsening into three levels, and what a motion looks like.

A graph network sees a skeleton at four levels of detail (level 0 = every joint). Going down keeps some
joints; going up, a kept joint copies its value and every removed joint gets the mean of its kept neighbours.
Source: Degardin et al., "Generative Adversarial Graph Convolutional Networks", WACV 2022, arXiv 2110.11191.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from kgan_ray.layouts import TABLES
from kgan_ray.settings import UserError
from kgan_ray.text import close_match
from kgan_ray.validation import FrozenModel

if TYPE_CHECKING:
    from torch import Tensor

NUM_LEVELS = 4
Motions = TypeVar("Motions", np.ndarray, "Tensor")
Bone = tuple[int, int]


class SkeletonLayout(FrozenModel):
    """A tree of joints. Joints are 0-based; `root` splits each joint's neighbours into nearer and farther ones."""

    name: str
    joints: tuple[str, ...]
    bones: tuple[Bone, ...]
    root: int = Field(ge=0)
    always_kept: tuple[int, ...] = ()  # joints that the first coarsening must not remove
    bodies: int = Field(default=1, ge=1)  # persons whose joints these are, one person after the other

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def roots(self) -> list[int]:
        """Return the root of each body."""
        return [self.root + first for first in range(0, self.num_joints, self.num_joints // self.bodies)]

    @property
    def limbs(self) -> list[Bone]:
        """Return the bones within a body; those that join two bodies are none that could be seen."""
        size = self.num_joints // self.bodies
        return [(a, b) for a, b in self.bones if a // size == b // size]

    @model_serializer(mode="wrap")
    def _as_before_there_were_pairs(self, serialise: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out one body: the hashes of datasets are made of this text."""
        fields: dict[str, object] = serialise(self)
        return fields if self.bodies > 1 else {name: fields[name] for name in fields if name != "bodies"}

    @model_validator(mode="after")
    def _is_a_tree(self) -> SkeletonLayout:
        joints = range(len(self.joints))
        for joint in (self.root, *self.always_kept, *itertools.chain(*self.bones)):
            if joint not in joints:
                raise ValueError(f"joint {joint} is not among the {len(joints)} joints 0..{len(joints) - 1}")
        reached = {self.root}
        while grown := {b for a, b in _both_ways(self.bones) if a in reached} - reached:
            reached |= grown
        if missing := sorted(set(joints) - reached):
            raise ValueError(f"no bones lead from the root {self.root} to joint {missing[0]}")
        if len(self.bones) != len(joints) - 1:
            raise ValueError(f"{len(joints)} joints need {len(joints) - 1} bones, found {len(self.bones)}")
        return self


def _both_ways(edges: Sequence[Bone]) -> set[Bone]:
    return {pair for a, b in edges for pair in ((a, b), (b, a))}


def _bones(text: str) -> tuple[Bone, ...]:
    pairs = (pair.split("-") for pair in text.split())
    return tuple((int(a), int(b)) for a, b in pairs)


LAYOUTS = {
    name: SkeletonLayout(
        name=name,
        joints=tuple(table.joints.split()),
        bones=_bones(table.bones),
        root=table.root,
        always_kept=table.always_kept,
    )
    for name, table in TABLES.items()
}
NTU25, H36M16, UCLA20 = LAYOUTS["ntu25"], LAYOUTS["h36m16"], LAYOUTS["ucla20"]


def pair_layout(layout: SkeletonLayout) -> SkeletonLayout:
    """Join the skeletons of two persons by a bone between their roots: ntu25x2 of ntu25."""
    size = layout.num_joints
    return SkeletonLayout(
        name=f"{layout.name}x2",
        joints=tuple(f"{person}_{joint}" for person in ("first", "second") for joint in layout.joints),
        bones=(
            *layout.bones,
            *((a + size, b + size) for a, b in layout.bones),
            (layout.root, layout.root + size),
        ),
        root=layout.root,
        always_kept=(*layout.always_kept, *(joint + size for joint in layout.always_kept)),
        bodies=2,
    )


def find_layout(layout: str | SkeletonLayout) -> SkeletonLayout:
    """Return a layout by name, or the layout itself. Raises UserError for an unknown name."""
    if isinstance(layout, SkeletonLayout):
        return layout
    if layout not in LAYOUTS:
        raise UserError(
            f"unknown skeleton layout {layout!r}.{close_match(layout, LAYOUTS)} Known: {', '.join(LAYOUTS)}"
        )
    return LAYOUTS[layout]


@dataclass(frozen=True)
class SkeletonLevel:
    """One level of detail. `keep` are this level's joints as indices into the finer level (level 0: all)."""

    num_joints: int
    root: int
    edges: tuple[Bone, ...]
    keep: tuple[int, ...]

    @cached_property
    def adjacency(self) -> np.ndarray:
        """Return the adjacency, float32 (3, V, V), as [partition, from, to], columns normalised by degree, with self loops.

        Partition 0 is the joint itself; 1 holds neighbours as far from the root or farther, 2 nearer ones,
        where every distance from 2 on counts as equal.
        """
        linked = np.eye(self.num_joints, dtype=bool)
        for a, b in self.edges:
            linked[a, b] = linked[b, a] = True
        weight = linked / linked.sum(axis=0)
        distance = np.where(linked[self.root], 1, 2)
        distance[self.root] = 0
        itself = np.eye(self.num_joints, dtype=bool)
        nearer = distance[:, None] < distance[None, :]
        return np.stack([weight * itself, weight * (~itself & ~nearer), weight * nearer]).astype(np.float32)


class SkeletonGraph:
    """A layout at its four levels, and the maps between them."""

    def __init__(self, layout: str | SkeletonLayout) -> None:
        self.layout = find_layout(layout)
        levels = [
            SkeletonLevel(
                num_joints=self.layout.num_joints,
                root=self.layout.root,
                edges=self.layout.bones,
                keep=tuple(range(self.layout.num_joints)),
            )
        ]
        for level in range(1, NUM_LEVELS):
            always = {levels[-1].root, *(self.layout.always_kept if level == 1 else ())}
            levels.append(_coarsen(levels[-1], always, last=level == NUM_LEVELS - 1))
        self.levels: tuple[SkeletonLevel, ...] = tuple(levels)

    def unpool(self, level: int) -> np.ndarray:
        """Return the linear map from `level` up to the finer level - 1, as x @ unpool: float32 (V_level, V_finer).

        In the step from the last level up, removed joints get half of the mean (as published).
        """
        finer, coarse = self.levels[level - 1], self.levels[level]
        distance = _distances(finer)
        factor = 0.5 if level == NUM_LEVELS - 1 else 1.0
        up = np.zeros((coarse.num_joints, finer.num_joints), dtype=np.float32)
        for joint in range(finer.num_joints):
            if joint in coarse.keep:
                up[coarse.keep.index(joint), joint] = 1.0
                continue
            to_kept = distance[joint, list(coarse.keep)]
            nearest = to_kept == to_kept.min()  # its kept neighbours; a user's tree may have none next to it
            up[nearest, joint] = factor / nearest.sum()
        return up


def _distances(level: SkeletonLevel) -> np.ndarray:
    """Count the hops between every two joints of a level, (V, V)."""
    distance = np.full((level.num_joints, level.num_joints), np.inf)
    np.fill_diagonal(distance, 0)
    for a, b in level.edges:
        distance[a, b] = distance[b, a] = 1
    for via in range(level.num_joints):
        distance = np.minimum(distance, distance[:, via : via + 1] + distance[via : via + 1])
    return distance


def _coarsen(level: SkeletonLevel, always: set[int], *, last: bool) -> SkeletonLevel:
    """Make the next level: remove joints by rising degree, keeping and joining the neighbours of each one removed."""
    neighbours: dict[int, set[int]] = {joint: set() for joint in range(level.num_joints)}
    for a, b in level.edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    kept = set(always)

    def remove(joint: int) -> None:
        around = neighbours.pop(joint)
        kept.update(around)
        for other in around:
            neighbours[other] |= around - {other}
            neighbours[other].discard(joint)

    for degree in range(1, level.num_joints):
        if degree == 2 and all(len(around) == 2 for around in neighbours.values()):
            break  # a ring of all that is left
        for joint in [j for j, around in neighbours.items() if len(around) == degree]:
            if joint not in kept:
                remove(joint)
    for joint in [j for j in neighbours if last and j != level.root]:
        remove(joint)
    for joint in [j for j in neighbours if j not in kept]:  # the ring's unmarked joints
        remove(joint)
    keep = tuple(sorted(neighbours))
    number = {joint: index for index, joint in enumerate(keep)}
    edges = sorted({(number[a], number[b]) for a in keep for b in neighbours[a] if a < b})
    return SkeletonLevel(num_joints=len(keep), root=number[level.root], edges=tuple(edges), keep=keep)


class MotionSpec(FrozenModel):
    """What the networks need to know of a dataset, and what turns their output back into metres.

    A motion is float32 (C, T, V) with values in [-1, 1]: 2 (x - low) / (high - low) - 1 of metres.
    """

    layout: SkeletonLayout
    coordinates: int = Field(ge=2, le=3)
    frames: int
    class_names: tuple[str, ...]
    value_range: tuple[float, float]
    centre: Literal["none", "first", "frame"] = "none"
    # Of each class, its label in the whole dataset, where these are a part of its classes.
    class_labels: tuple[int, ...] | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, T, V)."""
        return self.coordinates, self.frames, self.layout.num_joints

    def to_metres(self, motions: Motions) -> Motions:
        """Turn motions (..., C, T, V) in [-1, 1], array or tensor, into metres."""
        low, high = self.value_range
        return (motions + 1) * (0.5 * (high - low)) + low

    def from_metres(self, metres: Motions) -> Motions:
        """Turn metres, array or tensor, into values of motions: in [-1, 1] within the range, beyond it outside."""
        low, high = self.value_range
        return (metres - low) * (2.0 / (high - low)) - 1.0
