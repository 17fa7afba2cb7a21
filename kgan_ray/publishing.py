"""One way to appear whole, for a file and for a folder.

What a restart or another process may read is written by `write_whole` or in a `whole_folder`: after a kill or a power
loss at any moment, the old content is there or the new one, never a part.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

from kgan_ray.settings import UserError
from kgan_ray.storage import StorePath, describe, told


def write_whole(file: StorePath, data: str | bytes) -> None:
    """Write a file of which the old content or the new one is there, never a part. Raises StoreError if it fails."""
    content = data.encode() if isinstance(data, str) else data
    with told(lambda error: f"{file}: cannot be written ({describe(error)}); what it held before stays"):
        if file.keeps_objects:
            file.write_bytes(content)
        else:
            _write_and_rename(file, content)


@contextlib.contextmanager
def writing_output(output: Path, *, where: str = "--output") -> Iterator[None]:
    """Make the folder of what the option `where` names; within, turn the errors of a disk into a UserError."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{where} {output}: cannot be written ({describe(error)})") from None


def _write_and_rename(file: StorePath, content: bytes) -> None:
    part = file.parent / f".{file.name}-{uuid.uuid4().hex}"
    try:
        part.write_bytes(content)
        if file.is_local:
            flush(part.local)
        with file.answering() as (store, path):
            store.move(part.path, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_folder(folder: StorePath, mark: str) -> Iterator[StorePath]:
    """Give an empty folder to write into, which is `folder` once the block has ended well; else nothing of it stays.

    On this machine it grows beside its place and is renamed; a link is followed. Stores cannot rename a folder: there the
    files are written in place, so the block writes last the file `mark`, without which the folder counts for nothing.
    """
    if folder.is_local:
        final = Path(os.path.realpath(folder.local))
        _refuse_unmovable(final, folder)
        part = _fresh_part(final)
        try:
            yield StorePath(part)
            publish(part, final)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return
    delete_folder(folder, mark)
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):
            delete_folder(folder, mark)
        raise


def delete_folder(folder: StorePath, mark: str) -> None:
    """Delete a folder, if it is there: `mark` first, so that what a kill leaves counts for nothing."""
    (folder / mark).unlink(missing_ok=True)
    if folder.exists():
        with folder.answering() as (store, path):
            store.delete_dir(path)


def flush(path: Path) -> None:
    """Have the operating system put a file or folder on the disk, so that a power loss cannot take it back."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(part: Path, final: Path) -> None:
    """Give the folder `part` the name `final`, under which it appears only when all its files are on the disk."""
    for file in part.rglob("*"):
        flush(file)
    old = part.with_suffix(".replaced")
    if final.exists():
        final.rename(old)
    part.rename(final)
    flush(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_unmovable(final: Path, folder: StorePath) -> None:
    """Raise UserError for a folder in whose place another one cannot be put."""
    is_current = final.exists() and final.samefile(Path.cwd())
    if is_current or final.is_mount():
        what = "the current folder" if is_current else "the root of a disk"
        raise UserError(f"{folder}: is {what}, which cannot be replaced whole; name a new folder in it")


def _fresh_part(final: Path) -> Path:
    """Make the folder in which `final` grows, and clear up after processes of this machine that were killed at it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{final.name}.{socket.gethostname()}-"
    for leftover in final.parent.glob(f"{prefix}*"):
        pid, _, kind = leftover.name[len(prefix) :].partition(".")
        if not pid.isdigit() or _is_alive(int(pid)) or kind not in ("partial", "replaced"):
            continue
        if kind == "replaced" and not final.exists():  # killed between the two renames
            leftover.rename(final)
        else:
            shutil.rmtree(leftover, ignore_errors=True)
    part = final.with_name(f"{prefix}{os.getpid()}.partial")
    part.mkdir()
    return part


def _is_alive(pid: int) -> bool:
    """Say whether another process of this id runs; one of our own id was in an earlier container."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
