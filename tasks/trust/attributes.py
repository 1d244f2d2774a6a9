"""What is found of one protected attribute of the test rows, under the pipeline's settings."""

from typing import TYPE_CHECKING

from tasks.contract import BadConfig
from tasks.spec import Pipeline, ProtectedAttribute
from tasks.trust.fairlearn_frame import FrameReport, frame_metrics
from tasks.trust.fairness import AttributeReport, examine
from tasks.trust.groups import Outcomes, attribute_labels

if TYPE_CHECKING:
    import pandas as pd

    from tasks.data import Arranged


def examine_attribute(
    pipeline: Pipeline,
    arranged: "Arranged",
    rows: "pd.DataFrame",
    attribute: ProtectedAttribute,
) -> tuple[AttributeReport, FrameReport]:
    """Compare how the groups of an attribute are served, as the pipeline says.

    Parameters
    ----------
    pipeline : Pipeline
        The night's pipeline.
    arranged : Arranged
        Knows the classes.
    rows : (rows, columns) DataFrame
        Test rows with predictions, as :func:`tasks.trust.predictions.join_predictions` returns.
    attribute : ProtectedAttribute
        Its name and declared groups.

    Returns
    -------
    tuple of AttributeReport and FrameReport

    Raises
    ------
    BadConfig
        The favourable outcome is no class.
    """
    favourable, classes = pipeline.fairness.favourable, arranged.classes
    if favourable != "correct" and favourable not in classes:
        raise BadConfig(
            f"fairness.favourable {favourable!r} is neither 'correct' nor one of the classes "
            f"{', '.join(classes)}"
        )
    # the rates of a finding are of interest whatever the favourable outcome: a finding that is
    # missed in one group more often than in another is the harm
    positive = arranged.positive or (None if favourable == "correct" else favourable)
    outcomes = Outcomes.of(
        true_index=rows["class_index"].to_numpy(),
        predicted_index=rows["predicted_index"].to_numpy(),
        favourable=None if favourable == "correct" else classes.index(favourable),
        positive=None if positive is None else classes.index(positive),
    )
    labels = attribute_labels(rows, attribute)
    report = examine(
        labels,
        outcomes,
        attribute=attribute,
        favourable=favourable,
        positive=positive,
        min_group=pipeline.fairness.min_group,
        clusters=list(rows["group_key"]),
        draws=pipeline.evaluate.bootstrap,
        confidence=pipeline.evaluate.confidence,
    )
    frame = frame_metrics(
        labels,
        outcomes,
        report.groups,
        attribute=attribute.attribute,
        of="favourable" if favourable != "correct" else "finding" if positive else "correct",
        outcome=favourable if favourable != "correct" else positive or "correct",
        min_group=pipeline.fairness.min_group,
        n_boot=pipeline.fairness.n_boot,
        confidence=pipeline.evaluate.confidence,
    )
    return report, frame
