"""A dataset folder comes into being whole or not at all.

On local disk it grows beside its place and is renamed at the end. Object stores cannot rename a folder: there
the parts are written in place and the manifest, without which a folder is no dataset, comes last.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from pyarrow import fs

from kgan_ray.data.dataset import MANIFEST, REJECTED, Dataset, Manifest
from kgan_ray.settings import UserError
from kgan_ray.storage import is_uri, open_store, write_bytes


def existing_dataset(folder: str, *, force: bool) -> Dataset | None:
    """The dataset that is there already, if any. Raises UserError for a folder that holds anything else.

    With `force`, a dataset that cannot be read (a newer format, a broken manifest) counts as none.
    """
    store, root = open_store(folder)
    info = store.get_file_info(root)
    if info.type == fs.FileType.NotFound:
        return None
    if info.type == fs.FileType.File:
        raise UserError(f"--output {folder}: is a file; a folder is needed")
    inside = store.get_file_info(fs.FileSelector(root, recursive=False))
    if any(entry.base_name == MANIFEST for entry in inside):
        try:
            return Dataset.open(folder)
        except UserError:
            if force:
                return None
            raise
    if inside and not is_uri(folder):
        raise UserError(f"--output {folder}: holds files that are no dataset; choose an empty or a new folder")
    return None


@contextlib.contextmanager
def publishing(folder: str) -> Iterator[str]:
    """A folder to write a dataset into; on a normal end it becomes `folder`, else nothing of it stays."""
    make = _publishing_remote if is_uri(folder) else _publishing_local
    with make(folder) as unfinished:
        yield unfinished


@contextlib.contextmanager
def _publishing_local(folder: str) -> Iterator[str]:
    final = Path(folder).absolute()
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep_up(final)
    unfinished = final.with_name(f".{final.name}.{socket.gethostname()}-{os.getpid()}.partial")
    (unfinished / "motions").mkdir(parents=True)
    try:
        yield str(unfinished)
        old = unfinished.with_suffix(".replaced")
        if final.exists():
            final.rename(old)
        unfinished.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _sweep_up(final: Path) -> None:
    """Clear up after prepares of this folder that were killed on this machine."""
    prefix = f".{final.name}.{socket.gethostname()}-"
    for leftover in final.parent.glob(f"{prefix}*"):
        pid, _, kind = leftover.name[len(prefix) :].partition(".")
        if not pid.isdigit() or _is_alive(int(pid)) or kind not in ("partial", "replaced"):
            continue
        if kind == "replaced" and not final.exists():  # killed between the two renames
            leftover.rename(final)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    """Whether another process of this id runs; one of our own id was in an earlier container."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _publishing_remote(folder: str) -> Iterator[str]:
    store, root = open_store(folder)
    if store.get_file_info(root).type == fs.FileType.Directory:
        store.delete_dir_contents(root, missing_dir_ok=True)
    store.create_dir(f"{root}/motions", recursive=True)
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):
            store.delete_dir_contents(root, missing_dir_ok=True)
        raise


def write_manifest(folder: str, manifest: Manifest, rejected: Sequence[dict[str, Any]]) -> None:
    """`rejected.jsonl`, where there is anything to say, and then the manifest."""
    store, root = open_store(folder)
    if rejected:
        write_bytes(store, f"{root}/{REJECTED}", b"".join(orjson.dumps(row) + b"\n" for row in rejected))
    text = orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    write_bytes(store, f"{root}/{MANIFEST}", text + b"\n")
