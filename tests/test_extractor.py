"""The extractor: what its features ignore, that its training repeats, and its files."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from helpers.recordings import REAL_DATA
from kgan_ray.data.dataset import Dataset
from kgan_ray.metrics.classifier import FEATURES, Classifier, parents, weights_hash
from kgan_ray.metrics.extractor import find_extractor
from kgan_ray.metrics.extractor_training import FreshCrops, augmented, train_classifier
from kgan_ray.settings import UserError, override, resolve_settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def extractor(demo, tiny):
    return find_extractor(demo.view(tiny.data), CPU, print)


@pytest.fixture(scope="module")
def test_motions(demo, tiny):
    return demo.view(tiny.data).load("test")


def test_every_joint_leads_to_the_root(demo):
    above = parents(demo.layout)
    for joint in range(demo.layout.num_joints):
        for _ in range(demo.layout.num_joints):
            joint = above[joint]
        assert joint == demo.layout.root


def test_features_ignore_where_the_body_stands(extractor, test_motions):
    moved = test_motions.motions + torch.tensor([0.2, -0.1, 0.3])[:, None, None]
    assert torch.allclose(extractor.features(moved), extractor.features(test_motions.motions), atol=1e-3)


def test_features_do_not_depend_on_the_batch(extractor, test_motions):
    whole = extractor.features(test_motions.motions)
    assert whole.shape == (len(test_motions.labels), FEATURES)
    assert torch.allclose(extractor.features(test_motions.motions, batch_size=7), whole, atol=1e-4)


@pytest.mark.parametrize(
    ("confusion", "is_blind"),
    [
        (((9, 1), (1, 9)), False),
        (((6, 4), (4, 6)), False),
        (((5, 5), (5, 5)), True),
        (((90, 0), (10, 0)), True),  # always the frequent class: right for 90 %, and no better than chance
        (((88, 2), (4, 6)), False),
    ],
)
def test_an_extractor_near_chance_is_called_blind(extractor, confusion, is_blind):
    accuracy = sum(row[label] for label, row in enumerate(confusion)) / sum(map(sum, confusion))
    recognition = dataclasses.replace(extractor, confusion=confusion, accuracy=accuracy).recognition
    assert recognition.line().startswith(
        f"extractor {extractor.hash}, right for {accuracy:.1%} of {extractor.tested_on}"
    )
    assert ["BLIND" in text for text in (recognition.warning, recognition.line(), recognition.brief())] == [
        is_blind
    ] * 3


def test_the_network_is_small(demo, tiny):
    count = sum(weight.numel() for weight in Classifier(demo.view(tiny.data).spec).parameters())
    assert count < 400_000


def test_the_confusion_adds_up_to_the_accuracy(extractor, test_motions):
    confusion = np.array(extractor.confusion)
    assert confusion.sum() == len(test_motions.labels)
    assert (confusion.sum(axis=1) == test_motions.labels.bincount(minlength=len(confusion)).numpy()).all()
    assert extractor.accuracy == pytest.approx(np.trace(confusion) / confusion.sum())
    right = extractor.predict(extractor.features(test_motions.motions)) == test_motions.labels
    assert right.double().mean().item() == pytest.approx(extractor.accuracy)


def test_accuracy_and_confusion_stand_beside_the_weights_for_people_to_read(extractor, demo):
    about = json.loads(Path(extractor.path).with_suffix(".json").read_text())
    assert about["accuracy"] == extractor.accuracy
    assert about["confusion"] == [list(row) for row in extractor.confusion]
    assert about["dataset"] == demo.hash


def test_mistakes_are_told_worst_first(extractor):
    confusion = ((8, 2, 0), (0, 5, 5), (0, 0, 9))
    own = dataclasses.replace(extractor, confusion=confusion, class_names=("walk", "sit", "wave"))
    assert own.mistakes() == ["50% of 'sit' taken for 'wave'", "20% of 'walk' taken for 'sit'"]


def test_random_crops_are_learnt_from_anew_every_time(demo, tiny):
    view = demo.view(override(tiny, {"data.window": "random"}).data)
    crops, random, rows = FreshCrops(view), torch.Generator().manual_seed(0), torch.arange(5)
    starts = {crops(rows, random).numpy().tobytes() for _ in range(10)}
    assert len(starts) == 10
    recordings = (
        view.dataset.view(override(tiny, {"data.window": "first", "data.frames": 400}).data).load("train").motions
    )
    for row, crop in zip(rows, crops(rows, random), strict=True):
        windows = recordings[row].unfold(1, crop.shape[1], 1).permute(1, 0, 3, 2)  # (places, C, T, V)
        assert (windows - crop).abs().amax(dim=(1, 2, 3)).min() < 1e-6


def test_training_repeats_and_leaves_the_random_state_alone(demo, tiny, monkeypatch):
    monkeypatch.setattr("kgan_ray.metrics.extractor_training.EPOCHS", 2)
    view = demo.view(tiny.data)
    spec, train = view.spec, view.load("train")
    before = torch.get_rng_state()
    first, second = (weights_hash(train_classifier(spec, train).state_dict()) for _ in range(2))
    torch.set_num_threads(2)
    try:
        third = weights_hash(train_classifier(spec, train).state_dict())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert first == second == third
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_keeps_bones_in_proportion_but_for_its_noise(test_motions, monkeypatch):
    monkeypatch.setattr("kgan_ray.metrics.extractor_training.MOST_NOISE", 0.0)
    still = test_motions.motions[:, :, :1].expand_as(test_motions.motions)
    changed = augmented(still, torch.Generator().manual_seed(0))
    lengths = [
        (motions[..., 1] - motions[..., 0]).norm(dim=1) / (motions[..., 2] - motions[..., 20]).norm(dim=1)
        for motions in (still, changed)
    ]
    assert torch.allclose(*lengths, rtol=1e-3)


def test_the_users_own_extractor_is_loaded_by_its_path(extractor, demo, tiny):
    own = find_extractor(demo.view(tiny.data), CPU, pytest.fail, path=extractor.path)
    assert own.hash == extractor.hash
    assert own.accuracy == extractor.accuracy


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_a_file_that_is_no_extractor_is_refused(tmp_path, demo, tiny, content):
    file = tmp_path / "mine.safetensors"
    if content:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.safetensors: not an extractor"):
        find_extractor(demo.view(tiny.data), CPU, print, path=str(file))


def test_weights_without_a_description_are_refused(tmp_path, demo, tiny, extractor):
    save_file(extractor.classifier.state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match=r"bare\.safetensors: not an extractor"):
        find_extractor(demo.view(tiny.data), CPU, print, path=str(tmp_path / "bare.safetensors"))


def test_an_extractor_of_other_motions_is_refused(demo, tiny, extractor):
    other = override(tiny, {"data.centre": "first" if tiny.data.centre != "first" else "frame"})
    with pytest.raises(UserError, match="an extractor of motions with centre"):
        find_extractor(demo.view(other.data), CPU, print, path=extractor.path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_actions_of_unseen_views_are_recognised_on_real_motion(tmp_path):
    archive = REAL_DATA / "nw_ucla.zip"
    if not archive.exists():
        pytest.skip("shared/data/nw_ucla.zip is not here")
    from kgan_ray.prepare import main

    main([str(archive), "--output", str(tmp_path / "ucla")])
    data = resolve_settings("ucla-xview", {}).data
    assert find_extractor(Dataset.open(tmp_path / "ucla").view(data), CPU, print).accuracy > 0.8
