"""Pictures as data URIs, made small enough that a page can be sent by mail."""

import base64
import io
from dataclasses import dataclass

PAGE_BUDGET = 3_400_000
"""Bytes that the pictures of a page may take together, before base64 adds a third."""

_WIDTHS = (None, 1800, 1400, 1000, 700)
"""Widths tried in turn, in pixels; None leaves a picture as it is."""


@dataclass(frozen=True)
class Picture:
    """A committed picture.

    Attributes
    ----------
    key : str
        Where it comes from: ``stage/name.png``.
    raw : bytes
        The file.
    """

    key: str
    raw: bytes


@dataclass(frozen=True)
class Embedded:
    """A picture as a page holds it.

    Attributes
    ----------
    uri : str
        ``data:`` URI.
    wide : bool
        Whether it was drawn for the whole width of a page.
    """

    uri: str
    wide: bool


_WIDE = 1000


def embed(pictures: list[Picture], *, budget: int = PAGE_BUDGET) -> dict[str, Embedded]:
    """Turn pictures into data URIs that keep within a budget together.

    Parameters
    ----------
    pictures : list of Picture
        PNG or JPEG files; what cannot be decoded is left out.
    budget : int
        Bytes for all of them. They are scaled down together, step by step, until they fit; what
        does not fit at the smallest width is left out, largest first.

    Returns
    -------
    dict of str to Embedded
        By key.
    """
    shown: dict[str, _Encoded] = {}
    for width in _WIDTHS:
        encoded = {picture.key: _encode(picture.raw, width) for picture in pictures}
        shown = {key: entry for key, entry in encoded.items() if entry is not None}
        if _total(shown) <= budget:
            break
    while _total(shown) > budget:
        del shown[max(shown, key=lambda key: len(shown[key].raw))]
    return {
        key: Embedded(
            uri=f"data:{entry.media_type};base64,{base64.b64encode(entry.raw).decode('ascii')}",
            wide=entry.original_width >= _WIDE,
        )
        for key, entry in shown.items()
    }


@dataclass(frozen=True)
class _Encoded:
    media_type: str
    raw: bytes
    original_width: int


def _total(shown: dict[str, _Encoded]) -> int:
    return sum(len(entry.raw) for entry in shown.values())


def _encode(raw: bytes, width: int | None) -> _Encoded | None:
    """Return a picture at most so wide; None when it cannot be decoded."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw)) as opened:
            kind = {"PNG": "image/png", "JPEG": "image/jpeg"}.get(opened.format or "")
            if width is None and kind:
                opened.load()
                return _Encoded(kind, raw, opened.width)
            original_width = opened.width
            image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    if width is not None and image.width > width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    # plots compress best without loss, photographs as JPEG: keep whichever is smaller
    plot, photograph = io.BytesIO(), io.BytesIO()
    image.save(plot, "PNG")
    image.save(photograph, "JPEG", quality=85)
    if plot.tell() <= photograph.tell():
        return _Encoded("image/png", plot.getvalue(), original_width)
    return _Encoded("image/jpeg", photograph.getvalue(), original_width)
