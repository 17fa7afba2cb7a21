"""The suite by name: what each metric says of good, bad and broken motions."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kgan_ray.metrics.names import METRICS, best_is_lowest, check_metric_name, check_objective, lower_is_better
from kgan_ray.metrics.sides import DivergedError
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.settings import EvaluationSettings, UserError, override

ALWAYS = [name for name in METRICS if name not in ("fid_inception", "fid_per_class", "fid_infinity")]


@pytest.fixture(scope="module")
def notes():
    return []


@pytest.fixture(scope="module")
def evaluator(demo, tiny, notes):
    return Evaluator(demo.view(tiny.data), tiny.evaluation, progress=notes.append)


@pytest.fixture(scope="module")
def real(evaluator):
    return evaluator.real.motions.values, evaluator.real.labels


def test_an_unknown_metric_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"--metrics: unknown metric 'fdi'.*fid"):
        check_metric_name("fdi", "--metrics")


def test_a_distance_is_better_when_lower_and_a_share_when_higher():
    assert lower_is_better("fid")
    assert lower_is_better("mmd_seq")
    assert not lower_is_better("accuracy")
    assert not lower_is_better("coverage")
    assert lower_is_better("fid/waving")
    assert not lower_is_better("accuracy/waving")
    assert lower_is_better("kid_std")


@pytest.mark.parametrize(
    ("metric", "mode", "lowest"),
    [("fid", None, True), ("accuracy", None, False), ("fid", "max", False), ("accuracy", "min", True)],
)
def test_a_run_ranks_its_checkpoints_by_the_first_metric_and_a_given_mode(metric, mode, lowest):
    assert best_is_lowest(EvaluationSettings(metrics=(metric, "kid"), mode=mode)) == lowest


def test_the_documentation_says_of_every_metric_what_the_table_says():
    text = (Path(__file__).parents[1] / "docs/metrics.md").read_text(encoding="utf-8")
    section = text.split("## What each name means")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:2] == "| "]
    documented = {
        name: (better, measures)
        for names, _, measures, better in rows[1:]
        for name in re.findall(r"`(\w+)`", names)
    }
    better = {True: "lower", False: "higher"}
    assert documented == {
        name: (
            better[metric.lower_is_better] if metric.is_objective else "as real",
            "motions" if metric.needs_motions else "features",
        )
        for name, metric in METRICS.items()
    }


def test_every_metric_is_described_in_a_sentence_and_can_be_asked_for_without_pytorch():
    assert all(metric.description.startswith(("The ", "`")) for metric in METRICS.values())
    assert all(metric.description.endswith(".") for metric in METRICS.values())
    asking = "import kgan_ray.metrics.names, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asking], check=False).returncode == 0


def test_real_motions_against_themselves_are_perfect(evaluator, real):
    names = ["fid", "precision", "recall", "coverage", "mmd_avg", "mmd_seq", "jerk_ratio", "deviation_ratio"]
    values = evaluator.score(*real, names)
    assert values["fid"] == pytest.approx(0, abs=1e-6)
    assert values["precision"] == values["recall"] == values["coverage"] == 1
    assert values["jerk_ratio"] == values["deviation_ratio"] == 1
    assert values["mmd_avg"] < 0.05
    assert values["mmd_seq"] < 0.05


def test_every_metric_is_finite_and_an_order_of_motions_means_nothing(evaluator, real):
    motions, labels = evaluator.test.motions.values, evaluator.test.labels
    backwards = torch.arange(len(labels)).flip(0)
    values = evaluator.score(motions, labels, ["fid", "kid", "accuracy", "coverage", "mmd_seq"])
    flipped = evaluator.score(
        motions[backwards], labels[backwards], ["fid", "kid", "accuracy", "coverage", "mmd_seq"]
    )
    assert values == pytest.approx(flipped, rel=1e-4)
    assert all(math.isfinite(value) for value in evaluator.score(motions, labels, ALWAYS).values())


def test_noise_is_worse_than_the_floor_by_every_distance(evaluator, real):
    motions, labels = real
    noise = torch.randn(motions.shape, generator=torch.Generator().manual_seed(0)) * 0.3
    names = ["fid", "kid", "mmd_avg", "mmd_seq"]
    floor, noisy = evaluator.floor(names), evaluator.score(motions + noise, labels, names)
    assert all(noisy[name] > floor[name] for name in names)


def test_bodies_that_tremble_are_told_by_their_jerk(evaluator, real):
    motions, labels = real
    noise = torch.randn(motions.shape, generator=torch.Generator().manual_seed(0)) * 0.03
    steady, trembling = (evaluator.score(m, labels, ["jerk_ratio"]) for m in (motions, motions + noise))
    assert trembling["jerk_ratio"] > 1.5 * steady["jerk_ratio"]


def test_swapped_labels_cost_accuracy_and_not_fid(evaluator, real):
    motions, labels = real
    swapped = (labels + 1) % evaluator.spec.num_classes
    right, wrong = (evaluator.score(motions, classes, ["fid", "accuracy"]) for classes in (labels, swapped))
    assert wrong["accuracy"] < right["accuracy"]
    assert wrong["fid"] == pytest.approx(right["fid"], abs=1e-9)


def test_a_collapsed_generator_has_defined_scores_and_no_diversity(evaluator, real):
    motions, labels = real
    values = evaluator.score(motions[:1].expand_as(motions).clone(), labels, ALWAYS)
    assert all(math.isfinite(value) for value in values.values())
    assert values["diversity"] == values["multimodality"] == pytest.approx(0, abs=1e-4)
    assert values["deviation_ratio"] == pytest.approx(0, abs=1e-6)
    assert values["coverage"] < 0.2
    assert values["fid"] > evaluator.floor(["fid"])["fid"]


def test_motions_that_are_not_finite_mean_divergence(evaluator, real):
    motions = real[0].clone()
    motions[3, 0, 0, 0] = math.nan
    with pytest.raises(DivergedError, match=f"1 of {len(motions)} generated motions hold NaN"):
        evaluator.score(motions, real[1], ["fid"])


def test_motions_of_another_skeleton_are_refused(evaluator, real):
    with pytest.raises(UserError, match=r"expected \(C, T, V\)"):
        evaluator.score(real[0][..., :-1], real[1], ["fid"])


def test_one_motion_of_each_class_says_what_is_missing(evaluator, real):
    labels = real[1].unique()
    motions = torch.stack([real[0][real[1] == label][0] for label in labels])
    for name in ("mmd_avg", "mmd_seq", "multimodality", "fid_per_class"):
        with pytest.raises(UserError, match=f"{name}: no class has"):
            evaluator.score(motions, labels, [name])
    with pytest.raises(UserError, match="fid: found 1 motions; a covariance needs at least 2"):
        evaluator.score(motions[:1], labels[:1], ["fid"])


def test_too_few_motions_for_a_covariance_are_said_once(evaluator, real, notes):
    for _ in range(2):
        evaluator.score(real[0][:40], real[1][:40], ["fid"])
    assert sum("covariance of 40 motions in 128 dimensions" in note for note in notes) == 1


class Resampling:
    """A perfect generator: it gives real motions of the labels that it is asked for, and records how it was asked."""

    def __init__(self, evaluator):
        self.spec = evaluator.spec
        self.motions, self.labels = evaluator.real.motions.values, evaluator.real.labels

    def sample(self, labels, **ways):
        self.asked = {"labels": labels, **ways}
        random = torch.Generator().manual_seed(ways["seed"])
        rows = [torch.nonzero(self.labels == label).flatten() for label in labels]
        return torch.stack([self.motions[own[torch.randint(len(own), (), generator=random)]] for own in rows])


@pytest.fixture
def unbalanced(demo, tiny):
    """An evaluator of two classes, one eight times as frequent as the other."""
    evaluator = Evaluator(demo.view(tiny.data), tiny.evaluation, progress=str)
    labels = evaluator.real.labels
    frequent, rare = labels.bincount().topk(2).indices
    rows = torch.cat([torch.nonzero(labels == frequent)[:8], torch.nonzero(labels == rare)[:1]]).flatten()
    evaluator.real = evaluator.real.subset(rows.repeat(8))
    return evaluator


def test_each_metric_takes_the_classes_that_it_is_defined_for(unbalanced, monkeypatch):
    generator = Resampling(unbalanced)
    counts = {}

    def count(real, generated, names):
        counts[names[0]] = sorted(generated.labels.unique(return_counts=True)[1].tolist())
        return {}

    monkeypatch.setattr(unbalanced, "compare", count)
    unbalanced.evaluate(generator, ["fid", "accuracy"], seed=7)
    assert generator.asked["seed"] == 7
    assert counts == {"accuracy": [16, 16], "fid": [4, 28]}


def test_a_perfect_generator_of_unbalanced_classes_is_not_far_away(unbalanced):
    generator = Resampling(unbalanced)
    labels = unbalanced.real.labels.unique().repeat(16)
    even = unbalanced.score(generator.sample(labels, seed=0), labels, ["fid", "kid"])
    matched = unbalanced.evaluate(generator, ["fid", "kid"], seed=0)
    assert matched["fid"] < even["fid"] / 4
    assert matched["kid"] < even["kid"] / 4


def test_copies_of_training_motions_are_seen(evaluator, real):
    copies = evaluator.score(*real, ["fid", "coverage", "nearest_ratio"])
    floor = evaluator.floor(["nearest_ratio"])
    assert copies["fid"] < 1e-6 < 1 - 1e-6 < copies["coverage"]  # nothing else sees them
    assert copies["nearest_ratio"] < 1e-3
    assert floor["nearest_ratio"] > 0.8
    half = torch.cat([real[0][::2], evaluator.test.motions.values])
    labels = torch.cat([real[1][::2], evaluator.test.labels])
    assert evaluator.score(half, labels, ["nearest_ratio"])["nearest_ratio"] < 0.7 * floor["nearest_ratio"]


def test_distances_to_both_splits_stand_beside_each_other_at_equal_counts(evaluator, real):
    scores = evaluator.score(*real, ["fid_test"])
    assert scores["fid_train"] < 1e-6
    assert scores["fid_test"] == pytest.approx(scores["fid_train_test"])
    assert scores["fid_test"] > 0.1
    assert "fid_test" not in evaluator.floor(["fid_test", "accuracy"])


def test_a_benchmark_that_holds_nothing_out_has_no_floor_and_tells_what_accuracy_is_of(demo, tiny):
    data = override(tiny, {"data.benchmark": "all"}).data
    evaluator = Evaluator(demo.view(data), tiny.evaluation, progress=str)
    with pytest.raises(UserError, match=r"data\.benchmark=all trains on every motion"):
        evaluator.floor(["fid"])
    assert evaluator.extractor.tested_on == "16 motions held out of its training (the generator trains on them)"
    assert sum(map(sum, evaluator.extractor.confusion)) == 16


def test_what_ranks_nothing_is_no_objective():
    check_objective("fid", "objective")
    with pytest.raises(UserError, match="objective: diversity ranks nothing"):
        check_objective("diversity", "objective")


def test_a_second_evaluator_loads_the_same_extractor(evaluator, demo, tiny):
    said = []
    again = Evaluator(
        demo.view(tiny.data), override(tiny, {"evaluation.num_motions": 8}).evaluation, progress=said.append
    )
    assert again.extractor.hash == evaluator.extractor.hash
    assert not said
    assert again.floor(["fid"]) == evaluator.floor(["fid"])
