"""One recording of a person in motion, as every reader hands it over.

Shapes: T frames, V joints, C coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recording:
    """A labelled recording. Positions are metres; a frame in which the body was not seen is all zeros."""

    name: str
    label: int  # 0-based
    setup: int | None
    camera: int | None
    subject: int | None
    replication: int | None
    num_frames: int
    num_bodies: int
    motion: np.ndarray  # float32 (T, V, C), the main body
    motion_second: np.ndarray | None = None  # float32 (T, V, C), where a second body was seen


class RejectedRecording(Exception):
    """One recording that is set aside; the message is the reason, for `rejected.jsonl`."""
