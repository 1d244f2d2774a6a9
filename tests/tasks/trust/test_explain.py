"""Explanations: the same weights as stock LIME, and they find where the model looks."""

import contextlib
import io
import json
from typing import Any

import numpy as np
import pytest

from tasks.trust.explanations import mass_inside, resize_region, spread

from .conftest import CORNER, SQUARE, linear_model

OPTIONS = {"explain": {"images": 8, "samples": 300, "segments": 64}}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_weights_are_those_of_stock_lime(channels: int) -> None:
    import keras
    from lime.lime_image import LimeImageExplainer

    from tasks.trust.lime_images import LimeExplainer, segment

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((32, 32, channels)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    image = np.random.default_rng(0).uniform(0, 255, (32, 32, channels)).astype(np.float32)
    parts = segment(image, count=20)
    ours = LimeExplainer(
        lambda images: model(images, training=False), samples=150, segments=20, seed=4
    ).explain(image)

    # stock LIME knows colour images only: a grey one becomes three equal channels
    stock_image = np.repeat(image, 3, axis=-1) if channels == 1 else image
    with contextlib.redirect_stderr(io.StringIO()):
        stock = LimeImageExplainer(random_state=4).explain_instance(
            stock_image,
            lambda copies: model.predict(copies[..., :channels], verbose=0),
            top_labels=1,
            num_samples=150,
            segmentation_fn=lambda _: parts,
        )
    label = stock.top_labels[0]
    assert ours.class_index == label
    expected = np.zeros(len(ours.weights))
    for number, weight in stock.local_exp[label]:
        expected[number] = weight
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(ours.weights, expected, atol=1e-4 * np.abs(expected).max())
    assert ours.fidelity == pytest.approx(stock.score, abs=1e-4)


def test_an_explanation_does_not_depend_on_what_was_explained_before() -> None:
    from tasks.trust.lime_images import LimeExplainer

    model = linear_model(SQUARE)
    explainer = LimeExplainer(lambda images: model(images), samples=100, segments=16, seed=0)
    images = np.random.default_rng(0).uniform(0, 255, (2, 48, 48, 1)).astype(np.float32)
    alone = explainer.explain(images[1]).weights
    explainer.explain(images[0])
    np.testing.assert_array_equal(explainer.explain(images[1]).weights, alone)


def test_the_superpixels_cover_the_image_and_are_about_as_many_as_asked_for() -> None:
    from tasks.trust.lime_images import segment

    flat = np.full((64, 64, 1), 90, dtype=np.float32)
    parts = segment(flat, count=60)
    assert parts.shape == (64, 64)
    assert sorted(np.unique(parts)) == list(range(parts.max() + 1))
    assert 40 <= parts.max() + 1 <= 80


def test_mass_inside_is_the_share_of_the_positive_heat() -> None:
    segments = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2]])
    heat = spread([3.0, 1.0, -5.0], segments)
    assert heat.sum() == pytest.approx(-1.0)
    region = np.zeros((3, 4), dtype=bool)
    region[:2, :2] = True
    assert mass_inside(heat, region) == pytest.approx(0.75)
    region[:2, 2] = True
    assert mass_inside(heat, region) == pytest.approx(0.875)
    assert np.isnan(mass_inside(-np.abs(heat), region))
    # the last bits of float32 answers, which differ between processors, are no evidence
    assert np.isnan(mass_inside(heat * 6e-8, region))


def test_an_answer_that_varies_in_its_last_bit_is_a_constant() -> None:
    import tensorflow as tf

    from tasks.trust.explain_figure import Explained, draw_explanations
    from tasks.trust.lime_images import LimeExplainer

    def answer(images: Any) -> Any:
        seen = tf.abs(images[:, 0, 0, 0] - image[0, 0, 0]) < 0.5
        first = tf.where(seen, 0.5 + 6e-8, 0.5)
        return tf.stack([first, 1 - first], axis=1)

    image = np.random.default_rng(0).uniform(0, 255, (48, 48, 1)).astype(np.float32)
    explained = LimeExplainer(answer, samples=100, segments=16, seed=0).explain(image)
    assert explained.fidelity is None
    item = Explained(
        image_id="film",
        image=image,
        explanation=explained,
        true_class="clear",
        predicted_class="clear",
        region=None,
    )
    assert "speaks for it" in " ".join(
        axes.get_title(loc="left") for axes in draw_explanations([item]).axes
    )
    assert np.isnan(mass_inside(explained.heat, np.ones((48, 48), dtype=bool)))


def test_a_region_is_brought_to_the_size_of_the_model() -> None:
    mask = np.zeros((100, 200), dtype=np.uint8)
    mask[:50, 100:] = 255
    region = resize_region(mask, (10, 8))
    assert region.shape == (10, 8)
    assert region[:5, 4:].all() and region.sum() == 20


def test_a_model_that_looks_into_the_region_has_its_mass_there(night: Any) -> None:
    night.train(linear_model(SQUARE))
    manifest = night.check("explain", **OPTIONS)
    area = manifest.metrics["explain.region_area"]
    assert area == pytest.approx(SQUARE.mean(), abs=0.01)
    assert manifest.metrics["explain.mass_inside_region"] > 0.6
    assert manifest.metrics["explain.focus"] > 3
    assert manifest.metrics["explain.focus.low"] > 2
    assert manifest.metrics["explain.focus_for.opacity"] > 3
    assert manifest.metrics["explain.fidelity"] > 0.9
    assert manifest.output("explanations.png").bytes > 20_000
    images = night.document("explain", "explanations.json")["images"]
    assert {image["true_class"] for image in images} == {"clear", "opacity"}


def test_a_model_that_looks_into_a_corner_is_caught_with_the_worst_images_named(
    night: Any,
) -> None:
    night.train(linear_model(CORNER))
    manifest = night.check("explain", **OPTIONS)
    assert manifest.metrics["explain.mass_inside_region"] < 0.1
    assert manifest.metrics["explain.focus"] < 0.5
    assert manifest.metrics["explain.focus.high"] < 1
    assert "least: film" in manifest.notes["explain.mass_inside_region"]


def test_a_model_for_which_nothing_speaks_has_no_mass_anywhere(night: Any) -> None:
    night.train(linear_model(SQUARE, gain=0.0))
    manifest = night.check("explain", **OPTIONS)
    assert "explain.mass_inside_region" not in manifest.metrics
    # nor is an answer that never changes explained well
    assert "explain.fidelity" not in manifest.metrics

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (night.folder("explain") / "explanations.json").read_text(encoding="utf-8")
    document = json.loads(text, parse_constant=refuse)
    assert {image["mass_inside_region"] for image in document["images"]} == {None}


def test_rightly_and_wrongly_classified_images_of_every_class_are_explained(night: Any) -> None:
    night.train(linear_model(SQUARE))
    wrong = {3, 4, 17, 22}
    pixels = [film.pixels for film in night.films]

    def answer(film: Any) -> int:
        number = next(n for n, other in enumerate(pixels) if other is film.pixels)
        return 1 - film.label if number in wrong else film.label

    night.evaluate(answer)
    night.check("explain", **OPTIONS)
    explained = {
        int(image["image_id"][4:6])
        for image in night.document("explain", "explanations.json")["images"]
    }
    assert wrong <= explained and len(explained) == 8
