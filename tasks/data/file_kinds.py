"""Names what a file is that is not what it should be: a failed download, a pointer, an archive.

One list for tables, annotation files, record files and images, so that a sign-in page that was
saved in the place of any of them is called a web page.
"""

import codecs
import re
from pathlib import Path

IMAGE = "an image"

_START = 4096
_KINDS = (
    (
        rb"(?i)\s*<(!doctype\s+html|html|head|body)",
        "a web page, perhaps of a failed download",
    ),
    (rb"\s*<(\?xml|!--|[a-zA-Z!])", "markup (XML or a web page), perhaps of a failed download"),
    (rb"version https://git-lfs", "a pointer of Git LFS; run git lfs pull"),
    (rb"/annex/objects/", "a pointer of git-annex; run git annex get"),
    (rb"PK\x03\x04", "a zip archive or an Excel workbook"),
    (rb"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (rb"\x1f\x8b", "gzip data"),
    (rb"BZh[1-9]", "bzip2 data"),
    (rb"\xfd7zXZ\0", "xz data"),
    (rb"\x28\xb5\x2f\xfd", "zstd data"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (rb"%PDF", "a PDF"),
    (rb"\{\\rtf", "a text with formats (RTF)"),
    (rb"PAR1", "a Parquet file"),
    (rb"SQLite format 3\0", "an SQLite database"),
    (rb"\x89HDF", "HDF5 data"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"(?s).{128}DICM", "a DICOM file"),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8|RIFF....WEBP", IMAGE),
    (rb"\s*[\[{]\s*[\"{\[]", "JSON"),
)
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def kind_of_start(start: bytes) -> str | None:
    """Return what a file is by its first bytes, or None where nothing gives it away.

    Parameters
    ----------
    start : bytes
        A few thousand of them.
    """
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            start = start.decode(encoding, "ignore").encode()
            break
    start = start.removeprefix(codecs.BOM_UTF8)
    return next((kind for pattern, kind in _KINDS if re.match(pattern, start)), None)


def kind_of_file(path: Path) -> str | None:
    """Return what a file is by its first bytes; None where nothing does, or it cannot be read."""
    try:
        with path.open("rb") as stream:
            return kind_of_start(stream.read(_START))
    except OSError:
        return None
