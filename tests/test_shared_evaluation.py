"""Evaluation by two workers gives what one gives, and they never wait for each other in vain."""

import dataclasses
import math

import pytest
import torch
import torch.distributed as dist

from helpers.networks import motion_spec, narrow
from kgan_ray.data.dataset import Dataset
from kgan_ray.metrics import names
from kgan_ray.metrics.classifier import FEATURES
from kgan_ray.metrics.names import Metric
from kgan_ray.metrics.service import evaluate_generator
from kgan_ray.metrics.sides import DivergedError
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.model.sampling import BLOCK, sample, share_of
from kgan_ray.settings import override
from kgan_ray.training import distributed
from kgan_ray.training.evaluation import SharedEvaluation
from kgan_ray.training.gan import GAN
from kgan_ray.training.loop import train

METRICS = ("fid", "accuracy", "coverage", "mmd_avg")


@dataclasses.dataclass
class Worker:
    """A context of the loop."""

    rank: int
    world_size: int = 2
    device: str = "cpu"
    reports: list = dataclasses.field(default_factory=list)

    def report(self, metrics):
        self.reports.append(metrics)

    def progress(self, progress):
        pass

    def is_interrupted(self):
        return False


def join(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)


def evaluate(settings, rank=0):
    view = Dataset.open(settings.data.path).view(settings.data)
    gan = GAN(settings, view.spec)
    shared = SharedEvaluation(gan, Evaluator(view, settings.evaluation, progress=str) if rank == 0 else None)
    scores = shared.evaluate(METRICS)
    alike = shared.evaluate(["fid"])
    with torch.no_grad():
        (gan.average or gan.generator).mlp.mlp[0].weight.fill_(math.nan)
    try:
        shared.evaluate(METRICS)
    except DivergedError as error:
        return scores, alike, str(error)
    return scores, alike, ""


def evaluate_together(rank, folder, settings):
    join(rank, folder)
    torch.save([evaluate(one, rank) for one in settings], f"{folder}/rank{rank}")
    distributed.end_worker()


def train_together(rank, folder, settings):
    join(rank, folder)
    context = Worker(rank)
    outcome = train(settings, Dataset.open(settings.data.path), f"{folder}/run", context)
    torch.save((dataclasses.asdict(outcome), context.reports), f"{folder}/rank{rank}")
    distributed.end_worker()


@pytest.fixture
def together(tmp_path):
    def run(function, settings):
        torch.multiprocessing.spawn(function, args=(str(tmp_path), settings), nprocs=2)
        return [torch.load(tmp_path / f"rank{rank}") for rank in range(2)]

    return run


@pytest.mark.timeout(600)
def test_two_workers_score_what_one_scores(tiny, together):
    settings = [override(tiny, {"evaluation.num_motions": num_motions}) for num_motions in (200, 600, 30)]
    first, second = together(evaluate_together, settings)
    for one, (scores, fid, diverged), (nothing, nothing_too, diverged_too) in zip(
        settings, first, second, strict=True
    ):
        alone, _, _ = evaluate(one)
        assert set(scores) == {*METRICS, "coverage_expected"}
        assert scores == pytest.approx(alone, rel=1e-4), one.evaluation
        assert fid["fid"] == scores["fid"]
        assert nothing == nothing_too == {}
        assert diverged == diverged_too
        assert "generated motions hold NaN" in diverged


def test_one_worker_scores_exactly_what_the_verb_scores(tiny, demo):
    settings = override(tiny, {"evaluation.metrics": METRICS, "evaluation.truncation": 0.8})
    view = demo.view(settings.data)
    gan = GAN(settings, view.spec)
    shared = SharedEvaluation(gan, Evaluator(view, settings.evaluation, progress=str))
    (scores,) = evaluate_generator(gan, settings, floors=False, progress=str).draws
    measured = shared.evaluate(METRICS)
    assert measured == {name: scores[name] for name in measured}
    assert set(METRICS) < set(measured)


def lowest_height(real, generated):
    """A metric on motions, as a newcomer would write it."""
    return {"lowest_height": generated.values[:, 1].min().item()}


def num_features(real, generated):
    """One that the table does not say to need motions."""
    return {"num_features": generated.values.shape[1]}


def test_a_new_metric_on_motions_gets_them_in_training(tiny, demo, monkeypatch):
    for name, needs_motions in (("lowest_height", True), ("num_features", False)):
        metric = Metric(f"{__name__}:{name}", "", lower_is_better=True, needs_motions=needs_motions)
        monkeypatch.setitem(names.METRICS, name, metric)
    view = demo.view(tiny.data)
    gan = GAN(tiny, view.spec)
    evaluator = Evaluator(view, tiny.evaluation, progress=str)
    shared = SharedEvaluation(gan, evaluator)
    scores = shared.evaluate(["lowest_height", "num_features"])
    lowest = sample(
        gan.average or gan.generator,
        evaluator.labels(),
        seed=tiny.evaluation.seed,
        truncation=tiny.evaluation.truncation,
    )[:, 1].min()
    assert scores == {"lowest_height": lowest.item(), "num_features": FEATURES}


@pytest.mark.timeout(600)
def test_two_workers_train_evaluate_and_end_together(tiny, together):
    (outcome, reports), (other, other_reports) = together(train_together, tiny)
    assert outcome["status"] == other["status"] == "finished"
    assert [report["step"] for report in reports] == [report["step"] for report in other_reports] == [4, 6]
    assert math.isfinite(outcome["metrics"]["fid"])


@pytest.mark.timeout(600)
def test_two_workers_diverge_together(tiny, together):
    rates = {"training.discriminator_learning_rate": 1e30, "training.generator_learning_rate": 1e30}
    (outcome, _), (other, _) = together(train_together, override(tiny, rates))
    assert outcome["status"] == other["status"] == "diverged"
    assert outcome["reason"]


def test_shares_of_any_number_of_workers_make_up_the_whole(tiny, demo):
    generator = GAN(tiny, demo.view(tiny.data).spec).generator
    labels = torch.arange(300) % 5
    ways = {"seed": 3, "batch_size": 128, "truncation": 0.8}
    whole = sample(generator, labels, **ways)
    for workers in (1, 2, 3, 7):
        shares = [sample(generator, labels, share=(worker, workers), **ways) for worker in range(workers)]
        assert torch.allclose(torch.cat(shares), whole, atol=1e-5)
        parts = [share_of(labels, (worker, workers)) for worker in range(workers)]
        assert [len(part) for part in parts] == [len(share) for share in shares]
        assert all(part.start % BLOCK == 0 for part in parts if len(part))


def test_random_numbers_of_motions_are_drawn_on_the_cpu_whatever_the_device():
    # No generator of random numbers can be made on "meta": what arrives there was drawn elsewhere.
    generator = GAN(narrow(), motion_spec()).generator.to("meta")
    labels = torch.arange(70, device="meta") % 4
    motions = sample(generator, labels, truncation=0.5)
    assert (motions.device.type, motions.shape) == ("meta", (70, 3, 16, 25))
