"""Perceptual hashes: equal, or nearly so, for pictures that look the same.

The hash is ImageHash's ``phash`` to the bit (the signs of the low frequencies of a thumbnail
against their median; http://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html),
computed for many images at once.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from tasks.data.exif import UPRIGHT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE = 32
"""Pixels of a thumbnail's side."""

_LOW = 8
"""Frequencies a direction that the hash is made of."""


_UPRIGHT_BY = {
    **{2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180},
    **{4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE},
    **{6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90},
}


def thumbnail(image: Image.Image, orientation: int = UPRIGHT) -> bytes:
    """Return a loaded image in grey, 32 x 32, as bytes row by row.

    Parameters
    ----------
    image : Image
        As it is stored.
    orientation : int
        EXIF's: a copy that was put upright is the same picture.
    """
    small = eight_bits(image).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    turn = _UPRIGHT_BY.get(orientation)
    return (small if turn is None else small.transpose(turn)).tobytes()


def eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits, which Pillow would cut off at 255 when it converts them."""
    return image.point(lambda value: value / 256) if image.mode.startswith("I") else image


def perceptual_hashes(thumbnails: Sequence[bytes]) -> list[str | None]:
    """Return the hash of each thumbnail: 16 hexadecimal digits, as ``str(imagehash.phash(image))``.

    Parameters
    ----------
    thumbnails : sequence of bytes
        Of :func:`thumbnail`.

    Returns
    -------
    list of str or None
        None for an image of a single grey: it has no structure to go by.
    """
    import numpy as np
    from scipy.fft import dct

    if not thumbnails:
        return []
    pixels = as_array(thumbnails).astype(float)
    rows = dct(pixels, axis=1)[:, :_LOW]
    low = dct(rows, axis=2)[:, :, :_LOW].reshape(len(pixels), _LOW * _LOW)
    bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    plain = np.ptp(pixels, axis=(1, 2)) == 0
    return [None if flat else row.tobytes().hex() for row, flat in zip(bits, plain, strict=True)]


def as_array(thumbnails: Sequence[bytes]) -> "NDArray[np.uint8]":
    """Return thumbnails as one array, images x 32 x 32."""
    import numpy as np

    return np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, SIDE, SIDE)
