"""Every architecture reads pixels 0..255, scales them as it must, and ends in a softmax."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tasks.contract import BadConfig, NoInput
from tasks.spec import Train
from tasks.spec.training import APPLICATIONS
from tasks.training.architectures import build_classifier

GENERATOR = np.random.default_rng(0)


def build(**settings: Any) -> Any:
    weights = settings.pop("weights_file", None)
    steps = settings.pop("steps_per_epoch", 50)
    train = Train.model_validate({"image_size": [32, 32], "head": {"dense": [8]}} | settings)
    return build_classifier(train, classes=3, steps_per_epoch=steps, weights_file=weights)


def pixels(*, channels: int = 3) -> Any:
    return GENERATOR.integers(0, 256, (4, 32, 32, channels)).astype(np.float32)


@pytest.fixture(scope="module")
def backbone_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "backbone.weights.h5"
    backbone = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None
    )
    backbone.save_weights(path)
    return path


@pytest.mark.parametrize("architecture", ["cnn", "dense"])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_architectures_give_probabilities(architecture: str, channels: int) -> None:
    model = build(architecture=architecture, channels=channels)
    answer = model(pixels(channels=channels)).numpy()
    assert answer.shape == (4, 3)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)


def test_the_cnn_has_three_blocks_and_the_dense_net_128_units() -> None:
    cnn = build(architecture="cnn", channels=1)
    filters = [x.filters for x in cnn.layers if isinstance(x, keras.layers.Conv2D)]
    assert filters == [32, 64, 64]
    dense = build(architecture="dense", channels=1)
    assert [x.units for x in dense.layers if isinstance(x, keras.layers.Dense)] == [128, 3]


@pytest.mark.parametrize(
    ("architecture", "family"), [("mobilenet_v2", "mobilenet_v2"), ("VGG16", "vgg16")]
)
def test_pixels_are_scaled_as_the_architecture_expects(architecture: str, family: str) -> None:
    model = build(architecture=architecture)
    scaled = keras.Model(model.inputs[0], model.get_layer("scale").output)
    images = pixels()
    expected = getattr(keras.applications, family).preprocess_input(images.copy())
    np.testing.assert_allclose(scaled(images), expected, atol=1e-3)
    assert model.get_layer("scale").trainable_weights == []


def test_an_architecture_that_scales_by_itself_gets_bare_pixels() -> None:
    model = build(architecture="MobileNetV3Small")
    assert "scale" not in [layer.name for layer in model.layers]


def test_pretrained_batch_norm_stays_in_inference_mode(backbone_weights: Path) -> None:
    settings = {"weights": str(backbone_weights), "head": {"dense": [8], "dropout": 0.0}}
    model = build(**settings, weights_file=backbone_weights)
    images = pixels()
    before = [w.numpy() for w in model.non_trainable_weights]
    np.testing.assert_array_equal(model(images, training=True), model(images, training=False))
    for old, new in zip(before, model.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_random_batch_norm_keeps_up_with_few_steps() -> None:
    model = build(architecture="mobilenet_v2", steps_per_epoch=10)
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    momenta = {
        layer.momentum
        for layer in backbone.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert momenta == {0.9}


def test_an_image_too_small_for_the_cnn_is_refused() -> None:
    assert build(architecture="cnn", image_size=[18, 18]).output_shape == (None, 3)
    with pytest.raises(BadConfig, match="at least 18 pixels"):
        build(architecture="cnn", image_size=[17, 18])


def test_frozen_layers_keep_their_weights(backbone_weights: Path) -> None:
    def trainable(frozen: Any) -> int:
        model = build(weights=str(backbone_weights), weights_file=backbone_weights, frozen=frozen)
        return len(model.trainable_weights)

    head = 4
    assert trainable("all") == head
    assert head < trainable(100) < trainable("none")


def test_the_head_is_the_papers() -> None:
    model = build(head={"dense": [512, 512], "dropout": 0.5})
    kinds = [type(layer).__name__ for layer in model.layers[-6:]]
    assert kinds == ["GlobalAveragePooling2D", *["Dense", "Dropout"] * 2, "Dense"]


def test_weights_of_another_architecture_are_refused(backbone_weights: Path) -> None:
    with pytest.raises(BadConfig, match="does not fit"):
        build(weights=str(backbone_weights), weights_file=backbone_weights, alpha=1.0)


def test_imagenet_weights_that_cannot_be_fetched_ask_for_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras_home = tmp_path / "keras"
    monkeypatch.setattr(keras.config, "keras_home", lambda: str(keras_home), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(NoInput, match=r"give a weights file: train\.weights=PATH_OR_URI"):
        build(weights="imagenet", alpha=1.3, image_size=[96, 96])


def test_the_names_that_a_pipeline_file_may_give_are_those_of_keras() -> None:
    functions = {name for name, each in vars(keras.applications).items() if name[0].isupper()}
    assert set(APPLICATIONS) == functions


def test_pretrained_weights_want_three_channels(backbone_weights: Path) -> None:
    with pytest.raises(BadConfig, match=r"train\.channels"):
        build(weights=str(backbone_weights), weights_file=backbone_weights, channels=1)


@pytest.fixture
def house_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def write(outputs: str, ending: str = "softmax") -> None:
        (tmp_path / "house_nets.py").write_text(
            "import keras\n"
            "def tiny(input_shape, classes, train):\n"
            "    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(),\n"
            f"        keras.layers.Dense({outputs}, activation='{ending}')])\n"
        )

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "house_nets", raising=False)
    return write


def test_a_users_own_function_is_used(house_models: Callable[..., None]) -> None:
    house_models("classes")
    assert build(architecture="house_nets:tiny").output_shape == (None, 3)


def test_a_users_model_of_the_wrong_shape_is_refused(house_models: Callable[..., None]) -> None:
    house_models("classes + 1")
    with pytest.raises(BadConfig, match=r"must map .* to \(None, 3\)"):
        build(architecture="house_nets:tiny")


def test_a_users_model_without_a_softmax_is_refused(house_models: Callable[..., None]) -> None:
    house_models("classes", "linear")
    with pytest.raises(BadConfig, match=r"must end in a softmax, but answers .* with 0, 0, 0"):
        build(architecture="house_nets:tiny")


def test_random_weights_are_not_frozen() -> None:
    with pytest.raises(BadConfig, match=r"'all' would keep random weights; give train\.weights"):
        build(architecture="mobilenet_v2", frozen="all")
