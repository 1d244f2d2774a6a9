"""Test rows with what the evaluated model said of each: no check needs a second inference."""

import io
from typing import TYPE_CHECKING

from tasks.contract import BadInput

if TYPE_CHECKING:
    import pandas as pd

_TAKEN = ["image_id", "class_index", "predicted_index", "probabilities", "correct"]


def join_predictions(table: "pd.DataFrame", predictions: bytes) -> "pd.DataFrame":
    """Put the predictions beside the arranged test rows.

    Parameters
    ----------
    table : (rows, columns) DataFrame
        Test rows as arranged, with ``image_id`` and all metadata columns.
    predictions : bytes
        Content of the evaluation's ``predictions.parquet``.

    Returns
    -------
    (rows, columns) DataFrame
        The same rows in the same order with ``class_index``, ``predicted_index``, ``probabilities``
        and ``correct`` of the evaluation.

    Raises
    ------
    BadInput
        A test row has no prediction.
    """
    import pandas as pd

    answers = pd.read_parquet(io.BytesIO(predictions), columns=_TAKEN).set_index("image_id")
    missing = table.loc[~table["image_id"].isin(answers.index), "image_id"]
    if len(missing):
        raise BadInput(
            f"predictions.parquet: no prediction for {len(missing)} of {len(table)} test images "
            f"({', '.join(missing.head(5))}): run evaluate again on this arrangement"
        )
    kept = table.drop(columns=[name for name in _TAKEN[1:] if name in table.columns])
    return kept.join(answers, on="image_id").reset_index(drop=True)
