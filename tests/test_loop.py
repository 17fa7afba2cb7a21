import gc
import math

import mlflow
import pytest
import torch

from helpers.loops import PlainContext, run
from helpers.stores import new_store
from kgan_ray.data.batches import Batches
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.settings import UserError, override
from kgan_ray.tracking.run import start_run
from kgan_ray.training import loop
from kgan_ray.training.checkpoint import read_checkpoint
from kgan_ray.training.gan import GAN
from kgan_ray.training.loop import Due


def test_training_reports_after_every_evaluation_and_saves(tiny, tmp_path):
    context = PlainContext()
    outcome = run(tiny, tmp_path, context)
    assert outcome.status == "finished"
    assert [report["step"] for report in context.reports] == [4, 6]
    assert {"fid", "accuracy", "discriminator/loss", "steps_per_second"} <= outcome.metrics.keys()
    assert all(math.isfinite(value) for value in outcome.metrics.values())
    assert read_checkpoint(tmp_path).state["metrics"]["fid"] == outcome.metrics["fid"]


def test_a_run_in_two_parts_ends_bit_for_bit_like_one_in_one(tiny, tmp_path):
    run(tiny, tmp_path / "whole")
    assert run(override(tiny, {"training.steps": 4}), tmp_path / "parts").step == 4
    assert run(tiny, tmp_path / "parts").status == "finished"
    whole, parts = read_checkpoint(tmp_path / "whole"), read_checkpoint(tmp_path / "parts")
    assert all(torch.equal(whole.weights[name], parts.weights[name]) for name in whole.weights)
    assert whole.state["metrics"]["fid"] == parts.state["metrics"]["fid"]


def test_a_finished_run_is_not_trained_again(tiny, tmp_path):
    first = run(tiny, tmp_path)
    context = PlainContext()
    again = run(tiny, tmp_path, context)
    assert (again.status, again.step, again.metrics) == ("finished", first.step, first.metrics)
    assert not context.reports


def test_a_diverged_run_ends_with_its_last_finite_metrics(tiny, tmp_path):
    wild = override(tiny, {"training.discriminator_learning_rate": 1e30, "training.generator_learning_rate": 1e30})
    outcome = run(wild, tmp_path)
    assert outcome.status == "diverged"
    assert "discriminator/" in outcome.reason
    assert all(math.isfinite(value) for value in outcome.metrics.values())
    assert math.isfinite(outcome.metrics["fid"])


@pytest.mark.parametrize(("mode", "best"), [("min", min), ("max", max)])
def test_the_checkpoint_that_is_best_by_the_given_mode_is_kept(tiny, tmp_path, mode, best):
    changes = {"evaluation.mode": mode, "evaluation.every_steps": 2, "training.keep_checkpoints": 1}
    context = PlainContext()
    run(override(tiny, changes), tmp_path, context)
    fids = {report["step"]: report["fid"] for report in context.reports}
    assert len(set(fids.values())) == 3
    kept = {read_checkpoint(folder).state["step"] for folder in (tmp_path / "checkpoints").iterdir()}
    assert kept == {6, best(fids, key=fids.get)}


def test_another_dataset_is_refused(tiny, tmp_path, monkeypatch):
    run(tiny, tmp_path)
    monkeypatch.setattr(loop.Dataset, "hash", "f" * 64, raising=False)
    with pytest.raises(UserError, match="trained on dataset"):
        run(tiny, tmp_path)


def test_the_record_holds_curves_samples_and_checkpoints(tiny, tmp_path):
    uri = new_store(tmp_path)
    record = start_run(uri, experiment="test", name="run")
    run(override(tiny, {"training.precision": "bfloat16"}), tmp_path / "run", record=record)
    client = mlflow.MlflowClient(uri)
    assert [point.step for point in client.get_metric_history(record.id, "metric/fid")] == [0, 4, 6]
    assert [point.step for point in client.get_metric_history(record.id, "discriminator/loss")] == [2, 4, 6]
    tags = client.get_run(record.id).data.tags
    assert (tags["outcome"], tags["precision"]) == ("finished", "bfloat16")
    artifacts = {file.path for file in client.list_artifacts(record.id)}
    assert artifacts == {"samples", "checkpoints"}
    weights = {file.path for file in client.list_artifacts(record.id, "checkpoints/best")}
    assert "checkpoints/best/weights.safetensors" in weights


@pytest.mark.parametrize(
    ("step", "log", "evaluate", "save"),
    [(1, False, False, False), (2, True, False, True), (4, True, True, True), (6, True, True, True)],
)
def test_what_is_due_at_a_step(tiny, step, log, evaluate, save):
    assert Due.at(step, tiny) == Due(log=log, evaluate=evaluate, save=save)


def test_nothing_of_a_run_outlives_it_in_a_process_that_is_used_again(tiny, tmp_path):
    run(tiny, tmp_path / "first")  # what is made once a process
    gc.collect()
    before = {id(thing) for thing in gc.get_objects()}
    gc.disable()  # a cycle would keep a GPU's memory until the collector comes by
    try:
        run(tiny, tmp_path / "second")
        left = [thing for thing in gc.get_objects() if id(thing) not in before]
        assert not [thing for thing in left if isinstance(thing, torch.Tensor | GAN | Batches | Evaluator)]
    finally:
        gc.enable()
