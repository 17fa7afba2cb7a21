"""Windows, centring, scaling and batches: known values, and batches that do not depend on the workers."""

import errno
import os
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers.recordings import ntu_names, write_ntu
from kgan_ray.data import loading
from kgan_ray.data.batches import _balanced_lanes
from kgan_ray.data.loading import collected, read_tables
from kgan_ray.data.motion_tables import training_motions
from kgan_ray.data.prepare.ingest import ingest
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.data.windows import centred, first_frames, resampled, some_frames, value_ranges
from kgan_ray.settings import DataSettings, UserError
from kgan_ray.storage import StoreError


def line(*values):
    """A recording of one joint on one axis: (L, 1, 1)."""
    return np.array(values, np.float32)[:, None, None]


def test_first_frames_cut_or_pad_with_zeros():
    assert first_frames(line(1, 2, 3), 2).ravel().tolist() == [1, 2]
    assert first_frames(line(1, 2, 3), 5).ravel().tolist() == [1, 2, 3, 0, 0]


def test_some_frames_begin_anywhere_and_short_recordings_at_their_beginning():
    starts = [some_frames(line(*range(first, first + 5)), 3)[0].item() - first for first in range(50)]
    assert set(starts) == {0, 1, 2}
    assert some_frames(line(1, 2, 3, 4, 5), 3).tolist() == some_frames(line(1, 2, 3, 4, 5), 3).tolist()
    assert some_frames(line(1, 2), 3).ravel().tolist() == [1, 2, 0]


def test_resampling_is_linear_and_bridges_gaps():
    assert resampled(line(1, 2, 3), 5).ravel().tolist() == [1, 1.5, 2, 2.5, 3]
    assert resampled(line(0, 1, 0, 3, 0), 3).ravel().tolist() == [1, 2, 3]  # the body is unseen at 0, 2 and 4
    assert resampled(line(0, 7, 0), 3).ravel().tolist() == [7, 7, 7]
    assert resampled(line(*range(1, 9)), 8).ravel().tolist() == list(range(1, 9))


def test_centring_moves_the_root_and_leaves_absent_frames_at_zero():
    recording = np.array([[[0, 0], [0, 0]], [[1, 1], [3, 2]], [[2, 2], [5, 5]]], np.float32)  # (3, 2, 2)
    assert centred(recording, 0, "none") is recording
    assert centred(recording, 0, "first").tolist() == [[[0, 0], [0, 0]], [[0, 0], [2, 1]], [[1, 1], [4, 4]]]
    assert centred(recording, 0, "frame").tolist() == [[[0, 0], [0, 0]], [[0, 0], [2, 1]], [[0, 0], [3, 3]]]
    assert value_ranges(recording, 0) == {"none": (0.0, 5.0), "first": (0.0, 4.0), "frame": (0.0, 3.0)}


def test_ranges_hold_zero_since_padding_is_zero():
    assert value_ranges(line(2, 3), 0)["none"] == (0.0, 3.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """61 recordings of 12 to 22 frames; a motion has 16."""
    folder = tmp_path_factory.mktemp("loading")
    return ingest(
        [SkeletonFiles(write_ntu(folder / "files", ntu_names(61), num_frames=12, lengths=11))], folder / "data"
    )[0]


def settings(**changes):
    return DataSettings(**{"benchmark": "xsub", "frames": 16} | changes)


def test_motions_are_metres_scaled_by_the_training_range(dataset):
    view = dataset.view(settings())
    split = view.load("train")
    table = pq.read_table(f"{dataset.path}/motions", partitioning=None).to_pylist()
    rows = dataset.rows_of("xsub", "train")
    assert split.motions.shape == (len(rows), 3, 16, 25)
    assert split.labels.tolist() == [table[row]["label"] for row in rows]
    for motion, row in zip(split.motions, rows, strict=True):
        recording = np.array(table[row]["motion"], np.float32).reshape(-1, 25, 3)
        expected = first_frames(recording, 16).transpose(2, 0, 1)
        assert np.abs(view.spec.to_metres(motion.numpy()) - expected).max() < 1e-5
    values = np.concatenate([table[row]["motion"] for row in rows])
    assert view.spec.value_range == (values.min(), values.max())


@pytest.mark.parametrize("window", ["first", "resample", "random"])
@pytest.mark.parametrize("centre", ["none", "first", "frame"])
def test_every_window_and_centre_stays_in_range(dataset, window, centre):
    view = dataset.view(settings(window=window, centre=centre))
    for split in ("train", "test"):  # the test split may leave the training split's range: it is clamped
        motions = view.load(split).motions
        assert motions.abs().max() <= 1
        assert motions.dtype == torch.float32
    motions, labels = view.batches(batch_size=8, seed=0).batch(3)
    assert (motions.shape, labels.shape) == ((8, 3, 16, 25), (8,))
    assert motions.abs().max() <= 1
    if centre == "frame":
        zero = -view.spec.to_metres(0) * 2 / np.subtract(*view.spec.value_range[::-1])
        assert motions[:, :, :, 20].sub(zero).abs().max() < 1e-6


@pytest.mark.parametrize("benchmark", ["xsub", "xview", "all"])
@pytest.mark.parametrize("split", [None, "hash"])
def test_a_task_of_rays_makes_the_motions_that_reading_gives(tmp_path, benchmark, split):
    source = SkeletonFiles(write_ntu(tmp_path / "files", ntu_names(30), num_frames=12, lengths=11))
    source.split = split  # "hash": all rows are split by a column of their own
    view = ingest([source], tmp_path / "data")[0].view(settings(benchmark=benchmark))
    table = training_motions(
        pq.read_table(f"{view.path}/motions", partitioning=None),
        id_columns=view.dataset.id_columns,
        benchmark=benchmark,
        splits=view.dataset.manifest.splits,
        pair_labels=None,
        spec=view.spec,
        window="first",
    )
    made = np.stack(table["motion"].to_pylist()).reshape(-1, *view.spec.shape)
    assert np.array_equal(made, view.load("train").motions.numpy())


def test_motions_out_of_place_are_never_taken_for_others(dataset):
    view = dataset.view(settings())
    rows = view.rows("train")
    tables = list(read_tables(view, rows, "first"))
    whole = slice(0, len(rows))
    assert torch.equal(collected(tables, view, "train", whole, "first").motions, view.load("train").motions)
    turned = pa.concat_tables(tables).take(np.roll(np.arange(len(rows)), 1))
    with pytest.raises(RuntimeError, match="came in another order"):
        collected([turned], view, "train", whole, "first")


def test_shares_of_a_split_join_to_the_whole(dataset):
    whole = dataset.view(settings()).load("test").motions
    shares = [dataset.view(settings()).load("test", rank=rank, world_size=3).motions for rank in range(3)]
    assert torch.equal(torch.cat(shares), whole)


@pytest.mark.parametrize("window", ["first", "random"])
@pytest.mark.parametrize("num_workers", [2, 4])
@pytest.mark.parametrize("batch_size", [8, 20, 128])  # 45 training rows, in lanes of one, of two or three, of five
def test_global_batches_do_not_depend_on_the_number_of_workers(dataset, window, num_workers, batch_size):
    view = dataset.view(settings(window=window))
    alone = view.batches(batch_size=batch_size, seed=3)
    shared = [
        view.batches(batch_size=batch_size, seed=3, rank=rank, world_size=num_workers)
        for rank in range(num_workers)
    ]
    for step in (0, 1, alone.batches_per_epoch, 7 * alone.batches_per_epoch + 1):
        motions, labels = alone.batch(step)
        parts = [batches.batch(step) for batches in shared]
        assert torch.equal(torch.cat([part[0] for part in parts]), motions)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)


def test_a_batch_depends_on_seed_and_step_alone(dataset):
    first = dataset.view(settings()).batches(batch_size=8, seed=0)
    expected = first.batch(11)[0]
    for step in (3, 0, 40):
        first.batch(step)
    assert torch.equal(first.batch(11)[0], expected)
    assert torch.equal(dataset.view(settings()).batches(batch_size=8, seed=0).batch(11)[0], expected)
    assert not torch.equal(dataset.view(settings()).batches(batch_size=8, seed=1).batch(11)[0], expected)
    assert not torch.equal(first.batch(11 + first.batches_per_epoch)[0], expected)


def test_an_epoch_shows_no_motion_twice_and_epochs_show_all(dataset):
    batches = dataset.view(settings()).batches(batch_size=8, seed=0)
    held = dataset.view(settings()).load("train").motions
    assert batches.batches_per_epoch == 45 // 8

    def seen(epoch):
        steps = range(epoch * batches.batches_per_epoch, (epoch + 1) * batches.batches_per_epoch)
        motions = torch.cat([batches.batch(step)[0] for step in steps])
        return [int((held == motion).all(dim=(1, 2, 3)).nonzero()) for motion in motions]

    epochs = [seen(epoch) for epoch in range(6)]
    assert all(len(set(rows)) == len(rows) for rows in epochs)
    assert {row for rows in epochs for row in rows} == set(range(len(held)))
    assert epochs[0] != epochs[1]


def test_a_split_is_cropped_at_random_as_its_batches_are_and_always_alike(dataset):
    view = dataset.view(settings(window="random"))
    loaded = view.load("train").motions
    first = dataset.view(settings(window="first")).load("train").motions
    is_moved = (loaded != first).flatten(1).any(dim=1)
    lengths = dataset.ids["num_frames"][view.rows("train")]
    assert torch.equal(loaded, dataset.view(settings(window="random")).load("train").motions)
    assert not is_moved[lengths <= 16].any()
    assert is_moved[lengths > 18].double().mean() > 0.5


def test_random_crops_vary_and_lie_inside_their_recording(dataset):
    view = dataset.view(settings(window="random"))
    table = pq.read_table(f"{dataset.path}/motions", partitioning=None).to_pylist()
    recordings = [np.array(row["motion"], np.float32).reshape(-1, 25, 3) for row in table]
    crops = {
        (number, start): first_frames(recording[start:], 16)
        for number, recording in enumerate(recordings)
        for start in range(max(1, len(recording) - 15))
    }
    batches = view.batches(batch_size=8, seed=0)
    places = []
    for step in range(20):
        for motion in view.spec.to_metres(batches.batch(step)[0].numpy()).transpose(0, 2, 3, 1):  # (T, V, C) each
            (place,) = [place for place, crop in crops.items() if np.abs(crop - motion).max() < 1e-4]
            places.append(place)
    lengths = {len(recordings[number]) for number, _ in places}
    assert lengths == set(range(12, 23))  # shorter than a motion, as long, longer
    assert {start for _, start in places} == set(range(7))


def test_a_worker_reads_its_own_row_groups_only(tmp_path, monkeypatch):
    monkeypatch.setattr("kgan_ray.data.prepare.parts.ROWS_PER_GROUP", 4)
    small = ingest([SkeletonFiles(write_ntu(tmp_path / "files", ntu_names(64)))], tmp_path / "data")[0]
    assert small.manifest.parts[0].row_groups == (4,) * 16
    read = []
    original = pq.ParquetFile.read_row_group

    def counting(self, group, **options):
        read.append(group)
        return original(self, group, **options)

    monkeypatch.setattr(loading.pq.ParquetFile, "read_row_group", counting)
    for rank in range(4):
        small.view(settings(benchmark="all")).batches(batch_size=8, seed=0, rank=rank, world_size=4)
        assert read == list(range(4 * rank, 4 * rank + 4))
        read.clear()


@pytest.mark.parametrize("window", ["first", "random"])
def test_motions_held_on_disk_give_the_same_batches_and_leave_no_file(dataset, window, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    in_memory, on_disk = (
        dataset.view(settings(window=window, held_in=held_in)).batches(batch_size=8, seed=3)
        for held_in in ("memory", "disk")
    )
    for step in (0, 1, in_memory.batches_per_epoch):
        for a, b in zip(in_memory.batch(step), on_disk.batch(step), strict=True):
            assert torch.equal(a, b)
    assert torch.equal(*(dataset.view(settings(held_in=h)).load("test").motions for h in ("memory", "disk")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("window", ["first", "random"])
def test_a_batch_for_another_device_is_fetched_from_the_disk_before_its_time(dataset, window):
    there, here = (
        dataset.view(settings(window=window, held_in="disk")).batches(batch_size=8, seed=3, device=device)
        for device in ("meta", "cpu")
    )
    for step in (0, 1, 2, 2 * here.batches_per_epoch - 1, 5):  # across an epoch, and back
        motions, labels = there.batch(step)
        assert (motions.device.type, motions.shape, labels.shape) == ("meta", (8, 3, 16, 25), (8,))
        following, fetched = there._ahead
        assert following == step + 1
        assert all(torch.equal(*pair) for pair in zip(fetched.result(), here.batch(step + 1), strict=True))


LIMITED = """
import re, resource, sys
from kgan_ray.data.dataset import Dataset
from kgan_ray.settings import DataSettings
dataset = Dataset.open(sys.argv[1])
data = DataSettings(benchmark="xsub", frames=16384, held_in=sys.argv[2])
dataset.view(DataSettings(benchmark="xsub")).batches(batch_size=8, seed=0).batch(0)  # starts whatever starts lazily
held = 1024 * int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1])
resource.setrlimit(resource.RLIMIT_DATA, (held + 120_000_000, resource.RLIM_INFINITY))
batches = dataset.view(data).batches(batch_size=8, seed=0)  # 45 motions of 4.9 MB
for step in range(2 * batches.batches_per_epoch):
    motions, _ = batches.batch(step)
print(motions.shape[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count a process's own memory so")
def test_more_motions_than_memory_are_held_on_disk(dataset):
    in_memory, on_disk = (
        subprocess.run([sys.executable, "-c", LIMITED, dataset.path, held_in], capture_output=True, text=True)
        for held_in in ("memory", "disk")
    )
    assert in_memory.returncode != 0
    assert "can't allocate memory" in in_memory.stderr
    assert (on_disk.returncode, on_disk.stdout) == (0, "8\n"), on_disk.stderr


def test_a_disk_without_room_is_told(dataset, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        StoreError, match=r"data.held_in=disk: .* has no room for 0.0 GB \(No space left on device\)"
    ):
        dataset.view(settings(held_in="disk")).batches(batch_size=8, seed=0)


def test_an_uneven_share_is_refused(dataset):
    with pytest.raises(UserError, match="batch_size is 8, which 3 workers cannot share evenly"):
        dataset.view(settings()).batches(batch_size=8, seed=0, world_size=3)


def test_a_split_without_rows_is_refused(tmp_path):
    names = [name for name in ntu_names(48) if "P003" in name]
    no_training = ingest([SkeletonFiles(write_ntu(tmp_path / "files", names))], tmp_path / "data")[0]
    for make in (
        lambda: no_training.view(settings()).load("train"),
        lambda: no_training.view(settings()).batches(batch_size=8, seed=0),
    ):
        with pytest.raises(UserError, match=r"benchmark=xsub: .* 0 training and 12 test rows"):
            make()


def test_balanced_batches_draw_rare_classes_as_often_as_others(dataset):
    labels = dataset.ids["label"]
    rows = dataset.rows_of("all", "train")
    rare = int(np.argmin(np.bincount(labels[rows])))
    share = {}
    for balanced in (False, True):
        batches = dataset.view(settings(benchmark="all")).batches(batch_size=4, seed=0, balanced=balanced)
        drawn = torch.cat([batches.batch(step)[1] for step in range(400)])
        share[balanced] = (drawn == rare).double().mean().item()
    assert share[False] == pytest.approx(np.mean(labels[rows] == rare), abs=0.01)
    assert share[True] == pytest.approx(1 / len(np.unique(labels[rows])), abs=0.03)
    again = dataset.view(settings(benchmark="all")).batches(batch_size=4, seed=0, balanced=True)
    other = dataset.view(settings(benchmark="all")).batches(batch_size=4, seed=0, balanced=True)
    assert torch.equal(again.batch(17)[0], other.batch(17)[0])
    halves = [
        dataset.view(settings(benchmark="all")).batches(
            batch_size=4, seed=0, rank=rank, world_size=2, balanced=True
        )
        for rank in range(2)
    ]
    assert torch.equal(torch.cat([half.batch(5)[0] for half in halves]), again.batch(5)[0])


def test_classes_are_balanced_whatever_the_order_of_the_file():
    """A file that is sorted by class has lanes of one class each, which nothing within a lane can balance."""
    labels = np.repeat([0, 1, 2], [90, 30, 2])
    lanes = _balanced_lanes(labels, 8)
    assert sorted(set(lanes[lanes >= 0])) == list(range(122))
    for lane in lanes:
        assert set(labels[lane[lane >= 0]]) == {0, 1, 2}
    of_class = [(labels[lanes] == label) & (lanes >= 0) for label in range(3)]
    assert [(own.sum(axis=1).min(), own.sum(axis=1).max()) for own in of_class] == [(11, 12), (3, 4), (1, 1)]
