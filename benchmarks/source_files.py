"""Sources of every layout for the benchmarks, made of the same pictures."""

import csv
import io
import json
import os
import pickle
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tasks.data.sources.png import encode_png
from tasks.data.sources.record_file import masked_crc32c

SIDE = 400
CLASSES = ("cat", "dog")


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


def write_labels(root: Path, files: list[Path]) -> None:
    """Write labels as Cloud Annotations does, and as COCO does with a box each."""
    annotations = {path.name: [{"label": path.parent.name}] for path in files}
    labelled = {"version": "1.0", "type": "classification", "labels": CLASSES}
    (root / "_annotations.json").write_text(json.dumps(labelled | {"annotations": annotations}))
    coco = {
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
        "images": [
            {"id": number, "file_name": path.name, "width": SIDE, "height": SIDE}
            for number, path in enumerate(files)
        ],
        "annotations": [
            {
                "image_id": number,
                "category_id": CLASSES.index(path.parent.name),
                "bbox": [SIDE // 4, SIDE // 4, SIDE // 2, SIDE // 2],
            }
            for number, path in enumerate(files)
        ],
    }
    (root / "boxes.json").write_text(json.dumps(coco))


def write_database(path: Path, files: list[Path]) -> None:
    """Write an SQLite database with the files' names and labels."""
    rows = [(file.name, file.parent.name) for file in files]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE films (image TEXT, label TEXT)")
        connection.executemany("INSERT INTO films VALUES (?, ?)", rows)
        connection.commit()
