"""Recordings made by hand for the tests of data: `.skeleton` texts, NW-UCLA files, zips of them; and where real ones lie."""

import json
import zipfile
from pathlib import Path

import numpy as np

REAL_DATA = Path(__file__).parents[3] / "shared/data"
BODY = "72057594037931101"


def moving_body(num_frames=4, seed=0, joints=25, size=0.1):
    """A body (T, V, 3) two metres from the camera, its joints spread and trembling; float32, 6 digits."""
    random = np.random.default_rng(seed)
    spread = random.normal(size=(1, joints, 3)) * 0.4 + [0, 0, 2]
    return np.round(spread + random.normal(size=(num_frames, joints, 3)) * size, 6).astype(np.float32)


def skeleton_text(frames, end="\r\n"):
    """`.skeleton` text of frames: each a list of (body id, joints (25, 3))."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, joints in bodies:
            lines += [f"{body} 0 1 1 0 0 0 -0.1 0.2 2", str(len(joints))]
            lines += [f"{x} {y} {z} 250.1 200.2 1000.3 500.4 0.1 0.2 0.3 0.4 2" for x, y, z in joints.tolist()]
    return end.join(lines) + end


def one_body_text(motion, end="\r\n"):
    return skeleton_text([[(BODY, joints)] for joints in motion], end)


def write_ntu(folder: Path, names, num_frames=6, lengths=3) -> Path:
    """A `.skeleton` file of one body for each name, `num_frames` or a few more long; each has a motion of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        text = one_body_text(moving_body(num_frames + number % lengths, seed=number))
        (folder / f"{name}.skeleton").write_text(text, newline="")
    return folder


def ntu_names(num, actions=2):
    """Names in which subjects 1..4, cameras 1..3, setups 1..2 and the actions take turns."""
    return [
        f"S{1 + n // 2 % 2:03}C{1 + n % 3:03}P{1 + n % 4:03}R{1 + n // 8:03}A{1 + n // 4 % actions:03}"
        for n in range(num)
    ]


def write_ucla(folder: Path) -> Path:
    """Two recordings of every NW-UCLA action, of subjects 1 and 2 in views 1 and 3."""
    folder.mkdir(parents=True, exist_ok=True)
    for label, code in enumerate((1, 2, 3, 4, 5, 6, 8, 9, 11, 12), start=1):
        for number in (1, 2):
            name = f"a{code:02}_s{number:02}_e00_v{2 * number - 1:02}"
            motion = moving_body(5, seed=label * 10 + number, joints=20)
            tree = {"file_name": name, "skeletons": motion.tolist(), "label": label}
            (folder / f"{name}.json").write_text(json.dumps(tree))
    return folder


def zipped(folder: Path, path: Path, inside="recordings/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, inside + file.name)
    return path
