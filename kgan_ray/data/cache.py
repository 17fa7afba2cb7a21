"""Files that follow from a dataset and are kept beside it: its extractor, and the features of its splits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from kgan_ray.data.dataset import Dataset
from kgan_ray.publishing import write_whole
from kgan_ray.settings import UserError
from kgan_ray.storage import StorePath, describe, told


def kept_file(dataset: Dataset, name: str, make: Callable[[Path], None]) -> Path:
    """Return the file of that name in the dataset's cache, which `make` writes now unless it is there.

    Several processes may ask at once: one makes it, the others wait for it. A dataset behind a URI keeps the file
    beside it too, so that every machine measures with the same one. Raises StoreError where it cannot be kept.
    """
    file = cache_folder(dataset) / name
    with told(lambda error: f"{file.parent}: {name} cannot be kept there ({describe(error)})"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            if not file.exists() and not _fetched(dataset, file):
                make(file)
                _keep_beside(dataset, file)
    return file


def cache_folder(dataset: Dataset) -> Path:
    """Name the dataset's folder `cache` or, behind a URI and where nobody may write, one in the user's own cache."""
    if dataset.folder.is_local and os.access(dataset.path, os.W_OK):
        return Path(dataset.path) / "cache"
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "kgan_ray" / dataset.hash


def _fetched(dataset: Dataset, file: Path) -> bool:
    """Copy the file from the dataset's store, if it is there. Say whether it is here now."""
    if dataset.folder.is_local:
        return False
    try:
        data = (dataset.folder / "cache" / file.name).read_bytes()
    except OSError:
        return False
    write_whole(StorePath(file), data)
    return True


def _keep_beside(dataset: Dataset, file: Path) -> None:
    """Put the file into the dataset's store, unless this machine may not write there."""
    if not dataset.folder.is_local:
        with contextlib.suppress(UserError):
            write_whole(dataset.folder / "cache" / file.name, file.read_bytes())
