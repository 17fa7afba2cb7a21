"""Copies of Tune's state: whole or not there, and what replaces a damaged one."""

import json
import pickle
from pathlib import Path

import pytest

from kgan_ray.tuning.running.snapshot import Snapshots, is_whole

STATE, SEARCHER = "experiment_state-2026.json", "searcher-state-2026.pkl"


def write(folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STATE).write_text(json.dumps({"number": number}))
    (folder / SEARCHER).write_bytes(pickle.dumps({"number": number}))


@pytest.fixture
def experiment(tmp_path):
    write(tmp_path / "explore", 3)
    (tmp_path / "explore" / "tuner.pkl").write_bytes(pickle.dumps("tuner"))
    (tmp_path / "explore" / "explore-01").mkdir()
    return tmp_path / "explore"


def test_the_newest_copy_is_kept(experiment, tmp_path):
    snapshots = Snapshots(experiment)
    snapshots.take()
    snapshots.staging = tmp_path / "staging"
    snapshots.take()
    assert not snapshots.home.exists()
    for number in (1, 2):
        write(snapshots.staging, number)
        snapshots.take()
        snapshots.close()
    (copy,) = snapshots.home.iterdir()
    assert sorted(file.name for file in copy.iterdir()) == [STATE, SEARCHER, "tuner.pkl"]
    assert json.loads((copy / STATE).read_text()) == {"number": 2}


@pytest.mark.parametrize("name", [STATE, SEARCHER, "tuner.pkl"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_half_a_file_is_replaced_by_the_copy(experiment, tmp_path, name, share):
    snapshots = Snapshots(experiment)
    snapshots.staging = tmp_path / "staging"
    write(snapshots.staging, 2)
    snapshots.take()
    snapshots.close()
    assert not snapshots.mend()
    assert json.loads((experiment / STATE).read_text()) == {"number": 3}
    content = (experiment / name).read_bytes()
    (experiment / name).write_bytes(content[: int(len(content) * share)])
    (snapshots.home / "part").mkdir()  # of a copy that a kill cut short
    assert snapshots.mend()
    assert is_whole(experiment)
    assert json.loads((experiment / STATE).read_text()) == {"number": 2}
    assert pickle.loads((experiment / "tuner.pkl").read_bytes()) == "tuner"
    assert (experiment / "explore-01").is_dir()


@pytest.mark.parametrize("left", [[], ["tuner.pkl"], [STATE, "tuner.pkl"]])
def test_without_a_copy_a_damaged_state_goes_and_the_stage_begins_anew(experiment, left):
    for file in experiment.glob("*.*"):
        if file.name not in left:
            file.unlink()
        elif file.name == STATE:
            file.write_text("{")
    assert Snapshots(experiment).mend()
    assert [file.name for file in experiment.iterdir()] == ["explore-01"]


def test_there_is_nothing_to_mend_before_the_first_start(tmp_path):
    assert not Snapshots(tmp_path / "explore").mend()


def test_a_copy_that_cannot_be_made_leaves_the_one_before(experiment, tmp_path):
    snapshots = Snapshots(experiment)
    snapshots.staging = tmp_path / "staging"
    write(snapshots.staging, 1)
    snapshots.take()
    snapshots.close()
    write(snapshots.staging, 2)
    (snapshots.home / "part").write_text("in the way")
    snapshots.take()
    snapshots.close()
    (copy,) = snapshots.home.glob("copy-*")
    assert json.loads((copy / STATE).read_text()) == {"number": 1}
