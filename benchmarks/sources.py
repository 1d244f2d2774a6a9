"""Taking images in: every kind of source, against a plain parallel loop that reads and decodes.

Throughput: the same JPEG files (CIFAR-10 and IDX: small pictures of their own) through ``ingest``,
and as ``csv_images`` through ``ingest`` and ``arrange``; plain: as many threads that read, decode
and do nothing else. Turn by turn in alternating order; the best turn of each counts.

Memory: the peak of a process that takes in 100,000 rows of ``csv_images``, and of one that arranges
them, against 10,000.

    python benchmarks/sources.py --out sources.json
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# the repository instead of this folder, in which this very file would hide other modules
sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.rows import Row, arguments, compare, finish, row  # noqa: E402
from benchmarks.source_files import (  # noqa: E402
    jpeg,
    write_cifar10,
    write_database,
    write_folders,
    write_idx,
    write_labels,
    write_parquet,
    write_records,
    write_rows,
    write_small,
    write_table,
)
from tasks.data.arrange import arrange  # noqa: E402
from tasks.data.ingest import ingest  # noqa: E402
from tasks.data.sources import open_source  # noqa: E402
from tasks.spec import (  # noqa: E402
    Cifar10,
    ClassFolders,
    CloudAnnotations,
    Coco,
    CsvImages,
    FairFace,
    Idx,
    Label,
    Parquet,
    Split,
    Sql,
    TFRecord,
)

TARGET = 0.8
FLAT = 1.5
"""Most that ten times the rows may take of memory, as a multiple."""
IMAGES, SMALL_IMAGES = 600, 3_000
ROWS, FEWER_ROWS = 100_000, 10_000


def main() -> int:
    """Measure each kind; exit code 1 when a target is missed."""
    parser = arguments(__doc__)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--without-memory", action="store_true", help="leave 100,000 rows out")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(peak_megabytes(options.peak[0], Path(options.peak[1])))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        rows = throughput(Path(folder), options.turns)
        if not options.without_memory:
            rows += memory(Path(folder) / "memory")
    return finish(rows, options.out)


def throughput(folder: Path, turns: int) -> list[Row]:
    """Return a row for each kind of source, and one for ``ingest`` and ``arrange`` together."""
    pictures = [jpeg(number) for number in range(IMAGES)]
    files = write_folders(folder / "folders", pictures)
    small = np.random.default_rng(0).integers(0, 256, (SMALL_IMAGES, 3072), np.uint8)
    small_files = write_small(folder / "small", small)
    write_table(folder / "table", files)
    write_labels(folder / "table", files)
    write_database(folder / "films.db", files)
    write_parquet(folder / "parquet", pictures)
    write_records(folder / "records", pictures)
    write_cifar10(folder / "cifar10", small)
    write_idx(folder / "idx", small)
    work = folder / "work"
    table = CsvImages(uri=str(folder / "table"))
    rows = [
        source_row(
            "sources: csv_images, ingest + arrange", table, files, work, turns, arranged=True
        )
    ]
    for spec in (
        table,
        ClassFolders(uri=str(folder / "folders")),
        FairFace(uri=str(folder / "table")),
        CloudAnnotations(uri=str(folder / "table"), images="images"),
        Coco(uri=str(folder / "table"), annotations="boxes.json"),
        Sql(
            address=f"sqlite:///{folder}/films.db",
            query="SELECT image, label FROM films ORDER BY image",
            images=str(folder / "table/images"),
        ),
        Parquet(uri=str(folder / "parquet")),
        TFRecord(uri=str(folder / "records")),
    ):
        rows.append(source_row(f"sources: {spec.kind}, ingest", spec, files, work, turns))
    for small_spec in (
        Cifar10(uri=str(folder / "cifar10"), train_batches=["data_batch_1"]),
        Idx(uri=str(folder / "idx"), class_names=list(map(str, range(10)))),
    ):
        name = f"sources: {small_spec.kind}, ingest"
        rows.append(source_row(name, small_spec, small_files, work, turns))
    return rows


def source_row(
    name: str, spec: Any, files: list[Path], work: Path, turns: int, *, arranged: bool = False
) -> Row:
    """Return the row of one kind of source."""
    (mine, theirs), detail = compare(
        lambda: take_in(spec, work, len(files), arranged=arranged),
        lambda: decode_all(files),
        turns=turns,
        before=lambda: shutil.rmtree(work, ignore_errors=True),
    )
    return row(
        name,
        len(files) / mine,
        len(files) / theirs,
        "images/s",
        target=TARGET if arranged else None,
        passed=not arranged or theirs / mine >= TARGET,
        detail={"images": len(files), **detail},
    )


def take_in(spec: Any, work: Path, expected: int, *, arranged: bool = False) -> None:
    """Take a source in as the stages do, and arrange it."""
    (work / "in").mkdir(parents=True)
    summary = ingest(open_source(spec), work / "in", scratch=work / "in/.fetched")
    assert summary.usable == expected, summary
    if arranged:
        put_in_order(work)


def put_in_order(work: Path) -> None:
    """Arrange what has been taken in."""
    (work / "arranged").mkdir()
    table, label = work / "in/metadata.parquet", Label(column="label")
    arrange(table, work / "in", work / "arranged", label=label, split=Split())


def decode_all(files: list[Path]) -> None:
    """Read and decode files in parallel, as few lines as one would write."""

    def decode(path: Path) -> int:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            return image.width

    with ThreadPoolExecutor(2 * len(os.sched_getaffinity(0))) as pool:
        assert all(pool.map(decode, files))


def memory(folder: Path) -> list[Row]:
    """Return the rows of the peak memory, of each stage in a process of its own as in a night."""
    peaks: dict[str, list[float]] = {"ingest": [], "arrange": []}
    for count in (FEWER_ROWS, ROWS):
        source = folder / str(count)
        write_rows(source, count)
        for stage, found in peaks.items():
            command = [sys.executable, str(Path(__file__).resolve()), "--peak", stage, str(source)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(float(done.stdout.split()[-1]))
        shutil.rmtree(source)
    return [
        row(
            f"sources: peak of {stage}, {ROWS} rows against {FEWER_ROWS}",
            more,
            fewer,
            "MB",
            # arrange holds the table, of about a kilobyte a row; neither holds images
            target=f"<= {FLAT}" if stage == "ingest" else None,
            passed=stage != "ingest" or more / fewer <= FLAT,
        )
        for stage, (fewer, more) in peaks.items()
    ]


def peak_megabytes(stage: str, source: Path) -> float:
    """Run a stage's work; return the most memory that this process has held."""
    work = source / "work"
    if stage == "ingest":
        rows = sum(1 for _ in (source / "metadata.csv").open()) - 1
        take_in(CsvImages(uri=str(source)), work, rows)
    else:
        put_in_order(work)
    # of this program alone: ru_maxrss begins with what the process that started it had
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
