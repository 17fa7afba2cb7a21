"""pyskl's and mmaction2's annotation files as a source: ntu60_3danno.pkl, ntu120_hrnet.pkl, diving48_hrnet.pkl ...

A file is a dictionary of `split` (lists of names) and `annotations`, or a list of annotations alone. An annotation is
{frame_dir, label, total_frames, keypoint (M, T, V, C)}, and in images also {img_shape, keypoint_score}. The file is read
once from end to end for its structure; the key points stay in it until their recording is written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kgan_ray.data.recording import Recording, RejectedRecording
from kgan_ray.data.sources import ntu
from kgan_ray.data.sources.arrays.annotations import read_annotations, read_keypoint
from kgan_ray.data.sources.arrays.array_source import ArraySource
from kgan_ray.data.sources.arrays.axes import no_layout
from kgan_ray.data.sources.arrays.labels import counted_from_one, numbered
from kgan_ray.data.sources.bodies import recording_of_bodies
from kgan_ray.data.sources.source import Item, Traits
from kgan_ray.data.splits import BY_FOLD
from kgan_ray.settings import UserError
from kgan_ray.skeleton import LAYOUTS, SkeletonLayout

# What the format's own description says of them.
_LAYOUTS = {(25, 3): "ntu25", (17, 2): "coco17", (18, 2): "openpose18"}


class PysklFile(ArraySource):
    """A pickle of annotations. NTU's names give subject, camera and setup; other sets keep their own split.

    Joints in images are pixels, y down: they are divided by the image's height, y up, unless `--scale` says otherwise.
    """

    kind = "pyskl"

    def __init__(self, path: Path, layout: SkeletonLayout | None) -> None:
        self.location = str(path.absolute())
        splits, self._annotations = read_annotations(path)
        first = next((one for one in self._annotations if len(one.shape) in (3, 4) and 0 not in one.shape), None)
        if first is None:
            raise UserError(
                f"{path}: none of its {len(self._annotations)} annotations holds key points (M, T, V, C)"
            )
        joints, coordinates = first.shape[-2:]
        self._has_heights = first.height is not None
        self._is_flat = self._has_heights or coordinates == 2
        kept = 2 if self._is_flat else coordinates  # a third value of joints in images is their score
        if layout is None and (joints, kept) in _LAYOUTS:
            layout = LAYOUTS[_LAYOUTS[joints, kept]]
        if layout is None or layout.num_joints != joints or kept not in (2, 3):
            raise no_layout(f"{path}: keypoint", first.shape)
        self._num_bodies = max(one.shape[0] if len(one.shape) == 4 else 1 for one in self._annotations)
        labeled = [(one.name, one.label) for one in self._annotations if one.label is not None]
        if not labeled:
            raise UserError(f"{path}: none of its annotations has a label that is a whole number from 0")
        labels = np.array([label for _, label in labeled])
        is_ntu = all(ntu.NAME.match(name) for name, _ in labeled)
        has_ntu_labels = is_ntu and all(int(name[17:20]) - 1 == label for name, label in labeled)
        self._counts_from_one = not has_ntu_labels and counted_from_one(labels)
        count = int(labels.max()) + 1 - self._counts_from_one
        self._splits = {} if is_ntu else splits
        self.own_splits = tuple(self._splits)
        self.traits = Traits(
            layout=layout,
            coordinates=kept,
            class_names=ntu.action_names(count) if has_ntu_labels else numbered(count),
            splits=ntu.SPLITS if is_ntu else {"own": BY_FOLD} if splits else None,
            known_classes=has_ntu_labels,
        )

    @property
    def description(self) -> str:
        joints = f"{self.traits.layout.num_joints} joints as {self.traits.layout.name}"
        facts = [
            "pyskl annotations",
            f"{joints} in images" if self._is_flat else joints,
            "one body" if self._num_bodies == 1 else f"up to {self._num_bodies} bodies",
            self._split_in_words(),
        ]
        if self._has_heights and self.scale is None:
            facts.append("pixels divided by the image's height, y up")
        if self._counts_from_one:
            facts.append("labels count from 1")
        return ", ".join(facts)

    def _split_in_words(self) -> str:
        if not self.own_splits:
            return "published splits" if self.traits.splits else "no split"
        others = [name for name in self.own_splits if name != self._chosen]
        return f"own split ({self._chosen})" + (f", --split chooses {' or '.join(others)}" if others else "")

    @property
    def _chosen(self) -> str | None:
        return self.split if self.split in self.own_splits else next(iter(self.own_splits), None)

    def items(self) -> list[Item]:
        folds = self._splits[self._chosen] if self._chosen is not None else None
        return [
            Item(
                one.name,
                [
                    None if one.label is None else one.label - self._counts_from_one,
                    one.height,
                    None if folds is None else folds.get(one.name, -1),
                    one.place,
                ],
            )
            for one in self._annotations
        ]

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_annotations": self._annotations[:1], "_splits": {}}  # long; workers need none

    def parse(self, item: Item, data: bytes) -> Recording:
        label, height, fold, place = item.place
        if label is None:
            raise RejectedRecording("it has no label that is a whole number from 0")
        if fold == -1 and self.split not in ("hash", "none"):
            raise RejectedRecording("its name is in neither list of the split")
        keypoint = read_keypoint(Path(self.location), place)
        bodies = keypoint[None] if keypoint.ndim == 3 else keypoint
        if bodies.ndim != 4 or bodies.shape[2] != self.traits.layout.num_joints or not bodies.size:
            raise RejectedRecording(f"its key points have the shape {keypoint.shape}, expected (M, T, V, C)")
        if bodies.shape[3] < self.traits.coordinates:
            raise RejectedRecording(f"its joints have {bodies.shape[3]} coordinates")
        bodies = bodies[..., : self.traits.coordinates]
        if self._has_heights and self.scale is None:
            if height is None:
                raise RejectedRecording("its img_shape is missing, which the others have")
            bodies = bodies * (np.array([1, -1]) / height)
        return recording_of_bodies(bodies, name=item.name, label=label, fold=fold)
