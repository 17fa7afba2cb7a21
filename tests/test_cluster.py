"""Starting Ray on this machine, and what fits on a cluster."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import ray

from kgan_ray.cluster import WORKER_BYTES, connect, ray_memory
from kgan_ray.settings import UserError

LISTEN = """
import json, psutil
import ray.tune  # before connect, as the sweep does
from kgan_ray.cluster import connect, runs_that_fit
from kgan_ray.resources import ResourceSettings
from kgan_ray.settings import UserError

ray = connect(dashboard=True)
task = ray.remote(num_cpus=1)(lambda: 1)
assert ray.get(task.remote()) == 1
found = {}
for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
    for socket in process.net_connections(kind="inet"):
        if socket.status == psutil.CONN_LISTEN:
            found.setdefault(socket.laddr.ip, []).append(process.name())
messages = []
for resources in (
    ResourceSettings(num_workers=1000), ResourceSettings(gpus_per_worker=1.0), ResourceSettings(cpus_per_worker=1000)
):
    try:
        runs_that_fit(resources, where="--workers")
    except UserError as error:
        messages.append(str(error))
assert runs_that_fit(ResourceSettings(cpus_per_worker=0.0001), where="x") < 10_000  # memory for fewer
print(json.dumps({"sockets": found, "messages": messages, "fit": runs_that_fit(ResourceSettings(), where="x")}))
ray.shutdown()
"""


@pytest.mark.slow
def test_ray_listens_on_loopback_alone():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LISTEN], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["sockets"]) > 0
    assert {"gcs_server", "raylet"} <= {name for names in found["sockets"].values() for name in names}
    assert {ip.removeprefix("::ffff:") for ip in found["sockets"]} == {"127.0.0.1"}, found
    assert found["fit"] == len(os.sched_getaffinity(0))
    too_many, no_gpu, wide = found["messages"]
    assert "--workers: 1000 workers need 1000 CPU cores and no GPU; this machine has" in too_many
    assert "resources.gpus_per_worker=1: 1 worker needs 1 CPU core and 1 GPU; this machine has" in no_gpu
    assert (
        f"resources.cpus_per_worker=1000: 1 worker needs 1000 CPU cores and no GPU; this machine has {found['fit']} CPU core"
        in wide
    )


def started(code: str = "connect(); ray.shutdown()", **environment: str) -> subprocess.CompletedProcess:
    """Start Ray, in a process and an environment of its own; a mistake of the user's is its last line."""
    script = f"""
import sys
import ray
from kgan_ray.cluster import connect
from kgan_ray.settings import UserError
try:
    {code}
except UserError as error:
    sys.exit(str(error))
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_a_cluster_that_is_not_there_is_told_within_seconds():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    began = time.monotonic()
    ran = started(RAY_ADDRESS=address)
    assert ran.returncode == 1
    assert f"$RAY_ADDRESS={address}: no Ray cluster answers there (Connection refused)" in ran.stderr
    assert time.monotonic() - began < 30
    assert "Ray Client is not supported" in started(RAY_ADDRESS="ray://127.0.0.1:10001").stderr


@pytest.mark.parametrize("address", [":6379", "nonsense", "localhost:", "http://127.0.0.1:8265", " ", "::1:6379"])
def test_an_address_that_is_none_is_one_line(monkeypatch, address, caplog):
    """Ray logs a traceback of its own for some of these."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=r"RAY_ADDRESS=.*: expected HOST:PORT, such as 10.0.0.5:6379, or auto"):
        connect()
    assert caplog.text == ""


def test_runs_share_the_memory_that_a_cgroup_above_leaves(monkeypatch):
    assert "_memory" not in ray_memory(0)  # Ray sees the machine's itself
    monkeypatch.setattr("kgan_ray.cluster.memory_limit", lambda: 4 << 30)
    options = ray_memory(8 << 30)
    assert options["object_store_memory"] == (2 << 30) + (512 << 20)
    assert options["_memory"] <= (4 << 30) - options["object_store_memory"] - WORKER_BYTES
    monkeypatch.setattr("kgan_ray.cluster.memory_limit", lambda: 100 << 20)
    assert ray_memory(0)["_memory"] == 1


@pytest.mark.slow
def test_ray_starts_below_a_long_temporary_folder_and_says_why_it_does_not(tmp_path):
    long = tmp_path / ("x" * 60) / ("y" * 60)
    long.mkdir(parents=True)
    assert started(TMPDIR=str(long)).returncode == 0
    refused = started(RAY_TMPDIR=str(long))
    assert refused.returncode == 1
    assert refused.stderr.strip().startswith("Ray cannot be started here: ")
    assert "AF_UNIX path length cannot exceed" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_what_ray_prints_of_its_node_goes_to_the_file_alone(tmp_path):
    """Both ways: what the node's processes write, and what the cluster tells of errors."""
    program = """
import time, ray
from pathlib import Path
from kgan_ray.cluster import connect
from kgan_ray.tuning.running.ray_log import log_ray_to
connect()
from ray._private.utils import publish_error_to_driver
publish_error_to_driver("test", "unheard", gcs_client=ray._private.worker.global_worker.gcs_client)
time.sleep(2)
log_ray_to(Path("ray.log"))
publish_error_to_driver("test", "spilling failed", gcs_client=ray._private.worker.global_worker.gcs_client)
time.sleep(2)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert "spilling failed" in (tmp_path / "ray.log").read_text()


def test_a_node_that_takes_too_long_to_start_is_one_line(monkeypatch):
    def overloaded(**_options):
        raise Exception("The current node timed out during startup.\nThe GCS may be overloaded.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", overloaded)
    with pytest.raises(
        UserError, match=r"^Ray cannot be started here: The current node timed out during startup.$"
    ):
        connect()
