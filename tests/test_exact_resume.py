"""A run that is killed, at whatever moment, and resumed ends bit for bit like one that was not."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import torch

from helpers.loops import PlainContext, run
from helpers.stores import new_store
from kgan_ray.settings import UserError, flatten, override
from kgan_ray.storage import StorePath
from kgan_ray.tracking.run import start_run
from kgan_ray.training.checkpoint import read_checkpoint

# What the process does its last work in: the n-th call of a function, before or after it.
PHASES = {
    "start-up": ("kgan_ray.training.loop", "_resume", 1, "after"),
    "first evaluation": ("kgan_ray.training.evaluation.SharedEvaluation", "evaluate", 1, "before"),
    "a step": ("kgan_ray.training.gan.GAN", "generator_step", 1, "before"),
    "a later step": ("kgan_ray.training.gan.GAN", "discriminator_step", 5, "after"),
    "an evaluation": ("kgan_ray.metrics.suite.Evaluator", "compare", 2, "before"),
    "between weights and optimiser": ("kgan_ray.training.checkpoint", "save", 2, "after"),
    "a save, all but renamed": ("kgan_ray.publishing", "flush", 4, "after"),
    "pruning": ("kgan_ray.training.checkpoint.CheckpointStore", "prune", 2, "before"),
    "upload": ("kgan_ray.tracking.run.Run", "log_artifact", 2, "after"),
}
KILLED = """
import importlib, json, os, signal, sys
sys.path.insert(0, sys.argv[1])
owner, name, number, when = json.loads(sys.argv[2])
settings, folder, uri, run_id = json.loads(sys.argv[3])
module, _, member = owner.rpartition(".")
try:
    place = importlib.import_module(owner)
except ImportError:
    place = getattr(importlib.import_module(module), member)
whole, calls = getattr(place, name), 0

def counted(*arguments, **more):
    global calls
    calls += 1
    if calls == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = whole(*arguments, **more)
    if calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(place, name, counted)
import torch
torch.set_num_threads(1)
from helpers.loops import run
from kgan_ray.settings import settings_from_flat
from kgan_ray.tracking.run import start_run
record = start_run(uri, experiment="test", name="run", run_id=run_id)
run(settings_from_flat(settings, where="test"), folder, record=record)
"""


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    uri = new_store(folder)
    record = start_run(uri, experiment="test", name="run")
    run(tiny, folder / "run", record=record)
    return read_checkpoint(folder / "run"), curves(uri, record.id)


def test_an_interrupted_run_saves_where_it_is_and_ends_as_if_it_had_not_been(tiny, tmp_path, undisturbed):
    tiny = override(tiny, {"training.checkpoint_every": 4, "training.log_every": 1})
    interrupted = PlainContext(interrupted_at=4)
    outcome = run(tiny, tmp_path / "run", interrupted)
    assert (outcome.status, outcome.step) == ("interrupted", 5)
    assert read_checkpoint(tmp_path / "run").state["step"] == 5
    assert run(tiny, tmp_path / "run").status == "finished"
    whole, _ = undisturbed
    gone_on = read_checkpoint(tmp_path / "run")
    assert same(gone_on.weights, whole.weights)
    assert same(gone_on.optimiser, whole.optimiser)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_a_kill_changes_no_bit(tiny, tmp_path, undisturbed, phase):
    uri = new_store(tmp_path)
    record = start_run(uri, experiment="test", name="run")
    given = json.dumps([flatten(tiny), str(tmp_path / "run"), uri, record.id])
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-c", KILLED, tests, json.dumps(PHASES[phase]), given]
    assert subprocess.run(command, check=False, timeout=400).returncode == -signal.SIGKILL

    again = start_run(uri, experiment="test", name="run", run_id=record.id)
    outcome = run(tiny, tmp_path / "run", record=again)
    assert outcome.status == "finished"
    whole, whole_curves = undisturbed
    killed = read_checkpoint(tmp_path / "run")
    assert same(killed.weights, whole.weights)
    assert same(killed.optimiser, whole.optimiser)
    assert killed.state["metrics"].keys() == whole.state["metrics"].keys()
    assert curves(uri, record.id) == whole_curves


def curves(uri, run_id):
    """Every recorded metric but the times: by name, its (step, value)."""
    client = mlflow.MlflowClient(uri)
    names = [name for name in client.get_run(run_id).data.metrics if not name.startswith("time/")]
    histories = {name: client.get_metric_history(run_id, name) for name in names}
    return {name: [(point.step, point.value) for point in points] for name, points in histories.items()}


def same(one, other) -> bool:
    """Whether two trees of tensors and numbers are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_a_full_disk_ends_the_run_in_one_line_and_leaves_the_last_checkpoint(tiny, tmp_path, monkeypatch):
    real, optimisers = StorePath.write_bytes, []

    def fills_up(file, data):
        optimisers.extend([file] * (file.name == "optimiser.pt"))
        if len(optimisers) > 1:
            raise OSError(28, "No space left on device")
        real(file, data)

    monkeypatch.setattr(StorePath, "write_bytes", fills_up)
    with pytest.raises(UserError) as error:
        run(tiny, tmp_path / "run")
    told = "step-00000004: the checkpoint cannot be saved (No space left on device); those that were saved before stay"
    assert told in str(error.value)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-00000002"]
    monkeypatch.undo()
    assert run(tiny, tmp_path / "run").status == "finished"
