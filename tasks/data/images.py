"""Verifies image files: what training and serving will be able to decode, and nothing else."""

import builtins
import hashlib
import os
import shutil
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image, UnidentifiedImageError

from tasks.data.as_served import served_otherwise
from tasks.data.exif import UPRIGHT, orientation
from tasks.data.file_kinds import IMAGE, kind_of_start
from tasks.data.image_damage import SMALLEST_16_BIT, decoded_jpeg, has_hole, png_doubt, too_dark
from tasks.data.perceptual import perceptual_hashes, thumbnail
from tasks.serving.image_files import SERVED_KINDS, is_jpeg_xl, kind_of, refusal
from tasks.serving.image_size import pixels_of, too_many_scans
from tasks.serving.limits import Limits

Status = Literal[
    "ok",
    "missing",
    "outside",
    "repeated",
    "not_an_image",
    "unsupported",
    "truncated",
    "undecodable",
    "too_large",
]

QUARANTINED: tuple[Status, ...] = (
    "outside",
    "not_an_image",
    "unsupported",
    "truncated",
    "undecodable",
    "too_large",
)
"""Images that are there but cannot be used."""

_CONVERT = ", ".join(SERVED_KINDS)

QUARTER_TURN = 5
"""EXIF orientations from here on swap width and height."""

MAX_PIXELS = 100_000_000
MAX_BYTES = 512 * 1024 * 1024

_NO_LIMITS = Limits(memory=1 << 62, pixels=MAX_PIXELS)


@dataclass(frozen=True)
class ImageFacts:
    """What verification found out about a file.

    Attributes
    ----------
    status : str
        ``ok`` or why the image cannot be used.
    reason : str
        One sentence, empty when ok.
    sha256 : str or None
        Digest of the file's bytes.
    width, height : int or None
        Pixels.
    mode : str or None
        Pillow's name of the pixel format: ``L``, ``RGB``, ``RGBA``, ``P``, ``I;16`` ...
    bytes : int or None
        Size of the file.
    orientation : int
        EXIF orientation, 1 to 8; 1 is upright.
    hole : bool
        Whether picture data may be lost: see :func:`tasks.data.image_damage.has_hole`.
    thumbnail : bytes
        Of an image that can be used, until its hash is made.
    phash : str or None
        Perceptual hash; None for an image of a single grey.
    """

    status: Status
    reason: str = ""
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    bytes: int | None = None
    orientation: int = UPRIGHT
    hole: bool = False
    # by its full name: the field above has taken the short one
    thumbnail: builtins.bytes = b""
    phash: str | None = None


def inspect(path: str | Path, limits: Limits | None = None) -> ImageFacts:
    """Decode a file fully and say what it is."""
    try:
        with open(path, "rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                return ImageFacts("too_large", f"{size} bytes; {MAX_BYTES} are allowed", bytes=size)
            content = stream.readall()
    except OSError as error:
        return ImageFacts("undecodable", f"cannot be read: {error.strerror}")
    return inspect_bytes(content, limits)


def inspect_bytes(content: bytes, limits: Limits | None = None) -> ImageFacts:
    """Decode the bytes of an image file fully and say what they are.

    Parameters
    ----------
    content : bytes
        The file.
    limits : Limits, optional
        What the model server will take; a larger image is of no use.
    """
    sha256 = hashlib.sha256(content).hexdigest()

    def bad(status: Status, reason: str) -> ImageFacts:
        return ImageFacts(status, reason, sha256=sha256, bytes=len(content))

    if not content:
        return bad("undecodable", "the file is empty")
    try:
        with warnings.catch_warnings():
            # our own limit is checked below; Pillow only warns up to twice its own
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(content)) as image:
                return _decode(image, content, sha256, limits or _NO_LIMITS)
    except UnidentifiedImageError:
        kind = kind_of(content)
        if kind is not None:
            return bad("undecodable", f"begins as {kind}, but is damaged or of a rare variant")
        return bad("not_an_image", _what_it_is(content))
    except Image.DecompressionBombError:
        return bad("too_large", f"far more than the {MAX_PIXELS} pixels that are allowed")
    except ImportError:
        # the installation's fault, not the image's
        raise
    except MemoryError:
        return bad("too_large", "does not fit into memory")
    except Exception as error:
        # a damaged file makes decoders raise nearly anything: OSError, SyntaxError, struct.error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        cut = "truncated" in reason.lower() or "broken png" in reason.lower()
        return bad("truncated" if cut else "undecodable", reason)


def _decode(image: Image.Image, content: bytes, sha256: str, limits: Limits) -> ImageFacts:
    width, height = image.size
    mode = image.mode

    def facts(status: Status, reason: str = "") -> ImageFacts:
        return ImageFacts(status, reason, sha256, width, height, mode, len(content))

    if width * height > MAX_PIXELS:
        return facts("too_large", f"{width} x {height} pixels; {MAX_PIXELS} are allowed")
    if unservable := _more_than_served(max(width * height, pixels_of(content) or 0), limits):
        return facts("too_large", unservable)
    if len(content) > limits.image_bytes:
        return facts(
            "too_large",
            f"{len(content)} bytes; the model server takes {limits.image_bytes} (by deploy.memory)",
        )
    if too_many_scans(content):
        return facts("unsupported", "a JPEG of very many scans cannot be served; save it anew")
    if kind_of(content) is None:
        return facts(
            "unsupported",
            f"format {image.format} cannot be served; convert it to one of {_CONVERT}",
        )
    if refused := refusal(content):
        return facts("unsupported", refused)
    kind, decoded, doubt = kind_of(content), image, None
    if kind == "JPEG":
        decoded, doubt = decoded_jpeg(content, image)
    else:
        image.load()
    if kind == "PNG":
        doubt = png_doubt(content, decoded)
        if too_dark(content, decoded):
            return facts(
                "unsupported",
                f"16 bits a pixel, but all below {SMALLEST_16_BIT}: serving keeps the upper 8 "
                "bits, which are nearly black; scale it to 0..65535 or convert it to 8 bits",
            )
    if doubt is not None and doubt.certain:
        return facts("truncated" if "truncated" in doubt.reason else "undecodable", doubt.reason)
    # their decoders have ways of their own: palettes and masks, insets, several pictures
    if doubt is not None or kind in ("BMP", "GIF"):
        otherwise = served_otherwise(content, image)
        if otherwise:
            because = f" ({doubt.reason})" if doubt else ""
            return facts("unsupported", f"{kind}: {otherwise}{because}; convert it to PNG")
    turned = orientation(content)
    return replace(
        facts("ok"),
        orientation=turned,
        hole=kind == "JPEG" and has_hole(content),
        thumbnail=thumbnail(decoded, turned),
    )


def is_sideways(mask: Path, facts: ImageFacts) -> bool:
    """Return whether a mask has the size of its image as stored, which EXIF turns by a quarter."""
    if facts.orientation < QUARTER_TURN or facts.width == facts.height:
        return False
    try:
        with Image.open(mask) as image:
            return image.size == (facts.width, facts.height)
    except OSError:
        return False


def _more_than_served(pixels: int, limits: Limits) -> str:
    if pixels <= limits.max_pixels:
        return ""
    field = "deploy.max_pixels" if limits.max_pixels == limits.pixels else "deploy.memory"
    return f"{pixels} pixels; the model server takes {limits.max_pixels} (by {field})"


def _what_it_is(content: bytes) -> str:
    """Name the content by kind, never by its bytes: equal failures are counted together."""
    if is_jpeg_xl(content):
        return refusal(content)
    kind = kind_of_start(content[:4096])
    if kind is None:
        return "no known image format"
    if kind == IMAGE:
        # no decoder knows it, so no more of it than its first few bytes is right
        return "an image whose beginning is damaged"
    return f"{kind}; convert it to PNG" if "DICOM" in kind else f"{kind}, no image"


def verify_all(
    names: Sequence[str | None], images: Path, target: Path, limits: Limits | None = None
) -> list[ImageFacts | None]:
    """Verify files one after the other, and place those that can be used; None stays None.

    Parameters
    ----------
    names : sequence of str or None
        Paths inside ``images``, checked to lie there.
    images : Path
        Folder of the source.
    target : Path
        Folder that usable files are placed in, under the same names.
    limits : Limits, optional
        What the model server will take.
    """
    found: list[ImageFacts | None] = []
    for name in names:
        facts = None
        if name is not None:
            path = os.path.join(images, name)
            facts = inspect(path, limits)
            if facts.status == "ok":
                place(path, os.path.join(target, name))
        found.append(facts)
    return _hashed(found)


def _hashed(found: list[ImageFacts | None]) -> list[ImageFacts | None]:
    """Put the perceptual hash in the place of each thumbnail: one by one costs twice as much."""
    usable = [number for number, facts in enumerate(found) if facts and facts.thumbnail]
    hashes = perceptual_hashes([found[number].thumbnail for number in usable])  # type: ignore[union-attr]
    for number, phash in zip(usable, hashes, strict=True):
        found[number] = replace(found[number], thumbnail=b"", phash=phash)  # type: ignore[type-var]
    return found


def verifiers() -> ThreadPoolExecutor:
    """Return threads for :func:`verify_all`.

    Threads, because reading, hashing and Pillow's decoders let go of the interpreter lock.
    """
    workers = min(32, 2 * len(os.sched_getaffinity(0)))
    return ThreadPoolExecutor(workers, thread_name_prefix="verify")


def place(source: str | Path, target: str | Path) -> None:
    """Hard-link a file, or copy it where that is not possible; its folder is made when missing."""
    if os.path.islink(source):
        # a hard link to the link would lead elsewhere from its new place
        source = os.path.realpath(source)
    try:
        _link(source, target)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _link(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        # another file system, a full link count, or a file that is not ours to link
        shutil.copyfile(source, target)
