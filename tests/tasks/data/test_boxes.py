"""Boxes become masks in the proportions of their image."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tasks.data.boxes import LONGEST_SIDE, Box, boxes_mask, clipped


def pixels(mask: bytes) -> np.ndarray:
    with Image.open(BytesIO(mask)) as image:
        return np.asarray(image.convert("L"))


def test_a_mask_is_white_inside_the_boxes_and_black_outside() -> None:
    mask = pixels(boxes_mask([Box(0, 0, 0.5, 0.25), Box(0.75, 0.5, 1, 1)], width=40, height=20))
    assert mask.shape == (20, 40)
    assert set(np.unique(mask)) == {0, 255}
    expected = np.zeros((20, 40), bool)
    expected[:5, :20] = expected[10:, 30:] = True
    assert np.array_equal(mask == 255, expected)


@pytest.mark.parametrize(("size", "shape"), [((4000, 1000), (128, 512)), ((1, 9000), (512, 1))])
def test_a_mask_of_a_large_image_is_small(size: tuple[int, int], shape: tuple[int, int]) -> None:
    mask = pixels(boxes_mask([Box(0.5, 0, 1, 1)], width=size[0], height=size[1]))
    assert mask.shape == shape and max(shape) == LONGEST_SIDE


def test_the_smallest_box_leaves_a_mark() -> None:
    mask = pixels(boxes_mask([Box(0.9999, 0.9999, 1, 1), Box(0, 0, 1e-9, 1e-9)], width=8, height=8))
    assert mask[7, 7] == 255 and mask[0, 0] == 255 and (mask > 0).sum() == 2


def test_corners_are_put_in_order_and_inside() -> None:
    assert clipped(0.9, 0.8, -0.2, 0.1) == Box(0, 0.1, 0.9, 0.8)
    assert clipped(0.2, 0.2, 0.2, 0.9) is None
    assert clipped(1.1, 0, 1.5, 1) is None
    assert clipped(float("nan"), 0, 1, 1) is None
