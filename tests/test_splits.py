"""Who trains and who tests: published splits, a file's own, and by the hash of names where there is neither."""

import numpy as np
import pytest

from helpers.other_forms import ctr_gcn_arrays, made_recordings
from helpers.recordings import moving_body, ntu_names, write_ntu
from kgan_ray.data.prepare.service import prepare_dataset
from kgan_ray.data.splits import hashed_fold
from kgan_ray.settings import DataSettings, UserError

MOTIONS = np.stack([moving_body(6, seed=seed) for seed in range(20)])


def own(path, motions, **others):
    np.savez(path, motions=motions, labels=np.arange(len(motions)) % 2, **others)
    return str(path)


def rows(dataset, split, benchmark="all"):
    return set(dataset.view(DataSettings(benchmark=benchmark)).rows(split).tolist())


def test_a_set_without_subjects_tests_on_what_did_not_train(tmp_path):
    path = own(tmp_path / "a.npz", MOTIONS)
    dataset = prepare_dataset([path], tmp_path / "data", layout="ntu25").dataset
    train, test = rows(dataset, "train"), rows(dataset, "test")
    assert train | test == set(range(20))
    assert train & test == set()
    assert len(test) == sum(hashed_fold(f"a-{index:06}") for index in range(20)) > 0
    whole = prepare_dataset([path], tmp_path / "whole", layout="ntu25", split="none").dataset
    assert rows(whole, "train") == rows(whole, "test") == set(range(20))
    assert whole.hash == dataset.hash


def test_about_a_fifth_of_all_names_tests():
    assert 0.18 < np.mean([hashed_fold(f"recording {number}") for number in range(5000)]) < 0.22


def test_published_data_keep_their_splits_unless_split_says_otherwise(tmp_path):
    files = str(write_ntu(tmp_path / "files", ntu_names(24)))
    dataset = prepare_dataset([files], tmp_path / "data").dataset
    assert rows(dataset, "train") == rows(dataset, "test") == set(range(24))
    hashed = prepare_dataset([files], tmp_path / "hashed", split="hash").dataset
    assert rows(hashed, "train") & rows(hashed, "test") == set()
    assert hashed.manifest.splits["xsub"] == dataset.manifest.splits["xsub"]
    with pytest.raises(UserError, match=r"--split train2: .* has the choice of hash, none"):
        prepare_dataset([files], tmp_path / "other", split="train2")


def test_a_files_own_split_is_the_benchmark_of_its_name(tmp_path):
    np.savez(tmp_path / "NTU60_CV.npz", **ctr_gcn_arrays(made_recordings()))
    dataset = prepare_dataset([str(tmp_path / "NTU60_CV.npz")], tmp_path / "data").dataset
    assert rows(dataset, "test", "xview") == rows(dataset, "test") != rows(dataset, "train")
    assert len(rows(dataset, "train", "xview")) == 9
    hashed = prepare_dataset([str(tmp_path / "NTU60_CV.npz")], tmp_path / "hashed", split="hash").dataset
    assert set(hashed.manifest.splits) == {"all"}
    assert hashed.hash != dataset.hash  # another split is other data
