"""The dataset folder: what its files say to anybody, splits, ranges, refusals."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from helpers.recordings import ntu_names, write_ntu
from kgan_ray.data.dataset import FORMAT_VERSION, Dataset
from kgan_ray.data.prepare.ingest import ingest
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.data.sources.skeleton_file import parse_skeleton
from kgan_ray.settings import DataSettings, UserError
from kgan_ray.skeleton import NTU25

NAMES = ntu_names(24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_ntu(tmp_path_factory.mktemp("sources") / "recordings", NAMES)


@pytest.fixture(scope="module")
def dataset(folder, tmp_path_factory):
    return ingest([SkeletonFiles(folder)], tmp_path_factory.mktemp("datasets") / "data")[0]


def rows(dataset):
    return pq.read_table(f"{dataset.path}/motions", partitioning=None).to_pylist()


def changed(dataset, tmp_path, **changes):
    """A copy of the manifest alone, with changed keys."""
    tree = dataset.manifest.model_dump(mode="json") | changes
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(tree))
    return tmp_path


def test_parquet_alone_tells_what_a_row_is(dataset, folder):
    file = next(iter(sorted((Path(dataset.path)).glob("motions/*.parquet"))))
    metadata = pq.read_schema(file).metadata
    assert (metadata[b"kgan_ray.joints"], metadata[b"kgan_ray.coordinates"]) == (b"25", b"3")
    assert metadata[b"kgan_ray.layout"] == b"ntu25"
    assert {pq.ParquetFile(file).metadata.row_group(0).column(i).compression for i in range(9)} == {"ZSTD"}
    found = rows(dataset)
    assert sorted(row["name"] for row in found) == sorted(NAMES)
    for row in found:
        bodies = parse_skeleton((folder / f"{row['name']}.skeleton").read_bytes())
        motion = np.array(row["motion"], np.float32).reshape(row["num_frames"], 25, 3)
        assert np.array_equal(motion, bodies.motion)
        assert row["motion_second"] is None
        assert f"S{row['setup']:03}C{row['camera']:03}P{row['subject']:03}" == row["name"][:12]
        assert row["label"] == int(row["name"][-3:]) - 1


def test_rows_are_shuffled_but_always_alike(dataset, folder, tmp_path):
    names = [row["name"] for row in rows(dataset)]
    assert names != sorted(names)
    again, is_new = ingest([SkeletonFiles(folder)], tmp_path / "again")
    assert is_new
    assert again.hash == dataset.hash
    parts = [(Path(d.path) / d.manifest.parts[0].file).read_bytes() for d in (dataset, again)]
    assert parts[0] == parts[1]


def test_the_hash_follows_the_content(dataset, folder, tmp_path):
    one = (folder / f"{NAMES[0]}.skeleton").read_text()
    other = write_ntu(tmp_path / "recordings", NAMES)
    word = one.split()[14]
    (other / f"{NAMES[0]}.skeleton").write_text(one.replace(word, "0.123456", 1), newline="")
    assert ingest([SkeletonFiles(other)], tmp_path / "data")[0].hash != dataset.hash


def test_splits_are_filters(dataset):
    ids = dataset.ids
    everything = set(range(24))
    for benchmark, column, train in [
        ("xsub", "subject", {1, 2, 4}),
        ("xview", "camera", {2, 3}),
        ("xset", "setup", {2}),
    ]:
        training, testing = dataset.rows_of(benchmark, "train"), dataset.rows_of(benchmark, "test")
        assert set(ids[column][training]) == train
        assert not set(ids[column][testing]) & train
        assert {*training, *testing} == everything
        counts = dataset.manifest.counts.per_benchmark[benchmark]
        assert (counts.train, counts.test) == (len(training), len(testing))
    assert (
        dataset.rows_of("all", "train").tolist() == dataset.rows_of("all", "test").tolist() == sorted(everything)
    )


def test_ranges_are_those_of_the_training_split(dataset):
    found = rows(dataset)
    for benchmark in ("xsub", "xview", "xset", "all"):
        motions = [
            np.array(found[i]["motion"], np.float32).reshape(-1, 25, 3)
            for i in dataset.rows_of(benchmark, "train")
        ]
        low, high = dataset.manifest.ranges[benchmark]["none"]
        assert low == min(m.min() for m in motions)
        assert high == max(m.max() for m in motions)
        low, high = dataset.manifest.ranges[benchmark]["frame"]
        assert low == min((m - m[:, 20:21]).min() for m in motions)
        assert high == max((m - m[:, 20:21]).max() for m in motions)


def test_spec_is_what_the_networks_need(dataset):
    spec = dataset.view(DataSettings(benchmark="xsub", frames=32, centre="first")).spec
    assert spec.shape == (3, 32, 25)
    assert spec.value_range == dataset.manifest.ranges["xsub"]["first"]
    assert (spec.layout, spec.num_classes, spec.centre) == (NTU25, 60, "first")
    motion = np.array([-1.0, 0.0, 1.0])
    low, high = spec.value_range
    assert spec.to_metres(motion) == pytest.approx([low, (low + high) / 2, high])


def test_the_manifest_counts(dataset):
    counts = dataset.manifest.counts
    assert (counts.read, counts.kept, counts.rejected, counts.second_body) == (24, 24, 0, 0)
    assert counts.per_class["drink water"] + counts.per_class["eat meal"] == 24
    tree = json.loads(Path(f"{dataset.path}/manifest.json").read_text())
    assert tree["format_version"] == FORMAT_VERSION
    assert len(tree["sources"][0]["sha256"]) == 64


def test_a_dataset_is_cheap_to_send_to_workers(dataset):
    sent = pickle.dumps(Dataset.open(dataset.path))
    assert len(sent) < 10_000
    assert pickle.loads(sent).hash == dataset.hash


def test_a_dataset_takes_along_what_was_read_of_its_rows(dataset, tmp_path):
    shutil.copytree(dataset.path, tmp_path / "data")
    dataset = Dataset.open(tmp_path / "data")
    labels = dataset.ids["label"]
    sent = pickle.dumps(dataset)
    shutil.rmtree(tmp_path / "data")
    assert np.array_equal(pickle.loads(sent).ids["label"], labels)


def test_a_benchmark_without_rows_is_refused_with_those_that_work(tmp_path):
    names = [name for name in ntu_names(48) if "C001" in name]
    single = ingest([SkeletonFiles(write_ntu(tmp_path / "files", names))], tmp_path / "data")[0]
    with pytest.raises(
        UserError, match=r"benchmark=xview: .* 0 training and 16 test rows .* work: xsub, xset, all"
    ):
        single.view(DataSettings(benchmark="xview"))


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no dataset here .*prepare` makes one"):
        Dataset.open(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError):
        Dataset.open(tmp_path / "file")


def test_a_newer_format_is_refused_even_if_it_holds_unknown_keys(dataset, tmp_path):
    changed(dataset, tmp_path, format_version=FORMAT_VERSION + 1, something_new=1)
    with pytest.raises(UserError, match=r"manifest\.json: format version 2; .* reads up to 1: please update it"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\x00", '{"format_version": "one"}', '{"format_version": 1}'])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json: not a manifest of prepare's") as refusal:
        Dataset.open(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_lost_or_damaged_part_is_named(dataset, tmp_path):
    opened = Dataset.open(changed(dataset, tmp_path))
    with pytest.raises(UserError, match=r"motions/part-00000\.parquet: missing or damaged"):
        opened.rows_of("xsub", "train")
    (tmp_path / "motions").mkdir()
    (tmp_path / "motions/part-00000.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(UserError, match=r"motions/part-00000\.parquet: missing or damaged"):
        opened.rows_of("xsub", "train")


def test_the_bytes_of_a_split_are_known_before_it_is_read(demo, tiny):
    view = demo.view(tiny.data)
    for split in ("train", "test"):
        assert view.bytes_of(split) == view.load(split).motions.nbytes
