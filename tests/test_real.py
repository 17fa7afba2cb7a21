"""The real side of a comparison: its features are computed once for a dataset, and follow what they are made from."""

import pytest
import torch

from kgan_ray.data.dataset import Dataset
from kgan_ray.data.splits import SplitRule
from kgan_ray.data.view import DataView
from kgan_ray.metrics.extractor import find_extractor
from kgan_ray.metrics.real import SplitSide
from kgan_ray.settings import override


@pytest.fixture
def view(demo, tiny):
    return demo.view(tiny.data)


@pytest.fixture
def extractor(view):
    return find_extractor(view, torch.device("cpu"), print)


def test_features_are_those_of_the_splits_motions(view, extractor):
    for split in ("train", "test"):
        loaded, side = view.load(split), SplitSide(view, split, extractor)
        assert torch.equal(side.features.values, extractor.features(loaded.motions))
        assert torch.equal(side.features.labels, loaded.labels)
        assert torch.equal(side.motions.values, loaded.motions)


def test_features_are_computed_once_for_all_processes(view, extractor, monkeypatch):
    first = SplitSide(view, "train", extractor).features.values
    monkeypatch.setattr(DataView, "load", lambda *_, **__: pytest.fail("the motions were loaded again"))
    assert torch.equal(SplitSide(view, "train", extractor).features.values, first)


@pytest.mark.parametrize(("setting", "value"), [("window", "random"), ("centre", "first"), ("benchmark", "xsub")])
def test_motions_of_other_settings_have_features_of_their_own(demo, tiny, extractor, setting, value):
    other = demo.view(override(tiny, {f"data.{setting}": value}).data)
    side = SplitSide(other, "train", extractor)
    assert torch.equal(side.features.values, extractor.features(other.load("train").motions))


def test_the_same_recordings_split_otherwise_have_features_and_an_extractor_of_their_own(demo, tiny, extractor):
    """Their content hash is the same, and so is the user's cache of datasets that nobody may write to."""
    data = override(tiny, {"data.benchmark": "xsub"}).data
    rules = {**demo.manifest.splits, "xsub": SplitRule(column="subject", train=(2,))}
    one, other = (
        demo.view(data),
        Dataset(demo.folder, demo.manifest.model_copy(update={"splits": rules})).view(data),
    )
    assert one.hash == other.hash
    assert one.key != other.key
    assert len(SplitSide(one, "train", extractor).features.values) == len(one.rows("train"))
    assert (
        len(SplitSide(other, "train", extractor).features.values)
        == len(other.rows("train"))
        != len(one.rows("train"))
    )
