"""A recording as a row of Parquet: the columns of the data contract, tables of them, and what a row's content hashes to."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from kgan_ray.data.recording import Recording
from kgan_ray.skeleton import SkeletonLayout

_ROW_IDS = ("setup", "camera", "subject", "replication")


def part_schema(layout: SkeletonLayout, coordinates: int) -> pa.Schema:
    """Name the data contract's columns; V, C and the layout's name are in the metadata."""
    motion = pa.list_(pa.float32())
    return pa.schema(
        [
            ("name", pa.string()),
            ("label", pa.int32()),
            *((name, pa.int32()) for name in _ROW_IDS),
            ("num_frames", pa.int32()),
            ("num_bodies", pa.int32()),
            ("pair_frames", pa.int32()),
            ("fold", pa.int32()),
            ("motion", motion),
            ("motion_second", motion),
        ],
        metadata={
            "kgan_ray.layout": layout.name,
            "kgan_ray.joints": str(layout.num_joints // layout.bodies),
            "kgan_ray.coordinates": str(coordinates),
            "kgan_ray.order": "motion is row-major (num_frames, joints, coordinates), metres",
        },
    )


def rows_table(recordings: Sequence[Recording], schema: pa.Schema) -> pa.Table:
    """Make a table of the recordings, a row each."""
    columns: dict[str, list[object] | pa.Array] = {
        name: [getattr(recording, name) for recording in recordings]
        for name in schema.names
        if not name.startswith("motion")
    }
    columns["motion"] = lists_of([recording.motion for recording in recordings])
    columns["motion_second"] = lists_of([recording.motion_second for recording in recordings])
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def lists_of(motions: Sequence[np.ndarray | None]) -> pa.Array:
    """Make a list<float32> array: the values of each motion, null for None."""
    sizes = [0 if motion is None else motion.size for motion in motions]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    values = [np.asarray(motion, np.float32).reshape(-1) for motion in motions if motion is not None]
    return pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.array(np.concatenate(values) if values else np.zeros(0, np.float32)),
        mask=pa.array([motion is None for motion in motions]),
    )


def row_digest(recording: Recording) -> str:
    """Hash everything that a row holds with SHA-256, the same on every machine; a fold only where it is the source's own."""
    ids = [-1 if getattr(recording, name) is None else getattr(recording, name) for name in _ROW_IDS]
    numbers = [recording.label, *ids, recording.num_frames, recording.num_bodies]
    digest = hashlib.sha256(f"{recording.name}\n".encode())
    digest.update(struct.pack(f"<{len(numbers)}q", *numbers))
    if recording.fold is not None:
        digest.update(b"fold %d" % recording.fold)
    digest.update(np.ascontiguousarray(recording.motion, "<f4").data)
    if recording.motion_second is not None:
        digest.update(b"second")
        digest.update(np.ascontiguousarray(recording.motion_second, "<f4").data)
    return digest.hexdigest()
