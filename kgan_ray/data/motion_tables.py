"""The way from stored recordings to motions, for tables of any rows and without PyTorch: Ray Data's tasks go it too.

Shapes: C coordinates, T frames, V joints; L frames of a recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from kgan_ray.data.rows import lists_of
from kgan_ray.data.splits import NOT_GIVEN, SplitRule, split_rows
from kgan_ray.data.windows import WHOLE, WINDOWS, centred, together
from kgan_ray.skeleton import MotionSpec


def motion_columns(bodies: int) -> list[str]:
    """Name the columns of a table of recordings that a motion of so many bodies is made of."""
    return ["motion", "motion_second"][:bodies]


def motion_table(recordings: pa.Table, rows: np.ndarray, spec: MotionSpec, window: str) -> pa.Table:
    """Return the motions of these rows of a table of recordings, centred, cut by `window`, scaled and clamped to [-1, 1].

    Each has its recording's label beside it, by which whoever collects them sees that none is out of place. A motion is
    the list of its values, row-major (C, T, V); of a recording that is kept whole, (L, C, V).
    """
    columns = [recordings[name].combine_chunks() for name in motion_columns(spec.layout.bodies)]
    flat = [(column.offsets.to_numpy(), column.values.to_numpy()) for column in columns]
    shape = (-1, spec.layout.num_joints // len(columns), spec.coordinates)
    axes = (0, 2, 1) if window == WHOLE else (2, 0, 1)
    motions = []
    for row in rows:
        metres = together([values[offsets[row] : offsets[row + 1]].reshape(shape) for offsets, values in flat])
        cut = WINDOWS[window](centred(metres, spec.layout.root, spec.centre), spec.frames)
        scaled = np.clip(spec.from_metres(cut), -1.0, 1.0).astype(np.float32)
        motions.append(scaled.transpose(axes))
    return pa.table({"label": recordings["label"].take(pa.array(rows)), "motion": lists_of(motions)})


def training_motions(
    recordings: pa.Table,
    *,
    id_columns: Sequence[str],
    benchmark: str,
    splits: Mapping[str, SplitRule],
    pair_labels: Sequence[int] | None,
    spec: MotionSpec,
    window: str,
) -> pa.Table:
    """Make motions of those recordings of a table that train, in one of Ray Data's tasks."""
    ids = {name: recordings[name].fill_null(NOT_GIVEN).to_numpy() for name in id_columns}
    return motion_table(recordings, split_rows(benchmark, "train", splits, ids, pair_labels), spec, window)
