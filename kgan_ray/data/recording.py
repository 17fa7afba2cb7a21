"""One recording of a person in motion, as every reader hands it over.

Shapes: T frames, V joints, C coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from kgan_ray.data.windows import together


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
    fold: int | None = None  # the source's own split: 0 trains, 1 tests
    cut_frames: int = 0  # empty frames before the first body and after the last, which are not kept
    joined_tracks: int = 0  # pieces of a person whose tracking id changed, beyond the first

    @cached_property
    def pair(self) -> np.ndarray:
        """Both bodies of a recording that has two as one, (L, 2 V, C), without a frame where they are never seen together."""
        assert self.motion_second is not None
        return together([self.motion, self.motion_second])

    @property
    def pair_frames(self) -> int:
        return 0 if self.motion_second is None else len(self.pair)


class RejectedRecording(Exception):
    """One recording that is set aside; the message is the reason, for `rejected.jsonl`."""


def as_float32(values: ArrayLike) -> np.ndarray:
    """Return the values as float32; what is too large for it becomes infinite, which `check_motion` finds."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def check_motion(motion: np.ndarray) -> None:
    """Raise RejectedRecording unless a motion (T, V, C) is finite and holds a body."""
    finite = np.isfinite(motion).all(axis=(1, 2))
    if not finite.all():
        raise RejectedRecording(f"frame {int(np.argmin(finite)) + 1}: a coordinate is NaN or infinite")
    if not motion.any():
        raise RejectedRecording("no frame holds a body")
