"""NW-UCLA's JSON files, in a folder or a zip."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import orjson

from kgan_ray.data.recording import Recording, RejectedRecording, as_float32, check_motion
from kgan_ray.data.sources.file_source import FileSource
from kgan_ray.data.sources.source import Item, Traits
from kgan_ray.data.splits import SplitRule
from kgan_ray.skeleton import UCLA20

UCLA_CODES = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # the actions' numbers in file names; 7 and 10 do not occur
UCLA_ACTIONS = (
    "pick up with one hand",
    "pick up with two hands",
    "drop trash",
    "walk around",
    "sit down",
    "stand up",
    "donning",
    "doffing",
    "throw",
    "carry",
)
UCLA_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")
MAX_FRAMES = 20_000


class UclaFiles(FileSource):
    """NW-UCLA (Wang et al., CVPR 2014) as JSON: {"file_name", "skeletons": T x 20 x 3 metres, "label": 1..10}.

    Cross-view trains on views 1 and 2 and tests on 3, as published. Cross-subject trains on subjects 1, 3, 5,
    7 and 9: the original protocol leaves out one subject at a time, which no single split can stand for.

    Two recordings hold one half-written frame each (some joints at 0, the others off by metres). Those frames are
    interpolated: one alone would more than double the range by which all centred motions are scaled.
    """

    kind = "ucla"
    suffix = ".json"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.traits = Traits(
            layout=UCLA20,
            coordinates=3,
            class_names=UCLA_ACTIONS,
            splits={
                "xview": SplitRule(column="camera", train=(1, 2)),
                "xsub": SplitRule(column="subject", train=(1, 3, 5, 7, 9)),
            },
        )

    @property
    def description(self) -> str:
        return "NW-UCLA recordings, 20 joints as ucla20, one body, cross-view as published"

    def parse(self, item: Item, data: bytes) -> Recording:
        match = UCLA_NAME.fullmatch(item.name)
        if not match:
            raise RejectedRecording("its name has not the form a01_s01_e00_v01")
        action, subject, repetition, view = (int(group) for group in match.groups())
        if action not in UCLA_CODES:
            raise RejectedRecording(f"action a{action:02} is not one of NW-UCLA's")
        try:
            tree = orjson.loads(data)
            motion = as_float32(tree["skeletons"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise RejectedRecording(f"not JSON with `skeletons`, T x 20 x 3 numbers ({error})") from None
        if motion.ndim != 3 or motion.shape[1:] != (20, 3) or not 0 < len(motion) <= MAX_FRAMES:
            raise RejectedRecording(f"skeletons have the shape {motion.shape}, expected (T, 20, 3)")
        check_motion(motion)
        motion = mend_broken_frames(motion)
        label = UCLA_CODES.index(action)
        if tree.get("label", label + 1) != label + 1:
            raise RejectedRecording(f"its label {tree['label']} is not that of its name, {label + 1}")
        return Recording(
            name=item.name,
            label=label,
            setup=None,
            camera=view,
            subject=subject,
            replication=repetition,
            num_frames=len(motion),
            num_bodies=1,
            motion=motion,
        )


def mend_broken_frames(motion: np.ndarray) -> np.ndarray:
    """Interpolate frames in which only some joints lie at exactly 0 from whole ones; all are (T, V, C)."""
    is_seen = np.asarray(motion.any(axis=2))  # (T, V)
    whole = is_seen.all(axis=1)
    broken = np.flatnonzero(is_seen.any(axis=1) & ~whole)
    if not len(broken) or not whole.any():
        return motion
    good = np.flatnonzero(whole)
    mended = motion.copy()
    right = np.clip(np.searchsorted(good, broken), 0, len(good) - 1)
    left = np.maximum(np.searchsorted(good, broken) - 1, 0)
    before, after = good[left], good[right]
    part = ((broken - before) / np.maximum(after - before, 1)).clip(0, 1).astype(np.float32)[:, None, None]
    mended[broken] = motion[before] * (1 - part) + motion[after] * part
    return mended
