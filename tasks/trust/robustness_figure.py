"""Pictures of the attacks: accuracy against strength, and what the changes look like."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.figures import BLUE, GREY, ORANGE, new_figure
from tasks.trust.attacks import Pixels
from tasks.trust.robustness import Attacked, Indices

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"fgsm": ORANGE, "pgd": BLUE}


def draw_accuracy(
    clean: dict[str, Any], documents: Sequence[dict[str, Any]], *, chance: float, confidence: float
) -> "Figure":
    """Draw accuracy against strength, a line an attack, with intervals.

    Parameters
    ----------
    clean : dict
        ``accuracy``, ``low``, ``high`` without an attack.
    documents : sequence of dict
        As :func:`tasks.trust.robustness.as_document` returns them.
    chance : float
        Accuracy of guessing, drawn for comparison.
    confidence : float
        Of the intervals.
    """
    figure, axes = new_figure(6.4, 3.8)
    for attack in dict.fromkeys(document["attack"] for document in documents):
        points = [{"strength": 0.0, **clean}]
        points += [document for document in documents if document["attack"] == attack]
        strengths = [point["strength"] for point in points]
        colour = _COLOURS.get(attack, GREY)
        axes.fill_between(
            strengths,
            [point["low"] for point in points],
            [point["high"] for point in points],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        accuracy = [point["accuracy"] for point in points]
        axes.plot(strengths, accuracy, "o-", color=colour, label=attack.upper())
    axes.axhline(chance, color=GREY, linewidth=1, linestyle=":", label="guessing")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(left=0)
    axes.set_xlabel("largest change of a pixel, as a fraction of the pixel range")
    axes.set_ylabel(f"accuracy ({confidence:.0%} interval)")
    ticks = sorted({document["strength"] for document in documents})
    axes.set_xticks([0, *ticks], [f"{tick:g}" for tick in (0, *ticks)])
    axes.set_title("Accuracy under attack")
    axes.legend(loc="lower left")
    return figure


def choose_examples(
    clean: Indices, true_index: Indices, results: Sequence[Attacked], *, count: int = 4
) -> list[tuple[int, Attacked]]:
    """Pick the images that give way first, each with the weakest attack that turned its answer.

    Images that no attack turns fill the rows that are left, with the strongest attack.
    """
    chosen: dict[int, Attacked] = {}
    ranked = sorted(results, key=lambda result: (result.strength, result.attack != "pgd"))
    for result in ranked:
        for index in np.flatnonzero((clean == true_index) & ~result.right):
            if int(index) in result.shown:
                chosen.setdefault(int(index), result)
    examples = sorted(chosen.items(), key=lambda item: (item[1].strength, item[0]))
    # of every class first, since one class often gives way before all others
    seen: dict[int, int] = {}
    keyed = []
    for example in examples:
        label = int(true_index[example[0]])
        keyed.append((seen.setdefault(label, 0), example))
        seen[label] += 1
    picked = [example for _, example in sorted(keyed, key=lambda key: key[0])][:count]
    rest = [(i, ranked[-1]) for i in ranked[-1].shown if i not in chosen] if ranked else []
    return [*picked, *rest[: count - len(picked)]]


def draw_examples(
    images: Pixels,
    clean: Indices,
    true_index: Indices,
    examples: Sequence[tuple[int, Attacked]],
    *,
    classes: Sequence[str],
) -> "Figure":
    """Draw original, amplified noise and adversarial image side by side, a row an image.

    Parameters
    ----------
    images : (n, height, width, channels) float32 array
        Originals, 0..255.
    clean, true_index : (n,) int array
        Their predicted and true classes.
    examples : sequence of (int, Attacked)
        As :func:`choose_examples` returns them.
    classes : sequence of str
        Names of the classes.
    """
    figure, axes = new_figure(
        6.8, 0.5 + 2.25 * max(1, len(examples)), nrows=max(1, len(examples)), ncols=3, squeeze=False
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for row, (index, result) in zip(axes, examples, strict=False):
        original, adversarial = images[index], result.shown[index]
        amplification = 127.5 / (255.0 * result.strength)
        noise = 127.5 + (adversarial - original) * amplification
        answers = [
            f"{_short(classes[clean[index]])}\ntruth: {_short(classes[true_index[index]])}",
            f"{result.attack.upper()} at {result.strength:g}\nnoise x {amplification:.0f}",
            f"{_short(classes[result.predicted[index]])}\n"
            + ("answer turned" if result.predicted[index] != clean[index] else "answer kept"),
        ]
        for axis, picture, title in zip(row, (original, noise, adversarial), answers, strict=True):
            shown = np.clip(np.round(picture), 0, 255).astype(np.uint8)
            grey = shown.shape[-1] == 1
            axis.imshow(shown[..., 0] if grey else shown, cmap="gray", vmin=0, vmax=255)
            axis.set_title(title, fontsize=8.5, fontweight="normal", loc="center")
    figure.suptitle(
        "Smallest attacks that turn an answer: original, noise, adversarial",
        x=0.01,
        ha="left",
        weight="bold",
        fontsize=10.5,
    )
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"
