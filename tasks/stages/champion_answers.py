"""What the champion answers to the test images of a run."""

import logging
from typing import TYPE_CHECKING

from tasks.contract import BadInput, Champion
from tasks.stages.base import StageContext
from tasks.stages.champion_files import champion_files

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from tasks.data import Arranged
    from tasks.training.metrics import Measured

log = logging.getLogger("tasks")


def own_digest(context: StageContext) -> str:
    """Return the digest of the model that the run has trained."""
    return context.input("train").manifest.output("model/").sha256


def champion_answers(
    context: StageContext,
    champion: Champion | None,
    own: "NDArray[np.float32]",
    arranged: "Arranged",
    table: "pd.DataFrame",
    measured: "Measured",
) -> "NDArray[np.float32] | None":
    """Return the champion's probabilities, None (with a warning) where it cannot answer.

    Parameters
    ----------
    context : StageContext
        Of the stage that asks.
    champion : Champion or None
        Who serves.
    own : ndarray of float, shape (rows, classes)
        The challenger's probabilities.
    arranged : Arranged
        The images.
    table : DataFrame
        The test rows.
    measured : Measured
        Takes the warning.
    """
    if champion is None:
        return None
    from tasks.training.prediction import SavedClassifier

    name = f"the champion, version {champion.version} of {context.pipeline.model_name},"
    if champion.digest == own_digest(context):
        log.info("%s is this very model", name)
        return own
    try:
        model = SavedClassifier(champion_files(context, champion))
        if model.classes != arranged.classes:
            raise BadInput(f"it knows the classes {model.classes}, not {arranged.classes}")
        log.info("%s answers the same images", name)
        return model.predict(
            arranged.read_bytes(table),
            batch_size=context.pipeline.evaluate.batch_size,
            total=len(table),
        )
    except Exception as error:  # whatever is wrong with it, the challenger's figures stand
        reason = " ".join(str(error).split())[:300]
        measured.warnings.append(f"{name} cannot be compared with: {reason}")
        return None
