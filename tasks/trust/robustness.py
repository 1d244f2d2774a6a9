"""Accuracy under attack, against the attack's strength."""

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.trust.attacks import Attack, CompiledClassifier, Pixels, attack_images

SHOWN_OF_A_CLASS, SHOWN_AT_MOST = 4, 16
"""Adversarial images kept of every attack, among those that turned the answer and those not."""

log = logging.getLogger("tasks")

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """What an attack of one strength did.

    Attributes
    ----------
    attack : str
    strength : float
        Largest change of a pixel, as a fraction of the pixel range.
    shown : dict of int to (height, width, channels) float32 array
        The adversarial images that may be shown, 0..255, by row: to keep all of every attack would
        take as much memory as all images many times over.
    predicted : (n,) int array
        Their predicted classes.
    right : (n,) bool array
        Images that were classified correctly before and still are.
    """

    attack: Attack
    strength: float
    shown: dict[int, Pixels]
    predicted: Indices
    right: NDArray[np.bool_]


def attack_all(
    classifier: CompiledClassifier,
    images: Pixels,
    true_index: Indices,
    *,
    attacks: list[Attack],
    strengths: list[float],
    steps: int,
    seed: int,
) -> tuple[Indices, list[Attacked]]:
    """Run every attack at every strength.

    Parameters
    ----------
    classifier : CompiledClassifier
        The model.
    images : (n, height, width, channels) float32 array
        Pixels 0..255.
    true_index : (n,) int array
        True classes.
    attacks : list of str
        ``fgsm``, ``pgd``.
    strengths : list of float
        Fractions of the pixel range.
    steps : int
        Steps of PGD.
    seed : int
        Of PGD's random starts.

    Returns
    -------
    clean : (n,) int array
        Predicted classes of the images as they are.
    results : list of Attacked
        By attack, then by rising strength.
    """
    targets = np.eye(classifier.nb_classes, dtype=np.float32)[true_index]
    clean = classifier.predict(images).argmax(axis=1)
    results = []
    for attack in attacks:
        for strength in sorted(set(strengths)):
            started = time.perf_counter()
            changed = attack_images(
                classifier,
                images,
                targets,
                attack=attack,
                strength=strength,
                steps=steps,
                seed=seed,
            )
            predicted = classifier.predict(changed).argmax(axis=1)
            right = (clean == true_index) & (predicted == true_index)
            kept = _to_show(true_index, turned=(clean == true_index) & ~right)
            results.append(
                Attacked(
                    attack=attack,
                    strength=strength,
                    shown={row: changed[row].copy() for row in kept},
                    predicted=predicted,
                    right=right,
                )
            )
            log.info(
                "robustness: %s at %g of the pixel range: %d of %d images still right (%.1f s)",
                attack,
                strength,
                right.sum(),
                len(images),
                time.perf_counter() - started,
            )
    return clean, results


def _to_show(true_index: Indices, *, turned: NDArray[np.bool_]) -> list[int]:
    """Choose rows to keep an image of: some of every class that gave way, and some that did not."""
    rows: list[int] = []
    for among in (turned, ~turned):
        taken: Counter[int] = Counter()
        for row in np.flatnonzero(among).tolist():
            label = int(true_index[row])
            if taken[label] < SHOWN_OF_A_CLASS and taken.total() < SHOWN_AT_MOST:
                taken[label] += 1
                rows.append(row)
    return rows


def as_document(
    result: Attacked, *, was_right: int, interval: tuple[float, float]
) -> dict[str, Any]:
    """Return the counts and rates of an attack as JSON-able data."""
    right, rows = int(result.right.sum()), len(result.right)
    return {
        "attack": result.attack,
        "strength": result.strength,
        "images": rows,
        "right": right,
        "accuracy": right / rows,
        "low": interval[0],
        "high": interval[1],
        "originally_right": was_right,
        "fooled": was_right - right,
        "success_rate": (was_right - right) / was_right if was_right else None,
    }
