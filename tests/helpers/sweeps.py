"""Sweeps on a real Ray, with a cheap objective in place of training."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import ray.cloudpickle
from mlflow import MlflowClient

from helpers import processes, stand_in
from kgan_ray.storage import StorePath
from kgan_ray.tracking.run import start_run
from kgan_ray.tracking.store import prepare_store
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.question.space import base_settings, parse_space
from kgan_ray.tuning.running.runner import Runner
from kgan_ray.tuning.state import Sweep, load_sweep

TESTS = Path(__file__).parents[1]

ray.cloudpickle.register_pickle_by_value(stand_in)  # workers do not see the folder of the tests

SPACE = {
    "settings": {"training.steps": 30, "evaluation.every_steps": 10, "evaluation.num_motions": 100},
    "preset": "demo",
    "objective": {"metric": "fid", "mode": "min"},
    "search": {"algorithm": "tpe", "num_trials": 6},
    "scheduler": {"type": "asha"},
    "confirm": {"top": 2, "seeds": 3},
    "space": {
        "training.generator_learning_rate": {"loguniform": [2e-6, 2e-2]},
        "training.auxiliary_weight": {"choice": [1.0, 2.0]},
    },
}


def make_runner(folder: Path, tree=SPACE, uri: str = "", **options) -> Runner:
    """Return the runner of a sweep in this folder: of a new one, or of the one whose record is there."""
    space = parse_space(tree, name="test", where="test.yaml")
    settings = base_settings(space, None, {})
    if (folder / "sweep.json").exists():
        sweep = load_sweep(StorePath(folder))
    else:
        sweep = Sweep.of(space, settings, uri=uri, dataset_hash="d", extractors={"": "e"})
        if uri:
            prepare_store(uri)
            sweep.parent_id = start_run(uri, experiment="test", name="test").id
    options = {"trial_function": stand_in.stand_in, "announce": lambda line: None} | options
    return Runner(sweep, space, settings, StorePath(folder), Results, **options)


SCRIPT = """
import sys
from pathlib import Path
from helpers.sweeps import SPACE, make_runner
given = SPACE | {{"search": {{"algorithm": {algorithm!r}, "num_trials": 6}}, "scheduler": {{"type": "none"}}}} | {tree!r}
tree = {{key: value for key, value in given.items() if value is not None}}
runner = make_runner(Path({folder!r}), tree, uri={uri!r}, retries={retries})
runner.start()
sys.exit(0 if runner.run() else 130)
"""


def start_sweep(
    folder: Path,
    uri: str,
    algorithm: str,
    seconds: float = 0.7,
    retries: int = 1,
    tree: Mapping[str, object] = MappingProxyType({}),
    **more,
) -> subprocess.Popen:
    """Run a sweep of six trials in a process of its own; each evaluation of a trial takes `seconds`.

    `tree` replaces parts of the question, those that are None by nothing.
    """
    script = SCRIPT.format(folder=str(folder), uri=uri, algorithm=algorithm, retries=retries, tree=dict(tree))
    environment = os.environ | {
        "STAND_IN_SECONDS": str(seconds),
        "PYTHONPATH": f"{TESTS}:{TESTS.parent}:{os.environ.get('PYTHONPATH', '')}",
    }
    return processes.start([sys.executable, "-c", script], cwd=TESTS.parent, env=environment, **more)


def num_finished(folder: Path) -> int:
    """Count the finished trials in the sweep's record."""
    if not (folder / "sweep.json").exists():
        return 0
    return sum(one.status == "finished" for one in load_sweep(StorePath(folder)).trials)


def mlflow_runs(uri: str) -> dict:
    """Return the runs of the experiment "test" by name, each of which must be there once."""
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    names = [run.info.run_name for run in runs]
    assert len(set(names)) == len(names), "a run is there twice"
    return {run.info.run_name: run for run in runs}
