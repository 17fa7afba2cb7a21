"""Folders of `.npy` files, one a recording, as HumanML3D's `new_joints` has them."""

from __future__ import annotations

import io
import re
from pathlib import Path, PurePosixPath

import numpy as np

from kgan_ray.data.recording import Recording, RejectedRecording
from kgan_ray.data.sources.archive import Place, read_file
from kgan_ray.data.sources.arrays.axes import JOINED, axes_of, find_axes, no_layout, without_scores
from kgan_ray.data.sources.bodies import recording_of_bodies
from kgan_ray.data.sources.file_source import FileSource
from kgan_ray.data.sources.source import Item, Traits
from kgan_ray.data.splits import BY_FOLD, hashed_fold
from kgan_ray.settings import UserError
from kgan_ray.skeleton import LAYOUTS, SkeletonLayout

LABELS_FILE = "labels.csv"
_FEATURES = 263  # values a frame of HumanML3D's new_joint_vecs
_LISTS = {"train.txt": 0, "val.txt": 1, "test.txt": 1}
_MIRRORED = re.compile(r"M\d{6}")


def is_joint_file(name: str) -> bool:
    """Say whether a `.npy` may hold the joints of one recording: not labels, HumanML3D's statistics, or a network's input."""
    others = ("label.npy", "labels.npy", "Mean.npy", "Std.npy")
    return name.endswith(".npy") and not name.endswith(others) and "_data_" not in name


class JointFiles(FileSource):
    """Recordings (T, V, C) in metres, a file each, in a folder or zip.

    Labels are those of `labels.csv` (lines `name,label`) beside them; else the names of the folders in which the files
    lie, where there are several; else all are of one class. Where lists train.txt, val.txt and test.txt lie there or one
    folder up, as in HumanML3D, they are the split. HumanML3D's mirrored copies (M000001) never test what their
    originals train.
    """

    kind = "joints"
    suffix = ".npy"

    def __init__(self, path: Path, layout: SkeletonLayout | None) -> None:
        super().__init__(path)
        self._labels = self._label_table()
        names = sorted(set(self._labels.values()))
        self._folds = _listed_folds(path)
        first, motion = self._first()
        if motion.ndim == 2 and motion.shape[1] == _FEATURES:
            raise UserError(
                f"{path}: {first}: HumanML3D's feature vectors, not joints; give its folder new_joints"
            )
        self._is_humanml = motion.shape[1:] == (22, 3) and "new_joints" in {path.stem, *PurePosixPath(first).parts}
        if layout is None and self._is_humanml:
            layout = LAYOUTS["smpl22"]
        if layout is None:
            raise no_layout(f"{path}: {first}", motion.shape)
        axes = axes_of(f"{path}: {first}", motion.shape, layout, JOINED)
        self._axes = without_scores(axes, layout, axes.bodies(motion))
        self.traits = Traits(
            layout=layout,
            coordinates=self._axes.kept,
            class_names=tuple(names),
            splits={"own": BY_FOLD} if self._folds else None,
        )

    def _recordings(self) -> list[tuple[str, Place]]:
        """List (name, place) of the files that are recordings."""
        return [(name, place) for name, place in self.listing if is_joint_file(PurePosixPath(name).name)]

    def _first(self) -> tuple[str, np.ndarray]:
        """Return the first array that can be read, and its name. Raises UserError where there is none."""
        reasons = []
        for name, place in self._recordings():
            try:
                return name, _array(read_file(self.path, place))
            except RejectedRecording as error:
                reasons.append(f"{name}: {error}")
        raise UserError(f"{self.path}: none of {len(reasons)} files can be read; {reasons[0]}")

    @property
    def description(self) -> str:
        whose = "HumanML3D's new_joints" if self._is_humanml else f"a file of joints {self._axes} a recording"
        count = len(self.traits.class_names)
        classes = f"{count} classes" if count > 1 else "one class"
        split = "own split (train.txt, val.txt, test.txt)" if self._folds else "no split"
        return f"{whose}, {self._axes.num_joints} joints as {self.traits.layout.name}, {classes}, {split}"

    def _label_table(self) -> dict[str, str]:
        """Return the class name of every recording, by the recording's name."""
        names = [name for name, _ in self._recordings()]
        folders = {PurePosixPath(name).parent for name in names}
        table = {_name(name, len(folders) > 1): PurePosixPath(name).parent.name for name in names}
        if len(folders) == 1:
            table = dict.fromkeys(table, "motion")
        places = dict(self.listing)
        if LABELS_FILE not in places:
            return table
        try:
            lines = read_file(self.path, places[LABELS_FILE]).decode("utf-8").splitlines()
        except (UnicodeDecodeError, RejectedRecording) as error:
            raise UserError(f"{self.path}: {LABELS_FILE}: cannot be read ({error})") from None
        given = dict(line.strip().split(",", 1) for line in lines if "," in line)
        given = {name.strip().removesuffix(".npy"): label.strip() for name, label in given.items()}
        if not table.keys() & given.keys():
            raise UserError(f"{self.path}: {LABELS_FILE} names none of the recordings; its lines are `name,label`")
        return {name: given[name] for name in table if name in given}

    def items(self) -> list[Item]:
        recordings = self._recordings()
        is_nested = len({PurePosixPath(name).parent for name, _ in recordings}) > 1
        return [self._item(_name(name, is_nested), place) for name, place in recordings]

    def _item(self, name: str, place: Place) -> Item:
        label = self.traits.class_names.index(self._labels[name]) if name in self._labels else None
        fold = self._folds.get(name, -1) if self._folds else None
        if fold is None and self._is_humanml and _MIRRORED.fullmatch(name):
            fold = hashed_fold(name[1:])
        return Item(name, [place, label, fold])

    def place_of(self, item: Item) -> Place:
        place: Place = item.place[0]
        return place

    def parse(self, item: Item, data: bytes) -> Recording:
        _, label, fold = item.place
        if label is None:
            raise RejectedRecording(f"{LABELS_FILE} does not name it")
        if fold == -1 and self.split not in ("hash", "none"):
            raise RejectedRecording("its name is in none of train.txt, val.txt and test.txt")
        motion = _array(data)
        axes = find_axes(motion.shape, self.traits.layout, JOINED)
        if axes is None or axes.coordinates != self._axes.coordinates:
            raise RejectedRecording(f"has the shape {motion.shape}, expected that of the others")
        bodies = axes.bodies(motion)[..., : self._axes.kept]
        return recording_of_bodies(bodies, name=item.name, label=label, fold=fold)


def _name(file: str, is_nested: bool) -> str:
    path = PurePosixPath(file).with_suffix("")
    return "-".join(path.parts) if is_nested else path.name


def _array(data: bytes) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise RejectedRecording("cannot be read as an array of numbers") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or not array.size:
        raise RejectedRecording("not an array of numbers")
    return array


def _listed_folds(path: Path) -> dict[str, int]:
    """Return the fold of every name in train.txt, val.txt and test.txt, in the folder or one up; empty without them."""
    for folder in (path, path.parent):
        if (folder / "train.txt").is_file():
            folds: dict[str, int] = {}
            for name, fold in _LISTS.items():
                if (folder / name).is_file():
                    folds |= dict.fromkeys(_words(folder / name), fold)
            return folds if set(folds.values()) == {0, 1} else {}
    return {}


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of names ({error})") from None
