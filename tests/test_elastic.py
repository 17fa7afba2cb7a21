"""A run of 1 to 4 workers on a cluster of two nodes: one node goes, and a smaller one comes."""

import os
import signal
import subprocess
import sys
import time

import mlflow
import pytest

from helpers.commands import command
from kgan_ray.data.batches import sharing_workers
from kgan_ray.settings import UserError, override
from kgan_ray.train import main

RESIZE_SOON = "import kgan_ray.training.launch as launch; launch.SECONDS_BETWEEN_RESIZES = 3.0; "
RUN = f"import sys; {RESIZE_SOON} from kgan_ray.train import main; sys.exit(main(sys.argv[1:]))"


def test_a_batch_is_shared_by_as_many_as_share_it_evenly():
    assert [sharing_workers(32, there) for there in range(1, 10)] == [1, 2, 2, 4, 4, 4, 4, 8, 8]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("many", "expected a number such as 4, or MIN:MAX such as 1:4"),
        ("1:", "expected a number such as 4, or MIN:MAX such as 1:4"),
        ("4:2", "resources.min_workers is 4, more than the 2 of resources.num_workers"),
        ("1:3", "training.batch_size is 32, which 3 workers cannot share evenly"),
        ("0", "resources.num_workers"),
    ],
)
def test_a_number_of_workers_that_cannot_be_is_refused(wanted, told):
    with pytest.raises(UserError) as error:
        main(["--workers", wanted, "--dry-run"])
    assert told in str(error.value)


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of one node. Other tests of this process may have told Ray to keep to the loopback, and still hold it."""
    import ray
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    ray.shutdown()
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield made
    finally:
        made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_goes_on_when_a_node_goes_and_takes_in_one_that_comes(cluster, tiny, tmp_path):
    node = cluster.add_node(num_cpus=2)  # three workers, of which two can share a batch of eight
    settings = override(tiny, {"training.steps": 1_000_000, "training.checkpoint_every": 20})
    arguments = command(settings, tmp_path, training__log_every=10, evaluation__every_steps=1_000_000)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments[3:], "--workers", "1:4"],
        env={**os.environ, "RAY_ADDRESS": cluster.address},
        start_new_session=True,
    )
    try:
        wait_for_workers([2.0], tmp_path, process)
        cluster.remove_node(node, allow_graceful=False)
        wait_for_workers([2.0, 1.0], tmp_path, process)
        cluster.add_node(num_cpus=1)
        wait_for_workers([2.0, 1.0, 2.0], tmp_path, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_workers(expected, folder, process):
    """Wait until the run's record says that so many workers have trained, one after the other."""
    seen, deadline = [], time.monotonic() + 150
    while seen != expected:
        assert process.poll() is None, f"the run ended with {process.returncode}"
        assert time.monotonic() < deadline, f"seen {seen}, expected {expected}"
        time.sleep(0.5)
        seen = []
        for point in history(folder):
            if not seen or seen[-1] != point:
                seen.append(point)


def history(folder):
    database = folder / "results" / "mlflow.db"
    if not (folder / "results" / "run" / "run.json").exists():
        return []
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    (run,) = client.search_runs([client.get_experiment_by_name("train").experiment_id])
    points = client.get_metric_history(run.info.run_id, "time/workers")
    return [point.value for point in sorted(points, key=lambda point: point.step)]
