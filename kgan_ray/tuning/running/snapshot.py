"""A copy of Ray Tune's state that survives a power loss.

Tune writes its state in place, and never has the operating system put it on the disk: a kill or a power loss in
mid-write leaves half a file, with which no experiment can be restored. The copies are whole or not there.
"""

from __future__ import annotations

import json
import pickletools
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kgan_ray.storage import publish

_STATE = "experiment_state-*.json"
_SUFFIXES = (".json", ".pkl")


class Snapshots:
    """The newest copy of one experiment's state, in the folder <experiment>.safe beside Tune's own.

    `staging` is the folder where Tune holds that state on this machine, once that is known.
    """

    def __init__(self, experiment: Path) -> None:
        self.experiment = experiment
        self.home = experiment.with_name(f"{experiment.name}.safe")
        self.staging: Path | None = None
        self._flusher: threading.Thread | None = None

    def take(self) -> None:
        """Copy the state as it is now, unless an earlier copy is still being flushed.

        To be called where Tune is not writing: from its callbacks. The flushing is done by a thread.
        """
        is_busy = self._flusher is not None and self._flusher.is_alive()
        if is_busy or self.staging is None or not any(self.staging.glob(_STATE)):
            return
        part = self.home / "part"
        shutil.rmtree(part, ignore_errors=True)
        # A full disk, say: the copy before stays, and the sweep's own record will say what is wrong.
        with suppress(OSError):
            part.mkdir(parents=True)
            for file in (*_state_files(self.experiment, "tuner.pkl"), *_state_files(self.staging)):
                shutil.copyfile(file, part / file.name)
            self._flusher = threading.Thread(target=self._complete, args=(part,), daemon=True)
            self._flusher.start()

    def close(self) -> None:
        """Wait for a copy that is being flushed."""
        if self._flusher:
            self._flusher.join()

    def mend(self) -> bool:
        """Replace a damaged state by the newest copy, or by none; returns whether it was damaged."""
        if not self.experiment.exists() or is_whole(self.experiment):
            return False
        for file in _state_files(self.experiment):
            file.unlink()
        copies = self._copies()
        for file in _state_files(copies[-1]) if copies else ():
            shutil.copyfile(file, self.experiment / file.name)
        return True

    def _complete(self, part: Path) -> None:
        copies = self._copies()
        number = int(copies[-1].name.removeprefix("copy-")) + 1 if copies else 1
        with suppress(OSError):
            publish(part, self.home / f"copy-{number:08d}")
        for copy in self._copies()[:-1]:
            shutil.rmtree(copy, ignore_errors=True)

    def _copies(self) -> list[Path]:
        return sorted(self.home.glob("copy-*"))


def is_whole(experiment: Path) -> bool:
    """Whether Tune can read every file of the experiment's state. Nothing is unpickled."""
    if not any(experiment.glob(_STATE)):
        return False
    try:
        for file in _state_files(experiment):
            if file.suffix == ".json":
                json.loads(file.read_bytes())
            else:
                for _ in pickletools.genops(file.read_bytes()):
                    pass
    except ValueError:  # of either reader
        return False
    return True


def _state_files(folder: Path, pattern: str = "*") -> Iterator[Path]:
    return (file for file in folder.glob(pattern) if file.is_file() and file.suffix in _SUFFIXES)
