"""What the pictures of explanations say beside an image."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tasks.trust.class_figure import draw_by_class
from tasks.trust.explain_figure import Explained, draw_explanations, strongest
from tasks.trust.explanations import Explanation

REGION = np.array([[True, True], [False, False]])
SEGMENTS = np.array([[0, 0], [1, 1]])


def by_class(explained: list[Explained]) -> Any:
    return draw_by_class(explained, classes=["a", "b"], title="SHAP")


def explained(weights: list[float]) -> Explained:
    values = np.array(weights)
    heat = values[SEGMENTS]
    explanation = Explanation(
        heat=heat,
        class_index=0,
        probabilities=np.array([0.9, 0.1]),
        fidelity=1.0,
        segments=SEGMENTS,
        weights=values,
        by_class={0: heat, 1: -heat},
    )
    return Explained(
        image_id="film",
        image=np.full((2, 2, 1), 99, np.float32),
        explanation=explanation,
        true_class="a",
        predicted_class="a",
        region=REGION,
    )


def captions(figure: Any) -> str:
    return " ".join(axis.get_title(loc="left") for axis in figure.axes)


def test_the_outline_of_a_region_reaches_the_edge_and_leaves_the_picture_its_size() -> None:
    (picture, _) = draw_explanations([explained([0.3, 0.1])]).axes
    assert picture.get_xlim() == (-0.5, 1.5) and picture.get_ylim() == (1.5, -0.5)
    (line,) = (each for each in picture.collections if len(each.get_paths()))
    around = line.get_paths()[0].get_extents()
    # the upper half of two by two pixels
    assert (around.x0, around.x1, around.y0, around.y1) == (-0.5, 1.5, -0.5, 0.5)


def test_a_small_mark_stands_out_of_noise_and_a_single_pixel_leaves_the_rest_its_colour() -> None:
    noise = np.full((96, 96), 1e-9)
    mark = noise.copy()
    mark[:5, :5] = 0.3
    assert strongest([mark, noise]) == pytest.approx(0.03)
    broad = np.full((96, 96), 0.2)
    broad[0, 0] = 1.0
    assert strongest([broad]) == pytest.approx(0.2)
    assert strongest([np.zeros((96, 96))]) == 1.0


@pytest.mark.parametrize("draw", [draw_explanations, by_class])
def test_the_share_inside_the_region_is_told(draw: Callable[..., Any]) -> None:
    assert "75%" in captions(draw([explained([0.3, 0.1])]))


@pytest.mark.parametrize("draw", [draw_explanations, by_class])
@pytest.mark.parametrize("weights", [[0.0, 0.0], [-0.2, -0.1]])
def test_an_image_in_which_nothing_speaks_for_the_class_is_called_so(
    draw: Callable[..., Any], weights: list[float]
) -> None:
    told = captions(draw([explained(weights)]))
    assert "nothing" in told and "nan" not in told
