"""The exported model as an MLflow model (`mlflow.pyfunc`): the serving code itself on the bytes of one slice a row.

MLflow runs this file where the model is loaded ("models from code"): nothing of ours is pickled. Only `ml.tracking`
names it; serving never imports it, because it needs MLflow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from ml.errors import MlError
from ml.inference import analyse
from ml.runtime import load_model

MODEL_ARTIFACT = "model"
IMAGE_COLUMN = "image"


class PackagedModel(PythonModel):
    """Answers every row of `image` (PNG, JPEG or DICOM as bytes, base64 in JSON) as `manage.py analyse --json` does.

    A slice that cannot be analysed gets `{"error": sentence}` in its place, and the others their answers.
    """

    def load_context(self, context: Any) -> None:
        """Load the networks, whose hashes are checked, from the model's folder."""
        self._model = load_model(Path(context.artifacts[MODEL_ARTIFACT]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[dict]:
        """Return one answer a row."""
        return [self._answer(bytes(content)) for content in model_input[IMAGE_COLUMN]]

    def _answer(self, content: bytes) -> dict[str, Any]:
        try:
            return analyse(content, model=self._model).to_json()
        except MlError as error:
            return {"error": str(error)}


set_model(PackagedModel())
