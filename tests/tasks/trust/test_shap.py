"""SHAP: the same values as SHAP's own explainers, sums that hold, and the right places."""

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.spec import Pipeline
from tasks.trust.explanations import MOST_CLASSES, classes_to_explain

from .conftest import CORNER, SQUARE, linear_model

SIDE = 16
METHODS = ["lime", "gradient_shap", "partition_shap"]


@pytest.fixture(scope="module")
def model() -> Any:
    """A small net with weights of chance and three classes, which knows no symmetry."""
    import keras

    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            keras.layers.Rescaling(1 / 64, offset=-2),
            keras.layers.Conv2D(8, 5, strides=3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def images() -> Any:
    """Five images without meaning; the last four serve as background."""
    return np.random.default_rng(0).uniform(0, 255, (5, SIDE, SIDE, 1)).astype(np.float32)


def test_expected_gradients_are_those_of_stock_shap(model: Any, images: Any) -> None:
    from shap import GradientExplainer

    from tasks.trust.gradient_shap import GradientShapExplainer

    ours = GradientShapExplainer(
        lambda pixels: model(pixels, training=False), background=images[1:], samples=90, seed=4
    ).explain(images[0])
    stock = GradientExplainer(model, images[1:]).shap_values(images[:1], nsamples=90, rseed=4)
    assert np.abs(stock).max() > 1e-3
    assert set(ours.by_class) == {0, 1, 2}
    for label, heat in ours.by_class.items():
        np.testing.assert_allclose(heat, stock[0, :, :, 0, label], atol=1e-6)
    assert ours.class_index == int(model.predict(images[:1], verbose=0).argmax())
    np.testing.assert_array_equal(ours.heat, ours.by_class[ours.class_index])


def test_owen_values_are_those_of_stock_shap(model: Any, images: Any) -> None:
    from shap import PartitionExplainer
    from shap.maskers import Image

    from tasks.trust.partition_shap import PartitionShapExplainer, blurred

    explainer = PartitionShapExplainer(
        lambda pixels: model(pixels, training=False), samples=200, seed=3
    )
    ours = explainer.explain(images[0])
    masker = Image(blurred(images[0]))
    np.random.seed(3)
    stock = PartitionExplainer(lambda pixels: model.predict(pixels, verbose=0), masker)(
        images[:1], max_evals=200, batch_size=64, silent=True
    )
    assert np.abs(stock.values).max() > 1e-3
    for label, heat in ours.by_class.items():
        np.testing.assert_allclose(heat, stock.values[0, :, :, 0, label], atol=1e-6)
    assert ours.expected == pytest.approx(stock.base_values[0, ours.class_index], abs=1e-6)


def test_the_attributions_sum_to_what_the_probability_changed(model: Any, images: Any) -> None:
    from tasks.trust.gradient_shap import GradientShapExplainer
    from tasks.trust.partition_shap import PartitionShapExplainer

    def classify(pixels: Any) -> Any:
        return model(pixels, training=False)

    halves = PartitionShapExplainer(classify, samples=100, seed=0).explain(images[0])
    assert halves.expected is not None and abs(halves.probability - halves.expected) > 0.01
    assert halves.heat.sum() == pytest.approx(halves.probability - halves.expected, abs=1e-6)
    assert halves.additivity_gap == pytest.approx(0, abs=1e-6)
    gaps = [
        GradientShapExplainer(classify, background=images[1:], samples=samples, seed=0)
        .explain(images[0])
        .additivity_gap
        for samples in (20, 4000)
    ]
    assert gaps[1] is not None and gaps[0] is not None
    # the law of large numbers: 200 times the samples leave about a fourteenth
    assert gaps[1] < 0.02 and gaps[1] < gaps[0]


def test_the_classes_share_one_probability_so_that_their_attributions_cancel(
    model: Any, images: Any
) -> None:
    from tasks.trust.partition_shap import PartitionShapExplainer

    found = PartitionShapExplainer(
        lambda pixels: model(pixels, training=False), samples=60, seed=0
    ).explain(images[0])
    np.testing.assert_allclose(np.sum(list(found.by_class.values()), axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("method", ["gradient", "partition"])
def test_an_explanation_depends_on_its_seed_only(model: Any, images: Any, method: str) -> None:
    from tasks.trust.gradient_shap import GradientShapExplainer
    from tasks.trust.partition_shap import PartitionShapExplainer

    def explainer(seed: int) -> Any:
        def classify(pixels: Any) -> Any:
            return model(pixels, training=False)

        if method == "partition":
            return PartitionShapExplainer(classify, samples=50, seed=seed)
        return GradientShapExplainer(classify, background=images[1:], samples=50, seed=seed)

    state = np.random.get_state()[1].copy()
    one = explainer(5)
    first = one.explain(images[0]).heat
    one.explain(images[1])
    np.testing.assert_array_equal(one.explain(images[0]).heat, first)
    np.testing.assert_array_equal(explainer(5).explain(images[0]).heat, first)
    # nobody else's draws are touched
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_an_image_that_is_no_square_is_halved_into_rectangles_of_few_pixels() -> None:
    import tensorflow as tf

    from tasks.trust.partition_shap import PartitionShapExplainer

    def brightness(pixels: Any) -> Any:
        # of the upper left corner only
        share = tf.reduce_mean(pixels[:, :20, :40], axis=(1, 2, 3)) / 255.0
        return tf.stack([share, 1 - share], axis=1)

    image = np.zeros((100, 150, 3), np.float32)
    image[:20, :40] = 255
    found = PartitionShapExplainer(brightness, samples=400, seed=0).explain(image)
    assert found.heat.shape == (100, 150)
    assert found.heat[:21, :42].sum() > 0.8 * found.heat.sum() > 0.3


def test_of_many_classes_the_most_probable_are_explained() -> None:
    probabilities = np.linspace(0, 1, 25) / 12.5
    assert classes_to_explain(probabilities) == list(range(15, 25))
    assert len(classes_to_explain(probabilities)) == MOST_CLASSES
    assert classes_to_explain(np.array([0.3, 0.7])) == [0, 1]


def test_every_method_finds_where_the_model_looks(night: Any) -> None:
    options = {"methods": METHODS, "images": 6, "samples": 300, "background": 8}
    night.train(linear_model(SQUARE))
    manifest = night.check("explain", explain=options)
    metrics = manifest.metrics
    assert metrics["explain.images"] == 6
    assert "explain.gradient_shap.images" not in metrics
    for prefix in ("explain", "explain.gradient_shap", "explain.partition_shap"):
        assert metrics[f"{prefix}.mass_inside_region"] > 0.6, prefix
        assert metrics[f"{prefix}.focus"] > 3, prefix
        assert metrics[f"{prefix}.focus.low"] > 2, prefix
        assert metrics[f"{prefix}.focus_for.opacity"] > 3, prefix
    assert metrics["explain.partition_shap.additivity_gap"] == pytest.approx(0, abs=1e-5)
    assert metrics["explain.gradient_shap.additivity_gap"] < 0.1
    assert "explain.fidelity" in metrics and "explain.gradient_shap.fidelity" not in metrics
    documents = [
        night.document("explain", name)
        for name in (
            "explanations.json",
            "explanations_gradient_shap.json",
            "explanations_partition_shap.json",
        )
    ]
    assert [document["method"] for document in documents] == METHODS
    first, *others = ([image["image_id"] for image in found["images"]] for found in documents)
    assert others == [first, first]
    image = documents[2]["images"][0]
    rise = image["probability"] - image["expected"]
    assert image["sums"][image["predicted_class"]] == pytest.approx(rise, abs=1e-5)
    for name in ("explanations_gradient_shap.png", "explanations_partition_shap.png"):
        assert manifest.output(name).bytes > 20_000


def test_shap_catches_a_model_that_looks_into_a_corner(night: Any) -> None:
    night.train(linear_model(CORNER))
    options = {"methods": METHODS[1:], "images": 4, "samples": 200, "background": 8}
    metrics = night.check("explain", explain=options).metrics
    for method in METHODS[1:]:
        assert metrics[f"explain.{method}.focus.high"] < 1
    assert "explain.focus" not in metrics


def test_few_samples_are_said_to_miss_the_sum(night: Any) -> None:
    night.train(linear_model(SQUARE, gain=3.0))
    options = {"methods": ["gradient_shap"], "images": 4, "samples": 50, "background": 2}
    manifest = night.check("explain", explain=options)
    assert manifest.metrics["explain.gradient_shap.additivity_gap"] > 0.1
    assert any("gradient_shap: the attributions miss" in text for text in manifest.warnings)


def test_a_pipeline_file_without_methods_means_lime_and_nonsense_is_refused() -> None:
    document = {
        "name": "x",
        "source": {"kind": "synthetic"},
        "label": {"column": "finding"},
        "explain": {"images": 4},
    }
    assert Pipeline.model_validate(document).explain.methods == ["lime"]
    for methods, message in (
        ([], "at least 1 item"),
        (["lime", "lime"], "name each method once"),
        (["kernel_shap"], "'lime', 'gradient_shap' or 'partition_shap'"),
    ):
        document["explain"] = {"methods": methods}
        with pytest.raises(ValidationError, match=message):
            Pipeline.model_validate(json.loads(json.dumps(document)))
