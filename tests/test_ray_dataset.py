"""What Ray reads once for many processes: the same motions as from the files, mapped or dealt out, and no CPU waited for."""

import functools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import ray
import ray.cloudpickle
import torch
from ray.exceptions import OutOfDiskError

from helpers.recordings import ntu_names, write_ntu
from kgan_ray.cluster import connect
from kgan_ray.data.batches import rows_of_worker, sharing_workers, training_window
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.lanes import LaneShards, LaneShare, by_lanes
from kgan_ray.data.prepare.ingest import ingest
from kgan_ray.data.shared import SharedMotions, bytes_to_share
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.settings import DataSettings, UserError, override, resolve_settings
from kgan_ray.storage import StoreError
from kgan_ray.tuning.plan import Job

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not see the folder of the tests
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """61 recordings of 12 to 22 frames in 31 parts, so many that a wrong order would show; a motion has 16."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kgan_ray.data.prepare.ingest.ROWS_PER_PART", 2)
        files = write_ntu(folder / "files", ntu_names(61), num_frames=12, lengths=11)
        return ingest([SkeletonFiles(files)], folder / "data")[0]


@pytest.fixture(scope="module")
def cluster():
    """Ray, which reads however few parts there are."""
    ray.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kgan_ray.data.ray_dataset.FEW_PARTS", 0)
        yield connect(bytes_to_share=1 << 20)
    ray.shutdown()


def view_of(dataset, **changes):
    return dataset.view(DataSettings(**{"benchmark": "xsub", "frames": 16} | changes))


@pytest.mark.parametrize("window", ["first", "resample", "random"])
def test_shared_motions_are_those_of_the_files(cluster, dataset, window):
    view = view_of(dataset, window=window)
    shared = view_of(dataset.holding(SharedMotions([view])), window=window)
    for split in ("train", "test"):
        assert torch.equal(shared.load(split).motions, view.load(split).motions)
        assert torch.equal(shared.load(split).labels, view.load(split).labels)
    ours, theirs = (one.batches(batch_size=8, seed=3) for one in (shared, view))
    for step in (0, 1, theirs.batches_per_epoch):
        assert all(torch.equal(*pair) for pair in zip(ours.batch(step), theirs.batch(step), strict=True))


@pytest.mark.parametrize(
    ("window", "batch_size", "balanced"),
    [("first", 8, False), ("random", 8, False), ("first", 64, False), ("random", 8, True)],
)  # 46 training rows
@pytest.mark.parametrize("num_workers", [1, 2, 3, 4])
def test_workers_are_dealt_the_rows_of_their_lanes(
    cluster, dataset, lanes, window, batch_size, balanced, num_workers
):
    view = view_of(dataset, window=window)
    shards = LaneShards(batch_size, balanced=balanced)
    shares = shards.configure({"lanes": lanes(window, batch_size)}, num_workers, None, None)
    sharing = sharing_workers(batch_size, num_workers)
    assert len(shares) == num_workers
    for rank, share in enumerate(shares[:sharing]):
        rows = rows_of_worker(len(view.rows("train")), batch_size, rank, sharing, balanced=balanced)
        held = view_of(dataset.holding(LaneShare(share["lanes"], rows)), window=window)
        dealt = held.dataset.held.motions(held, "train", rows, training_window(view))
        read = view.motions("train", rows, training_window(view))
        assert torch.equal(dealt.motions, read.motions)
        assert torch.equal(dealt.labels, read.labels)
        assert held.dataset.held.motions(held, "test", rows, window) is None
        ours, theirs = (
            one.batches(batch_size=batch_size, seed=3, rank=rank, world_size=sharing, balanced=balanced)
            for one in (held, view)
        )
        assert all(torch.equal(*pair) for pair in zip(ours.batch(2), theirs.batch(2), strict=True))


@pytest.fixture(scope="module")
def lanes(cluster, dataset):
    """The training split by lanes, made once for each window and batch size."""
    return functools.lru_cache(lambda window, batch_size: by_lanes(view_of(dataset, window=window), batch_size))


@pytest.mark.parametrize("benchmark", ["xsub", "xview", "all"])
def test_the_size_of_what_is_shared_is_known_beforehand(cluster, dataset, benchmark):
    views = [view_of(dataset, benchmark=benchmark, window=window) for window in ("first", "random")]
    shared = SharedMotions(views)
    assert bytes_to_share(views) == sum(ray.get(ref).nbytes for ref in shared._splits.values())
    assert bytes_to_share([view_of(dataset, held_in="disk")]) == 0


def test_a_trial_finds_what_its_sweep_has_shared(cluster, dataset):
    base = override(
        resolve_settings("demo"), {"data.path": dataset.path, "data.frames": 16, "data.benchmark": "xsub"}
    )
    shared = SharedMotions([dataset.view(base.data)])
    for overrides, is_there in (({"techniques.pooling": "max"}, True), ({"data.benchmark": "xview"}, False)):
        view = dataset.view(Job("a trial", "explore", "a trial", overrides, seed=7).settings(base).data)
        assert (shared.motions(view, "train", slice(3, 5), base.data.window) is not None) == is_there


@pytest.fixture
def mapped(cluster):
    """An actor that takes a CPU, and says what file its motions are mapped from (the inode) and what batches it has."""

    @ray.remote(num_cpus=1)
    class Trial:
        def look(self, dataset: Dataset):
            view = view_of(dataset)
            batches = view.batches(batch_size=8, seed=0)
            address = batches._motions.data_ptr()
            lines = Path("/proc/self/maps").read_text().splitlines()
            spans = [(line.split()[0].split("-"), line.split()[4]) for line in lines]
            (inode,) = [inode for (low, high), inode in spans if int(low, 16) <= address < int(high, 16)]
            return inode, [batches.batch(step)[0].numpy() for step in range(3)]

    return Trial


def test_two_processes_on_all_cpus_map_the_same_motions(cluster, dataset, mapped):
    held = ray.put(dataset.holding(SharedMotions([view_of(dataset)])))
    assert ray.cluster_resources()["CPU"] == 2
    trials = [mapped.remote() for _ in range(2)]
    (first, batches), (second, others) = ray.get([trial.look.remote(held) for trial in trials], timeout=60)
    assert first == second != "0"
    assert all(np.array_equal(*pair) for pair in zip(batches, others, strict=True))


def test_a_damaged_part_is_named(cluster, dataset, tmp_path, capfd):
    shutil.copytree(dataset.path, tmp_path / "data")
    damaged = Dataset.open(tmp_path / "data")
    part = tmp_path / "data" / damaged.manifest.parts[1].file
    assert damaged.ids
    part.write_bytes(part.read_bytes()[:-100])
    capfd.readouterr()
    with pytest.raises(UserError, match="a part is missing or damaged"):
        SharedMotions([view_of(damaged)])
    assert capfd.readouterr().err == ""
    part.unlink()
    with pytest.raises(UserError, match="a part is missing or damaged"):
        SharedMotions([view_of(damaged)])


def full(*_arguments):
    raise OutOfDiskError("Local disk is full")


@pytest.mark.parametrize("place", ["of the driver", "of a task"])
def test_a_store_and_a_disk_without_room_are_told(cluster, dataset, monkeypatch, place):
    if place == "of a task":
        task = ray.remote(full)
        monkeypatch.setattr("kgan_ray.data.ray_dataset.blocks", lambda dataset: iter(ray.get([task.remote()])))
    else:
        monkeypatch.setattr(ray, "put", full)
    with pytest.raises(
        UserError, match=r"^no room for .* GB of motions, neither .* on the disk of /.*; make room"
    ):
        SharedMotions([view_of(dataset)])


def test_a_store_that_does_not_answer_is_not_called_a_damaged_part(cluster, dataset, monkeypatch):
    def silent(*_arguments):
        raise StoreError("the store does not answer")

    monkeypatch.setattr("kgan_ray.data.ray_dataset.FEW_PARTS", 100)
    monkeypatch.setattr("kgan_ray.data.ray_dataset.read_tables", silent)
    with pytest.raises(StoreError, match=r"^the store does not answer$"):
        SharedMotions([view_of(dataset)])


def test_a_cluster_with_a_tiny_object_store_is_refused(cluster, dataset, monkeypatch):
    monkeypatch.setattr("kgan_ray.data.ray_dataset.LEAST_STORE_BYTES", 1 << 60)
    with pytest.raises(UserError, match=r"the cluster's object store has .* start Ray with a larger"):
        SharedMotions([view_of(dataset)])
