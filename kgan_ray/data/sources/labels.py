"""Published label files: pickles of (names, labels), read as data. No code that a pickle names is ever run."""

from __future__ import annotations

import codecs
import io
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np

from kgan_ray.settings import UserError

MAX_BYTES = 256 << 20

_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    MemoryError,
    OverflowError,
    RecursionError,
    struct.error,
)


class _Forbidden(pickle.UnpicklingError):
    """The pickle names something beyond plain values and arrays."""


def _empty_array(*_: object) -> np.ndarray:
    """Stand for numpy's `_reconstruct`, which would make an object of whatever class it is told."""
    return np.empty(0, np.int8)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand for `codecs.encode`, which would run any codec; newer pickles spell bytes as latin1 text."""
    if encoding not in ("latin1", "latin-1"):
        raise _Forbidden(f"_codecs.encode to {encoding}")
    return codecs.latin_1_encode(text)[0]


def _scalar(dtype: object, data: bytes = b"") -> object:
    """Read numpy's pickled scalars; object dtypes would unpickle once more."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise _Forbidden("numpy scalar of objects")
    scalar: object = np.frombuffer(data, dtype)[0]
    return scalar


def _from_buffer(
    data: bytes, dtype: object, shape: tuple[int, ...], order: object = "C", _axes: object = None
) -> np.ndarray:
    """Stand for numpy's function of protocol 5; labels have one axis, so the order does not matter."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise _Forbidden("numpy array of objects")
    return np.frombuffer(data, dtype).reshape(shape)


class _ArrayClass:
    """Stands for numpy.ndarray where a pickle names it as an argument; calling it makes nothing."""


_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _ArrayClass,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = _empty_array
    _ALLOWED[_module, "scalar"] = _scalar
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _ALLOWED[_module, "_frombuffer"] = _from_buffer


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Forbidden(f"{module}.{name}") from None

    def persistent_load(self, pid: object) -> object:
        raise _Forbidden("a persistent object")


def read_labels(path: Path) -> tuple[list[str] | None, np.ndarray]:
    """Read (names or None, int64 labels (N,)) from a pickle of (names, labels) or labels alone, or from `.npy`.

    Raises UserError for code in the pickle and for anything that is not labels.
    """
    names, labels = None, _load(path)
    if isinstance(labels, tuple | list) and len(labels) == 2 and not isinstance(labels[0], int | np.integer):
        names, labels = labels
    try:
        array = np.asarray(labels)
    except (ValueError, TypeError):
        array = np.empty((0, 0))
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{path}: expected (names, labels) or labels, whole numbers one a sequence; found others")
    if names is None:
        return None, array.astype(np.int64)
    if not isinstance(names, list | tuple | np.ndarray) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: expected (names, labels) with names as text")
    if len(names) != len(array):
        raise UserError(f"{path}: {len(names)} names and {len(array)} labels; they must be as many")
    return [str(name) for name in names], array.astype(np.int64)


def _load(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: {path.stat().st_size} bytes are too many for labels")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        if path.suffix == ".npy":
            return np.load(io.BytesIO(data), allow_pickle=False)
        _check_memo(data)
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _Forbidden as error:
        raise UserError(
            f"{path}: holds {error}, which is code and was not run; accepted are lists, text, numbers and arrays"
        ) from None
    except _BROKEN as error:
        raise UserError(f"{path}: cannot be read as labels ({type(error).__name__}: {error})") from None


def _check_memo(data: bytes) -> None:
    """Refuse a pickle that puts a value at an absurd memo index: the unpickler would fill as much memory."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"absurd memo index {argument}")
