"""Sources with one file a recording, in a folder or a zip: NTU RGB+D `.skeleton` and NW-UCLA JSON."""

from __future__ import annotations

import functools
import re
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import orjson

from kgan_ray.data.recording import Recording, RejectedRecording
from kgan_ray.data.sources import ntu
from kgan_ray.data.sources.archive import list_files, read_file
from kgan_ray.data.sources.skeleton_file import parse_skeleton
from kgan_ray.data.sources.source import Item, Source, Traits
from kgan_ray.data.splits import SplitRule
from kgan_ray.settings import UserError
from kgan_ray.skeleton import NTU25, UCLA20

CLASS_NAMES_FILE = "class_names.txt"  # beside .skeleton files: names of their own for A001, A002 ...


class FileSource(Source):
    """The files of one suffix in a folder, in a zip, or one file by itself."""

    suffix: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.location = str(path.absolute())

    @property
    def path(self) -> Path:
        return Path(self.location)

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @functools.cached_property
    def listing(self) -> list[tuple[str, Any]]:
        """(name, place) of every file; a single file lies at its own path."""
        return [(self.path.name, "")] if self.path.suffix == self.suffix else list_files(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "listing"}  # long; workers need none

    def items(self) -> list[Item]:
        return [
            Item(PurePosixPath(name).stem, place) for name, place in self.listing if name.endswith(self.suffix)
        ]

    def fetch(self, item: Item) -> bytes:
        return read_file(self.path, item.place)

    def files(self) -> list[Path]:
        return [self.path / item.place for item in self.items()] if self.is_folder else [self.path]


class SkeletonFiles(FileSource):
    """NTU RGB+D, or files in its format, whose names give setup, camera, subject, replication and action."""

    kind = "ntu"
    suffix = ".skeleton"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        parsed = [ntu.parse_name(item.name) for item in self.items()]
        own_names = self._own_class_names()
        last = max((name[4] for name in parsed if name), default=1)
        names = own_names or ntu.action_names(last)
        if last > len(names):
            raise UserError(f"{path}: action A{last:03} occurs, but only {len(names)} classes are known")
        self.traits = Traits(
            layout=NTU25, coordinates=3, class_names=names, splits=ntu.SPLITS, known_classes=not own_names
        )

    def _own_class_names(self) -> tuple[str, ...]:
        for name, place in self.listing:
            if PurePosixPath(name).name == CLASS_NAMES_FILE:
                try:
                    lines = read_file(self.path, place).decode("utf-8").splitlines()
                except (UnicodeDecodeError, RejectedRecording) as error:
                    raise UserError(f"{self.path}: {name}: cannot be read ({error})") from None
                return tuple(line.strip() for line in lines if line.strip())
        return ()

    def parse(self, item: Item, data: bytes) -> Recording:
        parsed = ntu.parse_name(item.name)
        if parsed is None:
            raise RejectedRecording("its name has not the form S001C001P001R001A001")
        setup, camera, subject, replication, action = parsed
        if action < 1:
            raise RejectedRecording("its name gives action A000; actions count from A001")
        bodies = parse_skeleton(data)
        return Recording(
            name=item.name,
            label=action - 1,
            setup=setup,
            camera=camera,
            subject=subject,
            replication=replication,
            num_frames=bodies.num_frames,
            num_bodies=bodies.num_bodies,
            motion=bodies.motion,
            motion_second=bodies.motion_second,
        )


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
_UCLA_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")
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

    def parse(self, item: Item, data: bytes) -> Recording:
        match = _UCLA_NAME.fullmatch(item.name)
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


def as_float32(values: Any) -> np.ndarray:
    """An array of float32; what is too large for it becomes infinite, which `check_motion` finds."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def check_motion(motion: np.ndarray) -> None:
    """Raise RejectedRecording unless a motion (T, V, C) is finite and holds a body."""
    finite = np.isfinite(motion).all(axis=(1, 2))
    if not finite.all():
        raise RejectedRecording(f"frame {int(np.argmin(finite)) + 1}: a coordinate is NaN or infinite")
    if not motion.any():
        raise RejectedRecording("no frame holds a body")


def mend_broken_frames(motion: np.ndarray) -> np.ndarray:
    """(T, V, C), with frames in which only some joints lie at exactly 0 interpolated from whole ones."""
    found = np.asarray(motion.any(axis=2))  # (T, V)
    whole = found.all(axis=1)
    broken = np.flatnonzero(found.any(axis=1) & ~whole)
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
