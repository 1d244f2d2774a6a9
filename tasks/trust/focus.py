"""Summary of a set of explanations: how well they fit, and how much is where it should be."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.trust.explain_figure import Explained
from tasks.trust.intervals import bootstrap_mean

POOR_FIDELITY = 0.5
"""Mean fidelity under which the explanations are said to tell little about the model."""

WIDE_GAP = 0.1
"""Mean gap, in probability, above which attributions are said to be drawn from too few samples."""


def focus_metrics(
    explained: Sequence[Explained], *, draws: int, confidence: float, method: str = "lime"
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Summarise the explanations of one method.

    Parameters
    ----------
    explained : sequence of Explained
        At least one.
    draws : int
        Bootstrap replicates over the images; 0 gives no intervals.
    confidence : float
        Of the intervals.
    method : str
        For the warnings.

    Returns
    -------
    metrics : dict of str to float
        ``images``, where the method tells it ``fidelity`` or ``additivity_gap`` (means), and where
        regions are known ``images_with_region``,
        ``mass_inside_region`` and ``region_area`` (means) and ``focus``, their ratio: 1 when the
        model looks everywhere alike, above when it looks inside. Both also for each predicted
        class, as ``mass_inside_region_for.<class>`` and ``focus_for.<class>``. Intervals as
        ``NAME.low`` and ``NAME.high``.
    notes : dict of str to str
        Metric to a sentence that names the worst images.
    warnings : list of str
    """
    right = sum(item.correct for item in explained)
    metrics: dict[str, float] = {"images": len(explained)}
    notes = {"images": f"{right} classified correctly, {len(explained) - right} not"}
    warnings = []
    found, words, warning = _faithfulness(explained, method)
    metrics |= found
    notes |= words
    warnings += warning
    known = [item for item in explained if item.inside is not None]
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


def _faithfulness(
    explained: Sequence[Explained], method: str
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Tell how well the explanations hold to the model, as far as the method promises it."""
    fits = [fit for item in explained if (fit := item.explanation.fidelity) is not None]
    gaps = [item.explanation.additivity_gap for item in explained]
    if fits:
        fidelity = float(np.mean(np.array(fits, dtype=np.float64)))
        warning = (
            f"explain: mean fidelity {fidelity:.2f} is under {POOR_FIDELITY:g}: the explanations "
            "tell little about the model; more samples or fewer segments may help"
        )
        note = "mean coefficient of determination of the local linear models"
        if len(fits) < len(explained):
            note += (
                f", over {len(fits)} of {len(explained)} images: of the others the answer stays "
                "the same whatever is hidden"
            )
        poor = fidelity < POOR_FIDELITY
        return {"fidelity": fidelity}, {"fidelity": note}, [warning] if poor else []
    if all(gap is not None for gap in gaps):
        gap = float(np.mean(np.array(gaps, dtype=np.float64)))
        worst = max(explained, key=lambda item: item.explanation.additivity_gap or 0.0)
        warning = (
            f"explain: {method}: the attributions miss the change of probability that they share "
            f"out by {gap:.2f} in the mean, above {WIDE_GAP:g}: more samples (explain.samples) "
            "bring them nearer"
        )
        most = f"most: {worst.image_id} ({worst.explanation.additivity_gap:.4f})"
        return (
            {"additivity_gap": gap},
            {"additivity_gap": most},
            [warning] if gap > WIDE_GAP else [],
        )
    return {}, {}, []


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
