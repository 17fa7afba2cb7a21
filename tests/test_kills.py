"""Twenty kills during one sweep: the driver, a trial's process, another of Ray's workers. The table stays the same."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from helpers.processes import wait_for
from helpers.stores import new_store
from helpers.sweeps import mlflow_runs, start_sweep
from kgan_ray.storage import StorePath
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.state import load_sweep

NUM_KILLS = 20
DRIVER_KILLS = 4  # each costs a start of Ray


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_at_random_moments_change_nothing_in_the_table(tmp_path):
    source = random.Random(5)
    kinds = ["driver"] * (DRIVER_KILLS - 1) + ["trial"] * 10 + ["worker"] * 6
    source.shuffle(kinds)
    kinds.append("driver")  # the last sweep is left alone, and hurries
    uri, folder = new_store(tmp_path), tmp_path / "sweep"
    process = start_sweep(folder, uri, "random", seconds=2.0, retries=NUM_KILLS)
    for number, kind in enumerate(kinds, start=1):
        kill_one(kind, folder, process, source)
        if kind == "driver":
            process.wait()
            seconds = 0.0 if number == NUM_KILLS else 2.0
            process = start_sweep(folder, uri, "random", seconds=seconds, retries=NUM_KILLS)
    assert process.wait(400) == 0
    undisturbed = start_sweep(tmp_path / "undisturbed", "", "random", seconds=0.0)
    assert undisturbed.wait(300) == 0
    assert table(folder) == table(tmp_path / "undisturbed")
    assert sorted(mlflow_runs(uri)) == sorted(
        ["test", *(one.name for one in load_sweep(StorePath(folder)).trials)]
    )


def running_trials(folder: Path, process: subprocess.Popen) -> dict[int, Path]:
    """The processes of this driver that are in a trial, by the trial's record of its starts."""
    with contextlib.suppress(psutil.NoSuchProcess):
        ours = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        starts = {file: file.read_text().split() for file in folder.glob("trials/*/starts")}
        if (folder / "sweep.json").exists():
            return {int(lines[-1]): file for file, lines in starts.items() if lines and int(lines[-1]) in ours}
    return {}


def kill_one(kind: str, folder: Path, process: subprocess.Popen, source: random.Random) -> None:
    """Kill the driver, a trial's process or another of Ray's workers, at a random moment while trials run."""
    victims: list[int] = []
    while not victims:
        wait_for(lambda: running_trials(folder, process), process)
        time.sleep(source.uniform(0.0, 1.0))
        trials = sorted(running_trials(folder, process))
        others = [
            child.pid
            for child in psutil.Process(process.pid).children(recursive=True)
            if child.pid not in trials and is_worker(child)
        ]
        victims = {"driver": [process.pid], "trial": trials, "worker": sorted(others) or trials}[kind]
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(source.choice(victims)).kill()


def is_worker(process: psutil.Process) -> bool:
    """Not the node's own agents: with one of them Ray ends its whole node."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name().startswith("ray::") and "Agent" not in " ".join(process.cmdline())
    return False


def table(folder: Path) -> list:
    results = Results(load_sweep(StorePath(folder)))
    trials = [replace(row, seconds=0.0) for row in results.trial_rows]
    return [results.rows, sorted(trials, key=lambda row: row.trial), results.verdicts]
