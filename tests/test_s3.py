"""Datasets and checkpoints on object storage: a real S3 protocol server (moto's) on loopback."""

import socket
import subprocess
import sys
import time

import pyarrow.fs
import pytest
import torch
from test_loop import PlainContext, run

from kgan_ray.data.dataset import Dataset
from kgan_ray.prepare import main as prepare
from kgan_ray.settings import UserError, override
from kgan_ray.training.checkpoint import CheckpointStore, load_generator, read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


@pytest.fixture
def server(monkeypatch):
    """A server with an empty bucket `lab`, to which this process's environment points."""
    pytest.importorskip("moto", reason="moto, of the extra dev, is not installed")
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
        process.kill()
        process.wait()


def test_a_run_on_object_storage_is_the_run_on_a_disk(server, tiny, demo, tmp_path):
    pyarrow.fs.copy_files(demo.path, "s3://lab/demo", source_filesystem=pyarrow.fs.LocalFileSystem())
    assert Dataset.open("s3://lab/demo").hash == demo.hash
    remote = override(tiny, {"data.path": "s3://lab/demo"})
    assert run(remote, "s3://lab/runs/a", PlainContext(stop_after=4)).status == "stopped"
    assert run(remote, "s3://lab/runs/a").status == "finished"
    run(tiny, tmp_path / "local")
    there, here = read_checkpoint("s3://lab/runs/a"), read_checkpoint(tmp_path / "local")
    assert all(torch.equal(there.weights[name], here.weights[name]) for name in here.weights)
    labels = torch.tensor([0, 3])
    drawn = [load_generator(folder).sample_few(labels) for folder in ("s3://lab/runs/a", tmp_path / "local")]
    assert torch.equal(*drawn)
    kept = CheckpointStore("s3://lab/runs/a/checkpoints").folders()
    assert len(kept) == len(CheckpointStore(str(tmp_path / "local" / "checkpoints")).folders())


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
