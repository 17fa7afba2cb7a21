"""Dataset folders on local disk or behind a URI (s3://, gs://, whatever pyarrow or fsspec opens)."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow as pa
from pyarrow import fs

from kgan_ray.settings import UserError, refuse_password


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
