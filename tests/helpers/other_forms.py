"""Recordings in the forms of other projects, written by scripts that share nothing with the readers.

`read_skeleton` reads `.skeleton` text word by word; the writers follow what each project's own scripts do.
"""

import pickle
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.recordings import REAL_DATA, moving_body

TRAIN_SUBJECTS = {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}


class Recorded(NamedTuple):
    """One recording: NTU's name, and its bodies, float32 (M, T, 25, 3), the one that moves most first."""

    name: str
    bodies: np.ndarray

    @property
    def label(self):
        return int(self.name[17:20]) - 1

    @property
    def subject(self):
        return int(self.name[9:12])


def read_skeleton(name, text):
    """Read the bodies of a recording; a body is a tracking id, absent ones are zeros."""
    words = iter(text.split())
    num_frames = int(next(words))
    bodies = {}
    for frame in range(num_frames):
        for _ in range(int(next(words))):
            body = bodies.setdefault(next(words), np.zeros((num_frames, 25, 3), np.float32))
            for _ in range(9):
                next(words)
            assert int(next(words)) == 25
            for joint in range(25):
                body[frame, joint] = [float(next(words)) for _ in range(3)]
                for _ in range(9):
                    next(words)
    order = sorted(bodies.values(), key=lambda body: -body[body.any(axis=(1, 2))].std(axis=(0, 1)).sum())
    return Recorded(name, np.stack(order[:2]))


def genuine_recordings(most=40):
    """Genuine NTU recordings, or None where there are none on this machine."""
    path = REAL_DATA / "ntu_sample_skeletons.zip"
    if not path.exists():
        return None
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".skeleton")]
        names = [name for name in names if Path(name).stem != "S005C002P013R002A056"][:most]
        return [read_skeleton(Path(name).stem, archive.read(name).decode()) for name in names]


def made_recordings(count=12):
    """Recordings of 6 to 9 frames, every third with a second body; subjects 1 to 4, actions 1 and 2."""
    made = []
    for number in range(count):
        name = f"S001C{1 + number % 3:03}P{1 + number % 4:03}R{1 + number // 8:03}A{1 + number // 4 % 2:03}"
        bodies = [moving_body(6 + number % 4, seed=10 * number + body) for body in range(1 + (number % 3 == 0))]
        made.append(Recorded(name, np.stack(bodies)))
    return made


def pyskl_tree(recordings, dtype=np.float16):
    """What pyskl's ntu_preproc.py dumps."""
    split = {
        "xsub_train": [one.name for one in recordings if one.subject in TRAIN_SUBJECTS],
        "xsub_val": [one.name for one in recordings if one.subject not in TRAIN_SUBJECTS],
    }
    annotations = [
        {
            "frame_dir": one.name,
            "label": one.label,
            "keypoint": one.bodies.astype(dtype),
            "total_frames": one.bodies.shape[1],
        }
        for one in recordings
    ]
    return {"split": split, "annotations": annotations}


def write_pyskl(path, recordings, protocol=2, dtype=np.float16):
    path.write_bytes(pickle.dumps(pyskl_tree(recordings, dtype), protocol))
    return path


def ctr_gcn_arrays(recordings, num_frames=300, classes=60):
    """What CTR-GCN's seq_transformation.py saves: two bodies a row of 150, the spine's middle at 0 in the first frame."""
    arrays = {}
    for part in ("train", "test"):
        chosen = [one for one in recordings if (one.subject in TRAIN_SUBJECTS) == (part == "train")]
        x = np.zeros((len(chosen), num_frames, 150), np.float32)
        for row, one in zip(x, chosen, strict=True):
            origin = one.bodies[0][one.bodies[0].any(axis=(1, 2))][0, 1]
            for number, body in enumerate(one.bodies):
                seen = body.any(axis=(1, 2))
                row[: len(body), 75 * number : 75 * (number + 1)] = (
                    (body - origin) * seen[:, None, None]
                ).reshape(-1, 75)
        arrays[f"x_{part}"], arrays[f"y_{part}"] = x, np.eye(classes)[[one.label for one in chosen]]
    return arrays


def write_agcn(folder, recordings, num_frames=300):
    """What 2s-AGCN's and Shift-GCN's ntu_gendata.py write: joints of both parts, their labels, and a bone stream."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "val"):
        chosen = [one for one in recordings if (one.subject in TRAIN_SUBJECTS) == (part == "train")]
        data = np.zeros((len(chosen), 3, num_frames, 25, 2), np.float32)
        for row, one in zip(data, chosen, strict=True):
            for number, body in enumerate(one.bodies):
                row[:, : len(body), :, number] = body.transpose(2, 0, 1)
        np.save(folder / f"{part}_data_joint.npy", data)
        np.save(folder / f"{part}_data_bone.npy", data)
        names = [f"{one.name}.skeleton" for one in chosen]
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names, [one.label for one in chosen])))
    return folder
