"""Raw pixels come back from the PNG that they are encoded as."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tasks.data.sources.png import encode_png


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (5, 300), (1, 1, 3), (32, 32, 3), (7, 200, 3)])
def test_pillow_reads_back_what_was_encoded(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    channels = shape[2] if len(shape) == 3 else 1
    content = encode_png(pixels.tobytes(), width=shape[1], height=shape[0], channels=channels)
    with Image.open(BytesIO(content)) as image:
        assert image.mode == {1: "L", 3: "RGB"}[channels]
        assert np.array_equal(np.asarray(image), pixels)
