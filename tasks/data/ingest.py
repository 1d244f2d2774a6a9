"""Takes a source in: verifies every image, quarantines with reasons, counts. Memory does not grow
with the images."""

import csv
import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.contract import BadInput
from tasks.data.boxes import boxes_mask
from tasks.data.images import QUARANTINED, ImageFacts, inspect_all, place
from tasks.data.names import INGEST_COLUMNS, RESERVED, confined
from tasks.data.sources import Contents, SourceReader, SourceRow

log = logging.getLogger("tasks")

CHUNK = 2_000
"""Rows taken in at a time."""

_INTEGERS = ("image_width", "image_height", "image_bytes")


@dataclass
class Summary:
    """What was taken in.

    Attributes
    ----------
    rows : int
        Rows of the source's table.
    by_status : Counter
        Rows by what became of their image.
    duplicates : int
        Usable images whose content an earlier row has too.
    regions : int
        Usable images with a mask, or boxes, of the relevant region.
    modes : Counter
        Usable images by pixel mode.
    examples : dict of str to list of str
        Up to five file names and reasons for each status that is not ok.
    warnings : list of str
        For the report.
    """

    rows: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    regions: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def usable(self) -> int:
        """Rows whose image can be used."""
        return self.by_status["ok"]

    @property
    def quarantined(self) -> int:
        """Rows whose image is there but cannot be used."""
        return sum(self.by_status[status] for status in QUARANTINED)

    @property
    def missing(self) -> int:
        """Rows without image."""
        return self.by_status["missing"]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "rows": self.rows,
            "usable": self.usable,
            "missing": self.missing,
            "quarantined": self.quarantined,
            "by_status": dict(sorted(self.by_status.items())),
            "duplicates": self.duplicates,
            "regions": self.regions,
            "modes": dict(sorted(self.modes.items())),
            "examples": self.examples,
        }


def ingest(reader: SourceReader, out: Path, *, scratch: Path) -> Summary:
    """Take a source in.

    Parameters
    ----------
    reader : SourceReader
        The source.
    out : Path
        Gets ``metadata.parquet``, ``images/``, ``regions/``, ``quarantine.csv``, ``summary.json``.
    scratch : Path
        For downloads and unpacked files.

    Raises
    ------
    BadInput
        The source is not laid out as its kind says, or too many images are missing or unusable.
    """
    contents = reader.open(scratch)
    intake = _Intake(contents, out)
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


def check_thresholds(summary: Summary, reader: SourceReader) -> None:
    """Stop the night when too much is missing or unusable.

    Raises
    ------
    BadInput
        With the counts and up to five examples.
    """
    if summary.rows == 0:
        raise BadInput("the source's table has no rows")
    missing = summary.missing / summary.rows
    if missing > reader.max_missing:
        raise BadInput(
            f"{summary.missing} of {summary.rows} rows have no image ({missing:.1%}; "
            f"source.max_missing is {reader.max_missing:.1%}): {_examples(summary, ['missing'])}"
        )
    found = summary.rows - summary.missing - summary.by_status["repeated"]
    if found and summary.quarantined / found > reader.max_quarantined:
        raise BadInput(
            f"{summary.quarantined} of {found} images cannot be used "
            f"({summary.quarantined / found:.1%}; source.max_quarantined is "
            f"{reader.max_quarantined:.1%}): {_examples(summary, list(QUARANTINED))}"
        )
    if summary.usable == 0:
        raise BadInput(
            f"none of {summary.rows} rows has a usable image: {_examples(summary, ['missing'])}"
        )


def _examples(summary: Summary, statuses: list[str]) -> str:
    found = [text for status in statuses for text in summary.examples.get(status, [])]
    return "; ".join(found[:5])


class _Intake:
    """The state of one intake: what has been seen, and the files being written."""

    def __init__(self, contents: Contents, out: Path) -> None:
        self.contents = contents
        self.out = out
        self.summary = Summary()
        self.columns = self._own_columns(contents.columns)
        self._images = Path(os.path.realpath(contents.images))
        self._regions = Path(os.path.realpath(contents.regions)) if contents.regions else None
        self._ids: set[str] = set()
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
            for chunk in self._chunks():
                rows = [self._take(row, facts, unusable) for row, facts in chunk]
                columns = list(zip(*rows, strict=True))
                arrays = [pa.array(c, t) for c, t in zip(columns, types, strict=True)]
                table.write_table(pa.Table.from_arrays(arrays, schema=schema))
                if time.perf_counter() - said > 5:
                    said = time.perf_counter()
                    rate = self.summary.rows / (said - started)
                    log.info("ingest: %d rows (%.0f a second)", self.summary.rows, rate)
        self.summary.warnings.extend(self.contents.warnings)

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

    def _chunks(self) -> Iterator[list[tuple[SourceRow, ImageFacts]]]:
        rows = iter(self.contents.rows)
        while chunk := list(islice(rows, CHUNK)):
            refused = [self._refusal(row) for row in chunk]
            paths = [
                None if refusal else self._images / str(row.image)
                for row, refusal in zip(chunk, refused, strict=True)
            ]
            found = inspect_all(paths)
            facts = [refusal or fact for refusal, fact in zip(refused, found, strict=True)]
            yield [(row, fact) for row, fact in zip(chunk, facts, strict=True) if fact]

    def _refusal(self, row: SourceRow) -> ImageFacts | None:
        """Say why a row's image is not even opened."""
        if row.image is None:
            return ImageFacts("missing", "the row names no file")
        path, problem = confined(self._images, row.image)
        if path is None:
            return ImageFacts("outside", problem)
        # os.path: a name that is too long for the file system is simply not there
        if not os.path.isfile(path):
            return ImageFacts("missing", "no such file")
        if row.image in self._ids:
            return ImageFacts("repeated", "an earlier row names the same file")
        self._ids.add(row.image)
        return None

    def _take(self, row: SourceRow, facts: ImageFacts, unusable: Any) -> list[Any]:
        summary = self.summary
        summary.rows += 1
        summary.by_status[facts.status] += 1
        usable = facts.status == "ok"
        image_id = row.image if usable and row.image else f"row {summary.rows}: {row.image or ''}"
        region = duplicate_of = None
        if usable:
            place(self._images / image_id, self.out / "images" / image_id)
            digest = bytes.fromhex(facts.sha256 or "")
            first = self._first_with.setdefault(digest, image_id)
            duplicate_of = first if first != image_id else None
            region = self._take_region(row) or self._draw_region(row, facts)
            summary.duplicates += duplicate_of is not None
            summary.regions += region is not None
            summary.modes[str(facts.mode)] += 1
        else:
            unusable.writerow([summary.rows, row.image or "", facts.status, facts.reason])
            examples = summary.examples.setdefault(facts.status, [])
            if len(examples) < 5:
                examples.append(
                    f"row {summary.rows} {(row.image or '(blank)')[:120]}: {facts.reason}"
                )
        found = (
            image_id,
            facts.status,
            facts.sha256,
            facts.width,
            facts.height,
            facts.mode,
            facts.bytes,
            duplicate_of,
            region,
        )
        return [*row.values, *found]

    def _take_region(self, row: SourceRow) -> str | None:
        if self._regions is None or row.region is None:
            return None
        path, _ = confined(self._regions, row.region)
        if path is None or not os.path.isfile(path):
            return None
        name = f"masks/{row.region}"
        target = self.out / "regions" / name
        if not target.exists():
            place(path, target)
        return name

    def _draw_region(self, row: SourceRow, facts: ImageFacts) -> str | None:
        """Make a mask of the row's boxes; it goes where masks go, in a folder of its own."""
        if not row.boxes or not facts.width or not facts.height:
            return None
        # not by the image's own name, which may be as long as a file system bears
        name = f"boxes/{hashlib.sha256(str(row.image).encode()).hexdigest()[:32]}.png"
        target = self.out / "regions" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(boxes_mask(row.boxes, width=facts.width, height=facts.height))
        return name
