"""The training split as a Ray Dataset, which all CPUs of the cluster read.

    Parquet parts -> ray.data.read_parquet -> windows and scaling in map_batches -> motions in file order
      -> `lanes`: a block for each lane, which Ray Train deals out to its workers
      -> `shared`: one array in the object store, which every trial of a sweep maps

The driver reads, before workers or trials have taken the CPUs that Ray Data's tasks need: they would wait for ever.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import ray.data
from ray.exceptions import ObjectStoreFullError, OutOfDiskError, RayTaskError

from kgan_ray.data.dataset import FEW_PARTS
from kgan_ray.data.loading import read_tables
from kgan_ray.data.motion_tables import motion_columns, training_motions
from kgan_ray.settings import UserError
from kgan_ray.storage import StoreError, describe

if TYPE_CHECKING:
    from kgan_ray.data.view import DataView

_NO_ROOM = (OutOfDiskError, ObjectStoreFullError)
LEAST_STORE_BYTES = 500_000_000  # in 120 MB Ray Data's tasks wait for one another for ever


def motion_dataset(view: DataView, window: str) -> ray.data.Dataset:
    """Return the motions of the training split, which is read when it is asked for."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.use_datasource_v2 = False  # which lists the files by several threads, and gives them in any order
    folder, id_columns = view.dataset.folder, view.dataset.id_columns
    work = functools.partial(
        training_motions,
        id_columns=id_columns,
        benchmark=view.settings.benchmark,
        splits=view.dataset.manifest.splits,
        pair_labels=view.dataset.pair_labels(view.settings.bodies),
        spec=view.spec,
        window=window,
    )
    return (
        ray.data.read_parquet(
            [(folder / part.file).path for part in view.dataset.manifest.parts],
            filesystem=folder.filesystem,
            partitioning=None,
        )
        .select_columns([*id_columns, *motion_columns(view.settings.bodies)])
        .map_batches(work, batch_format="pyarrow", batch_size=None)
    )


@contextmanager
def tables_of(view: DataView, window: str) -> Iterator[Iterator[pa.Table]]:
    """Give the training split's tables, while the cluster reads them.

    What is put into the object store meanwhile is told of as well. Raises UserError for a lost or damaged part, and where neither
    the store nor the disk that takes what it cannot hold has room.
    """
    try:
        yield _tables(view, window)
    except StoreError:
        raise
    except (OSError, pa.ArrowInvalid, RayTaskError, *_NO_ROOM) as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, _NO_ROOM) or getattr(cause, "errno", 0) == errno.ENOSPC:
            session = ray._private.worker._global_node.get_session_dir_path()
            raise UserError(
                f"no room for {view.bytes_of('train') / 1e9:.2g} GB of motions, neither in Ray's object store nor on the disk of "
                f"{session}; make room, or let $RAY_TMPDIR name a folder on another disk"
            ) from None
        raise UserError(f"{view.path}: a part is missing or damaged ({describe(cause)})") from None


def _tables(view: DataView, window: str) -> Iterator[pa.Table]:
    if len(view.dataset.manifest.parts) <= FEW_PARTS:
        return read_tables(view, view.rows("train"), window)
    room = ray.cluster_resources().get("object_store_memory", 0.0)
    if room < LEAST_STORE_BYTES:
        raise UserError(
            f"the cluster's object store has {room / 1e9:.2f} GB; reading {view.path} needs {LEAST_STORE_BYTES / 1e9:g} GB: "
            "start Ray with a larger one"
        )
    return blocks(motion_dataset(view, window))


def blocks(dataset: ray.data.Dataset | ray.data.DataIterator) -> Iterator[pa.Table]:
    """Give a Ray Dataset's blocks, one after the other."""
    return iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))
