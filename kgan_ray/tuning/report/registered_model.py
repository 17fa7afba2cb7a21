"""A trained generator as an MLflow model: labels in, motions out.

MLflow runs this very file when it loads such a model ("models from code"), so that nothing is unpickled.

    import mlflow, pandas
    model = mlflow.pyfunc.load_model("models:/kgan_ray-disc/1")
    motions = model.predict(pandas.DataFrame({"label": [0, 3, 3]}), params={"seed": 1, "truncation": 0.95})
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from kgan_ray.settings import UserError
from kgan_ray.training.checkpoint import load_generator


class MotionModel(PythonModel):
    """Generates motions (N, C, T, V) in metres, float32, from labels (0-based, a column `label`)."""

    def load_context(self, context: PythonModelContext) -> None:
        self.gan = load_generator(context.artifacts["checkpoint"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Mapping[str, float] | None = None
    ) -> np.ndarray:
        """Params: `seed` (default 0; same seed, same motions) and `truncation` (psi in w, default 1 = off)."""
        spec, params = self.gan.spec, params or {}
        labels = torch.tensor(model_input["label"].to_list(), dtype=torch.int64)
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < spec.num_classes:
            raise UserError(
                f"label: found {labels.tolist()[:10]}; this model has classes 0 to {spec.num_classes - 1}"
            )
        motions = self.gan.sample(
            labels, seed=int(params.get("seed", 0)), truncation=float(params.get("truncation", 1.0))
        )
        metres: np.ndarray = spec.to_metres(motions).numpy().astype(np.float32)
        return metres


set_model(MotionModel())
