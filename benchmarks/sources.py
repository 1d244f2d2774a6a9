"""Taking images in: every kind of source, against a plain parallel loop that reads and decodes.

Throughput: the same JPEG files (CIFAR-10 and IDX: small pictures of their own) through ``ingest``,
and as ``csv_images`` through ``ingest`` and ``arrange``; plain: as many threads that read, decode
and do nothing else. Turn by turn in alternating order; the best turn of each counts.

Memory: the peak of a process that takes in 100,000 rows of ``csv_images``, and of one that arranges
them, against 10,000.

    python benchmarks/sources.py --out sources.json
"""

import argparse
import csv
import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# the repository instead of this folder, in which this very file would hide other modules
sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.rows import Row, arguments, compare, finish, row  # noqa: E402
from tasks.data.arrange import arrange  # noqa: E402
from tasks.data.ingest import ingest  # noqa: E402
from tasks.data.sources import open_source  # noqa: E402
from tasks.data.sources.png import encode_png  # noqa: E402
from tasks.data.sources.record_file import masked_crc32c  # noqa: E402
from tasks.spec import CsvImages, Idx, Label, Split  # noqa: E402
from tasks.spec.sources import Cifar10, ClassFolders, FairFace, Parquet, TFRecord  # noqa: E402

TARGET = 0.8
FLAT = 1.5
"""Most that ten times the rows may take of memory, as a multiple."""
IMAGES, SMALL_IMAGES, SIDE = 600, 3_000, 400
ROWS, FEWER_ROWS = 100_000, 10_000
CLASSES = ("cat", "dog")


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


def jpeg(seed: int) -> bytes:
    """Return a colour picture of smooth noise, of about 30 kB."""
    noise = np.random.default_rng(seed).integers(0, 256, (25, 25, 3), np.uint8)
    picture = Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_folders(root: Path, pictures: list[bytes]) -> list[Path]:
    """Write pictures into a folder a class; return the files."""
    files = []
    for number, picture in enumerate(pictures):
        path = root / CLASSES[number % 2] / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
        files.append(path)
    return files


def write_small(root: Path, pixels: Any) -> list[Path]:
    """Write 32 x 32 colour pictures as PNG; return the files."""
    root.mkdir()
    files = [root / f"{number}.png" for number in range(len(pixels))]
    for path, values in zip(files, pixels, strict=True):
        path.write_bytes(encode_png(values.tobytes(), width=32, height=32, channels=3))
    return files


def write_table(root: Path, files: list[Path]) -> None:
    """Write the tables of ``csv_images`` and ``fairface`` beside links to the files."""
    (root / "images").mkdir(parents=True)
    for path in files:
        os.link(path, root / "images" / path.name)
    for name, column, prefix in (
        ("metadata.csv", "filename", ""),
        ("fairface_label_val.csv", "file", "images/"),
    ):
        with (root / name).open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([column, "label"])
            writer.writerows([prefix + path.name, path.parent.name] for path in files)


def write_parquet(root: Path, pictures: list[bytes]) -> None:
    """Write a table with the pictures inside."""
    root.mkdir()
    labels = [CLASSES[number % 2] for number in range(len(pictures))]
    pq.write_table(pa.table({"image": pictures, "label": labels}), root / "metadata.parquet")


def write_records(root: Path, pictures: list[bytes]) -> None:
    """Write the pictures as ``tf.train.Example``, without importing TensorFlow."""

    def field(content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return length + bytes([size]) + content

    root.mkdir()
    with (root / "pictures-train.tfrecord").open("wb") as stream:
        for picture in pictures:
            feature = b"\x0a" + field(b"\x0a" + field(picture))
            entry = b"\x0a" + field(b"image") + b"\x12" + field(feature)
            record = b"\x0a" + field(b"\x0a" + field(entry))
            length = struct.pack("<Q", len(record))
            stream.write(length + struct.pack("<I", masked_crc32c(length)))
            stream.write(record + struct.pack("<I", masked_crc32c(record)))


def write_cifar10(root: Path, pixels: Any) -> None:
    """Write two batches."""
    root.mkdir()
    half = len(pixels) // 2
    for name, part in (("data_batch_1", pixels[:half]), ("test_batch", pixels[half:])):
        labels = [number % 10 for number in range(len(part))]
        (root / name).write_bytes(pickle.dumps({"data": part, "labels": labels}, protocol=4))


def write_idx(root: Path, pixels: Any) -> None:
    """Write the four files, with pictures of as many pixels as the others have values."""
    root.mkdir()
    half = len(pixels) // 2
    for name, part in (("train", pixels[:half]), ("t10k", pixels[half:])):
        images = struct.pack(">4I", 2051, len(part), 48, 64) + part.tobytes()
        labels = struct.pack(">2I", 2049, len(part)) + bytes(n % 10 for n in range(len(part)))
        (root / f"{name}-images-idx3-ubyte.gz").write_bytes(images)
        (root / f"{name}-labels-idx1-ubyte.gz").write_bytes(labels)


def write_rows(root: Path, count: int) -> None:
    """Write a ``csv_images`` source of tiny pictures, all different."""
    (root / "images").mkdir(parents=True)
    with (root / "metadata.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["filename", "label", "patientid", "age"])
        for number in range(count):
            pixels = number.to_bytes(4, "little") * 16
            content = encode_png(pixels, width=8, height=8)
            (root / "images" / f"{number:06d}.png").write_bytes(content)
            patient = f"patient {number // 3}"
            writer.writerow([f"{number:06d}.png", CLASSES[number % 2], patient, number % 90])


if __name__ == "__main__":
    sys.exit(main())
