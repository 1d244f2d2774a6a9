"""The answers of both protocols."""

from typing import Any

from tasks.serving.requests import Asked


def v1(name: str, loaded: Any, asked: Asked, probabilities: Any) -> dict[str, Any]:
    """Return the answer of V1: ``predictions`` by row, or ``outputs`` by column as they were sent.

    Parameters
    ----------
    name : str
        Name of the model.
    loaded : LoadedModel
        The version that answered.
    asked : Asked
        The request.
    probabilities : ndarray
        Shape (n, classes).
    """
    rows, names = probabilities.tolist(), _names(loaded, probabilities)
    found: dict[str, Any] = (
        {"outputs": {"class_name": names, "probabilities": rows}}
        if asked.columns
        else {
            "predictions": [
                {"class_name": name, "probabilities": row}
                for name, row in zip(names, rows, strict=True)
            ]
        }
    )
    return found | {
        "classes": loaded.classes,
        "model_name": name,
        "model_version": loaded.pointer.version,
        "model_digest": loaded.pointer.digest,
    }


def v2(name: str, loaded: Any, asked: Asked, probabilities: Any) -> dict[str, Any]:
    """Return the answer of V2: the tensors ``probabilities`` and ``class_name``, as JSON."""
    names = _names(loaded, probabilities)
    tensors = (
        ("probabilities", "FP32", list(probabilities.shape), probabilities.ravel().tolist()),
        ("class_name", "BYTES", [len(names)], names),
    )
    return {
        "model_name": name,
        "model_version": loaded.pointer.version,
        "id": asked.number,
        "parameters": {"model_digest": loaded.pointer.digest},
        "outputs": [
            {"name": label, "datatype": kind, "shape": shape, "data": data}
            for label, kind, shape, data in tensors
        ],
    }


def _names(loaded: Any, probabilities: Any) -> list[str]:
    return [loaded.classes[index] for index in probabilities.argmax(axis=1)]
