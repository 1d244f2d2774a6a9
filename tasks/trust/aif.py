"""AIF360's group metrics, without what its import drags in."""

import importlib
import logging
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]


def group_metrics(*, truth: "Flags", predicted: "Flags", privileged: "Flags") -> dict[str, float]:
    """Compare the unprivileged rows with the privileged ones by AIF360's ``ClassificationMetric``.

    Parameters
    ----------
    truth : (rows,) bool array
        Whether the row's true outcome is the favourable one.
    predicted : (rows,) bool array
        Whether the predicted outcome is.
    privileged : (rows,) bool array
        Whether the row belongs to the reference; both kinds must occur.

    Returns
    -------
    dict of str to float
        Differences are unprivileged minus privileged, in [-1, 1], fair at 0:
        ``statistical_parity_difference`` of the rates predicted favourable,
        ``equal_opportunity_difference`` of the true positive rates [1]_, and
        ``average_odds_difference``, the mean of the differences of true and false positive rates.
        ``disparate_impact`` is the ratio of the rates predicted favourable, fair at 1 and, by the
        four-fifths rule, down to 0.8 [2]_. ``theil_index`` is the inequality of benefit among all
        rows, benefit = prediction - truth + 1, fair at 0 [3]_. What a zero denominator leaves
        undefined is not finite.

    References
    ----------
    .. [1] M. Hardt, E. Price, N. Srebro, "Equality of opportunity in supervised learning",
       NeurIPS 2016.
    .. [2] M. Feldman et al., "Certifying and removing disparate impact", KDD 2015.
    .. [3] T. Speicher et al., "A unified approach to quantifying algorithmic unfairness", KDD 2018.
    """
    import numpy as np
    import pandas as pd

    aif360 = _import_aif360()
    table = pd.DataFrame(
        {"privileged": privileged.astype(float), "outcome": truth.astype(float)},
        index=pd.RangeIndex(len(truth)).astype(str),
    )
    actual = aif360.datasets.BinaryLabelDataset(
        favorable_label=1.0,
        unfavorable_label=0.0,
        df=table,
        label_names=["outcome"],
        protected_attribute_names=["privileged"],
    )
    answered = actual.copy()
    answered.labels = predicted.astype(float).reshape(-1, 1)
    metric = aif360.metrics.ClassificationMetric(
        actual,
        answered,
        unprivileged_groups=[{"privileged": 0.0}],
        privileged_groups=[{"privileged": 1.0}],
    )
    names = (
        "statistical_parity_difference",
        "disparate_impact",
        "equal_opportunity_difference",
        "average_odds_difference",
        "theil_index",
    )
    # rates over no rows are 0/0: left as not finite
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: float(getattr(metric, name)()) for name in names}


def _import_aif360() -> ModuleType:
    """Import AIF360 with TensorFlow out of its sight.

    Its metrics import its algorithms, and these import TensorFlow as an optional extra that only
    AdversarialDebiasing uses: three seconds for nothing. The extras that are absent are announced
    as warnings on the root logger, which is of no use to who reads a night's log.
    """
    root = logging.getLogger()
    level, absent = root.level, "tensorflow" not in sys.modules
    if absent:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    root.setLevel(logging.ERROR)
    try:
        importlib.import_module("aif360.metrics")
        importlib.import_module("aif360.datasets")
        return importlib.import_module("aif360")
    finally:
        root.setLevel(level)
        if absent:
            del sys.modules["tensorflow"]
