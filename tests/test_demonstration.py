"""The demonstration: each way of spoiling does what it says, and the page's table and figure come out."""

import pytest
import torch

from kgan_ray.benchmarks.demonstration import MOST_NOISE, SHOWN, SPOILS, STRENGTHS, main


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
    collapsed = spoilt("mode collapse", clean, 1.0, spec)
    for label in collapsed.labels.unique():
        assert len(collapsed.motions[collapsed.labels == label].unique(dim=0)) == 1


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
    assert len(rows) == 3 + len(SPOILS)
    assert all(row.count("|") == len(SHOWN) + 3 for row in rows)
    assert STRENGTHS[0] == 0
