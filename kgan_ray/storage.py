"""Folders on local disk or behind a URI (s3://, gs://, whatever pyarrow or fsspec opens)."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

import fsspec
import pyarrow as pa
from pyarrow import fs

from kgan_ray.settings import UserError, refuse_password

MOST_READS = 5  # of a file that others replace meanwhile


def is_uri(path: str) -> bool:
    return "://" in path


def open_store(path: str) -> tuple[fs.FileSystem, str]:
    """The file system that holds `path`, and the path within it. Raises UserError for an unknown scheme."""
    if not is_uri(path):
        return fs.LocalFileSystem(), str(Path(path).absolute())
    refuse_password(
        path,
        where="storage",
        instead="give it as $AWS_SECRET_ACCESS_KEY, or in the files that the store's own tools read",
    )
    try:
        return fs.FileSystem.from_uri(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # not one of pyarrow's own schemes
        pass
    try:
        store, root = fsspec.core.url_to_fs(path)
    except (ValueError, ImportError) as error:
        raise UserError(f"{path}: cannot be opened ({error})") from None
    return fs.PyFileSystem(fs.FSSpecHandler(store)), root


def read_bytes(store: fs.FileSystem, path: str) -> bytes:
    with store.open_input_stream(path, compression=None) as stream:
        return stream.read()


def write_bytes(store: fs.FileSystem, path: str, data: bytes) -> None:
    with store.open_output_stream(path, compression=None) as stream:
        stream.write(data)


def describe(error: Exception) -> str:
    """What went wrong, in one line: pyarrow's messages carry hints of several lines."""
    return (getattr(error, "strerror", None) or str(error)).splitlines()[0]


class StorePath:
    """A path behind a URI, with those of pathlib's verbs that records of runs need. Folders come with their files.

    Where the store cannot be reached or refuses, each verb raises UserError; a missing file is FileNotFoundError.
    """

    def __init__(self, uri: str) -> None:
        """Raises UserError for what joins to no path."""
        if "?" in uri:
            raise UserError(f"{uri}: give the store's options in its own variables, for example $AWS_ENDPOINT_URL")
        self._uri = uri.rstrip("/")

    def __str__(self) -> str:
        return self._uri

    def __truediv__(self, name: str) -> StorePath:
        return StorePath(f"{self._uri}/{name}")

    @property
    def name(self) -> str:
        return PurePosixPath(self._uri).name

    @property
    def parent(self) -> StorePath:
        return StorePath(self._uri.rpartition("/")[0])

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[fs.FileSystem, str]]:
        try:
            yield self._place
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(f"{self._uri}: the store does not answer, or refuses ({describe(error)})") from None

    @cached_property
    def _place(self) -> tuple[fs.FileSystem, str]:
        return open_store(self._uri)

    def absolute(self) -> StorePath:
        return self

    def exists(self) -> bool:
        with self._opened() as (store, path):
            return bool(store.get_file_info(path).type != fs.FileType.NotFound)

    def mkdir(self, *, parents: bool = True, exist_ok: bool = True) -> None:
        """For stores that are file systems; object stores need none."""
        with self._opened() as (store, path):
            store.create_dir(path, recursive=parents)

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole of it: a file that is replaced while it is read would be cut to its former length."""
        with self._opened() as (store, path):
            for _ in range(MOST_READS):
                data = read_bytes(store, path)
                if store.get_file_info(path).size == len(data):
                    break
        return data.decode(encoding)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        with self._opened() as (store, path):
            if store.type_name not in ("s3", "gcs"):
                self.parent.mkdir()
            write_bytes(store, path, text.encode(encoding))

    def unlink(self, *, missing_ok: bool = False) -> None:
        if not missing_ok or self.exists():
            with self._opened() as (store, path):
                store.delete_file(path)

    def children(self) -> list[StorePath]:
        with self._opened() as (store, path):
            found = store.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return [self / info.base_name for info in found]

    def modified(self) -> float:
        """Seconds since 1970."""
        with self._opened() as (store, path):
            return float(store.get_file_info(path).mtime_ns) / 1e9

    def take(self, folder: Path) -> None:
        """Copy a local folder's files here."""
        with self._opened() as (store, path):
            fs.copy_files(str(folder), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=store)


AnyPath = Path | StorePath


def any_path(location: str) -> AnyPath:
    return StorePath(location) if is_uri(location) else Path(location)


def modified(path: AnyPath) -> float:
    """When a file was last changed, in seconds since 1970."""
    return path.modified() if isinstance(path, StorePath) else path.stat().st_mtime


def folders_with(parent: AnyPath, file: str) -> list[AnyPath]:
    """The folders in `parent` that hold `file`, by when it was last changed."""
    if isinstance(parent, StorePath):
        found: list[AnyPath] = [child for child in parent.children() if (child / file).exists()]
    else:
        found = [path.parent for path in parent.glob(f"*/{file}")]
    return sorted(found, key=lambda folder: modified(folder / file))


def write_whole(path: AnyPath, text: str) -> None:
    """Write a file of which the old content or the new one is there, never a part. Raises UserError if it fails."""
    try:
        if isinstance(path, StorePath):
            path.write_text(text)
        else:
            _replace(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({describe(error)}); what it held before stays") from None


def flush(path: Path) -> None:
    """Have the operating system put a file or folder on the disk, so that a power loss cannot take it back."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(part: Path, folder: Path) -> None:
    """Give the folder `part` its name `folder`, under which it appears only when all its files are on the disk."""
    for file in part.iterdir():
        flush(file)
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)
    flush(folder.parent)


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def written_locally(folder: AnyPath) -> Iterator[Path]:
    """A local folder to write files into: `folder` itself, or one whose files go there at the end."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)
        folder.take(Path(scratch))
