"""Persons must be in metres: other units are named, and `--scale` mends them."""

import numpy as np
import pytest

from helpers.recordings import moving_body
from kgan_ray.data.prepare.service import prepare_dataset
from kgan_ray.data.sources.units import parse_scale
from kgan_ray.settings import UserError

MOTIONS = np.stack([moving_body(6, seed=seed) for seed in range(20)])


def own(path, motions, **others):
    np.savez(path, motions=motions, labels=np.arange(len(motions)) % 2, **others)
    return str(path)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (
            1000,
            r"a person is 1\d\d\d units tall, which is millimetres, not metres; --scale 0.001 makes metres of them",
        ),
        (100, r"a person is 1\d\d\.\d units tall, which is centimetres, not metres; --scale 0.01 makes"),
    ],
)
def test_other_units_are_named_and_scale_mends_them(tmp_path, factor, message):
    path = own(tmp_path / "a.npz", MOTIONS * factor)
    with pytest.raises(UserError, match=message):
        prepare_dataset([path], tmp_path / "data", layout="ntu25")
    assert not (tmp_path / "data").exists()
    scaled = prepare_dataset([path], tmp_path / "data", layout="ntu25", scale=(1 / factor,)).dataset
    metres = prepare_dataset([own(tmp_path / "a.npz", MOTIONS)], tmp_path / "metres", layout="ntu25").dataset
    assert np.allclose(scaled.manifest.ranges["all"]["none"], metres.manifest.ranges["all"]["none"], atol=1e-5)


def test_pixels_are_named_and_can_be_turned_up(tmp_path):
    path = own(tmp_path / "a.npz", np.abs(MOTIONS[:, :, :17, :2]) * 300)
    with pytest.raises(
        UserError, match=r"units tall, which is pixels, not metres; --scale 0\.00\d+,-0\.00\d+ makes"
    ):
        prepare_dataset([path], tmp_path / "data", layout="coco17")
    dataset = prepare_dataset([path], tmp_path / "data", layout="coco17", scale=(0.003, -0.003)).dataset
    assert dataset.manifest.ranges["all"]["none"][0] < 0
    assert prepare_dataset([path], tmp_path / "data", layout="coco17", scale=(0.003, -0.003)).is_new is False
    with pytest.raises(UserError, match="holds a dataset of other sources or options"):
        prepare_dataset([path], tmp_path / "data", layout="coco17", scale=(0.004, -0.004))
    with pytest.raises(UserError, match=r"--scale: 3 numbers, but .* has 2 coordinates"):
        prepare_dataset([path], tmp_path / "data", layout="coco17", scale=(1, 1, 1))
    with pytest.raises(UserError, match=r"with --scale 5 a person is \d+ metres tall"):
        prepare_dataset([path], tmp_path / "data", layout="coco17", scale=(5,))


@pytest.mark.parametrize("text", ["x", "", "0", "1,2,3,4", "nan", "1,0"])
def test_a_scale_that_is_none_is_refused(text):
    with pytest.raises(UserError, match=r"--scale .*: expected metres a unit, such as 0\.001 for millimetres"):
        parse_scale(text)


def test_people_who_stand_on_their_heads_are_named(tmp_path):
    nose, ankles = 0, (15, 16)
    motions = np.random.default_rng(0).uniform(0.4, 0.6, (20, 6, 17, 2))  # an image from 0 to 1, y down
    motions[:, :, nose, 1], motions[:, :, ankles, 1] = 0.1, 0.9
    path, said = own(tmp_path / "a.npz", motions), []
    prepare_dataset([path], tmp_path / "data", layout="coco17", say=said.append)
    assert said[1].endswith("a.npz: heads lie below feet, so y points down; --scale 1,-1 turns it up")
    said.clear()
    prepare_dataset([path], tmp_path / "up", layout="coco17", scale=(1, -1), say=said.append)
    assert len(said) == 1
