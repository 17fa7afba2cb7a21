"""MLflow records for tests."""

import functools
import shutil
import tempfile
from pathlib import Path

from kgan_ray.tracking.store import prepare_store


def new_store(folder: Path) -> str:
    """Make an empty MLflow record in a folder, and return its address.

    Its database is a copy: to make one takes seconds, because MLflow goes through all of its migrations.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_empty_database(), folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@functools.cache
def _empty_database() -> Path:
    folder = tempfile.mkdtemp(prefix="kgan_ray-test-")
    prepare_store(f"sqlite:///{folder}/mlflow.db")
    return Path(folder) / "mlflow.db"
