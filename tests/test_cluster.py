"""Starting Ray on this machine, and what fits on a cluster."""

import json
import os
import subprocess
import sys

import pytest

LISTEN = """
import json, psutil
import ray.tune  # before connect, as the sweep does
from kgan_ray.cluster import connect, runs_that_fit
from kgan_ray.settings import ResourceSettings, UserError

ray = connect(dashboard=True)
task = ray.remote(num_cpus=1)(lambda: 1)
assert ray.get(task.remote()) == 1
found = {}
for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
    for socket in process.net_connections(kind="inet"):
        if socket.status == psutil.CONN_LISTEN:
            found.setdefault(socket.laddr.ip, []).append(process.name())
try:
    runs_that_fit(ResourceSettings(num_workers=1000), where="--workers")
except UserError as error:
    message = str(error)
print(json.dumps({"sockets": found, "message": message, "fit": runs_that_fit(ResourceSettings(), where="x")}))
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
    assert "--workers: 1000 workers need 1000 CPUs" in found["message"]
