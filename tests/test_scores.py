"""Scores against independent implementations, closed forms and invariances."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from scipy import linalg
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import polynomial_kernel

from kgan_ray.metrics.features import FewMotionsWarning
from kgan_ray.metrics.frechet import (
    Gaussian,
    RunningGaussian,
    _trace_of_root,
    expected_distance,
    frechet_distance,
    frechet_distance_infinity,
)
from kgan_ray.metrics.kernel import kernel_distance
from kgan_ray.metrics.manifold import expected_coverage, manifold_overlap
from kgan_ray.metrics.one_sided import (
    deviation_ratio,
    deviation_within_classes,
    jerk_ratio,
    mean_distance,
    mean_distance_within_classes,
    mean_jerk,
)
from kgan_ray.metrics.sides import Motions


def structured(count, dimensions, seed, shift=0.0):
    """Correlated, skewed features with a spectrum that spans six orders of magnitude."""
    random = np.random.default_rng(seed)
    mixing = np.linalg.qr(np.random.default_rng(99).normal(size=(dimensions, dimensions)))[0]
    spread = np.logspace(0, -3, dimensions)
    return np.maximum(random.normal(size=(count, dimensions)), -1) * spread @ mixing + shift


def frechet_by_sqrtm(x, y):
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)


@pytest.mark.parametrize(
    "make", [lambda n, d, s: np.random.default_rng(s).normal(size=(n, d)) * (s + 1), structured]
)
def test_frechet_distance_agrees_with_the_general_matrix_root(make):
    x, y = make(400, 48, 0), make(300, 48, 1)
    assert frechet_distance(Gaussian.of(x), Gaussian.of(y)) == pytest.approx(frechet_by_sqrtm(x, y), rel=1e-6)


@pytest.mark.parametrize(
    ("num_real", "num_fake", "decades"), [(400, 400, 0), (400, 400, 5), (400, 100, 1), (90, 80, 3)]
)
def test_the_trace_of_the_root_is_exact_over_many_decades_and_at_any_rank(num_real, num_fake, decades):
    # With A = X'X and B = Y'Y, tr sqrt(AB) is the sum of the singular values of X Y'.
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(num, 200)) * np.logspace(0, -decades, 200) for num in (num_real, num_fake))
    trace = _trace_of_root(*(torch.from_numpy(side.T @ side) for side in (x, y))).item()
    assert trace == pytest.approx(linalg.svdvals(x @ y.T).sum(), rel=1e-9)


def test_frechet_distance_of_known_gaussians():
    # Diagonal covariances commute: |m|^2 + sum (sqrt a - sqrt b)^2.
    a = Gaussian(100, torch.zeros(3).double(), torch.diag(torch.tensor([1.0, 4.0, 9.0])).double())
    b = Gaussian(100, torch.tensor([1.0, 2.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 4.0, 0.0])).double())
    assert frechet_distance(a, b) == pytest.approx(9 + 1 + 0 + 9, abs=1e-12)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_is_symmetric_and_does_not_see_rotations_and_shifts():
    x, y = structured(200, 20, 0), structured(200, 20, 1, shift=0.3)
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(20, 20)))[0]
    value = frechet_distance(Gaussian.of(x), Gaussian.of(y))
    assert frechet_distance(Gaussian.of(y), Gaussian.of(x)) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(Gaussian.of(x @ turn + 7), Gaussian.of(y @ turn + 7)) == pytest.approx(value, rel=1e-8)


def test_too_few_motions_warn_with_the_count_needed_and_stay_real():
    x, y = structured(500, 64, 0), structured(10, 64, 1)
    with pytest.warns(FewMotionsWarning, match="more than 64 motions"):
        value = frechet_distance(Gaussian.of(x), Gaussian.of(y))
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(a)
    trace = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b) - 2 * trace
    assert value == pytest.approx(expected, rel=1e-6)


def test_one_motion_and_nan_are_refused_in_words():
    with pytest.raises(ValueError, match="found 1 motions; a covariance needs at least 2"):
        Gaussian.of(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="1 of 3 feature vectors hold NaN"):
        Gaussian.of(np.array([[0.0, 1.0], [np.nan, 0.0], [1.0, 1.0]]))


def test_a_collapsed_generator_has_a_defined_frechet_distance():
    x = structured(200, 8, 0)
    y = np.repeat(x[:1], 50, axis=0)
    expected = np.square(x.mean(0) - y[0]).sum() + np.trace(np.cov(x, rowvar=False))
    assert frechet_distance(Gaussian.of(x), Gaussian.of(y)) == pytest.approx(expected, rel=1e-9)


def test_statistics_do_not_depend_on_batches_or_their_order():
    x = structured(301, 12, 3, shift=100.0)
    whole = Gaussian.of(x)
    running = RunningGaussian()
    for start, end in ((290, 301), (0, 7), (7, 7), (150, 290), (7, 150)):
        running.update(x[start:end])
    joined = running.result()
    assert joined.count == 301
    assert torch.allclose(joined.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(joined.covariance, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-12)


def test_fid_infinity_is_closer_to_the_truth_than_fid():
    # Both sides are N(0, I), so the true distance is 0; 300 motions in 32 dimensions bias it upward.
    random = np.random.default_rng(0)
    real = Gaussian(10**9, torch.zeros(32).double(), torch.eye(32).double())
    fake = random.normal(size=(300, 32))
    biased, extrapolated = frechet_distance(real, Gaussian.of(fake)), frechet_distance_infinity(real, fake)
    assert biased > 0.8
    assert abs(extrapolated) < 0.05 * biased
    assert frechet_distance_infinity(real, fake) == extrapolated


def test_fid_infinity_needs_four_motions_a_feature():
    real = Gaussian(10**9, torch.zeros(32).double(), torch.eye(32).double())
    with pytest.raises(ValueError, match="found 127 generated motions; fid_infinity of 32 features needs 128"):
        frechet_distance_infinity(real, np.zeros((127, 32)))


def test_what_few_motions_make_of_a_perfect_generator_is_told():
    random = np.random.default_rng(0)
    scales = np.sqrt(1 / np.arange(1, 33))
    pairs = [[Gaussian.of(random.normal(size=(200, 32)) * scales) for _ in range(2)] for _ in range(20)]
    measured = np.mean([frechet_distance(*pair) for pair in pairs])
    assert expected_distance(pairs[0][0], 200) == pytest.approx(measured, rel=0.1)


def test_the_coverage_of_a_perfect_generator_is_expected():
    random = np.random.default_rng(0)
    real, fake = (torch.from_numpy(random.normal(size=(count, 8))) for count in (1000, 200))
    measured = manifold_overlap(real, fake)["coverage"]
    assert expected_coverage(1000, 200) == pytest.approx(measured, abs=0.03)
    assert expected_coverage(10_000, 2000) == pytest.approx(0.598, abs=1e-3)


def test_kernel_distance_agrees_with_scikit_learn(monkeypatch):
    x, y = structured(60, 16, 0), structured(45, 16, 1, shift=0.2)
    kxx, kyy, kxy = (polynomial_kernel(a, b, degree=3, gamma=1 / 16, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    expected = (kxx.sum() - np.trace(kxx)) / (60 * 59) + (kyy.sum() - np.trace(kyy)) / (45 * 44) - 2 * kxy.mean()
    assert kernel_distance(x, y)[0] == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr("kgan_ray.metrics.kernel.BLOCK", 7)
    assert kernel_distance(x, y)[0] == pytest.approx(expected, rel=1e-9)


def test_scores_do_not_depend_on_the_number_of_threads(one_thread, monkeypatch):
    monkeypatch.setattr("kgan_ray.metrics.kernel.BLOCK", 7)
    x, y = structured(60, 16, 0), structured(45, 16, 1, shift=0.2)
    alone = kernel_distance(x, y)
    torch.set_num_threads(2)
    try:
        assert kernel_distance(x, y) == alone
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_kernel_distance_is_unbiased_and_its_standard_error_is_right():
    random = np.random.default_rng(0)
    draws = [
        kernel_distance(random.normal(size=(80, 4)), random.normal(size=(60, 4)) + 0.5)  # far enough to be linear
        for _ in range(200)
    ]
    values, errors = np.array(draws).T
    large = kernel_distance(random.normal(size=(4000, 4)), random.normal(size=(4000, 4)) + 0.5)[0]
    assert values.mean() == pytest.approx(large, abs=4 * values.std() / math.sqrt(200) + 0.03)
    assert errors.mean() == pytest.approx(values.std(), rel=0.25)


def test_manifold_overlap_agrees_with_its_formulas(monkeypatch):
    monkeypatch.setattr("kgan_ray.metrics.manifold.BLOCK", 13)
    x, y = structured(50, 6, 0), structured(40, 6, 1, shift=0.2)
    dxx, dyy, dxy = pairwise_distances(x), pairwise_distances(y), pairwise_distances(x, y)
    rx, ry = np.sort(dxx, axis=1)[:, 3], np.sort(dyy, axis=1)[:, 3]
    expected = {
        "precision": (dxy < rx[:, None]).any(axis=0).mean(),
        "recall": (dxy < ry).any(axis=1).mean(),
        "density": (dxy < rx[:, None]).sum() / (3 * 40),
        "coverage": (dxy.min(axis=1) < rx).mean(),
    }
    assert manifold_overlap(x, y, neighbours=3) == pytest.approx(expected, rel=1e-12)


def test_manifold_overlap_at_the_extremes():
    x = structured(60, 6, 0)
    assert manifold_overlap(x, x) == pytest.approx({"precision": 1, "recall": 1, "density": 6 / 5, "coverage": 1})
    far = manifold_overlap(x, x + 1000)
    assert far == pytest.approx({"precision": 0, "recall": 0, "density": 0, "coverage": 0})
    collapsed = manifold_overlap(x, np.repeat(x[:1], 60, axis=0))
    assert collapsed["precision"] == 1
    assert collapsed["recall"] == pytest.approx(1 / 60)
    assert collapsed["coverage"] < 0.3


def test_diversity_and_multimodality_of_known_points():
    # Points at +-1 by class: pairs of one class coincide; pairs of all are 0 or 2 apart.
    features, labels = np.array([[1.0], [-1.0]] * 50), torch.tensor([0, 1] * 50)
    assert mean_distance_within_classes(features, labels) == 0
    assert mean_distance(features, num_pairs=4000) == pytest.approx(2 * 50 / 99, abs=0.1)
    assert mean_distance(np.ones((10, 3))) == 0
    normal = np.random.default_rng(0).normal(size=(5000, 3))
    pairs = itertools.islice(itertools.combinations(normal[:200], 2), 20_000)
    mean = np.mean([np.linalg.norm(a - b) for a, b in pairs])
    assert mean_distance(normal, num_pairs=5000) == pytest.approx(mean, rel=0.05)
    with pytest.raises(ValueError, match="no class has 2 motions"):
        mean_distance_within_classes(np.ones((3, 2)), torch.arange(3))


def test_jerk_and_deviation_of_known_motions():
    frames, one_class = torch.arange(16.0).view(1, 1, 16, 1).expand(2000, 3, 16, 5), torch.zeros(2000)
    for power, jerk in ((1, 0), (2, 0), (3, 6)):
        assert mean_jerk(Motions(frames**power, one_class)) == jerk
        assert mean_jerk(Motions(-(frames**power), one_class)) == jerk
    heights = torch.tensor([1.0, 3.0, 5.0, 5.0, 100.0]).view(5, 1, 1, 1).expand(5, 3, 16, 5)
    # Class 0 deviates by the root of 2, class 1 not at all, and of class 2 there is one motion.
    some = Motions(heights, torch.tensor([0, 0, 1, 1, 2]))
    assert deviation_within_classes(some) == pytest.approx({0: math.sqrt(2), 1: 0})
    wider = Motions(3 * heights[:2], torch.tensor([0, 0]))
    assert deviation_ratio(some, wider) == pytest.approx({"deviation_ratio": 3})  # of the class that both have
    with pytest.raises(ValueError, match="no class has 2 motions on both sides"):
        deviation_ratio(some, Motions(heights, torch.arange(5)))
    still = Motions(torch.zeros(4, 3, 16, 5), torch.tensor([0, 0, 1, 1]))
    for ratio in (jerk_ratio, deviation_ratio):
        with pytest.raises(ValueError, match="neither move nor differ"):
            ratio(still, still)


@pytest.mark.slow
def test_frechet_distance_of_2048_dimensions_is_that_of_the_general_root():
    random = np.random.default_rng(0)
    a, b = (Gaussian.of(random.normal(size=(2500, 2048)) * np.logspace(0, -1, 2048)) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = frechet_distance(a, b)
    root = linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy()).real
    gap = np.square((a.mean - b.mean).numpy()).sum()
    expected = gap + np.trace(a.covariance.numpy() + b.covariance.numpy() - 2 * root)
    assert value == pytest.approx(expected, rel=1e-9)
