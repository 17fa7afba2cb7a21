"""Maximum mean discrepancy: brute force, the published script's quirks, and what each can see."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel

from kgan_ray.metrics.mmd import WIDTHS, frame_discrepancies, published_mmd, sequence_discrepancies


def motions(count, seed, shift=0.0, size=0.3):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 4, 5, generator=random) * size + shift


def unbiased(x, y, width):
    kxx, kyy, kxy = (rbf_kernel(a, b, gamma=1 / width) for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    return (kxx.sum() - n) / (n * (n - 1)) + (kyy.sum() - m) / (m * (m - 1)) - 2 * kxy.mean()


def at_width(monkeypatch, width, real, fake):
    """The discrepancy of whole sequences of one class at one kernel width."""
    monkeypatch.setattr("kgan_ray.metrics.mmd.WIDTHS", (width,))
    labels, fake_labels = (torch.zeros(len(side), dtype=torch.int64) for side in (real, fake))
    return sequence_discrepancies(real, labels, fake, fake_labels)[0]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_discrepancy_agrees_with_scikit_learn_at_every_width(monkeypatch, width):
    monkeypatch.setattr("kgan_ray.metrics.mmd._CELLS", 7 * 23)
    real, fake = motions(30, 0), motions(23, 1, shift=0.2)
    squared = unbiased(real.double().flatten(1).numpy(), fake.double().flatten(1).numpy(), width)
    # At wide kernels the reference itself loses digits: 1 - k is some 1e-9 of k.
    assert at_width(monkeypatch, width, real, fake) ** 2 == pytest.approx(max(squared, 0), rel=1e-6, abs=1e-14)


def test_wide_kernels_keep_their_digits(monkeypatch):
    # For h >> d^2, MMD^2 tends to 2 |difference of means|^2 / h (minus the U-statistic's share of the variance).
    real, fake = motions(30, 0), motions(30, 1, shift=0.5)
    x, y = real.double().flatten(1), fake.double().flatten(1)
    gap = (x.mean(0) - y.mean(0)).square().sum() - x.var(0).sum() / 30 - y.var(0).sum() / 30
    squared = at_width(monkeypatch, WIDTHS[-1], real, fake) ** 2
    assert squared * WIDTHS[-1] == pytest.approx(2 * gap.item(), rel=1e-6)


def test_mmd_per_class_is_the_mean_over_frames_and_the_largest_over_widths():
    real, fake = motions(40, 0), motions(34, 1, shift=0.1)
    labels, fake_labels = torch.arange(40) % 2, torch.arange(34) % 2
    for label in (0, 1):
        x, y = real[labels == label].double().numpy(), fake[fake_labels == label].double().numpy()
        by_width = [
            np.mean(
                [
                    math.sqrt(max(unbiased(x[:, :, t].reshape(20, -1), y[:, :, t].reshape(17, -1), h), 0))
                    for t in range(4)
                ]
            )
            for h in WIDTHS
        ]
        assert frame_discrepancies(real, labels, fake, fake_labels)[label] == pytest.approx(
            max(by_width), rel=1e-6
        )
        whole = max(unbiased(x.reshape(20, -1), y.reshape(17, -1), h) for h in WIDTHS)
        assert sequence_discrepancies(real, labels, fake, fake_labels)[label] == pytest.approx(
            math.sqrt(whole), rel=1e-6
        )


def test_mmd_does_not_depend_on_order():
    real, fake, labels = motions(30, 0), motions(30, 1, shift=0.1), torch.arange(30) % 3
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    value = sequence_discrepancies(real, labels, fake, labels)
    assert sequence_discrepancies(real[order], labels[order], fake, labels) == pytest.approx(value, rel=1e-9)


def test_a_class_with_one_motion_is_left_out():
    real, fake = motions(10, 0), motions(10, 1)
    labels = torch.tensor([0] * 9 + [1])
    assert set(sequence_discrepancies(real, labels, fake, labels)) == {0}


def published_by_hand(real, fake, mode):
    """The published definition, one pair of joints at a time."""
    joints = real.shape[2]
    best = 0.0
    for width in WIDTHS:
        sets = [(real[:, t].T, fake[:, t].T) for t in range(real.shape[1])]
        if mode == "seq":
            sets = [(real.permute(2, 1, 0).reshape(joints, -1), fake.permute(2, 1, 0).reshape(joints, -1))]
        total = 0.0
        for x, y in sets:
            k = lambda a, b: math.exp(-(a - b).square().sum().item() / width)  # noqa: E731, B023
            squared = sum(
                k(x[i], x[j]) + k(y[i], y[j]) - 2 * k(x[i], y[j])
                for i in range(joints)
                for j in range(joints)
                if i != j
            ) / (joints * (joints - 1))
            total += (math.sqrt(squared) if squared >= 0 else math.nan) / len(sets)
        if total > best:
            best = total
    return best


@pytest.mark.parametrize("mode", ["avg", "seq"])
def test_published_mmd_reproduces_its_definition(mode):
    real, fake = motions(1, 0)[0].double(), motions(1, 1, shift=0.4)[0].double()
    expected = published_by_hand(real, fake, mode)
    assert expected > 0
    assert published_mmd({0: real}, {0: fake}, mode=mode) == pytest.approx(expected, rel=1e-6)


def test_published_mmd_drops_nan_without_a_word():
    # Joints that swap places: every x is some y, pairs (x_i, y_i) are left out, the square is negative everywhere.
    x = torch.zeros(3, 1, 2).double()
    x[0, 0] = torch.tensor([0.0, 1.0])
    swapped = x.flip(2)
    assert published_mmd({0: x}, {0: swapped}, mode="seq") == 0.0


@pytest.mark.parametrize("mode", ["avg", "seq"])
def test_published_mmd_misses_collapse_and_ours_sees_it(mode):
    real, fake, labels = motions(40, 0), motions(40, 1), torch.zeros(40).long()
    collapsed = fake[:1].expand_as(fake)
    ours = {"avg": frame_discrepancies, "seq": sequence_discrepancies}[mode]
    healthy, broken = (published_mmd({0: real[0]}, {0: f[0]}, mode=mode) for f in (fake, collapsed))
    assert healthy == broken
    assert ours(real, labels, collapsed, labels)[0] > 3 * ours(real, labels, fake, labels)[0]
