"""A source of one's own: every image has a JSON file beside it, as a scanner writes it.

``films/0001.png`` stands beside ``films/0001.json``::

    {"patient": "p7", "finding": "pneumonia", "lungs": [0.1, 0.05, 0.9, 0.8]}

``lungs`` is a box in fractions of the image: left, top, right, bottom.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from tasks.contract import BadConfig, BadInput
from tasks.data.boxes import clipped
from tasks.data.fetch import fetch, source_state
from tasks.data.sources import Contents, SourceReader, SourceRow
from tasks.spec import Custom

COLUMNS = ["filename", "patient", "finding"]


class SidecarImages(SourceReader):
    """One row a JSON file of ``source.options.folder``."""

    def __init__(self, spec: Custom) -> None:
        folder = spec.options.get("folder", "films")
        if spec.uri is None or not isinstance(folder, str):
            raise BadConfig("source: give uri, and options.folder as a text")
        self.uri, self.folder = spec.uri, folder

    def state(self) -> str:
        return source_state(self.uri, [self.folder])

    def open(self, scratch: Path) -> Contents:
        folder = fetch(self.uri, scratch, parts=[self.folder]) / self.folder
        if not folder.is_dir():
            raise BadInput(f"{self.uri}: holds no folder {self.folder!r} (source.options.folder)")
        return Contents(columns=COLUMNS, rows=self._rows(folder), images=folder)

    def _rows(self, folder: Path) -> Iterator[SourceRow]:
        for sidecar in sorted(folder.glob("*.json")):
            try:
                note = json.loads(sidecar.read_bytes())
                patient, finding = str(note["patient"]), str(note["finding"])
                box = clipped(*map(float, note["lungs"])) if "lungs" in note else None
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(f"{sidecar.name}: is no note of the scanner: {error}") from None
            name = f"{sidecar.stem}.png"
            yield SourceRow(
                values=[name, patient, finding], image=name, boxes=(box,) if box else ()
            )
