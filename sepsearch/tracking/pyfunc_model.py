"""A registered model as MLflow loads it ("models from code"), from the model's folder beside it; no pickle.

MLflow runs this file by its path; nothing in the package imports it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from sepsearch.models.saved_model import load_model


class ServedModel(PythonModel):
    """Spectrograms of mixtures in, spectrograms of one instrument out."""

    def load_context(self, context: Any) -> None:
        """Read the model's folder; raises `UserError` if it is damaged."""
        self.network, self.card = load_model(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """(batch, frame 128, bin 128), SCALE · log1p(c · amplitude), float32 → the instrument's, same shape."""
        mixture = torch.from_numpy(np.ascontiguousarray(model_input, dtype=np.float32))
        with torch.inference_mode():
            return self.network(mixture[:, None])[:, 0].numpy()


set_model(ServedModel())
