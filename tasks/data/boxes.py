"""Boxes that mark the relevant region of an image, and the masks that are made of them."""

import math
from collections.abc import Iterable
from io import BytesIO
from typing import NamedTuple

LONGEST_SIDE = 512
"""Pixels of a mask's longer side; it is brought to the model's size anyway."""


class Box(NamedTuple):
    """A rectangle, as fractions of the image's width and height from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


class PixelBox(NamedTuple):
    """A rectangle in pixels of an image whose size is not known yet."""

    left: float
    top: float
    right: float
    bottom: float


def clipped(left: float, top: float, right: float, bottom: float) -> Box | None:
    """Return a box with its corners in order and inside the image, or None if nothing is left.

    Parameters
    ----------
    left, top, right, bottom : float
        Fractions of the image's sides; may lie outside of 0 to 1, and be in either order.
    """
    if not all(math.isfinite(value) for value in (left, top, right, bottom)):
        return None
    x1, x2 = sorted(min(max(value, 0.0), 1.0) for value in (left, right))
    y1, y2 = sorted(min(max(value, 0.0), 1.0) for value in (top, bottom))
    return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def within(boxes: Iterable[Box | PixelBox], *, width: int, height: int) -> list[Box]:
    """Return boxes as fractions, now that the image's size is known; those outside are left out.

    Parameters
    ----------
    boxes : iterable of Box or PixelBox
        Of one image.
    width, height : int
        Size of the image, in pixels.
    """
    fractions = (
        box
        if isinstance(box, Box)
        else clipped(box.left / width, box.top / height, box.right / width, box.bottom / height)
        for box in boxes
    )
    return [box for box in fractions if box is not None]


def boxes_mask(boxes: Iterable[Box], *, width: int, height: int) -> bytes:
    """Return a mask of boxes as a black and white PNG, in the image's proportions.

    Parameters
    ----------
    boxes : iterable of Box
        White; all else is black. Each marks one pixel at least.
    width, height : int
        Size of the image, in pixels; the mask is no larger than :data:`LONGEST_SIDE`.
    """
    from PIL import Image

    scale = min(1.0, LONGEST_SIDE / max(width, height))
    columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
    mask = Image.new("1", (columns, rows))
    for box in boxes:
        x1, x2 = _pixels(box.left, box.right, columns)
        y1, y2 = _pixels(box.top, box.bottom, rows)
        mask.paste(1, (x1, y1, x2, y2))
    buffer = BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def _pixels(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(round(low * size), size - 1)
    return first, max(round(high * size), first + 1)
