"""From a recording to a motion of fixed length: centring and windows.

Shapes: L frames of a recording, T frames of a motion, V joints, C coordinates. All in metres.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

CENTRES = ("none", "first", "frame")


def frames_with_body(recording: np.ndarray) -> np.ndarray:
    """Mark the frames of a recording (L, V, C) that are not all zeros: bool (L,)."""
    return np.asarray(recording.any(axis=(1, 2)))


def together(bodies: Sequence[np.ndarray]) -> np.ndarray:
    """Put the bodies (L, V, C) of a recording side by side: (l, bodies * V, C). One alone stays as it is.

    Of two, the frames from the first to the last in which both are seen are kept. Between these, a frame that lacks one
    of them is all zeros, as a frame without a body is.
    """
    if len(bodies) == 1:
        return bodies[0]
    seen = np.logical_and.reduce([frames_with_body(body) for body in bodies])
    frames = np.flatnonzero(seen)
    span = slice(frames[0], frames[-1] + 1) if len(frames) else slice(0)
    return np.concatenate(bodies, axis=1)[span] * seen[span, None, None]


def centred(recording: np.ndarray, root: int, centre: str) -> np.ndarray:
    """Move the root joint of a recording (L, V, C) to 0; frames without a body stay zeros.

    `first` moves all frames by where the root is in the first frame that holds the body; `frame` moves each
    frame by its own root; `none` leaves the recording as it is.
    """
    if centre == "none":
        return recording
    seen = frames_with_body(recording)
    origin = recording[:, root : root + 1] if centre == "frame" else recording[int(np.argmax(seen)), root]
    return (recording - origin) * seen[:, None, None]


def value_ranges(recording: np.ndarray, root: int) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest value for every centring, 0 included because padding is 0."""
    ranges = {}
    for centre in CENTRES:
        values = centred(recording, root, centre)
        ranges[centre] = (min(0.0, float(values.min())), max(0.0, float(values.max())))
    return ranges


def first_frames(recording: np.ndarray, frames: int) -> np.ndarray:
    """Cut the first T frames, (T, V, C), with zeros after the recording's end."""
    motion = np.zeros((frames, *recording.shape[1:]), np.float32)
    motion[: len(recording)] = recording[:frames]
    return motion


def some_frames(recording: np.ndarray, frames: int) -> np.ndarray:
    """Cut T frames from anywhere, (T, V, C), with zeros after a shorter recording's end.

    The place is as good as random, and follows from the recording's own values: it is always and everywhere the same.
    """
    start = zlib.crc32(recording.tobytes()) % max(1, len(recording) - frames + 1)
    return first_frames(recording[start : start + frames], frames)


def whole_recording(recording: np.ndarray, frames: int) -> np.ndarray:
    """Keep all frames, (L, V, C), or (T, V, C) with zeros after the end of a shorter recording: what crops are cut from."""
    return first_frames(recording, max(len(recording), frames))


def resampled(recording: np.ndarray, frames: int) -> np.ndarray:
    """Resample the time from the first to the last frame that holds the body linearly, to (T, V, C).

    Gaps in which the body was not seen are bridged, not mixed with zeros.
    """
    seen = np.flatnonzero(frames_with_body(recording))
    time = np.linspace(seen[0], seen[-1], frames)
    right = np.clip(np.searchsorted(seen, time, side="left"), 1, max(1, len(seen) - 1))
    if len(seen) == 1:
        return np.repeat(recording[seen], frames, axis=0)
    before, after = seen[right - 1], seen[right]
    part = ((time - before) / (after - before)).astype(np.float32)[:, None, None]
    return recording[before] * (1 - part) + recording[after] * part


WHOLE = "whole"
WINDOWS = {"first": first_frames, "resample": resampled, "random": some_frames, WHOLE: whole_recording}
