"""The demonstration: each way of spoiling does what it says, and the page's table and figure come out."""

import pytest
import torch

from kgan_ray.benchmarks.demonstration import MOST_NOISE, SHOWN, SPOILS, STRENGTHS, copy_training, main


@pytest.fixture
def clean(demo, tiny):
    return demo.view(tiny.data).load("test")


@pytest.fixture
def spec(demo, tiny):
    return demo.view(tiny.data).spec


def spoilt(name, clean, strength, spec):
    return SPOILS[name](clean, strength, torch.Generator().manual_seed(0), spec)


@pytest.mark.parametrize("name", SPOILS)
def test_strength_zero_spoils_nothing(name, clean, spec):
    after = spoilt(name, clean, 0.0, spec)
    assert torch.equal(after.motions, clean.motions)
    assert torch.equal(after.labels, clean.labels)


def test_full_strength_does_what_its_name_says(clean, spec):
    noise = spec.to_metres(spoilt("added noise", clean, 1.0, spec).motions) - spec.to_metres(clean.motions)
    assert noise.std().item() == pytest.approx(MOST_NOISE, rel=0.02)
    assert spoilt("frozen motion", clean, 1.0, spec).motions.diff(dim=2).abs().max() == 0
    assert (spoilt("swapped labels", clean, 1.0, spec).labels != clean.labels).all()
    assert torch.equal(spoilt("time reversal", clean, 1.0, spec).motions.flip(2), clean.motions)
    x, _, z = spec.to_metres(clean.motions).unbind(dim=1)
    turned = spec.to_metres(spoilt("turned bodies", clean, 1.0, spec).motions)
    assert torch.allclose(turned[:, 0], z, atol=1e-5)
    assert torch.allclose(turned[:, 2], -x, atol=1e-5)
    larger = spec.to_metres(spoilt("larger bodies", clean, 1.0, spec).motions)
    assert torch.allclose(larger, 1.5 * spec.to_metres(clean.motions), atol=1e-5)
    moved = spec.to_metres(spoilt("moved bodies", clean, 1.0, spec).motions) - spec.to_metres(clean.motions)
    assert torch.allclose(moved.mean(dim=(0, 2, 3)), torch.tensor([1.0, 0.0, 0.0]), atol=1e-4)
    thinned = spoilt("thinned classes", clean, 1.0, spec)
    is_even = [labels % 2 == 0 for labels in (clean.labels, thinned.labels)]
    assert is_even[1].sum() == is_even[0].sum()
    assert (~is_even[1]).sum() < 0.4 * (~is_even[0]).sum()
    collapsed = spoilt("mode collapse", clean, 1.0, spec)
    for label in collapsed.labels.unique():
        assert len(collapsed.motions[collapsed.labels == label].unique(dim=0)) == 1


def test_copies_are_training_motions_of_the_same_class(clean, spec, demo, tiny):
    train = demo.view(tiny.data).load("train")
    copied = copy_training(clean, 1.0, torch.Generator().manual_seed(0), spec, train=train)
    for motion, label in zip(copied.motions, copied.labels, strict=True):
        assert (train.motions[train.labels == label] == motion).flatten(1).all(dim=1).any()


def test_half_strength_spoils_half_of_the_motions(clean, spec):
    changed = spoilt("swapped labels", clean, 0.5, spec).labels != clean.labels
    assert changed.sum().item() == round(len(changed) / 2)


def test_the_table_and_the_figure_are_written(demo, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kgan_ray.benchmarks.demonstration.STRENGTHS", (0.0, 1.0))
    data = [
        f"--set=data.{name}={getattr(tiny.data, name)}" for name in ("benchmark", "frames", "window", "centre")
    ]
    main([demo.path, "--output", str(tmp_path), "--repeats", "2", *data])
    assert (tmp_path / "metrics.png").stat().st_size > 10_000
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 3 + len(SPOILS) + 1
    assert all(row.count("|") == len(SHOWN) + 3 for row in rows)
    assert STRENGTHS[0] == 0
