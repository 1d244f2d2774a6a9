"""Figures about a training and its errors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.figures import BLUE, ORANGE, new_figure, save_figure


def plot_confusion(counts: NDArray[np.int64], classes: list[str], path: Path) -> None:
    """Draw a confusion matrix: counts, coloured by their share of the true class.

    Parameters
    ----------
    counts : ndarray
        Shape (classes, classes): row is the truth, column the prediction.
    classes : list of str
        Class names.
    path : Path
        PNG to write.
    """
    number = len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(3.2, 0.42 * number + 0.9)
    names = [_short(name, 22) for name in classes]
    margin = 0.075 * max(len(name) for name in names)
    figure, axes = new_figure(side + margin + 1.1, side + (margin if number > 4 else 0.2))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    for row in range(number):
        for column in range(number):
            if number > 12 and not counts[row, column]:
                continue
            text = f"{counts[row, column]}"
            if number <= 12:
                text += f"\n{shares[row, column]:.0%}"
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=9 if number <= 6 else 6.5,
                color="white" if shares[row, column] > 0.55 else "black",
            )
    tilted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if number > 4 else {}
    axes.set_xticks(range(number), names, **tilted)
    axes.set_yticks(range(number), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("Confusion matrix on the test images")
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=lambda share, _: f"{share:.0%}")
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    save_figure(figure, path)


def plot_curves(history: Sequence[dict[str, float]], path: Path, *, kept_epoch: int | None) -> None:
    """Draw loss and accuracy of training and validation by epoch.

    Parameters
    ----------
    history : sequence of dict
        Rows of ``history.csv``.
    path : Path
        PNG to write.
    kept_epoch : int or None
        Epoch whose weights were kept, marked where it is not the last.
    """
    figure, (left, right) = new_figure(9.0, 3.4, ncols=2)
    epochs = [row["epoch"] for row in history]
    for axes, name, title in ((left, "loss", "Loss"), (right, "accuracy", "Accuracy")):
        for prefix, label, colour in (("", "training", BLUE), ("val_", "validation", ORANGE)):
            values = [row[f"{prefix}{name}"] for row in history]
            marker = "o" if len(epochs) <= 30 else ""
            axes.plot(epochs, values, color=colour, label=label, marker=marker, markersize=3.5)
        if kept_epoch is not None and kept_epoch != epochs[-1]:
            axes.axvline(kept_epoch, color="black", linewidth=0.8, linestyle=":")
            axes.annotate(
                "kept",
                (kept_epoch, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -10),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    left.set_ylim(bottom=0)
    save_figure(figure, path)


def plot_answers(
    pictures: Sequence[Any], captions: Sequence[str], path: Path, *, title: str
) -> None:
    """Draw test images under what the model says of them.

    Parameters
    ----------
    pictures : sequence of ndarray
        uint8, shape (height, width, 1 or 3) each; none gives a figure of the title alone.
    captions : sequence of str
        Text over each.
    path : Path
        PNG to write.
    title : str
        Heading.
    """
    columns = min(4, max(len(pictures), 1))
    lines = max(-(-len(pictures) // columns), 1)
    height = 2.75 * lines if pictures else 0.6
    figure, grid = new_figure(
        max(2.3 * columns, 4.6), height + 0.4, nrows=lines, ncols=columns, squeeze=False
    )
    for axes in grid.flat:
        axes.axis("off")
    for axes, picture, caption in zip(grid.flat, pictures, captions, strict=False):
        grey = picture.shape[-1] == 1
        axes.imshow(picture[..., 0] if grey else picture, cmap="gray" if grey else None)
        axes.set_title(caption, fontsize=7.5, fontweight="normal", loc="left")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    save_figure(figure, path)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
