"""Files in a folder or in a zip, listed once and read in place, each of bounded size."""

from __future__ import annotations

import contextlib
import importlib
import os
import stat
import zipfile
import zlib
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.source import no_waiting
from kgan_ray.settings import UserError
from kgan_ray.storage import reading

inflate: ModuleType = zlib
with contextlib.suppress(ImportError):  # it has wheels for the usual machines, not for all
    inflate = importlib.import_module("isal.isal_zlib")  # inflates 2.4 times faster, half of a recording's cost

MAX_BYTES = 64 << 20  # of one file, unpacked; genuine ones stay below 2 MB
_LOCAL_HEADER = 30


# Where a file is: its path in a folder, or what a zip's directory says of it. Plain JSON values, which go to workers.
Place = str | list[int]


def list_files(path: Path) -> list[tuple[str, Place]]:
    """List (name within, place) of every file of a folder or zip, sorted; `place` is what `read_file` wants.

    Hidden files are left out; folders and files that are links are followed.
    Nothing is ever unpacked to disk; a zip with a member that would climb out of its folder is refused all the
    same, since somebody else may unpack it. Raises UserError.
    """
    files = _list_folder(path) if path.is_dir() else _list_zip(path)
    for name, _ in files:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            raise UserError(f"{path}: its member {name!r} lies outside the archive; such a zip is not read")
    return sorted(item for item in files if not _is_hidden(item[0]))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _list_folder(path: Path) -> list[tuple[str, Place]]:
    files: list[tuple[str, Place]] = []
    entered = set()
    with reading(path):
        for folder, folders, names in os.walk(path, followlinks=True, onerror=_raise):
            real = os.path.realpath(folder)
            if real in entered:  # a link to a folder above it, or to one that was walked already
                folders.clear()
                continue
            entered.add(real)
            within = "" if folder == str(path) else f"{Path(folder).relative_to(path).as_posix()}/"
            files += [(within + name, within + name) for name in names]
    return files


def _raise(error: OSError) -> None:
    """Raise what `os.walk` would pass over: the recordings of such a folder would be missing without a word."""
    raise error


def _list_zip(path: Path) -> list[tuple[str, Place]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path}: cannot be read as a zip ({error})") from None
    return [
        (m.filename, [m.header_offset, m.compress_size, m.file_size, m.compress_type, m.CRC, m.flag_bits & 1])
        for m in members
        if not m.is_dir()
    ]


def read_file(path: Path, place: Place) -> bytes:
    """Read one file's bytes.

    Raises RejectedRecording if it is too large, damaged, or not a plain file, and StoreError where the system does not give
    it: that is no fault of the recording's, and the next one may fare the same.
    """
    with reading(path):
        if not isinstance(place, list):
            return _read_plain(path / place)
        with path.open("rb", buffering=0) as archive:
            return _read_member(archive, place)


def _read_plain(file: Path) -> bytes:
    with open(file, "rb", opener=no_waiting) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise RejectedRecording("not a plain file")
        if status.st_size > MAX_BYTES:
            raise RejectedRecording(f"{status.st_size} bytes; at most {MAX_BYTES} are accepted")
        return stream.read(MAX_BYTES)


def _read_member(archive: BinaryIO, place: list[int]) -> bytes:
    """Inflate one member ourselves: zipfile takes half as long again, and trusts the declared size."""
    offset, packed_size, size, method, crc, encrypted = place
    if encrypted or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RejectedRecording("packed in a way that is not read here: encrypted, or neither stored nor deflated")
    if max(size, packed_size) > MAX_BYTES:
        raise RejectedRecording(f"{max(size, packed_size)} bytes; at most {MAX_BYTES} are accepted")
    archive.seek(offset)
    header = archive.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise RejectedRecording("the zip is damaged here")
    archive.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
    data = archive.read(packed_size)
    if method == zipfile.ZIP_DEFLATED:
        try:
            data = inflate.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
        except inflate.error:
            raise RejectedRecording("the zip is damaged here") from None
    if len(data) != size or zlib.crc32(data) != crc:
        raise RejectedRecording("the zip is damaged here: size or checksum differ from its directory")
    return data
