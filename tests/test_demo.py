"""The demo data set, straight from the synthesiser and through genuine `.skeleton` files."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from kgan_ray import prepare
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.prepare.service import Demo, demo_dataset
from kgan_ray.settings import UserError


def motions(folder):
    """{name: (label, motion)} of a dataset."""
    rows = pq.read_table(folder / "motions", partitioning=None).to_pylist()
    return {row["name"]: (row["label"], np.array(row["motion"], np.float32)) for row in rows}


def test_the_demo_is_made_once_and_follows_its_seed(tmp_path):
    first = demo_dataset(tmp_path / "a", Demo(40, seed=0))
    made = (tmp_path / "a/manifest.json").stat().st_mtime_ns
    assert demo_dataset(tmp_path / "a", Demo(40, seed=0)).hash == first.hash
    assert (tmp_path / "a/manifest.json").stat().st_mtime_ns == made
    assert demo_dataset(tmp_path / "b", Demo(40, seed=0)).hash == first.hash
    assert demo_dataset(tmp_path / "c", Demo(40, seed=1)).hash != first.hash
    with pytest.raises(UserError, match="holds a dataset of other sources or options"):
        demo_dataset(tmp_path / "a", Demo(40, seed=1))


def test_the_demo_suits_its_preset(demo):
    assert demo.layout.name == "ntu25"
    assert len(demo.class_names) >= 10
    assert sum(count > 0 for count in demo.manifest.counts.per_class.values()) >= 10
    for benchmark in ("xsub", "xview"):
        assert min(demo.manifest.counts.per_benchmark[benchmark].model_dump().values()) > 0


def test_skeleton_files_hold_the_same_motion(tmp_path):
    command = ["--demo", "--num-sequences", "24", "--seed", "3"]
    files, data = tmp_path / "files", tmp_path / "data"
    assert prepare.main([*command, "--output", str(data)]) == 0
    through_files = [*command, "--skeleton-files", str(files), "--output", str(tmp_path / "through")]
    assert prepare.main(through_files) == 0
    assert len(list(files.glob("*.skeleton"))) == 24
    direct, through = motions(data), motions(tmp_path / "through")
    assert direct.keys() == through.keys()
    for name, (label, motion) in direct.items():
        assert through[name][0] == label
        assert np.abs(through[name][1] - motion).max() < 1e-4
    assert Dataset.open(data).class_names == Dataset.open(tmp_path / "through").class_names
    # the files stand for themselves, and another folder's files are left alone
    assert prepare.main([str(files), "--output", str(tmp_path / "again")]) == 0
    assert Dataset.open(tmp_path / "again").hash == Dataset.open(tmp_path / "through").hash
    (files / "thesis.tex").write_text("dear")
    shutil.rmtree(tmp_path / "through")
    with pytest.raises(UserError, match=r"holds other files, such as thesis\.tex; choose a new folder"):
        prepare.main(through_files)
