"""Label files of published arrays: pickles of (names, labels), or `.npy`, read as data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kgan_ray.data.sources.arrays.pickles import PickledArray, elements, read_pickle, text
from kgan_ray.settings import UserError

MAX_BYTES = 256 << 20


def read_labels(path: Path) -> tuple[list[str] | None, np.ndarray]:
    """Read (names or None, int64 labels (N,)) from a pickle of (names, labels) or labels alone, or from `.npy`.

    Labels may be one-hot rows. Raises UserError for code in the pickle and for anything that is not labels.
    """
    names, labels = None, _load(path)
    pair = elements(labels)
    if pair is not None and len(pair) == 2 and not isinstance(pair[0], int):
        names, labels = pair
    array = whole_labels(_as_array(path, labels))
    if array is None:
        raise UserError(f"{path}: expected (names, labels) or labels, whole numbers one a sequence; found others")
    if names is None:
        return None, array
    listed = elements(names)
    if isinstance(names, PickledArray) and names.dtype.kind in "SU":
        listed = _as_array(path, names).tolist()
    read = [text(name) for name in listed or ()]
    if listed is None or None in read:
        raise UserError(f"{path}: expected (names, labels) with names as text")
    if len(read) != len(array):
        raise UserError(f"{path}: {len(read)} names and {len(array)} labels; they must be as many")
    return [str(name) for name in read], array


def whole_labels(array: np.ndarray) -> np.ndarray | None:
    """Return labels (N,) as int64, from whole numbers (N,) or (N, 1) or from one-hot rows (N, K); None for others."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biuf" and len(array):
        is_one_hot = ((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all()
        return array.argmax(axis=1).astype(np.int64) if is_one_hot else None
    return array.astype(np.int64) if array.ndim == 1 and array.dtype.kind in "iu" else None


def _as_array(path: Path, value: object) -> np.ndarray:
    try:
        if isinstance(value, PickledArray) and not isinstance(value.values, list):
            with path.open("rb") as file:
                return value.load(file)
        listed = elements(value)
        if listed is not None and all(_is_number(one) for one in listed):
            return np.asarray(listed)
        if listed is not None and all(isinstance(row, list) and all(map(_is_number, row)) for row in listed):
            return np.asarray(listed)
        return value if isinstance(value, np.ndarray) else np.empty((0, 0))
    except (ValueError, OverflowError, OSError, EOFError):
        return np.empty((0, 0))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _load(path: Path) -> object:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: {path.stat().st_size} bytes are too many for labels")
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as labels ({type(error).__name__}: {error})") from None
    return read_pickle(path)


def counted_from_one(labels: np.ndarray, num_names: int | None = None) -> bool:
    """Say whether labels count from 1: none is 0, and they are 1 .. K without a gap, or reach the number of names."""
    if labels.size == 0 or labels.min() != 1:
        return False
    return int(labels.max()) == (num_names if num_names is not None else len(np.unique(labels)))


def numbered(count: int) -> tuple[str, ...]:
    """Name classes that have no names by their numbers, which sort as they count."""
    width = len(str(count - 1))
    return tuple(f"class {label:0{width}}" for label in range(count))
