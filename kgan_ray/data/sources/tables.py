"""Rehabilitation exercises in tables, a frame a line: KIMORE's JointPosition*.csv and UI-PRMD's *_positions.txt.

Sources: Capecci et al., IEEE TNSRE 2019 (KIMORE); Vakanski et al., Data 2018 (UI-PRMD).
"""

from __future__ import annotations

import io
import re
from pathlib import Path, PurePosixPath

import numpy as np

from kgan_ray.data.recording import Recording, RejectedRecording
from kgan_ray.data.sources.archive import Place, read_file
from kgan_ray.data.sources.bodies import recording_of_bodies
from kgan_ray.data.sources.file_source import FileSource
from kgan_ray.data.sources.source import Item, Traits
from kgan_ray.skeleton import LAYOUTS, NTU25

MAX_FRAMES = 20_000
KIMORE_EXERCISES = (
    "lifting of the arms",
    "lateral tilt of the trunk",
    "trunk rotation",
    "pelvis rotations",
    "squatting",
)
UI_PRMD_MOVEMENTS = (
    "deep squat",
    "hurdle step",
    "inline lunge",
    "side lunge",
    "sit to stand",
    "standing active straight leg raise",
    "standing shoulder abduction",
    "standing shoulder extension",
    "standing shoulder internal-external rotation",
    "standing shoulder scaption",
)
_UI_PRMD_NAME = re.compile(r"(m(\d\d)_s(\d\d)_e(\d\d))_positions\.txt")
_AS_BLANKS = bytes.maketrans(b",;\t\r", b"    ")


class KimoreFiles(FileSource):
    """KIMORE's folders, .../E_ID1/Es3/Raw/JointPosition*.csv: 25 joints of x, y, z (metres) and tracking state a line."""

    kind = "kimore"
    suffix = ".csv"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.traits = Traits(layout=NTU25, coordinates=3, class_names=KIMORE_EXERCISES, known_classes=True)

    @staticmethod
    def is_positions(name: str) -> bool:
        return name.startswith("JointPosition") and name.endswith(".csv")

    @property
    def description(self) -> str:
        return "KIMORE recordings, 25 joints as ntu25, one body, 5 exercises, no published split: every second subject tests"

    def items(self) -> list[Item]:
        files = [(PurePosixPath(name), place) for name, place in self.listing]
        files = [(name, place) for name, place in files if self.is_positions(name.name)]
        people = sorted({_person(name) for name, _ in files})
        return [
            Item(
                "-".join(name.with_suffix("").parts[-4:]),
                [place, people.index(_person(name)) + 1, _exercise(name)],
            )
            for name, place in files
        ]

    def place_of(self, item: Item) -> Place:
        place: Place = item.place[0]
        return place

    def parse(self, item: Item, data: bytes) -> Recording:
        _, subject, exercise = item.place
        if exercise is None or not 1 <= exercise <= len(KIMORE_EXERCISES):
            raise RejectedRecording("no folder Es1 to Es5 says its exercise")
        values = _table(data)
        if values.shape[1] not in (75, 100):
            raise RejectedRecording(f"{values.shape[1]} values a line, expected 25 joints of 3 or 4")
        joints = values.reshape(len(values), 25, -1)[..., :3]
        return recording_of_bodies(joints[None], name=item.name, label=exercise - 1, subject=subject)


def _person(name: PurePosixPath) -> str:
    """Return the folder of a participant, two above that of the table: E_ID1 of E_ID1/Es3/Raw."""
    return name.parts[-4] if len(name.parts) >= 4 else ""


def _exercise(name: PurePosixPath) -> int | None:
    found = [int(match[1]) for part in name.parts if (match := re.fullmatch(r"[Ee]s(\d)", part))]
    return found[-1] if found else None


class UiPrmdFiles(FileSource):
    """UI-PRMD's segmented Kinect recordings: m01_s01_e01_positions.txt with m01_s01_e01_angles.txt, 22 joints.

    A position there is in centimetres in the frame of the joint's parent, and angles are degrees about the parent's x, y
    and z, applied as Rz Rx Ry (of the six orders, this one keeps the feet of a deep squat where they stand). Both
    together give the joints in metres.
    """

    kind = "ui-prmd"
    suffix = ".txt"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.traits = Traits(
            layout=LAYOUTS["uiprmd22"], coordinates=3, class_names=UI_PRMD_MOVEMENTS, known_classes=True
        )

    @staticmethod
    def is_positions(name: str) -> bool:
        return _UI_PRMD_NAME.fullmatch(name) is not None

    @property
    def description(self) -> str:
        return (
            "UI-PRMD's Kinect recordings, 22 joints as uiprmd22 from positions and angles, one body, 10 movements, "
            "no published split: every second subject tests"
        )

    def items(self) -> list[Item]:
        places = dict(self.listing)
        tables = [name for name in places if self.is_positions(PurePosixPath(name).name)]
        if any("kinect" in name.lower() for name in tables):  # Vicon's have the same names
            tables = [name for name in tables if "kinect" in name.lower()]
        angles = {
            PurePosixPath(name).name: place for name, place in places.items() if _of_same_sensor(name, tables)
        }
        items = []
        for name in tables:
            match = _UI_PRMD_NAME.fullmatch(PurePosixPath(name).name)
            if match is not None:
                items.append(Item(match[1], [places[name], angles.get(f"{match[1]}_angles.txt")]))
        return items

    def fetch(self, item: Item) -> bytes:
        positions, angles = item.place
        if angles is None:
            raise RejectedRecording(f"{item.name}_angles.txt is missing, without which positions are of no use")
        return read_file(self.path, positions) + b"\f" + read_file(self.path, angles)

    def files(self) -> list[Path]:
        if not self.path.is_dir():
            return [self.path]
        return [self.path / place for item in self.items() for place in item.place if place is not None]

    @property
    def is_folder(self) -> bool:
        return False  # a recording is two files

    def parse(self, item: Item, data: bytes) -> Recording:
        positions, _, angles = data.partition(b"\f")
        offsets, degrees = _table(positions), _table(angles)
        if offsets.shape[1] != 66 or offsets.shape != degrees.shape:
            raise RejectedRecording(
                f"positions {offsets.shape} and angles {degrees.shape}; expected 66 values a line, as Kinect's have"
            )
        movement, subject = int(item.name[1:3]), int(item.name[5:7])
        if not 1 <= movement <= len(UI_PRMD_MOVEMENTS):
            raise RejectedRecording(f"movement m{movement:02} is not one of UI-PRMD's")
        joints = joints_from_angles(offsets.reshape(-1, 22, 3) / 100, np.radians(degrees.reshape(-1, 22, 3)))
        return recording_of_bodies(joints[None], name=item.name, label=movement - 1, subject=subject)


def _of_same_sensor(name: str, tables: list[str]) -> bool:
    return ("kinect" in name.lower()) == any("kinect" in table.lower() for table in tables)


def joints_from_angles(offsets: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return the joints (T, 22, 3) from their offsets in the parent's frame and their angles in radians, both (T, 22, 3)."""
    cosine, sine = np.cos(angles), np.sin(angles)
    one, zero = np.ones_like(cosine[..., 0]), np.zeros_like(cosine[..., 0])

    def turn(axis: int) -> np.ndarray:
        c, s = cosine[..., axis], sine[..., axis]
        rows = {0: (one, zero, zero, zero, c, -s, zero, s, c), 1: (c, zero, s, zero, one, zero, -s, zero, c)}
        values = rows.get(axis, (c, -s, zero, s, c, zero, zero, zero, one))
        return np.stack(values, axis=-1).reshape(*c.shape, 3, 3)

    local = turn(2) @ turn(0) @ turn(1)
    parents = dict(LAYOUTS["uiprmd22"].bones)
    joints, frames = [offsets[:, 0]], [local[:, 0]]
    for joint in range(1, offsets.shape[1]):
        parent = parents[joint]
        joints.append(joints[parent] + np.einsum("tij,tj->ti", frames[parent], offsets[:, joint]))
        frames.append(frames[parent] @ local[:, joint])
    return np.stack(joints, axis=1)


def _table(data: bytes) -> np.ndarray:
    """Read lines of numbers, float64 (T, values a line); empty lines are passed over. Raises RejectedRecording."""
    try:
        text = data.translate(_AS_BLANKS).decode("utf-8-sig")
        values = np.loadtxt(io.StringIO(text), comments=None, ndmin=2) if text.strip() else np.zeros((0, 0))
    except ValueError as error:
        raise RejectedRecording(f"not a table of numbers ({str(error)[:80]})") from None
    if not 0 < len(values) <= MAX_FRAMES:
        raise RejectedRecording(f"{len(values)} lines; 1 to {MAX_FRAMES} are accepted")
    return values
