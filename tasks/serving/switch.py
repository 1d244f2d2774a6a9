"""The step from the version that serves to the next one, and the way back, byte for byte.

Below a model's folder ``champion.json``, ``previous.json`` and, where they are given, the bounds in
``limits.json`` are replaced; ``.switch.json`` holds what they were until the new version is the
champion, and what the registry said, so that a failure can be undone by the process that sees it
or, after a kill, by the next attempt.
"""

import base64
import json
import os
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.serving.files import POINTER, PREVIOUS, Pointer, parse_pointer, write_json, write_pointer
from tasks.serving.limits import FILE as LIMITS
from tasks.serving.limits import write_limits

JOURNAL = ".switch.json"
_FILES = (LIMITS, POINTER, PREVIOUS)
"""What a step replaces, the bounds before the pointers."""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A step that is not completed yet.

    Attributes
    ----------
    folder : Path
        The model's folder below the serving root.
    to : Pointer
        The version that is to serve.
    before : dict of str to bytes or None
        Content of each file before the step; None for one that was not there.
    registry : dict
        What the registry said before the step, as whoever puts it back wrote it.
    max_pixels : int or None
        Bound of the version that is to serve; None leaves the file as it is.
    """

    folder: Path
    to: Pointer
    before: dict[str, bytes | None]
    registry: dict[str, Any] = field(default_factory=dict)
    max_pixels: int | None = None

    @classmethod
    def prepare(
        cls,
        folder: Path,
        to: Pointer,
        *,
        registry: dict[str, Any] | None = None,
        max_pixels: int | None = None,
    ) -> "Switch":
        """Return the step from what serves now, or the same step that a killed attempt began.

        Parameters
        ----------
        folder : Path
            The model's folder below the serving root.
        to : Pointer
            The version that is to serve.
        registry : dict, optional
            What the registry says now.
        max_pixels : int, optional
            Bound of the version that is to serve.
        """
        begun, now = _read_journal(folder), registry or {}
        if begun is not None:
            same, serving = begun.to.digest == to.digest, _read(folder / POINTER)
            back = _pointer(begun.before[POINTER])
            if serving == begun.before[POINTER]:
                # killed before the step, or on the way back
                begun.undo()
                now = begun.registry if same and begun.registry else now
            elif same and _pointer(serving) == begun.to:
                return replace(begun, to=to, registry=begun.registry or now, max_pixels=max_pixels)
            elif _pointer(serving) == begun.to and back is not None and back.digest == to.digest:
                # back to what served before: the version that is left was never champion
                begun.undo()
        before = {name: _read(folder / name) for name in _FILES}
        return cls(folder=folder, to=to, before=before, registry=now, max_pixels=max_pixels)

    @property
    def previous(self) -> Pointer | None:
        """What served before; of a version that serves already, what served before that."""
        serving = _pointer(self.before[POINTER])
        if serving is not None and serving.digest == self.to.digest:
            return _pointer(self.before[PREVIOUS])
        return serving

    def take(self) -> None:
        """Let the pointers name the new version and the one before."""
        document = {
            "to": vars(self.to),
            "before": {
                name: None if content is None else base64.b64encode(content).decode()
                for name, content in self.before.items()
            },
            "registry": self.registry,
        }
        write_json(self.folder / JOURNAL, document)
        # the way back is on disk before the step, so that a kill cannot lose it; the pointer is
        # last, because a server reads the bounds when it changes
        if self.max_pixels is not None:
            write_limits(self.folder, max_pixels=self.max_pixels)
        write_pointer(self.folder, self.previous, name=PREVIOUS)
        write_pointer(self.folder, self.to)

    def undo(self) -> None:
        """Put all files back as they were; the way back is kept until all of it is gone."""
        for name, content in self.before.items():
            _restore(self.folder / name, content)

    def complete(self) -> None:
        """Forget the way back: the version is the champion now, or all is as it was."""
        forget(self.folder)


def forget(folder: Path) -> None:
    """Forget the way back of a step that an earlier attempt completed."""
    (folder / JOURNAL).unlink(missing_ok=True)


def settle(folder: Path) -> None:
    """End a step that was begun, by what a person decided meanwhile: the pointers stay as they are,
    and what was only prepared is undone."""
    begun = _read_journal(folder)
    if begun is not None and _read(folder / POINTER) == begun.before[POINTER]:
        begun.undo()
    forget(folder)


def _pointer(content: bytes | None) -> Pointer | None:
    return None if content is None else parse_pointer(content)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _restore(path: Path, content: bytes | None) -> None:
    if content == _read(path):
        return
    if content is None:
        path.unlink(missing_ok=True)
        return
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _read_journal(folder: Path) -> Switch | None:
    try:
        document = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
        before = {
            name: None if content is None else base64.b64decode(content)
            for name, content in document["before"].items()
        }
        known = {name: before[name] for name in (POINTER, PREVIOUS)}
        # an earlier release wrote nothing of the bounds
        known = {name: before[name] for name in _FILES[:1] if name in before} | known
        # an earlier release wrote nothing of the registry
        registry = dict(document.get("registry") or {})
        return Switch(folder=folder, to=Pointer(**document["to"]), before=known, registry=registry)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
