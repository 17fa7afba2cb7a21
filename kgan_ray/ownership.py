"""One process at a time works in the folder of a run or a sweep.

The owner writes owner.json there and renews it every few seconds. Whoever comes second is told who works there, where
and since when. An owner that was killed renews nothing: on its own machine that is seen at once, elsewhere after a
short watch. Nothing is locked and no clocks are compared, so that it holds on shared folders and on object stores too.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace

import psutil  # type: ignore[import-untyped]

from kgan_ray.cluster import end_everything, meanwhile
from kgan_ray.publishing import write_whole
from kgan_ray.settings import UserError
from kgan_ray.storage import StorePath

FILE = "owner.json"
SECONDS_BETWEEN_BEATS = 4.0
_SECONDS_TO_SETTLE = 0.3  # until one of two that start in the same moment has the last word


@dataclass(frozen=True)
class Owner:
    """A process that works in a folder. Process numbers come again: the start of the process tells them apart."""

    host: str
    process: int
    process_started: float  # seconds since 1970, as the operating system has it
    since: str  # for people
    beat: int = 0

    @classmethod
    def this_process(cls) -> Owner:
        started = psutil.Process().create_time()
        return cls(socket.gethostname(), os.getpid(), started, time.strftime("%Y-%m-%d %H:%M:%S"))

    def is_same(self, other: Owner | None) -> bool:
        """Return whether it is the same process, whatever its beat."""
        return other is not None and (self.host, self.process, self.process_started) == (
            other.host, other.process, other.process_started
        )  # fmt: skip

    def runs_here(self) -> bool | None:
        """Return whether its process is alive; None where it is on another machine."""
        if self.host != socket.gethostname():
            return None
        try:
            return abs(psutil.Process(self.process).create_time() - self.process_started) < 1.0
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        return f"since {self.since} on {self.host} (process {self.process})"


@contextmanager
def owned(folder: StorePath, what: str) -> Iterator[None]:
    """Own the folder meanwhile. Raises UserError, saying who does, where another process works in it.

    A folder that was made for this and in which nothing was written is gone at the end.
    """
    is_new = not folder.exists()
    _refuse_other(folder, what)
    owner = Owner.this_process()
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, owner)
    time.sleep(_SECONDS_TO_SETTLE)
    if not owner.is_same(other := owner_of(folder)):
        raise UserError(f"{folder}: {what} has just been started here, {other}")
    try:
        with meanwhile(lambda is_over: _beat(folder, owner, is_over)):
            yield
    finally:
        with suppress(OSError, UserError):  # a store that has gone away: what ended the work matters more
            if owner.is_same(owner_of(folder)):
                (folder / FILE).unlink(missing_ok=True)
        if is_new and folder.is_local:
            with suppress(OSError):  # something was written there
                folder.local.rmdir()


def owner_of(folder: StorePath) -> Owner | None:
    """Return who wrote owner.json last; None where nobody did."""
    try:
        return Owner(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):  # the last two: another version's
        return None


def _refuse_other(folder: StorePath, what: str) -> None:
    other = owner_of(folder)
    if other is None:
        return
    is_alive = other.runs_here()
    if is_alive is None:
        is_alive = _beats(folder, other)
    if is_alive:
        raise UserError(
            f"{folder}: {what} runs here {other}; wait for its end or stop it there, or choose another --name"
        )


def _beats(folder: StorePath, owner: Owner) -> bool:
    """Watch whether an owner elsewhere renews its name."""
    until = time.monotonic() + 2.5 * SECONDS_BETWEEN_BEATS
    while time.monotonic() < until:
        time.sleep(SECONDS_BETWEEN_BEATS / 4)
        if owner_of(folder) != owner:
            return True
    return False


def _beat(folder: StorePath, owner: Owner, is_over: threading.Event) -> None:
    """Renew the owner's name until it is over. End this process where another one took the folder over meanwhile."""
    beat = 0
    while not is_over.wait(SECONDS_BETWEEN_BEATS):
        with suppress(OSError, UserError):  # a store that does not answer for a while
            other = owner_of(folder)
            if other is not None and not owner.is_same(other):
                os.write(2, f"\nerror: {folder}: taken over {other}; this process ends\n".encode())
                end_everything(1)
            beat += 1
            _write(folder, replace(owner, beat=beat))


def _write(folder: StorePath, owner: Owner) -> None:
    write_whole(folder / FILE, json.dumps(asdict(owner)))
