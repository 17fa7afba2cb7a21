"""Annotations of recordings as pyskl and mmaction2 pickle them: names, labels, splits, and where the key points lie."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources import ntu
from kgan_ray.data.sources.arrays.pickles import BROKEN, PickledArray, Stretch, elements, read_pickle, text
from kgan_ray.settings import UserError

_TRAIN, _TEST = "train", ("val", "test")
MOST_VALUES = 64 << 20  # of one recording


class Annotation(NamedTuple):
    """One recording, but for the values of its key points."""

    name: str
    label: int | None  # None: it has none that is a whole number from 0
    shape: tuple[int, ...]  # of the key points
    height: int | None  # of the image, where they were found in one
    place: list[object]  # of the key points, as plain JSON values


def read_annotations(path: Path) -> tuple[dict[str, dict[str, int]], list[Annotation]]:
    """Read the splits, each {name: fold}, and the annotations. Raises UserError for any other file, and code in it."""
    tree = read_pickle(path)
    splits: dict[str, dict[str, int]] = {}
    annotations: Sequence[object] | None
    if isinstance(tree, dict):
        named = {text(key): value for key, value in tree.items()}
        annotations = elements(named.get("annotations"))
        lists = named.get("split")
        if isinstance(lists, dict):
            splits = _splits({text(key) or "": _names(path, names) for key, names in lists.items()})
    else:
        annotations = elements(tree)
    if not annotations or not any(
        isinstance(one, dict) and _field(one, "frame_dir") is not None for one in annotations
    ):
        raise UserError(
            f"{path}: a pickle, but not of pyskl's annotations ({{frame_dir, label, keypoint, total_frames}}); a pickle of "
            "labels goes with its *_data.npy"
        )
    return splits, _annotated(path, annotations)


def _names(path: Path, names: object) -> Sequence[object]:
    """Return the names of a list, a set or an array of text."""
    if isinstance(names, PickledArray) and names.dtype.kind in "SU":
        with path.open("rb") as file:
            return [text(name) for name in names.load(file).ravel().tolist()]
    return sorted(names, key=str) if isinstance(names, set | frozenset) else elements(names) or ()


def _splits(lists: Mapping[str, Sequence[object]]) -> dict[str, dict[str, int]]:
    """Pair the lists: xsub_train with xsub_val, train1 with test1, train with val; each pair is named by what is common."""
    splits = {}
    for name, members in lists.items():
        if _TRAIN not in name:
            continue
        for other in _TEST:
            if (counterpart := name.replace(_TRAIN, other)) in lists:
                common = name.replace(_TRAIN, "").strip("_-") or "own"
                folds = {_stem(member): 0 for member in members}
                splits[common] = folds | {_stem(member): 1 for member in lists[counterpart]}
                break
    return splits


def _field(annotation: Mapping[object, object], key: str) -> object:
    return annotation.get(key, annotation.get(key.encode()))


def _stem(name: object) -> str:
    """Return a recording's name: NTU's alone, where it holds one among folders and endings."""
    words = text(name) or str(name)
    match = ntu.NAME.search(words)
    return match.group() if match else words


def _annotated(path: Path, annotations: Sequence[object]) -> list[Annotation]:
    """Read what each annotation says, but for the values of its key points. A name that comes again gets a number."""
    read: list[Annotation] = []
    times: Counter[str] = Counter()
    for number, one in enumerate(annotations):
        if not isinstance(one, dict):  # pyskl's own script leaves None for recordings without a body
            read.append(Annotation(f"annotation {number}", None, (), None, ["nothing"]))
            continue
        given = _field(one, "frame_dir")
        name = f"annotation {number}" if given is None else _stem(given)
        times[name] += 1
        if times[name] > 1:
            name = f"{name} ({times[name]})"
        label = _label(_field(one, "label"))
        label = label if label is not None and 0 <= label < 10_000 else None
        keypoint = _field(one, "keypoint")
        if keypoint is None and _field(one, "raw_file") is not None:
            raise UserError(
                f"{path}: pyskl's table of contents of Kinetics-400, whose skeletons lie in files of their own (kpfiles); "
                "that form is not read"
            )
        heights = (_height(_field(one, key)) for key in ("img_shape", "original_shape"))
        height = next((height for height in heights if height), None)
        shape, place = _placed(keypoint)
        read.append(Annotation(name, label, shape, height, place))
    return read


def _height(shape: object) -> int | None:
    """Return the height of an image (height, width), a tuple, a list or an array; None for anything else."""
    if isinstance(shape, PickledArray) and isinstance(shape.values, bytes) and shape.dtype.kind in "iuf":
        shape = [int(value) for value in shape.load(io.BytesIO()).ravel()]
    size = elements(shape)
    return size[0] if size and isinstance(size[0], int) and size[0] > 0 else None


def _label(value: object) -> int | None:
    """Return a label from a number, an array of one number, or a one-hot row."""
    if isinstance(value, PickledArray) and isinstance(value.values, bytes):
        value = value.load(io.BytesIO()).ravel().tolist()
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, list | tuple) and all(one in (0, 1) for one in value) and sum(value) == 1:
        return [bool(one) for one in value].index(True)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def _placed(keypoint: object) -> tuple[tuple[int, ...], list[object]]:
    """Return the shape of key points, and where they lie; values in lists come along as text."""
    listed = elements(keypoint)
    if listed and isinstance(listed[0], PickledArray):  # an array a person
        shapes, places = zip(*(_placed(one) for one in listed), strict=True)
        return (len(listed), *shapes[0]), ["bodies", *places]
    if isinstance(keypoint, PickledArray) and not isinstance(keypoint.values, list):
        values = keypoint.values
        where: object = values.decode("latin1") if isinstance(values, bytes) else list(values)
        return keypoint.shape, [
            "array",
            list(keypoint.shape),
            keypoint.dtype.str,
            keypoint.order,
            keypoint.axes,
            where,
        ]
    array = _from_lists(keypoint)
    if array is None:
        return (), ["nothing"]
    return array.shape, [
        "array",
        list(array.shape),
        "<f4",
        "C",
        None,
        array.astype("<f4").tobytes().decode("latin1"),
    ]


def _from_lists(keypoint: object) -> np.ndarray | None:
    """Return key points that are nested lists, or an array of numbers as objects; None for anything else."""
    shape: list[int] = []
    values = inner = keypoint
    if isinstance(keypoint, PickledArray):
        shape, values = list(keypoint.shape), keypoint.values
    else:
        while isinstance(inner, list | tuple) and len(shape) < 4:
            shape.append(len(inner))
            inner = inner[0] if inner else None
    if not shape or math.prod(shape) > MOST_VALUES:
        return None
    try:
        return np.asarray(values, np.float32).reshape(shape)
    except (ValueError, TypeError):
        return None


def read_keypoint(path: Path, place: Sequence[object]) -> np.ndarray:
    """Read key points from where they lie. Raises RejectedRecording for what is no array of numbers, or cut short."""
    kind, *rest = place
    try:
        with path.open("rb") as file:
            if kind == "bodies":
                return np.stack([_read(file, one[1:]) for one in rest if isinstance(one, list)])
            if kind == "array":
                return _read(file, rest)
    except BROKEN as error:
        raise RejectedRecording(f"its key points cannot be read ({error})") from None
    raise RejectedRecording("its key points are no array of numbers")


def _read(file: io.BufferedReader, place: Sequence[Any]) -> np.ndarray:
    shape, dtype, order, axes, where = place
    if math.prod(shape) > MOST_VALUES:
        raise RejectedRecording(
            f"its key points have the shape {tuple(shape)}; at most {MOST_VALUES} values are read"
        )
    array = PickledArray()
    array.shape, array.dtype, array.order = tuple(shape), np.dtype(dtype), order
    if array.dtype.kind not in "biuf":
        raise RejectedRecording(f"its key points are {array.dtype}, no real numbers")
    array.axes = None if axes is None else tuple(axes)
    array.values = where.encode("latin1") if isinstance(where, str) else Stretch(*where)
    return array.load(file)
