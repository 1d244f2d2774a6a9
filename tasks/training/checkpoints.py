"""Full state of a training after an epoch, so that a killed one goes on where it was."""

import json
import time
import uuid
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class EpochRecord:
    """One line of ``history.csv``.

    Attributes
    ----------
    epoch : int
        From 1.
    loss, accuracy : float
        As logged in training mode: mean over the epoch while the weights change.
    val_loss, val_accuracy : float
        On the validation rows, in inference mode.
    seconds : float
        Wall time, validation included.
    train_seconds : float
        Wall time without the validation.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    train_seconds: float


@dataclass
class Progress:
    """Where a training stands, beside its variables.

    Attributes
    ----------
    history : list of EpochRecord
        Epochs done.
    best_epoch : int
        Epoch with the least validation loss, from 1; 0 before the first.
    stopped : bool
        Early stopping has struck.
    best_weights : list of ndarray
        Weights of the best epoch; empty when they are not wanted.
    """

    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    stopped: bool = False
    best_weights: list[Any] = field(default_factory=list)


_TRAIN_PER_SAVE = 50
"""Seconds of training for each second of saving."""


class Checkpoint:
    """One file that holds the last finished epoch.

    Parameters
    ----------
    folder : Path
        Survives a killed attempt.
    key : str
        Identifies configuration, data and code; a file with another key is ignored.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / "epoch.npz"
        self._key = key
        self._due = 0.0

    def save_if_due(self, variables: list[Any], progress: Progress) -> None:
        """Write unless that was done so shortly ago that it would slow the training by over 2 %."""
        started = time.monotonic()
        if started >= self._due:
            self.save(variables, progress)
            ended = time.monotonic()
            self._due = ended + _TRAIN_PER_SAVE * (ended - started)

    def save(self, variables: list[Any], progress: Progress) -> None:
        """Write variables and progress at once or not at all.

        Not forced to the disk: a file that a power cut leaves incomplete fails its checksum and is
        ignored.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "key": self._key,
            "history": [asdict(record) for record in progress.history],
            "best_epoch": progress.best_epoch,
            "stopped": progress.stopped,
        }
        arrays: dict[str, Any] = {f"v{i}": variable.numpy() for i, variable in enumerate(variables)}
        arrays["document"] = np.array(json.dumps(document))
        arrays |= {f"b{i}": weights for i, weights in enumerate(progress.best_weights)}
        draft = self._path.with_name(f".{uuid.uuid4().hex}.npz")
        try:
            with draft.open("wb") as stream:
                np.savez(stream, **arrays)
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)

    def restore(self, variables: list[Any]) -> Progress:
        """Assign the saved state to the variables, and return the progress.

        A checkpoint that is absent, unreadable or of another training leaves the variables as they
        are and returns no progress.
        """
        try:
            with self._path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                document = json.loads(str(arrays["document"]))
                saved = [arrays[f"v{i}"] for i in range(_count(arrays, "v"))]
                best = [arrays[f"b{i}"] for i in range(_count(arrays, "b"))]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return Progress()
        shapes = [tuple(array.shape) for array in saved]
        if document["key"] != self._key or shapes != [tuple(v.shape) for v in variables]:
            return Progress()
        for variable, array in zip(variables, saved, strict=True):
            variable.assign(array)
        return Progress(
            history=[EpochRecord(**record) for record in document["history"]],
            best_epoch=document["best_epoch"],
            stopped=document["stopped"],
            best_weights=best,
        )


def _count(arrays: Any, letter: str) -> int:
    return sum(name[0] == letter and name[1:].isdigit() for name in arrays.files)
