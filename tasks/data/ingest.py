"""Takes a source in: verifies every image, quarantines with reasons, counts. Memory does not grow
with the images."""

import csv
import hashlib
import json
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.contract import BadInput
from tasks.data.boxes import boxes_mask, within
from tasks.data.exif import UPRIGHT
from tasks.data.image_finder import ImageFinder
from tasks.data.images import (
    QUARTER_TURN,
    ImageFacts,
    is_sideways,
    place,
    verifiers,
    verify_all,
)
from tasks.data.ingest_summary import Summary, check_thresholds
from tasks.data.names import INGEST_COLUMNS, RESERVED, confined
from tasks.data.sources import Contents, SourceReader, SourceRow
from tasks.serving.limits import Limits
from tasks.spec.foreign_text import shown, visible
from tasks.spec.masking import masked

log = logging.getLogger("tasks")

CHUNK = 2_000
"""Rows written at a time."""
SLICE = 32
"""Rows that a thread verifies at a time: handing each over alone costs as much as a small image."""
AHEAD = 64
"""Slices under way, while earlier ones are written and later ones read."""

Found = Future[list[ImageFacts | None]]

_INTEGERS = ("image_width", "image_height", "image_bytes")


def ingest(
    reader: SourceReader, out: Path, *, scratch: Path, limits: Limits | None = None
) -> Summary:
    """Take a source in.

    Parameters
    ----------
    reader : SourceReader
        The source.
    out : Path
        Gets ``metadata.parquet``, ``images/``, ``regions/``, ``quarantine.csv``, ``summary.json``.
    scratch : Path
        For downloads and unpacked files.
    limits : Limits, optional
        What the model server will take: a larger image is quarantined.

    Raises
    ------
    BadInput
        The source is not laid out as its kind says, or too many images are missing or unusable.
    """
    contents = reader.open(scratch)
    intake = _Intake(contents, out, limits)
    intake.run()
    summary = intake.summary
    (out / "summary.json").write_text(json.dumps(summary.to_dict(), indent=1))
    log.info(
        "ingest: %d rows, %d usable, %d missing, %d quarantined, %d duplicates",
        summary.rows,
        summary.usable,
        summary.missing,
        summary.quarantined,
        summary.duplicates,
    )
    check_thresholds(summary, reader)
    return summary


class _Intake:
    """The state of one intake: what has been seen, and the files being written."""

    def __init__(self, contents: Contents, out: Path, limits: Limits | None) -> None:
        self._limits = limits
        self.contents = contents
        self.out = out
        self.summary = Summary()
        self.columns = self._own_columns(contents.columns)
        self._images = Path(os.path.realpath(contents.images))
        self._regions = Path(os.path.realpath(contents.regions)) if contents.regions else None
        self._finder = ImageFinder(contents, self._images, scratch=out)
        self._first_with: dict[bytes, str] = {}

    def run(self) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        (self.out / "images").mkdir(parents=True, exist_ok=True)
        names = [*self.columns, *INGEST_COLUMNS]
        types = [pa.int64() if name in _INTEGERS else pa.string() for name in names]
        schema = pa.schema(list(zip(names, types, strict=True)))
        started = said = time.perf_counter()
        with (
            ParquetWriter(self.out / "metadata.parquet", schema) as table,
            (self.out / "quarantine.csv").open("w", newline="", encoding="utf-8") as quarantine,
        ):
            unusable = csv.writer(quarantine, lineterminator="\n")
            unusable.writerow(["row", "filename", "status", "reason"])
            for chunk in self._chunks(unusable):
                columns = list(zip(*chunk, strict=True))
                arrays = [pa.array(c, t) for c, t in zip(columns, types, strict=True)]
                table.write_table(pa.Table.from_arrays(arrays, schema=schema))
                if time.perf_counter() - said > 5:
                    said = time.perf_counter()
                    rate = self.summary.rows / (said - started)
                    log.info("ingest: %d rows (%.0f a second)", self.summary.rows, rate)
        for told in self.summary.repeats():
            log.warning("ingest: %s", told)
            self.summary.warnings.append(told)
        self.summary.warnings += self.summary.orientations() + self.summary.suspicious()
        self.summary.warnings.extend(self.contents.warnings)
        for told in self._finder.told():
            log.warning("ingest: %s", told)
            self.summary.warnings.append(told)

    def _own_columns(self, columns: list[str]) -> list[str]:
        """Keep the source's columns apart from those that the stages add."""
        renamed = [f"source_{name}" if name in RESERVED else name for name in columns]
        for old, new in zip(columns, renamed, strict=True):
            if old != new:
                self.summary.warnings.append(f"source column {old!r} is kept as {new!r}")
        twice = [name for name, count in Counter(renamed).items() if count > 1]
        if twice:
            raise BadInput(f"the source gives column {twice[0]!r} more than once; rename one")
        return renamed

    def _chunks(self, unusable: Any) -> Iterator[list[list[Any]]]:
        """Yield rows as they are written, a few thousand at a time."""
        chunk: list[list[Any]] = []
        for row, facts in self._verified():
            chunk.append(self._take(row, facts, unusable))
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _verified(self) -> Iterator[tuple[SourceRow, ImageFacts]]:
        """Yield every row with what was found out about its image; others are under way."""
        rows = self._finder.located(self.contents.rows)
        under_way: deque[tuple[list[SourceRow], list[ImageFacts | None], Found]] = deque()
        with verifiers() as pool:
            try:
                while located := list(islice(rows, SLICE)):
                    part = [row for row, _ in located]
                    refused = [refusal for _, refusal in located]
                    names = [None if refusal else row.image for row, refusal in located]
                    target = self.out / "images"
                    found = pool.submit(verify_all, names, self._images, target, self._limits)
                    under_way.append((part, refused, found))
                    if len(under_way) > AHEAD:
                        yield from _joined(*under_way.popleft())
                while under_way:
                    yield from _joined(*under_way.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _take(self, row: SourceRow, facts: ImageFacts, unusable: Any) -> list[Any]:
        summary = self.summary
        summary.rows += 1
        summary.by_status[facts.status] += 1
        usable = facts.status == "ok"
        image_id = row.image if usable and row.image else f"row {summary.rows}: {row.image or ''}"
        region = duplicate_of = None
        if usable:
            digest = bytes.fromhex(facts.sha256 or "")
            first = self._first_with.setdefault(digest, image_id)
            duplicate_of = first if first != image_id else None
            region = self._take_region(row, facts) or self._draw_region(row, facts)
            summary.duplicates += duplicate_of is not None
            summary.regions += region is not None
            summary.modes[str(facts.mode)] += 1
            summary.turned += facts.orientation != UPRIGHT
            summary.holes += [image_id] * facts.hole
        else:
            duplicate_of = row.image if facts.status == "repeated" else None
            # people open these, and MLflow gets them: as shown, not as in the source's table
            name, reason = masked(visible(row.image or "")), masked(visible(facts.reason or ""))
            unusable.writerow([summary.rows, name, facts.status, reason])
            examples = summary.examples.setdefault(facts.status, [])
            if len(examples) < 5:
                examples.append(f"row {summary.rows} {shown(name or '(blank)')}: {reason}")
        found = (
            image_id,
            facts.status,
            facts.sha256,
            facts.phash,
            facts.width,
            facts.height,
            facts.mode,
            facts.bytes,
            duplicate_of,
            region,
        )
        return [*row.values, *found]

    def _take_region(self, row: SourceRow, facts: ImageFacts) -> str | None:
        region = row.region
        if region is None and self.contents.region_of is not None and row.image is not None:
            region = self.contents.region_of(row.image)
        if self._regions is None or region is None:
            return None
        path, _ = confined(self._regions, region)
        if path is None or not os.path.isfile(path):
            return None
        self.summary.sideways_masks += is_sideways(path, facts)
        name = f"masks/{region}"
        target = self.out / "regions" / name
        if not target.exists():
            place(path, target)
        return name

    def _draw_region(self, row: SourceRow, facts: ImageFacts) -> str | None:
        """Make a mask of the row's boxes; it goes where masks go, in a folder of its own."""
        if not row.boxes or not facts.width or not facts.height:
            return None
        width, height = facts.width, facts.height
        if facts.orientation >= QUARTER_TURN:
            # annotation tools show an image upright, and count its pixels so
            width, height = height, width
        boxes = within(row.boxes, width=width, height=height)
        if not boxes:
            return None
        # not by the image's own name, which may be as long as a file system bears
        name = f"boxes/{hashlib.sha256(str(row.image).encode()).hexdigest()[:32]}.png"
        target = self.out / "regions" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(boxes_mask(boxes, width=width, height=height))
        return name


def _joined(
    rows: list[SourceRow], refused: list[ImageFacts | None], found: Found
) -> Iterator[tuple[SourceRow, ImageFacts]]:
    for row, refusal, facts in zip(rows, refused, found.result(), strict=True):
        told = refusal or facts
        if told is not None:
            yield row, told
