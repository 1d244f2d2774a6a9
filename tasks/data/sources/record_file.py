"""Reads TFRecord files: records framed by their length, each with two checksums.

Layout (tensorflow.org/tutorials/load_data/tfrecord): length (uint64), masked CRC-32C of the length,
the record, masked CRC-32C of the record; all little-endian. A file may be zipped as a whole.
TensorFlow itself is not needed, and takes longer to import than many a source to be read.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import unpack
from typing import IO, cast

import google_crc32c

from tasks.contract import BadInput
from tasks.data.file_kinds import kind_of_file

LONGEST_RECORD = 256 * 1024 * 1024
"""Bytes; the checksum vouches for a length, not for the writer's intentions."""

_GZIP = b"\x1f\x8b"


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a file, one in memory at a time.

    Parameters
    ----------
    path : Path
        TFRecord file, gzipped or not.

    Raises
    ------
    BadInput
        It is none, ends early, or a checksum does not match; names file and record.
    """
    with _open(path) as stream:
        number = 0
        while header := _read(stream, 12, path):
            number += 1
            if number == 1 and not _is_length(header):
                raise _no_record_file(path, header)
            if len(header) < 12:
                raise _ends_early(path, number)
            length, checksum = unpack("<QI", header)
            if masked_crc32c(header[:8]) != checksum:
                raise BadInput(
                    f"{path.name}: the length of record {number} does not match its checksum; "
                    "fetch it again"
                )
            if length > LONGEST_RECORD:
                raise BadInput(
                    f"{path.name}: record {number} has {length} bytes; {LONGEST_RECORD} are allowed"
                )
            record, tail = _read(stream, length, path), _read(stream, 4, path)
            if len(record) < length or len(tail) < 4:
                raise _ends_early(path, number)
            if masked_crc32c(record) != unpack("<I", tail)[0]:
                raise BadInput(
                    f"{path.name}: record {number} does not match its checksum; fetch it again"
                )
            yield record


def is_record_file(path: Path) -> bool:
    """Return whether a file begins as a TFRecord file does, gzipped or not: with a length and its
    checksum."""
    try:
        with _open(path) as stream:
            return _is_length(stream.read(12))
    except (EOFError, zlib.error, OSError):
        return False


def masked_crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes as TFRecord files store it.

    Rotated, and with a constant added, as a checksum of bytes that hold checksums would be weak
    (tensorflow/core/lib/hash/crc32c.h).
    """
    checksum: int = google_crc32c.value(data)
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        header = stream.read(12)
    # a length may begin as a zipped file does; then its checksum matches
    if header.startswith(_GZIP) and not _is_length(header):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _is_length(header: bytes) -> bool:
    return len(header) == 12 and masked_crc32c(header[:8]) == unpack("<I", header[8:])[0]


def _read(stream: IO[bytes], size: int, path: Path) -> bytes:
    try:
        return stream.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path.name}: is damaged: {error}; fetch it again") from None


def _no_record_file(path: Path, header: bytes) -> BadInput:
    kind = kind_of_file(path)
    if kind not in (None, "gzip data"):
        return BadInput(f"{path.name}: is no TFRecord file but {kind}")
    if _is_zlib(path):
        return BadInput(
            f"{path.name}: is a TFRecord file that is packed as ZLIB, which only its writer's "
            "options tell; write it with GZIP, or not packed"
        )
    if len(header) < 12:
        return _ends_early(path, 1)
    return BadInput(f"{path.name}: is no TFRecord file, or its beginning is damaged")


def _is_zlib(path: Path) -> bool:
    with path.open("rb") as stream:
        try:
            return _is_length(zlib.decompressobj().decompress(stream.read(4096), 12))
        except zlib.error:
            return False


def _ends_early(path: Path, number: int) -> BadInput:
    return BadInput(f"{path.name}: ends early, within record {number}; fetch it again")
