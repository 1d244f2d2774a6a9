"""The registered model as MLflow loads it: ``mlflow.pyfunc.load_model(...).predict(image_bytes)``.

MLflow copies this file into the model ("models from code"), so it stands alone: it imports nothing
of this package, and TensorFlow only when the model is loaded.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class ImageClassifier(PythonModel):  # type: ignore[misc]
    """Classifies encoded images (JPEG, PNG, GIF, BMP, WebP).

    The input is an image's bytes, a list of them, or a frame with one column of them; the output
    has a row per image: its ``class_name``, that class's ``probability``, and a column
    ``probability.<class>`` per class.
    """

    # MLflow warns of missing type hints, but hints would take the place of the explicit signature
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        import tensorflow as tf

        folder = Path(context.artifacts["saved_model"])
        self._classes: list[str] = json.loads((folder / "model.json").read_text())["classes"]
        self._model = tf.saved_model.load(str(folder))

    # no annotation of the input: MLflow would take it for a schema and replace the explicit one
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        import tensorflow as tf

        # bytes, lists and frames alike arrive as a frame of one column
        images = model_input.iloc[:, 0].tolist()
        answer = self._model.signatures["serving_default"](image_bytes=tf.constant(images))
        probabilities = answer["probabilities"].numpy()
        best = probabilities.argmax(axis=1)
        return pd.DataFrame(
            {
                "class_name": [self._classes[index] for index in best],
                "probability": probabilities.max(axis=1).astype(float),
                **{
                    f"probability.{name}": probabilities[:, index].astype(float)
                    for index, name in enumerate(self._classes)
                },
            }
        )


set_model(ImageClassifier())
