"""Parts of aligned images: which pixels they hold, how much rests on them, and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.spec import Explain, Pipeline
from tasks.trust.explain_figure import Explained
from tasks.trust.explanations import Explanation
from tasks.trust.parts import part_masks, part_metrics
from tasks.trust.parts_figure import draw_parts

from .conftest import CORNER, SIDE, SQUARE, linear_model

PARTS = {
    # the two patterns of the films, and the rest of the left edge
    "square": [[14 / SIDE, 14 / SIDE, 34 / SIDE, 34 / SIDE]],
    "corner": [[0, 0, 10 / SIDE, 10 / SIDE]],
    "edge": [[0, 0.5, 0.1, 1]],
}
OPTIONS = {"images": 8, "samples": 300, "segments": 64, "parts": PARTS}


def explained(heat: Any) -> Explained:
    explanation = Explanation(
        heat=np.asarray(heat, np.float64), class_index=0, probabilities=np.array([0.9, 0.1])
    )
    return Explained(
        image_id="film",
        image=np.zeros((*explanation.heat.shape, 1), np.float32),
        explanation=explanation,
        true_class="a",
        predicted_class="a",
    )


def test_a_part_holds_the_pixels_whose_centres_lie_in_one_of_its_boxes() -> None:
    masks = part_masks({"top": [(0, 0, 1, 0.5)], "ends": [(0, 0, 0.2, 1), (0.75, 0, 1, 1)]}, (2, 4))
    np.testing.assert_array_equal(masks["top"], [[True] * 4, [False] * 4])
    # the centre of the first column lies at 0.125, that of the last at 0.875
    np.testing.assert_array_equal(masks["ends"], [[True, False, False, True]] * 2)
    assert (part_masks(OPTIONS["parts"], (SIDE, SIDE))["square"] == SQUARE).all()


@pytest.mark.parametrize(
    "edges", [(0.4, 0.5), (0.0, 0.1), (0.9, 1.0), (0.125, 0.126), (0.1, 0.125)]
)
def test_a_part_without_a_pixel_is_refused_before_anything_runs(edges: tuple[float, float]) -> None:
    left, right = edges
    box = (left, 0.0, right, 1.0)
    found = part_masks({"hair": [box]}, (4, 4))["hair"].any()
    document = {
        "name": "faces",
        "source": {"kind": "synthetic"},
        "label": {"column": "gender"},
        "train": {"architecture": "dense", "image_size": [4, 4]},
        "explain": {"parts": {"hair": [box]}},
    }
    if found:
        assert Pipeline.model_validate(document).explain.parts
    else:
        with pytest.raises(ValidationError, match=r"explain\.parts\.hair: .* 4 x 4 .*larger"):
            Pipeline.model_validate(document)


def test_mass_and_focus_are_means_over_the_images_in_which_anything_speaks() -> None:
    masks = {"left": np.array([[True, False], [True, False]])}
    items = [
        explained([[3, 1], [0, -5]]),
        explained([[1, 1], [1, 1]]),
        explained([[-1, 0], [0, 0]]),
    ]
    metrics, notes, warnings = part_metrics(items, masks, draws=0, confidence=0.95)
    assert metrics == {
        "images_with_mass": 2,
        "mass_inside_part.left": pytest.approx(0.625),
        "part_focus.left": pytest.approx(1.25),
    }
    assert "62% of what speaks" in notes["part_focus.left"]
    assert "(images: 2)" in notes["part_focus.left"]
    assert "in 1 of 3 images nothing speaks" in warnings[0]
    nothing = part_metrics(items[2:], masks, draws=0, confidence=0.95)
    assert nothing[:2] == ({"images_with_mass": 0}, {})
    assert part_metrics(items, {}, draws=0, confidence=0.95) == ({}, {}, [])
    metrics, _, _ = part_metrics(items[:2], masks, draws=500, confidence=0.95)
    assert metrics["part_focus.left.low"] == pytest.approx(1.0)
    assert metrics["part_focus.left.high"] == pytest.approx(1.5)


@pytest.mark.parametrize(("area", "part"), [(SQUARE, "square"), (CORNER, "corner")])
def test_the_part_that_the_model_reads_is_found(night: Any, area: Any, part: str) -> None:
    night.train(linear_model(area))
    manifest = night.check("explain", explain=OPTIONS)
    focus = {name: manifest.metrics[f"explain.part_focus.{name}"] for name in PARTS}
    assert focus[part] > 3
    assert manifest.metrics[f"explain.part_focus.{part}.low"] > 2
    assert max(value for name, value in focus.items() if name != part) < 0.5
    inside = manifest.metrics[f"explain.mass_inside_part.{part}"]
    assert focus[part] == pytest.approx(inside / area.mean(), rel=1e-6)
    assert manifest.output("explanations_parts.png").bytes > 10_000


def test_a_class_for_which_nothing_speaks_has_no_bar_and_names_are_drawn_as_they_are() -> None:
    masks = {"left": np.array([[True, False], [True, False]])}
    cold = explained([[-1, 0], [0, 0]])
    hot = replace(explained([[1, 0], [0, 0]]), predicted_class="a_{$b$")
    figure = draw_parts([cold, hot], masks)
    figure.draw_without_rendering()
    words = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert sorted(words) == ["2.00", "none"]


def test_every_method_has_its_own(night: Any) -> None:
    night.train(linear_model(SQUARE))
    options = OPTIONS | {"methods": ["gradient_shap"], "images": 4}
    manifest = night.check("explain", explain=options)
    assert manifest.metrics["explain.gradient_shap.part_focus.square"] > 3
    assert "explain.part_focus.square" not in manifest.metrics
    assert manifest.output("explanations_gradient_shap_parts.png").bytes > 10_000


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"eyes": [[0.5, 0, 0.5, 1]]}, r"eyes: \[0.5, 0, 0.5, 1\] is no box"),
        ({"eyes": [[0, 0.4, 1, 0.2]]}, "is no box"),
        ({"eyes": [[0, 0, 1, 2]]}, "less than or equal to 1"),
        ({"eyes": []}, "at least 1 item"),
        ({"left eye": [[0, 0, 1, 1]]}, "match pattern"),
        ({"eyes": [[0, 0, 1, 1]] * 21}, "at most 20 items"),
        ({f"eye{n}": [[0, 0, 1, 1]] for n in range(21)}, "at most 20 items"),
    ],
)
def test_what_is_no_part_is_refused(parts: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Explain.model_validate({"parts": parts})
