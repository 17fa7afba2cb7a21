"""The arrays of a `.npz`, read in rows: a file of 10 GB takes the memory of one recording.

numpy writes members as they are (`savez`), so that a row lies at a known place in the file. Packed ones
(`savez_compressed`) can only be read from their beginning: those are unpacked once into a temporary file, in which zeros
take no room.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import io
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.arrays.pickles import BROKEN, PickledArray, elements, load_plain, text
from kgan_ray.settings import UserError

MOST_WHOLE = 1 << 30  # bytes of an array that is read in one piece: labels, names, objects
MOST_UNPACKED = 64 << 30  # bytes that a packed array may take on disk
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Member:
    """One array of a `.npz`: its type and shape, and where its values begin in `file`."""

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool
    header: int  # bytes of the member before its values
    offset: int  # of the values in `file`
    is_packed: bool
    file: str  # that holds the values as they are
    written: int  # when the .npz was, so that what is kept of it never belongs to an older one

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def size(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Read rows `first` to `last` - 1 of the first axis. Raises RejectedRecording if the file ends before."""
        if self.is_fortran:
            return _whole(self)[first:last]
        place = Path(self.file or "-")
        with (place if place.exists() else _unpacked(self)).open("rb", buffering=0) as file:
            file.seek(self.offset + first * self.row_bytes)
            data = file.read((last - first) * self.row_bytes)
        if len(data) != (last - first) * self.row_bytes:
            raise RejectedRecording(f"the file ends within {self.name}")
        return np.frombuffer(data, self.dtype).reshape(last - first, *self.shape[1:])

    def in_rows(self) -> Member:
        """Return the member so that its rows can be read: unpacked into a temporary file if it must be.

        Raises UserError if the disk has no room for it, or if it is large and stored column by column.
        """
        if self.is_fortran:
            if self.size > MOST_WHOLE:
                raise UserError(
                    f"{self.path}: {self.name} is stored column by column (Fortran order), so that no recording can be read "
                    f"by itself, and takes {self.size} bytes; save np.ascontiguousarray({self.name})"
                )
            return self
        if self.is_packed and self.size > MOST_UNPACKED:
            raise UserError(
                f"{self.path}: {self.name} takes {self.size} bytes unpacked; at most {MOST_UNPACKED} are: save it with np.savez"
            )
        return dataclasses.replace(self, file=str(_unpacked(self))) if self.is_packed else self

    def array(self) -> np.ndarray:
        """Read an array of moderate size in one piece; of text, also where it is pickled. Raises UserError for others."""
        if self.dtype.hasobject:
            return _texts(self)
        if self.size > MOST_WHOLE:
            raise UserError(
                f"{self.path}: {self.name} takes {self.size} bytes; at most {MOST_WHOLE} are read in one piece"
            )
        try:
            with zipfile.ZipFile(self.path) as packed, packed.open(f"{self.name}.npy") as stream:
                array: np.ndarray = npy.read_array(stream, allow_pickle=False)
                return array
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{self.path}: {self.name} cannot be read as an array of numbers or text ({error})"
            ) from None

    def objects(self) -> tuple[np.ndarray, ...]:
        """Read an array of objects that are arrays, such as motions of different lengths. Raises UserError for others.

        What is pickled in it is read as data; code in it is not run.
        """
        return _objects(self)


@functools.lru_cache(maxsize=2)
def _whole(member: Member) -> np.ndarray:
    return member.array()


def _texts(member: Member) -> np.ndarray:
    """Read an array of text that is stored as objects, as pandas' columns are. Raises UserError for other objects."""
    texts = [text(value) for value in _pickled(member)[1]]
    if None in texts:
        raise UserError(f"{member.path}: {member.name} is an array of objects; expected numbers or text")
    return np.array(texts, str)


@functools.lru_cache(maxsize=2)
def _objects(member: Member) -> tuple[np.ndarray, ...]:
    stream, listed = _pickled(member)
    try:
        arrays = [one.load(stream) for one in listed if isinstance(one, PickledArray)]
    except BROKEN as error:
        raise UserError(f"{member.path}: {member.name} cannot be read as an array of arrays ({error})") from None
    if len(arrays) != len(listed) or not arrays:
        raise UserError(f"{member.path}: {member.name} is an array of objects that are not arrays of numbers")
    return tuple(arrays)


def _pickled(member: Member) -> tuple[io.BytesIO, Sequence[object]]:
    """Read what an array of objects holds, as data, and the bytes that its arrays' values are in."""
    try:
        with zipfile.ZipFile(member.path) as packed:
            size = packed.getinfo(f"{member.name}.npy").file_size
            if size > MOST_WHOLE:
                raise UserError(
                    f"{member.path}: {member.name} holds objects of {size} bytes; at most {MOST_WHOLE} are read: save the "
                    "motions end to end, with their lengths"
                )
            data = packed.read(f"{member.name}.npy")
        stream = io.BytesIO(data)
        stream.seek(member.header)
        return stream, elements(load_plain(stream, len(data), keep_all=True)) or ()
    except (*BROKEN, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{member.path}: {member.name} cannot be read as an array of arrays ({error})") from None


def open_npz(path: Path) -> dict[str, Member]:
    """Read what the arrays of a `.npz` are, by name, without their values. Raises UserError for what is no `.npz`."""
    try:
        with zipfile.ZipFile(path) as packed, path.open("rb") as file:
            return {
                info.filename.removesuffix(".npy"): _member(path, packed, info, file)
                for info in packed.infolist()
                if info.filename.endswith(".npy")
            }
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as a .npz of arrays ({error})") from None


def _member(path: Path, packed: zipfile.ZipFile, info: zipfile.ZipInfo, file: BinaryIO) -> Member:
    with packed.open(info) as stream:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(stream)
        header = offset = stream.tell()
    is_packed = info.compress_type != zipfile.ZIP_STORED
    if not is_packed:
        file.seek(info.header_offset)
        local = file.read(30)
        offset += (
            info.header_offset
            + 30
            + int.from_bytes(local[26:28], "little")
            + int.from_bytes(local[28:30], "little")
        )
    name = info.filename.removesuffix(".npy")
    place = str(path.absolute())
    return Member(
        path=place,
        name=name,
        shape=shape,
        dtype=dtype,
        is_fortran=is_fortran,
        header=header,
        offset=offset,
        is_packed=is_packed,
        file="" if is_packed else place,
        written=path.stat().st_mtime_ns,
    )


_unpacked_files: dict[tuple[str, str, int], Path] = {}


def _unpacked(member: Member) -> Path:
    """Unpack a member into a temporary file, which goes with this process; once only."""
    key = member.path, member.name, member.written
    if key in _unpacked_files:
        return _unpacked_files[key]
    folder = tempfile.gettempdir()
    handle, name = tempfile.mkstemp(prefix="kgan_ray-unpacked-", suffix=".npy", dir=folder)
    os.close(handle)
    place = Path(name)
    atexit.register(place.unlink, missing_ok=True)
    try:
        with (
            zipfile.ZipFile(member.path) as packed,
            packed.open(f"{member.name}.npy") as stream,
            place.open("wb") as file,
        ):
            while file.tell() < member.offset + member.size and (block := stream.read(_BLOCK)):
                if block.count(0) < len(block):
                    file.write(block)
                else:
                    file.seek(len(block), os.SEEK_CUR)
                if shutil.disk_usage(folder).free < 16 * _BLOCK:
                    raise OSError(28, "no room left")
            file.truncate()
    except (OSError, zipfile.BadZipFile) as error:
        place.unlink(missing_ok=True)
        raise UserError(
            f"{member.path}: {member.name} is packed and cannot be unpacked in {folder} ({error}); $TMPDIR names another "
            "folder, and np.savez in place of np.savez_compressed needs none"
        ) from None
    _unpacked_files[key] = place
    return place
