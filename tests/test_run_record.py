"""What a run records as it trains is read seldom, written beside the steps, and there before a checkpoint is."""

import math
import threading

import mlflow
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.checkpoints import made_on_a_gpu
from helpers.loops import PlainContext, run
from helpers.pretended_gpu import PRETENDED, Launches
from helpers.stores import new_store
from kgan_ray.settings import override
from kgan_ray.tracking.run import Run, start_run
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.training.recorder import KeptLosses, Recorder

LOSSES = ("discriminator/loss", "discriminator/gradient_penalty", "generator/loss")


class Readings(TorchDispatchMode):
    """Counts what is copied from the pretended GPU to the host, where every value arrives as 1."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ == "_to_copy" and args[0].device == PRETENDED:
            self.count += 1
            return torch.ones(args[0].shape)
        return func(*args, **kwargs)


def test_losses_of_many_steps_stay_on_the_gpu_and_cross_in_one_copy():
    kept = KeptLosses()
    with Launches() as launches:
        for step in range(40):
            kept.keep(step, {name: torch.empty((), device=PRETENDED) for name in LOSSES})
    assert launches.crossings == {}
    assert launches.operations.total() == 40
    with Readings() as readings:
        taken = kept.take()
    assert readings.count == 1
    assert taken == [(step, dict.fromkeys(LOSSES, 1.0)) for step in range(40)]


def test_kept_losses_are_those_of_their_step_though_the_next_overwrites_them():
    kept, loss = KeptLosses(), torch.zeros(())
    for step in range(3):
        loss += 1
        kept.keep(step, {"discriminator/loss": loss})
    assert kept.take() == [(step, {"discriminator/loss": step + 1.0}) for step in range(3)]


@pytest.fixture
def recorded(tmp_path):
    """Start an MLflow run, and return its address and it."""
    uri = new_store(tmp_path)
    return uri, start_run(uri, experiment="test", name="run")


@pytest.mark.parametrize(("seconds", "read_at"), [(0.0, [1, 2, 3, 4, 5, 6]), (math.inf, [4, 6])])
def test_every_logged_step_is_recorded_however_seldom_losses_are_read(
    tiny, tmp_path, recorded, monkeypatch, seconds, read_at
):
    monkeypatch.setattr(Recorder, "SECONDS_BETWEEN_READINGS", seconds)
    uri, record = recorded
    context = PlainContext()
    settings = override(tiny, {"training.log_every": 1, "training.checkpoint_every": 100})
    run(settings, tmp_path / "run", context, record)
    assert [line.step for line in context.lines] == read_at
    history = mlflow.MlflowClient(uri).get_metric_history
    assert [point.step for point in history(record.id, "discriminator/loss")] == [1, 2, 3, 4, 5, 6]
    assert [point.step for point in history(record.id, "time/steps_per_second")] == read_at


def test_a_run_that_diverged_between_two_readings_ends_at_the_step_where_it_did(tiny, tmp_path, recorded):
    uri, record = recorded
    rates = dict.fromkeys(("training.discriminator_learning_rate", "training.generator_learning_rate"), 1e30)
    settings = override(tiny, {**rates, "training.log_every": 1, "training.checkpoint_every": 100})
    outcome = run(settings, tmp_path / "run", record=record)
    assert outcome.status == "diverged"
    assert outcome.reason.endswith(f"at step {outcome.step}")
    assert outcome.step < 4
    points = mlflow.MlflowClient(uri).get_metric_history(record.id, "discriminator/loss")
    assert [point.step for point in points] == list(range(1, outcome.step))


def test_metrics_are_written_by_another_thread(tiny, tmp_path, recorded, monkeypatch):
    _, record = recorded
    threads, write = set(), Run._write

    def observed(run, *arguments):
        threads.add(threading.current_thread().name)
        write(run, *arguments)

    monkeypatch.setattr(Run, "_write", observed)
    run(tiny, tmp_path / "run", record=record)
    assert threads == {"mlflow_0"}


def test_the_record_has_all_that_came_before_a_checkpoint(tiny, tmp_path, recorded, monkeypatch):
    uri, record = recorded
    steps, save = [], CheckpointStore.save

    def observed(store, gan, state):
        points = mlflow.MlflowClient(uri).get_metric_history(record.id, "discriminator/loss")
        steps.append((gan.step_count, points[-1].step))
        return save(store, gan, state)

    monkeypatch.setattr(CheckpointStore, "save", observed)
    run(tiny, tmp_path / "run", record=record)
    assert steps == [(2, 2), (4, 4), (6, 6)]


def test_a_record_that_fails_ends_the_run_before_it_saves(tiny, tmp_path, recorded, monkeypatch):
    class Gone(Exception):
        pass

    def fails(*_arguments):
        raise Gone

    _, record = recorded
    monkeypatch.setattr(Run, "_write", fails)
    with pytest.raises(Gone):
        run(tiny, tmp_path / "run", record=record)
    assert not CheckpointStore(tmp_path / "run" / "checkpoints").folders()


def test_a_run_that_began_on_a_gpu_goes_on_here_and_its_record_says_so(tiny, tmp_path, recorded):
    run(override(tiny, {"training.steps": 4}), tmp_path / "run")
    made_on_a_gpu(tmp_path / "run" / "checkpoints")
    uri, record = recorded
    assert run(tiny, tmp_path / "run", record=record).status == "finished"
    tags = mlflow.MlflowClient(uri).get_run(record.id).data.tags
    assert tags["reseeded"].startswith("from step 4 on cpu, before on cuda: random numbers are drawn anew")
