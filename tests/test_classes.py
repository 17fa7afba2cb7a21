"""Counts in proportion, labels in turn, and subsets that keep the classes' shares."""

import pytest
import torch

from kgan_ray.data.classes import (
    in_turn,
    other_classes,
    places_in_class,
    proportional,
    stratified,
    stratified_halves,
)
from kgan_ray.metrics import manifold
from kgan_ray.metrics.manifold import coverage
from kgan_ray.metrics.sides import Features


def test_a_total_is_split_in_proportion_to_the_last_motion():
    assert proportional(torch.tensor([50, 30, 20]), 7).tolist() == [4, 2, 1]
    assert proportional(torch.tensor([5, 0, 5]), 4).tolist() == [2, 0, 2]
    assert proportional(torch.tensor([668, 672, 670]), 2010).sum() == 2010


def test_labels_come_in_turn_until_a_class_is_used_up():
    labels = in_turn(torch.tensor([2, 0, 3]))
    assert labels.tolist() == [0, 2, 0, 2, 2]
    assert places_in_class(labels).tolist() == [0, 0, 1, 1, 2]


def test_a_subset_and_halves_keep_each_class_its_share():
    labels = torch.arange(10).repeat(60)
    chosen = stratified(labels, 100, torch.Generator().manual_seed(0))
    assert labels[chosen].bincount().tolist() == [10] * 10
    assert len(chosen.unique()) == 100
    first, second = stratified_halves(labels, torch.Generator().manual_seed(0))
    assert labels[first].bincount().tolist() == labels[second].bincount().tolist() == [30] * 10
    assert torch.cat([first, second]).sort().values.tolist() == list(range(600))


def test_classes_of_other_proportions_are_counted():
    even, rare = torch.tensor([0, 1] * 50), torch.tensor([0] * 90 + [1] * 10)
    assert other_classes(even, rare) == other_classes(rare, even) == pytest.approx(0.4)
    assert other_classes(even, even) == 0


def test_no_class_is_lost_where_neighbour_scores_look_at_a_part(monkeypatch):
    """Every n-th of labels that come in turn holds some classes only: a perfect generator lost their coverage."""
    monkeypatch.setattr(manifold, "MOST_MOTIONS", 900)
    random = torch.Generator().manual_seed(0)
    centres = 20 * torch.randn(60, 4, generator=random)
    labels = torch.arange(60).repeat(30)
    real, generated = (
        Features(centres[labels] + torch.randn(1800, 4, generator=random), labels, None) for _ in range(2)
    )
    assert coverage(real, generated)["coverage"] > 0.95
