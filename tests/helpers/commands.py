"""Verbs as commands: their options for tiny runs and sweeps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from kgan_ray.settings import flatten

ROOT = Path(__file__).parents[2]


def options(tiny, tmp_path, **changes):
    """Return the options of a run with the tiny settings, some of them changed."""
    values = {**flatten(tiny), **{name.replace("__", "."): value for name, value in changes.items()}}
    sets = [f"--set={name}={json.dumps(value)}" for name, value in values.items() if value is not None]
    return ["--results", str(tmp_path / "results"), "--name", "run", *sets]


def command(tiny, tmp_path, **changes):
    """Return the command that trains with these options."""
    return [sys.executable, "-m", "kgan_ray.train", *options(tiny, tmp_path, **changes)]


def write_small_space(folder, tiny) -> Path:
    """Write a search space: two explored trials, one of them and the baseline confirmed with two seeds; a few steps each."""
    changes = {
        name: value
        for name, value in flatten(tiny).items()
        if name.startswith(("training.", "evaluation.", "model."))
    }
    changes |= {"data.frames": tiny.data.frames}
    tree = {
        "preset": "demo",
        "settings": {name: value for name, value in changes.items() if value is not None},
        "search": {"algorithm": "random", "num_trials": 2, "seed": 1},
        "confirm": {"top": 1, "seeds": 2},
        "space": {
            "techniques.pooling": {"choice": ["max"]},
            "techniques.label_noise_std": {"uniform": [0.1, 1.0]},
        },
    }
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def tune(*arguments: str, timeout: float = 580, **environment: str) -> subprocess.CompletedProcess:
    """Run the verb tune to its end."""
    return subprocess.run(
        [sys.executable, "-m", "kgan_ray.tune", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
