"""Datasets and checkpoints on object storage: a real S3 protocol server (moto's) on loopback."""

import os
import socket
import subprocess
import sys
import time

import psutil
import pyarrow.fs
import pytest
import ray
import torch

from helpers.commands import ROOT, options, tune, write_small_space
from helpers.loops import PlainContext, run
from helpers.processes import wait_for
from helpers.stores import new_store
from helpers.sweeps import num_finished
from kgan_ray.data.dataset import Dataset
from kgan_ray.prepare import main as prepare
from kgan_ray.report import main as report
from kgan_ray.settings import UserError, override
from kgan_ray.status import main as status
from kgan_ray.storage import StorePath
from kgan_ray.train import main as train
from kgan_ray.training.checkpoint import CheckpointStore, load_generator, read_checkpoint
from kgan_ray.tune import main as tune_main
from kgan_ray.tuning.search.population import copy_newest_checkpoint
from kgan_ray.tuning.state import FILE, load_sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def server(monkeypatch):
    """A server with an empty bucket `lab`, to which this process's environment points; Ray's workers inherit it."""
    pytest.importorskip("moto", reason="moto, of the extra dev, is not installed")
    ray.shutdown()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lab")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store, bucket = pyarrow.fs.FileSystem.from_uri("s3://lab?allow_bucket_creation=true")
        store.create_dir(bucket)
        yield process
    finally:
        ray.shutdown()
        process.kill()
        process.wait()


def test_a_run_on_object_storage_is_the_run_on_a_disk(server, tiny, demo, tmp_path):
    pyarrow.fs.copy_files(demo.path, "s3://lab/demo", source_filesystem=pyarrow.fs.LocalFileSystem())
    assert Dataset.open("s3://lab/demo").hash == demo.hash
    remote = override(tiny, {"data.path": "s3://lab/demo"})
    assert run(override(remote, {"training.steps": 4}), "s3://lab/runs/a").step == 4
    assert run(remote, "s3://lab/runs/a").status == "finished"
    run(tiny, tmp_path / "local")
    there, here = read_checkpoint("s3://lab/runs/a"), read_checkpoint(tmp_path / "local")
    assert all(torch.equal(there.weights[name], here.weights[name]) for name in here.weights)
    labels = torch.tensor([0, 3])
    drawn = [load_generator(folder).sample(labels) for folder in ("s3://lab/runs/a", tmp_path / "local")]
    assert torch.equal(*drawn)
    kept = CheckpointStore("s3://lab/runs/a/checkpoints").folders()
    assert len(kept) == len(CheckpointStore(str(tmp_path / "local" / "checkpoints")).folders())


def test_a_population_copies_checkpoints_there(server, tiny):
    for name, seed in (("donor", 1), ("loser", 2)):
        run(override(tiny, {"seed": seed}), f"s3://lab/population/{name}")
    home = StorePath("s3://lab/population")
    copy_newest_checkpoint(home / "donor", home / "loser")
    (only,) = CheckpointStore("s3://lab/population/loser/checkpoints").folders()
    copied, original = read_checkpoint("s3://lab/population/loser"), read_checkpoint("s3://lab/population/donor")
    assert only.name == "step-00000006"
    assert all(torch.equal(copied.weights[name], original.weights[name]) for name in original.weights)


def test_the_verb_trains_there_and_goes_on_there(server, tiny, demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    arguments = [*options(tiny, tmp_path), "--results", "s3://lab/results"]
    assert train(arguments) == 0
    assert "checkpoints: s3://lab/results/run/checkpoints" in capsys.readouterr().out
    assert train(arguments) == 0  # finished: nothing is left to do
    with pytest.raises(UserError, match="s3://lab/results/run holds a run with seed=0, this one has 5"):
        train([*arguments, "--set", "seed=5"])


def end(process):
    """Kill it with all that it started, where it still runs."""
    if process.poll() is None:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            child.kill()
    process.wait()


def test_a_sweep_whose_head_is_lost_goes_on_from_the_store(server, tiny, demo, tmp_path, capsys):
    """Its record, Ray's and all checkpoints are in the store; nothing on the disk of the first machine is needed."""
    pyarrow.fs.copy_files(demo.path, "s3://lab/demo", source_filesystem=pyarrow.fs.LocalFileSystem())
    common = ["--data", "s3://lab/demo", "--results", "s3://lab/results"]
    first, second = (
        {"XDG_CACHE_HOME": str(tmp_path / name), "MLFLOW_TRACKING_URI": new_store(tmp_path)}
        for name in ("head", "new-head")
    )
    folder = StorePath("s3://lab/results/small")
    space = write_small_space(tmp_path, tiny)
    process = subprocess.Popen(
        [sys.executable, "-m", "kgan_ray.tune", "--space", str(space), *common], cwd=ROOT, env=os.environ | first
    )
    try:
        wait_for(lambda: num_finished(folder) >= 2, process)
    finally:
        end(process)
    done = [one for one in load_sweep(StorePath(folder)).trials if one.status == "finished"]
    ran = tune("--resume", "--name", "small", *common, **second)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "training the extractor" not in ran.stdout  # the dataset's store has it
    sweep = load_sweep(StorePath(folder))
    assert [one.status for one in sweep.trials] == ["finished"] * 6
    assert [sweep.trial(one.name) for one in done] == done  # none of them ran again
    assert "models:/kgan_ray-small/1" in ran.stdout

    capsys.readouterr()
    assert status(["--results", "s3://lab/results"]) == 0
    assert "sweep small: judged" in capsys.readouterr().out
    assert report(["small", "--results", "s3://lab/results", "--offline"]) == 0
    assert "s3://lab/results/small/report/motions.png" in capsys.readouterr().out
    assert (folder / "report" / "report.html").read_text().startswith("<!doctype html>")


def test_a_store_that_holds_no_database_is_told(server, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(
        UserError, match=r"s3://lab/results: MLflow's database cannot lie there; set \$MLFLOW_TRACK"
    ):
        tune_main(["--space", str(ROOT / "search_spaces" / "smoke.yaml"), "--results", "s3://lab/results"])
    server.kill()
    server.wait()
    with pytest.raises(UserError, match=r"s3://lab/.*: the store does not answer, or refuses"):
        tune_main(["--space", str(ROOT / "search_spaces" / "smoke.yaml"), "--results", "s3://lab/results"])
    with pytest.raises(UserError, match="own variables"):
        tune_main(["--space", str(ROOT / "search_spaces" / "smoke.yaml"), "--results", "s3://lab/a?region=x"])


def test_prepare_writes_a_dataset_there(server, capsys):
    assert prepare(["--demo", "--num-sequences", "40", "--output", "s3://lab/made"]) == 0
    assert Dataset.open("s3://lab/made").manifest.counts.kept == 40


def test_a_store_that_goes_away_ends_the_run_in_one_line_and_keeps_what_it_had(server, tiny):
    class Context(PlainContext):
        def report(self, metrics):
            super().report(metrics)
            server.terminate()
            server.wait()

    with pytest.raises(UserError, match=r"step-00000006: the checkpoint cannot be saved"):
        run(tiny, "s3://lab/runs/b", Context())


def test_a_store_that_goes_away_ends_the_sweep_in_one_line(server, tiny, demo, tmp_path):
    folder = StorePath("s3://lab/results/small")
    space = write_small_space(tmp_path, tiny)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "kgan_ray.tune", "--space", str(space), "--data", demo.path),
            *("--results", "s3://lab/results", "--set", "training.steps=100000"),
            *("--set", "evaluation.every_steps=20"),
        ],
        cwd=ROOT,
        env=os.environ | {"MLFLOW_TRACKING_URI": new_store(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(
            lambda: (folder / FILE).exists() and any(one.step for one in load_sweep(StorePath(folder)).trials),
            process,
        )
        server.kill()
        _, errors = process.communicate(timeout=150)
    finally:
        end(process)
    assert (process.returncode, errors.count("\n")) == (2, 1), errors
    assert errors.startswith("error: s3://lab/results/small/sweep.json: the store does not answer, or refuses (")
