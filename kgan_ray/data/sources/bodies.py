"""From the bodies that an array holds to a recording: who was seen, and from which frame to which."""

from __future__ import annotations

import numpy as np

from kgan_ray.data.recording import Recording, RejectedRecording, as_float32, check_motion
from kgan_ray.data.sources import ntu


def recording_of_bodies(
    bodies: np.ndarray,
    *,
    name: str,
    label: int,
    setup: int | None = None,
    camera: int | None = None,
    subject: int | None = None,
    fold: int | None = None,
    is_padded: bool = True,
) -> Recording:
    """Make a recording of bodies (M, T, V, C), of which the first that was seen is the main one.

    A body is not seen in a frame where all its values are 0 or all are NaN. Frames before the first and after the last
    in which anybody was seen are cut, where arrays are padded. An NTU name gives what is not given. Raises
    RejectedRecording.
    """
    bodies = as_float32(bodies)
    absent = np.isnan(bodies).all(axis=(2, 3), keepdims=True)
    if absent.any():
        bodies = np.where(absent, np.float32(0), bodies)
    seen = np.asarray(bodies.any(axis=(2, 3)))  # (M, T)
    frames = np.flatnonzero(seen.any(axis=0))
    if not len(frames):
        raise RejectedRecording("no frame holds a body")
    first, last = (int(frames[0]), int(frames[-1]) + 1) if is_padded else (0, bodies.shape[1])
    persons = [body[first:last] for body, in_frame in zip(bodies, seen, strict=True) if in_frame.any()]
    for person in persons[:2]:
        check_motion(person)
    parsed = ntu.parse_name(name) or (setup, camera, subject, None, None)
    return Recording(
        name=name,
        label=label,
        setup=parsed[0],
        camera=parsed[1],
        subject=parsed[2],
        replication=parsed[3],
        num_frames=last - first,
        num_bodies=len(persons),
        motion=persons[0],
        motion_second=persons[1] if len(persons) > 1 else None,
        fold=fold,
        cut_frames=bodies.shape[1] - (last - first),
    )
