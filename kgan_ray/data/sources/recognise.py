"""Find out what kind of source a path is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import orjson

from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.archive import list_files, read_file
from kgan_ray.data.sources.arrays.ctr_gcn import CtrGcnArrays
from kgan_ray.data.sources.arrays.npz import open_npz
from kgan_ray.data.sources.arrays.own_arrays import OwnArrays
from kgan_ray.data.sources.arrays.published_arrays import PublishedArrays, arrays_in_folder, is_joints
from kgan_ray.data.sources.arrays.pyskl import PysklFile
from kgan_ray.data.sources.joint_files import JointFiles, is_joint_file
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.data.sources.source import Source
from kgan_ray.data.sources.tables import KimoreFiles, UiPrmdFiles
from kgan_ray.data.sources.ucla_files import UCLA_NAME, UclaFiles
from kgan_ray.settings import UserError
from kgan_ray.skeleton import SkeletonLayout
from kgan_ray.storage import StorePath

ACCEPTED = (
    "a folder or zip of .skeleton files (NTU RGB+D), of .json files (NW-UCLA), of .npy files of joints (HumanML3D), or of "
    "KIMORE's or UI-PRMD's tables; a *_data.npy or *_data_joint.npy with its *_label.pkl (Kinetic-GAN, 2s-AGCN) or a folder "
    "of them; a .pkl of pyskl's; CTR-GCN's .npz; or a .npz of motions and labels"
)

# What a file in a folder is, by its name; the first that fits. None: it goes with another, or says nothing of motion.
_KINDS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    (".skeleton", lambda name: name.endswith(".skeleton")),
    (".json", lambda name: name.endswith(".json")),
    ("_data.npy", is_joints),
    (".npy", is_joint_file),
    (".npz", lambda name: name.endswith(".npz")),
    (".pkl", lambda name: name.endswith((".pkl", ".pickle")) and not name.endswith(("label.pkl", "labels.pkl"))),
    ("JointPosition.csv", KimoreFiles.is_positions),
    ("_positions.txt", UiPrmdFiles.is_positions),
)
_UNZIPPED = ("_data.npy", ".npz", ".pkl")
# The names of arrays by which other people's .npz are known, and what to do with them.
_OTHER_NPZ = {
    "poses": "AMASS's body-model parameters, not joints: HumanML3D's scripts make joints of them, which are read",
    "positions_3d": "VideoPose3D's Human3.6M: save its motions as an .npz with motions and labels, --layout h36m17",
}


def find_sources(path: str, layout: SkeletonLayout | None = None) -> list[Source]:
    """Find the source or sources at a path. Raises UserError, naming what is accepted, for anything else."""
    if not StorePath(path).is_local:
        raise UserError(
            f"{path}: recordings are read from this machine's disks only; copy them here (or mount them)"
        )
    place = StorePath(path).local
    if not place.exists():
        raise UserError(f"{path}: does not exist")
    if place.is_dir() or place.suffix == ".zip":
        return _many(place, layout)
    if place.suffix == ".skeleton":
        return [SkeletonFiles(place)]
    if place.suffix == ".json":
        _check_json(place.parent, [place.name])
        return [UclaFiles(place)]
    if place.suffix == ".npy":
        return [PublishedArrays(place, layout)]
    if place.suffix == ".npz":
        return [_npz(place, layout)]
    if place.suffix in (".pkl", ".pickle"):
        return [PysklFile(place, layout)]
    raise UserError(f"{path}: not a source that is known; accepted are {ACCEPTED}")


def _npz(path: Path, layout: SkeletonLayout | None) -> Source:
    names = open_npz(path).keys()
    if {"x_train", "y_train"} <= names or {"x_test", "y_test"} <= names:
        return CtrGcnArrays(path, layout)
    for name, what in _OTHER_NPZ.items():
        if name in names and "motions" not in names:
            raise UserError(f"{path}: {what}")
    return OwnArrays(path, layout)


def _many(place: Path, layout: SkeletonLayout | None) -> list[Source]:
    names = [name for name, _ in list_files(place)]
    if not names:
        raise UserError(f"{place}: there is nothing in it; accepted are {ACCEPTED}")
    kinds = Counter(kind for name in names if (kind := _kind(name)))
    if not kinds:
        suffixes = Counter(PurePosixPath(name).suffix for name in names)
        common = ", ".join(suffix or "no suffix" for suffix, _ in suffixes.most_common(3))
        raise UserError(f"{place}: its files ({common}) are not known; accepted are {ACCEPTED}")
    kind, left_aside = _main_kind(place, kinds)
    if kind in _UNZIPPED and not place.is_dir():
        raise UserError(
            f"{place}: holds {kind} files, which are read in parts and cannot lie in a zip; unpack it first"
        )
    sources = _of_kind(place, kind, [name for name in names if _kind(name) == kind], layout)
    for source in sources:
        source.left_aside = left_aside
    return sources


def _kind(name: str) -> str | None:
    base = name[name.rfind("/") + 1 :]
    return next((kind for kind, fits in _KINDS if fits(base)), None)


def _main_kind(place: Path, kinds: Counter[str]) -> tuple[str, str]:
    """Return the kind of which nearly all files are, and what the others are. Raises UserError for a real mixture."""
    (kind, most), *others = kinds.most_common()
    strays = sum(count for _, count in others)
    if strays > max(most // 20, int(most > 1)):
        mixture = " and ".join(f"{count} {name}" for name, count in kinds.most_common())
        raise UserError(f"{place}: holds {mixture} files; move one kind to a folder of its own, and give that")
    if not strays:
        return kind, ""
    counts = ", ".join(f"{count} {name} file{'s' * (count > 1)}" for name, count in others)
    return kind, f"left aside: {counts}"


def _of_kind(place: Path, kind: str, names: Sequence[str], layout: SkeletonLayout | None) -> list[Source]:
    paths = [place / name for name in names]
    if kind == ".skeleton":
        return [SkeletonFiles(place)]
    if kind == ".json":
        _check_json(place, names)
        return [UclaFiles(place)]
    if kind == "_data.npy":
        return arrays_in_folder(paths, layout)
    if kind == ".npy":
        return [JointFiles(place, layout)]
    if kind == ".npz":
        return [_npz(path, layout) for path in paths]
    if kind == ".pkl":
        return [PysklFile(path, layout) for path in paths]
    return [KimoreFiles(place) if kind == "JointPosition.csv" else UiPrmdFiles(place)]


def _check_json(place: Path, names: Sequence[str]) -> None:
    """Raise UserError for JSON that is somebody else's, by its own name."""
    if any(UCLA_NAME.fullmatch(PurePosixPath(name).stem) for name in names):
        return
    files = dict(list_files(place))
    try:
        tree = orjson.loads(read_file(place, files[names[0]]))
    except (RejectedRecording, orjson.JSONDecodeError) as error:
        raise UserError(f"{place}: {names[0]}: cannot be read as JSON ({error})") from None
    raise UserError(f"{place}: {names[0]} is {_whose_json(tree)}")


def _whose_json(tree: object) -> str:
    """Name the maker of JSON that is not NW-UCLA's, and the way in that there is."""
    keys = tree.keys() if isinstance(tree, dict) else set()
    first = tree[0] if isinstance(tree, list) and tree else None
    if isinstance(tree, dict) and isinstance(tree.get("data"), list) and "label_index" in keys:
        return (
            "of ST-GCN's Kinetics-skeleton (OpenPose, 18 joints), which is not read as JSON; its train_data.npy with "
            "train_label.pkl are, with --layout openpose18"
        )
    own = "save motions and labels as an .npz"
    if "people" in keys:
        return f"OpenPose's output of one frame, without a label; {own}, with --layout openpose25 (BODY_25) or openpose18"
    if isinstance(first, dict) and "keypoints" in first:
        return f"a list of detections in COCO's form (AlphaPose and others), without labels; {own}, with --layout coco17"
    if {"images", "annotations"} <= set(keys):
        return f"COCO's annotations of single images, which hold no motion; {own}"
    return f"JSON, but not NW-UCLA's (a01_s01_e00_v01.json with `skeletons`); {own}"
