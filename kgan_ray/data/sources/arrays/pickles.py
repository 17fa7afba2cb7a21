"""Pickles of others, read as data: no code that a pickle names is ever run, and long values stay in the file.

Lists, dictionaries, text, numbers and numpy arrays are read, of every protocol and written by Python 2 or 3. An array
becomes a `PickledArray`, which knows where its values lie: a file of gigabytes takes memory for its structure alone.
Python's own unpickler in Python does the work (`pickle._Unpickler`, as in joblib); here every value that could name code
or claim memory is replaced.
"""

from __future__ import annotations

import codecs
import pickle
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple

import numpy as np

from kgan_ray.settings import UserError

SHORT = 1024  # bytes that are read at once; longer values stay where they are
MOST_NUMBERS = 32 << 20  # single numbers in lists, each of which Python holds as an object of its own

BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    MemoryError,
    OverflowError,
    RecursionError,
    struct.error,
)


class Forbidden(pickle.UnpicklingError):
    """The pickle names something beyond plain values and arrays."""


class Stretch(NamedTuple):
    """Bytes that stay in the file; `is_text` where they are written as latin-1 text in UTF-8, as protocol 2 does."""

    offset: int
    length: int
    is_text: bool

    def read(self, file: BinaryIO) -> bytes:
        file.seek(self.offset)
        data = file.read(self.length)
        return codecs.latin_1_encode(data.decode("utf-8"))[0] if self.is_text else data


class _Type:
    """A numpy dtype as pickles spell it: its code, and a state that holds the byte order."""

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = str(code)
        self.order = "="

    def set_state(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]

    @property
    def dtype(self) -> np.dtype:
        plain = re.fullmatch(r"[<>=|]?([?biufcSUO])(\d*)", self.code)
        if not plain:
            raise Forbidden(f"numpy values of the type {self.code[:40]!r}")
        return np.dtype("O" if plain[1] == "O" else self.order + plain[1] + plain[2])


class PickledArray:
    """An array in a pickle: its shape and type, and its values or where they lie. Arrays of objects hold a list."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype(np.int8)
        self.order = "C"
        self.axes: tuple[int, ...] | None = None  # the transposition that follows, in protocol 5
        self.values: bytes | Stretch | list[object] = b""

    def set_state(self, state: object) -> None:
        """Take what `ndarray.__reduce__` wrote: (version, shape, dtype, Fortran order, values)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array without its values")
        _, shape, dtype, is_fortran, values = state
        self._fill(shape, dtype, values)
        self.order = "F" if is_fortran else "C"

    def _fill(self, shape: object, dtype: object, values: object) -> None:
        if not isinstance(dtype, _Type) or not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
            raise pickle.UnpicklingError("an array without shape or type")
        self.shape, self.dtype = shape, dtype.dtype
        if isinstance(values, str):  # Python 2's bytes
            values = codecs.latin_1_encode(values)[0]
        expected = list if self.dtype.hasobject else (bytes, bytearray, Stretch)
        if not isinstance(values, expected):
            raise pickle.UnpicklingError("an array without its values")
        self.values = bytes(values) if isinstance(values, bytearray) else values

    def load(self, file: BinaryIO) -> np.ndarray:
        """Read the values. Raises UnpicklingError if they are not as many as the shape says, or objects."""
        if isinstance(self.values, list):
            raise pickle.UnpicklingError("an array of objects in place of numbers")
        data = self.values.read(file) if isinstance(self.values, Stretch) else self.values
        if len(data) != self.dtype.itemsize * int(np.prod(self.shape, dtype=object)):
            raise pickle.UnpicklingError("an array whose values are cut short")
        array = np.frombuffer(data, self.dtype).reshape(self.shape, order="F" if self.order == "F" else "C")
        return array if self.axes is None else array.transpose(self.axes)


def _reconstruct(*_: object) -> PickledArray:
    """Stand for numpy's function, which would make an object of whatever class it is told."""
    return PickledArray()


def _from_buffer(
    values: object, dtype: object, shape: object, order: object = "C", axes: tuple[int, ...] | None = None
) -> PickledArray:
    """Stand for numpy's function of protocol 5."""
    array = PickledArray()
    array._fill(shape, dtype, values)
    array.order, array.axes = str(order), axes if order == "K" else None
    return array


def _encode(text: object, encoding: object = "latin1") -> bytes | Stretch:
    """Stand for `codecs.encode`, which would run any codec; protocols up to 2 spell bytes as latin-1 text."""
    if encoding not in ("latin1", "latin-1"):
        raise Forbidden(f"_codecs.encode to {encoding}")
    return text if isinstance(text, Stretch) else codecs.latin_1_encode(str(text))[0]


def _scalar(dtype: object, data: object = b"") -> object:
    """Read a number or text that numpy pickled by itself."""
    if not isinstance(dtype, _Type) or dtype.dtype.hasobject or not isinstance(data, bytes | str):
        raise Forbidden("numpy scalar of objects")
    raw = codecs.latin_1_encode(data)[0] if isinstance(data, str) else data
    return np.frombuffer(raw, dtype.dtype)[0].item()


def _dictionary(*_: object) -> dict[object, object]:
    """Stand for OrderedDict and defaultdict, whose content follows."""
    return {}


class _ArrayClass:
    """Stands for numpy.ndarray where a pickle names it as an argument; calling it makes nothing."""


_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _ArrayClass,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _dictionary,
    ("collections", "defaultdict"): _dictionary,
}
for _builtins in ("builtins", "__builtin__"):
    _ALLOWED |= {(_builtins, kind.__name__): kind for kind in (list, dict, set, frozenset, tuple)}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _PlainUnpickler(pickle._Unpickler):
    """Python's unpickler, with other hands for what could run code or take memory."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[object]  # these three are set by `load`
    append: Callable[[object], None]
    read: Callable[[int], bytes]

    def __init__(self, file: BinaryIO, size: int, longest: int) -> None:
        super().__init__(file, encoding="latin1")
        self.file, self.size, self.longest = file, size, longest
        self.numbers = 0

    def find_class(self, module: str, name: str) -> object:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise Forbidden(f"{module}.{name}") from None

    def persistent_load(self, pid: object) -> object:
        raise Forbidden("a persistent object")

    def value(self, length: int, *, is_text: bool = False) -> bytes | Stretch:
        """Read the next bytes if they are few; else say where they lie and pass over them."""
        offset = self.file.tell()
        if length > self.size - offset:
            raise pickle.UnpicklingError("a value that is longer than the file")
        if length <= self.longest:
            return self.file.read(length)
        self.file.seek(length, 1)
        return Stretch(offset, length, is_text)

    def skip_frame_size(self) -> None:
        """Read on without it: it only says how much to read ahead, and values that stay in the file cross frames."""
        self.read(8)

    def push_bytes(self, width: int) -> None:
        self.append(self.value(int.from_bytes(self.read(width), "little")))

    def push_text(self, width: int) -> None:
        value = self.value(int.from_bytes(self.read(width), "little"), is_text=True)
        self.append(value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value)

    def push_old_text(self, width: int) -> None:
        value = self.value(int.from_bytes(self.read(width), "little"))
        self.append(value.decode("latin1") if isinstance(value, bytes) else value)

    def push_long(self) -> None:
        value = self.value(int.from_bytes(self.read(4), "little"))
        if isinstance(value, Stretch):
            raise pickle.UnpicklingError("a whole number of thousands of digits")
        self.append(pickle.decode_long(value))

    def push_float(self) -> None:
        self.numbers += 1
        if self.numbers > MOST_NUMBERS:
            raise pickle.UnpicklingError(
                f"more than {MOST_NUMBERS} numbers in lists; save them as numpy arrays, which are read in parts"
            )
        self.append(struct.unpack(">d", self.read(8))[0])

    def set_state(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, PickledArray | _Type):
            raise Forbidden(f"a state for {type(target).__name__}")
        target.set_state(state)


def _replace(opcode: bytes, hand: Callable[[_PlainUnpickler], None]) -> None:
    _PlainUnpickler.dispatch[opcode[0]] = hand


_replace(pickle.FRAME, _PlainUnpickler.skip_frame_size)
_replace(pickle.SHORT_BINBYTES, lambda reader: reader.push_bytes(1))
_replace(pickle.BINBYTES, lambda reader: reader.push_bytes(4))
_replace(pickle.BINBYTES8, lambda reader: reader.push_bytes(8))
_replace(pickle.BYTEARRAY8, lambda reader: reader.push_bytes(8))
_replace(pickle.BINUNICODE, lambda reader: reader.push_text(4))
_replace(pickle.BINUNICODE8, lambda reader: reader.push_text(8))
_replace(pickle.SHORT_BINSTRING, lambda reader: reader.push_old_text(1))
_replace(pickle.BINSTRING, lambda reader: reader.push_old_text(4))
_replace(pickle.LONG4, _PlainUnpickler.push_long)
_replace(pickle.BINFLOAT, _PlainUnpickler.push_float)
_replace(pickle.BUILD, _PlainUnpickler.set_state)


def load_plain(file: BinaryIO, size: int, *, keep_all: bool = False) -> object:
    """Read one pickle from where `file` stands; it ends before `size`. With `keep_all`, long values are read too.

    Raises Forbidden for code, and any of `BROKEN` for what is no pickle.
    """
    value: object = _PlainUnpickler(file, size, size if keep_all else SHORT).load()
    return value


def read_pickle(path: Path) -> object:
    """Read a file that holds one pickle. Raises UserError for code in it and for what is no pickle."""
    try:
        with path.open("rb") as file:
            return load_plain(file, path.stat().st_size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Forbidden as error:
        raise UserError(
            f"{path}: holds {error}, which is code and was not run; accepted are lists, text, numbers and arrays"
        ) from None
    except BROKEN as error:
        raise UserError(f"{path}: cannot be read as a pickle ({type(error).__name__}: {error})") from None


def elements(value: object) -> Sequence[object] | None:
    """Return the elements of a list, a tuple or an array of objects; None for anything else."""
    if isinstance(value, PickledArray) and isinstance(value.values, list) and len(value.shape) == 1:
        return value.values
    return value if isinstance(value, list | tuple) else None


def text(value: object) -> str | None:
    """Return text that is text or bytes; None for anything else."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None
