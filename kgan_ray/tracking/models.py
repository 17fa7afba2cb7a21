"""Models in MLflow's registry."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from kgan_ray.tracking.client import client_of


def register_model(
    uri: str, run_id: str, name: str, *, code: Path, checkpoint: str, shape: Sequence[int], tags: Mapping[str, str]
) -> int:
    """Store a checkpoint with a run as a model that `mlflow.pyfunc` loads; return its number as a version of `name`.

    Args:
        code: the file that MLflow runs to load the model.
        shape: a motion's (C, T, V).
    """
    import mlflow
    import numpy as np
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    client = client_of(uri)
    signature = ModelSignature(
        inputs=Schema([ColSpec("long", "label")]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *shape))]),
        params=ParamSchema([ParamSpec("seed", "long", 0), ParamSpec("truncation", "double", 1.0)]),
    )
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        # MLflow misses an example of the input, which it would generate motions for.
        warnings.simplefilter("ignore", UserWarning)
        folder = Path(scratch) / "model"
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(code),
            artifacts={"checkpoint": checkpoint},
            signature=signature,
            pip_requirements=[f"kgan_ray=={version('kgan_ray')}"],
        )
        client.log_artifacts(run_id, str(folder), "model")
    with suppress(MlflowException):  # it is there already
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    return int(client.create_model_version(name, source, run_id, tags=dict(tags)).version)
