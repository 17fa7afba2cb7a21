"""Passwords in addresses: refused before anything is recorded, and never repeated."""

import pytest

from kgan_ray.data.dataset import Dataset
from kgan_ray.settings import TrackingSettings, UserError
from kgan_ray.storage import StorePath
from kgan_ray.tracking.store import tracking_uri
from kgan_ray.train import main
from kgan_ray.training.checkpoint import CheckpointStore

SECRET = "swordfish"


@pytest.mark.parametrize(
    "scheme", ["https://me:{}@head:5000", "postgresql://me:{}@db/mlflow", "mysql+pymysql://me:{}@db/mlflow"]
)
@pytest.mark.parametrize("place", ["setting", "environment"])
def test_a_record_with_its_password_is_refused(tmp_path, monkeypatch, scheme, place):
    address = scheme.format(SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address if place == "environment" else "")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as error:
        tracking_uri(TrackingSettings(uri=address if place == "setting" else None), StorePath(tmp_path))
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("open_it", [CheckpointStore, Dataset.open])
def test_a_store_with_its_password_is_refused(open_it):
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY") as error:
        open_it(f"s3://me:{SECRET}@bucket/runs")
    assert SECRET not in str(error.value)


def test_nothing_is_written_that_holds_a_password(tiny, demo, tmp_path):
    address = f"tracking.uri=https://me:{SECRET}@head:5000"
    with pytest.raises(UserError):
        main(["--data", demo.path, "--preset", "demo", "--results", str(tmp_path / "results"), "--set", address])
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or SECRET not in file.read_text(errors="replace"), file
