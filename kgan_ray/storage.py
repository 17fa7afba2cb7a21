"""Files and folders, on this machine or behind a URI: the project's one path, for datasets, runs, sweeps and caches.

pyarrow opens s3:// and gs:// with no further package, as it does for Ray; fsspec opens whatever else it knows. (Its
universal_pathlib needs s3fs, whose pinned botocore shuts out the boto3 of `ray up`.)
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fsspec
import pyarrow as pa
from pyarrow import fs

from kgan_ray.settings import UserError, refuse_password

_DETAIL = re.compile(r"^.*Detail: \[errno \d+\] ")  # how pyarrow begins what the operating system said
MOST_READS = 5  # of a file that others replace meanwhile


class StoreError(UserError, OSError):
    """A store that does not answer, refuses or is full: one line for the user, an OSError for code that can do without."""


def describe(error: Exception) -> str:
    """Say in one line what went wrong: pyarrow's messages name files again, and carry hints of several lines."""
    line: str = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
    return _DETAIL.sub("", line)


@contextlib.contextmanager
def told(line: Callable[[OSError], str]) -> Iterator[None]:
    """Turn an OSError within into a StoreError of this line; one that is told already passes."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(line(error)) from None


def reading(location: object) -> contextlib.AbstractContextManager[None]:
    """Turn an OSError within into a StoreError that names the file, or else `location`."""
    return told(lambda error: f"{error.filename or location}: cannot be read ({describe(error)})")


class StorePath:
    """A file or folder on this machine or behind a URI, with those of pathlib's verbs that the project needs.

    Behind a URI every verb raises StoreError where the store cannot be reached or refuses; on this machine it is an
    OSError. A missing file is FileNotFoundError everywhere. Folders come with the files that are written into them.
    """

    def __init__(self, location: str | os.PathLike[str] | StorePath) -> None:
        """Raises UserError for a URI with options or a password, which would end up in records and logs."""
        text = str(location)
        if text.startswith("file://"):
            text = url2pathname(urlsplit(text).path)
        self.is_local = "://" not in text
        self._location = str(Path(text)) if self.is_local else text.rstrip("/")
        if self.is_local:
            return
        if "?" in text:
            raise UserError(
                f"{text}: give the store's options in its own variables, for example $AWS_ENDPOINT_URL"
            )
        refuse_password(
            text,
            where="storage",
            instead="give it as $AWS_SECRET_ACCESS_KEY, or in the files that the store's own tools read",
        )

    def __str__(self) -> str:
        return self._location

    def __repr__(self) -> str:
        return f"StorePath({self._location!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and self._location == other._location

    def __hash__(self) -> int:
        return hash(self._location)

    def __reduce__(self) -> tuple[type[StorePath], tuple[str]]:
        return StorePath, (self._location,)

    def __truediv__(self, name: str) -> StorePath:
        return StorePath(Path(self._location) / name if self.is_local else f"{self._location}/{name}")

    @property
    def name(self) -> str:
        return PurePosixPath(self._location).name

    @property
    def parent(self) -> StorePath:
        return StorePath(Path(self._location).parent if self.is_local else self._location.rpartition("/")[0])

    @property
    def local(self) -> Path:
        """Return the path on this machine. Raises UserError for one behind a URI."""
        if not self.is_local:
            raise UserError(f"{self}: a folder on this machine is needed here")
        return Path(self._location).expanduser()

    def absolute(self) -> StorePath:
        return StorePath(self.local.absolute()) if self.is_local else self

    @property
    def filesystem(self) -> fs.FileSystem:
        """Return the pyarrow file system that holds the path. Raises UserError for an unknown scheme."""
        return self._place[0]

    @property
    def path(self) -> str:
        """Return the path within `filesystem`."""
        return self._place[1]

    @cached_property
    def _place(self) -> tuple[fs.FileSystem, str]:
        if self.is_local:
            return fs.LocalFileSystem(), str(self.local.absolute())
        try:
            return fs.FileSystem.from_uri(self._location)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # not one of pyarrow's own schemes
            pass
        try:
            store, path = fsspec.core.url_to_fs(self._location)
        except (ValueError, ImportError) as error:
            raise UserError(f"{self}: cannot be opened ({error})") from None
        return fs.PyFileSystem(fs.FSSpecHandler(store)), path

    @contextlib.contextmanager
    def answering(self) -> Iterator[tuple[fs.FileSystem, str]]:
        """Give the file system and the path within it; turn the errors of a store into StoreErrors."""
        try:
            yield self._place
        except FileNotFoundError:
            raise
        except OSError as error:
            if self.is_local:
                raise
            raise StoreError(f"{self}: the store does not answer, or refuses ({describe(error)})") from None

    def _info(self) -> fs.FileInfo:
        with self.answering() as (store, path):
            return store.get_file_info(path)

    def exists(self) -> bool:
        return bool(self._info().type != fs.FileType.NotFound)

    def is_file(self) -> bool:
        return bool(self._info().type == fs.FileType.File)

    def modified(self) -> float:
        """Return when the file was last changed, in seconds since 1970; 0 where the store does not say."""
        return float(self._info().mtime_ns or 0) / 1e9

    def children(self) -> list[StorePath]:
        """List what a folder holds, by name; nothing for a folder that is not there."""
        with self.answering() as (store, path):
            entries = store.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return [self / name for name in sorted(entry.base_name for entry in entries)]

    def read_bytes(self) -> bytes:
        """Read the whole file: one that is replaced while it is read would be cut to its former length."""
        with self.answering() as (store, path):
            for _ in range(MOST_READS):
                with store.open_input_stream(path, compression=None) as stream:
                    data: bytes = stream.read()
                if store.get_file_info(path).size == len(data):
                    break
        return data

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """Write a file in place. One that others read or that a restart needs is written by `write_whole`."""
        if not self.keeps_objects:
            self.parent.mkdir()
        with self.answering() as (store, path), store.open_output_stream(path, compression=None) as stream:
            stream.write(data)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    @property
    def keeps_objects(self) -> bool:
        """Say whether the store keeps objects, which appear whole and need no folders."""
        return self.filesystem.type_name in ("s3", "gcs", "abfs")

    def mkdir(self, *, parents: bool = True, exist_ok: bool = True) -> None:
        with self.answering() as (store, path):
            store.create_dir(path, recursive=parents)

    def unlink(self, *, missing_ok: bool = False) -> None:
        if not missing_ok or self.exists():
            with self.answering() as (store, path):
                store.delete_file(path)

    def take(self, folder: Path) -> None:
        """Copy a local folder's files here."""
        with self.answering() as (store, path):
            fs.copy_files(str(folder), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=store)

    @contextlib.contextmanager
    def on_this_machine(self) -> Iterator[Path]:
        """Give the folder itself, or a copy of it for as long as it is needed."""
        if self.is_local:
            yield self.local
            return
        with tempfile.TemporaryDirectory() as scratch, self.answering() as (store, path):
            copy = Path(scratch) / self.name
            copy.mkdir()
            fs.copy_files(path, str(copy), source_filesystem=store, destination_filesystem=fs.LocalFileSystem())
            yield copy


def folders_with(parent: StorePath, file: str) -> list[StorePath]:
    """List the folders in `parent` that hold `file`, by when it was last changed."""
    folders = [child for child in parent.children() if (child / file).exists()]
    return sorted(folders, key=lambda folder: (folder / file).modified())


@contextlib.contextmanager
def written_locally(folder: StorePath) -> Iterator[Path]:
    """Give a local folder to write files into: `folder` itself, or one whose files go there at the end."""
    if folder.is_local:
        folder.mkdir()
        yield folder.local
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)
        folder.take(Path(scratch))
