"""Ctrl-C in a sweep: the first one asks it to stop politely, the second one ends everything now. Both can be resumed.

Ray Tune has a polite stop of its own, but its handler of SIGINT says nothing and forgets the second one. So it is told
to leave SIGINT alone, and is stopped by SIGUSR1, which it accepts as well.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from kgan_ray.cluster import end_everything

_POLITE = getattr(signal, "SIGUSR1", signal.SIGINT)  # Windows has no SIGUSR1: there Tune's own handler remains


def stop_politely() -> None:
    """Have the Tune experiment that this thread runs end after the present step, its state saved."""
    signal.raise_signal(_POLITE)


class Interrupts:
    """A context manager around the stages of a sweep. `is_wanted`: the user asked for a polite stop."""

    def __init__(self) -> None:
        self.is_wanted = False
        self.in_experiment = False  # else the first Ctrl-C is a KeyboardInterrupt, as ever
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            if _POLITE != signal.SIGINT:
                os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_wanted:
            os.write(2, b"\nstopped\n")
            end_everything(130)
        self.is_wanted = True
        if not self.in_experiment:
            raise KeyboardInterrupt
        os.write(2, b"\nstopping: trials go on from their last checkpoint when resumed; Ctrl-C again stops now\n")
