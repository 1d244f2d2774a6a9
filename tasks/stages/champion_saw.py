"""Which test rows the champion was trained on: on those it must not be compared with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.stages.base import StageContext
from tasks.stages.champion_answers import own_digest
from tasks.stages.champion_trained_on import trained_on

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tasks.data import Arranged
    from tasks.training.metrics import Measured


@dataclass(frozen=True)
class Saw:
    """Which test rows a champion was trained on.

    Attributes
    ----------
    rows : ndarray of bool
        Those of which it is known.
    certain : bool
        Whether it is known that it saw none of the others, nor others of their groups.
    """

    rows: "NDArray[np.bool_]"
    certain: bool = True

    def told(self) -> list[bool | None]:
        """Return what ``predictions.parquet`` says of each row: None where it is not known."""
        return [True if seen else (False if self.certain else None) for seen in self.rows]


def champion_saw(
    context: StageContext, version: str, digest: str, arranged: "Arranged", measured: "Measured"
) -> Saw | None:
    """Return which test rows a champion was trained on; None, with a warning, where that is not
    known.

    Parameters
    ----------
    context : StageContext
        Of the stage that asks.
    version, digest : str
        The champion.
    arranged : Arranged
        The images; ``arrange`` keeps such rows out of the test set unless the split is made anew.
    measured : Measured
        Takes the warning.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    import numpy as np

    table = arranged.table()
    test = (table["split_side"] == "test").to_numpy()
    if digest == own_digest(context):
        return Saw(np.zeros(int(test.sum()), bool))
    known = trained_on(context, version, digest)
    if known.record is None:
        measured.warnings.append(
            f"what {known.name} was trained on is not known ({known.problem}): test images that it "
            "is compared on may be among it"
        )
        return None
    saw = known.record.seen(table, context.pipeline.split)[test]
    if saw.any():
        measured.warnings.append(
            f"{int(saw.sum())} of {len(saw)} test images are left out of the comparison: "
            f"{known.name} was trained on them, or on others of their group"
        )
    doubt = known.record.doubt(table, context.pipeline.split)
    if doubt:
        measured.warnings.append(f"{known.name}: {doubt}")
    return Saw(np.asarray(saw), certain=not doubt)
