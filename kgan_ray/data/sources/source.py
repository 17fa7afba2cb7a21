"""What a source of recordings is, whatever its format; each format's reader is a class of this kind."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from kgan_ray.data.recording import Recording, as_float32
from kgan_ray.data.splits import SplitRule
from kgan_ray.skeleton import SkeletonLayout
from kgan_ray.storage import reading
from kgan_ray.validation import FrozenModel


class Item(NamedTuple):
    """One recording still to be read: its name, and where the source finds it (plain JSON values)."""

    name: str
    place: Any


class Traits(FrozenModel):
    """What all recordings of a source have in common."""

    layout: SkeletonLayout
    coordinates: int
    class_names: tuple[str, ...]
    splits: Mapping[str, SplitRule] | None = None  # None = no split of its own: every second subject trains
    # The classes are a published list, of which a source may hold a part.
    known_classes: bool = False


class Source(ABC):
    """A place with recordings. Instances go to workers, so they hold no open files."""

    kind: ClassVar[str]
    location: str
    traits: Traits
    own_splits: tuple[str, ...] = ()  # of several that the source has, the names; `split` chooses
    scale: tuple[float, ...] | None = None  # metres a unit, for all axes or for each; None = as it lies there
    split: str | None = None  # "hash" and "none" pass over the source's own
    left_aside: str = ""  # what lies beside the recordings and is of another kind

    @property
    @abstractmethod
    def description(self) -> str:
        """Say in a few words what the source was taken for: form, skeleton, bodies, split."""

    @abstractmethod
    def items(self) -> list[Item]:
        """List everything there is to read."""

    @abstractmethod
    def fetch(self, item: Item) -> bytes:
        """Read a file's bytes, of bounded size; empty for sources of arrays. Raises RejectedRecording."""

    @abstractmethod
    def parse(self, item: Item, data: bytes) -> Recording:
        """Turn the bytes into the recording. Raises RejectedRecording with the reason where it is not a good one."""

    def read(self, item: Item, data: bytes) -> Recording:
        """Parse, scaled to metres, and without the source's own split where another was chosen."""
        recording = self.parse(item, data)
        if self.split in ("hash", "none"):
            recording = dataclasses.replace(recording, fold=None)
        if self.scale is None:
            return recording
        factors = np.asarray(self.scale, np.float64)
        second = recording.motion_second
        return dataclasses.replace(
            recording,
            motion=as_float32(recording.motion * factors),
            motion_second=None if second is None else as_float32(second * factors),
        )

    @abstractmethod
    def files(self) -> list[Path]:
        """List the files on disk that hold the recordings."""

    @property
    def is_folder(self) -> bool:
        """Say whether each recording is a file of its own, so that hashing needs no second reading."""
        return False

    def fingerprint(self) -> str:
        """Hash names, sizes and times: it changes when a file is added, resized or touched, and needs no reading."""
        lines = []
        with reading(self.location):
            for file in self.files():
                status = os.stat(file)  # noqa: PTH116 (of 57 000 files it takes half as long as theirs)
                lines.append(f"{file.name} {status.st_size} {status.st_mtime_ns}")
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def sha256(self) -> str:
        """Hash a single file with SHA-256, as `sha256sum` prints it; of several files, that of their sorted list."""
        files = self.files()
        if len(files) == 1 and not self.is_folder:
            return file_sha256(files[0])
        return list_sha256((file.name, file_sha256(file)) for file in files)


def file_sha256(path: Path) -> str:
    """Hash a file with SHA-256; what is no plain file (a pipe) counts as empty. Raises StoreError."""
    with reading(path), open(path, "rb", opener=no_waiting) as file:
        is_plain = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        return hashlib.file_digest(file if is_plain else io.BytesIO(), "sha256").hexdigest()


def no_waiting(name: str, flags: int) -> int:
    """Open a file without waiting: a pipe would block for ever."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def list_sha256(digests: Iterable[tuple[str, str]]) -> str:
    """Hash the lines `digest  name`, sorted, as `sha256sum * | sort | sha256sum` prints."""
    lines = sorted(f"{digest}  {name}\n" for name, digest in digests)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
