"""Fixtures that several test modules share."""

import pytest
import torch

from helpers import processes
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.prepare.service import Demo, demo_dataset
from kgan_ray.settings import Settings, override, resolve_settings


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests share two cores with the clusters that some of them start."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_process_outlives_its_test():
    yield
    processes.end_started()


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Dataset:
    """A small demo dataset: 160 synthetic sequences."""
    return demo_dataset(tmp_path_factory.mktemp("datasets") / "demo", Demo(num_sequences=160))


@pytest.fixture(scope="session")
def tiny(demo) -> Settings:
    """Settings that train on `demo` in a second or two."""
    settings = resolve_settings("demo")
    return override(
        settings,
        {
            "data.path": demo.path,
            "data.frames": 16,
            "model.width": 0.0625,
            "model.latent_dim": 16,
            "training.steps": 6,
            "training.batch_size": 8,
            "training.learning_rate_decay": 1.0,  # or a run in parts would have other rates
            "training.precision": "float32",  # the same numbers on every processor
            "training.log_every": 2,
            "training.checkpoint_every": 2,
            "evaluation.every_steps": 4,
            "evaluation.num_motions": 32,
        },
    )
