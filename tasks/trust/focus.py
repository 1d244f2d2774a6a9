"""Summary of a set of explanations: how well they fit, and how much is where it should be."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.trust.explain_figure import Explained
from tasks.trust.intervals import bootstrap_mean

POOR_FIDELITY = 0.5
"""Mean fidelity under which the explanations are said to tell little about the model."""


def focus_metrics(
    explained: Sequence[Explained], *, draws: int, confidence: float
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Summarise explanations.

    Parameters
    ----------
    explained : sequence of Explained
        At least one.
    draws : int
        Bootstrap replicates over the images; 0 gives no intervals.
    confidence : float
        Of the intervals.

    Returns
    -------
    metrics : dict of str to float
        ``images``, ``fidelity`` (mean), and where regions are known ``images_with_region``,
        ``mass_inside_region`` and ``region_area`` (means) and ``focus``, their ratio: 1 when the
        model looks everywhere alike, above when it looks inside. Both also for each predicted
        class, as ``mass_inside_region_for.<class>`` and ``focus_for.<class>``. Intervals as
        ``NAME.low`` and ``NAME.high``.
    notes : dict of str to str
        Metric to a sentence that names the worst images.
    warnings : list of str
    """
    fidelity = float(np.mean([item.explanation.fidelity for item in explained]))
    right = sum(item.correct for item in explained)
    metrics: dict[str, float] = {"images": len(explained), "fidelity": fidelity}
    notes = {
        "images": f"{right} classified correctly, {len(explained) - right} not",
        "fidelity": "mean coefficient of determination of the local linear models",
    }
    warnings = []
    if fidelity < POOR_FIDELITY:
        warnings.append(
            f"explain: mean fidelity {fidelity:.2f} is under {POOR_FIDELITY:g}: the explanations "
            "tell little about the model; more samples or fewer segments may help"
        )
    known = [item for item in explained if item.inside is not None and math.isfinite(item.inside)]
    if not known:
        return metrics, notes, warnings
    metrics["images_with_region"] = len(known)
    found, note = _focus(known, draws=draws, confidence=confidence)
    metrics |= found
    notes |= {"mass_inside_region": note, "focus": note}
    for predicted in sorted({item.predicted_class for item in known}):
        items = [item for item in known if item.predicted_class == predicted]
        found, note = _focus(items, draws=draws, confidence=confidence)
        for name in ("mass_inside_region", "focus"):
            for bound in ("", ".low", ".high"):
                if f"{name}{bound}" in found:
                    metrics[f"{name}_for.{predicted}{bound}"] = found[f"{name}{bound}"]
            notes[f"{name}_for.{predicted}"] = note
    return metrics, notes, warnings


def _focus(
    items: list[Explained], *, draws: int, confidence: float
) -> tuple[dict[str, float], str]:
    shares = np.array([[item.inside, item.area] for item in items], dtype=np.float64)
    inside, area = shares.mean(axis=0)

    def ratio(means: NDArray[np.float64]) -> NDArray[np.float64]:
        quotient: NDArray[np.float64] = means[:, 0] / np.maximum(means[:, 1], 1e-12)
        return quotient

    found = {"mass_inside_region": float(inside), "region_area": float(area)}
    if area > 0:
        found["focus"] = float(inside / area)
    intervals = {
        "mass_inside_region": bootstrap_mean(shares, draws=draws, confidence=confidence),
        "focus": bootstrap_mean(shares, draws=draws, confidence=confidence, statistic=ratio),
    }
    for name, interval in intervals.items():
        if interval is not None and name in found:
            found[f"{name}.low"], found[f"{name}.high"] = interval
    worst = sorted(items, key=lambda item: (item.inside or 0.0) / max(item.area or 0.0, 1e-12))[:3]
    named = ", ".join(f"{item.image_id} ({item.inside:.2f} of {item.area:.2f})" for item in worst)
    plural = "s" if len(items) > 1 else ""
    note = (
        f"{inside:.0%} of what speaks for the predicted class lies inside the region, which is "
        f"{area:.0%} of the image ({len(items)} image{plural}); least: {named}"
    )
    return found, note
