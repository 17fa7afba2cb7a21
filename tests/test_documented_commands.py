"""Every command of README and docs is run, in the order of the pages: none can rot.

What would train or measure for minutes is run with --dry-run, which reads and checks all that it is given. Data, results and
recordings lie where the pages say, small. Commands with a placeholder (`--data DIR`) and the benchmarks are left out; test_docs.py looks at
their options.
"""

import importlib
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.commands import ROOT
from helpers.recordings import moving_body
from helpers.sweep_records import finished_sweep
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.prepare.service import prepare_dataset
from kgan_ray.data.sources.demo import write_demo_files
from kgan_ray.settings import Settings, resolve_settings
from kgan_ray.storage import StorePath
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.training.gan import GAN
from kgan_ray.tuning.question.space import load_space

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"python -m kgan_ray\.(\w+)( [^#`&\n]+)?")
DRY = ("train", "tune", "evaluate")
LEFT_OUT = ("benchmark", "benchmarks")


def documented_commands() -> list[tuple[str, str]]:
    """Return verb and options of every command without a placeholder, each once."""
    commands = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for verb, options in COMMAND.findall(text):
            words = shlex.split(options.strip().removesuffix("'"))
            if verb not in LEFT_OUT and words and not any(re.fullmatch(r"\.\.\.|[A-Z]+", word) for word in words):
                commands[verb, shlex.join(words)] = None
    return list(commands)


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory) -> Path:
    """A folder that looks like that of somebody who has followed the pages."""
    home = tmp_path_factory.mktemp("home")
    (home / "search_spaces").symlink_to(ROOT / "search_spaces")
    (home / "shared").mkdir()
    write_recordings(home)
    ntu60 = Dataset.open(home / "datasets" / "ntu60")
    (home / "shared" / "ntu60").symlink_to(ntu60.path)
    for run in ("demo-seed0", "disc/trials/confirm-baseline-1000"):
        save_untrained(home / "results" / run, tiny)
    settings = resolve_settings("ntu60-xsub", {"data.path": ntu60.path})
    gan = save_untrained(home / "results" / "ntu60-xsub-seed0", settings)
    torch.save(gan.generator.published_state(), home / "generator.pth")
    space = load_space(ROOT / "search_spaces" / "disc.yaml")
    for folder in ("results", "shared/results"):
        finished_sweep(space=space.tree).save(StorePath(home / folder / "disc"))
    return home


def write_recordings(home: Path) -> None:
    """Put NTU's zip and its list there, with synthetic motion in them, the dataset that `prepare` makes of them, and arrays."""
    write_demo_files(home / "files", seed=0, num_sequences=60)
    with zipfile.ZipFile(home / "nturgbd_skeletons_s001_to_s017.zip", "w") as archive:
        for file in sorted((home / "files").glob("*.skeleton")):
            archive.write(file, f"nturgb+d_skeletons/{file.name}")
    missing = home / "NTU_RGBD_samples_with_missing_skeletons.txt"
    missing.write_text("S001C002P005R002A008\n")
    walks = [moving_body(20, seed=seed, joints=22) for seed in range(20)]
    np.savez(home / "mocap.npz", motions=np.stack(walks) * 1000, labels=[0, 1] * 10)
    np.savez(home / "yolo.npz", motions=np.abs(np.stack(walks)[:, :, :17, :2]) * 250, labels=[0, 1] * 10)
    recordings = [str(home / "nturgbd_skeletons_s001_to_s017.zip")]
    prepare_dataset(recordings, home / "datasets" / "ntu60", missing_list=str(missing))


def save_untrained(folder: Path, settings: Settings) -> GAN:
    gan = GAN(settings, Dataset.open(settings.data.path).view(settings.data).spec)
    CheckpointStore(str(folder / "checkpoints")).save(gan, {"metrics": {}, "dataset": "0" * 16})
    return gan


@pytest.mark.parametrize(("verb", "options"), documented_commands())
def test_a_documented_command_does_what_it_says(verb, options, place, monkeypatch):
    monkeypatch.chdir(place)
    words = [word.replace("~", str(place)) for word in shlex.split(options)]
    assert importlib.import_module(f"kgan_ray.{verb}").main([*words, *(["--dry-run"] if verb in DRY else [])]) == 0
