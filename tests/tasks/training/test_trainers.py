"""What a training is compiled with: optimizer and its momentum, smoothed labels, penalties."""

from typing import Any

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from tasks.contract import BadConfig
from tasks.spec import Train
from tasks.training import trainers
from tasks.training.architectures import build_classifier

PRIVACY = {"noise_multiplier": 1.0}


def build(**settings: Any) -> tuple[Any, Train]:
    train = Train.model_validate({"architecture": "dense", "image_size": [8, 8]} | settings)
    keras.utils.set_random_seed(0)
    return build_classifier(train, classes=3, steps_per_epoch=5, weights_file=None), train


def losses(**settings: Any) -> tuple[float, Any, Any]:
    """Return the loss of a compiled trainer, the labels and the model's answers to the images."""
    model, train = build(**settings)
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.float32)
    labels = np.arange(12) % 3
    trainer = trainers.compiled(model, train)
    found = trainer.evaluate(images, labels, verbose=0, return_dict=True)
    answers = model.predict(images, verbose=0)
    assert found["accuracy"] == pytest.approx((answers.argmax(axis=1) == labels).mean())
    return found["loss"], labels, answers


def test_smoothed_labels_give_a_share_to_all_classes() -> None:
    loss, labels, answers = losses(label_smoothing=0.3)
    targets = 0.7 * np.eye(3)[labels] + 0.3 / 3
    assert loss == pytest.approx(-(targets * np.log(answers)).sum(axis=1).mean(), rel=1e-5)
    plain, labels, answers = losses()
    assert plain == pytest.approx(-np.log(answers[np.arange(12), labels]).mean(), rel=1e-5)
    assert plain != pytest.approx(loss, rel=1e-3)


def test_weights_of_classes_count_with_smoothed_labels() -> None:
    model, train = build(label_smoothing=0.1)
    trainer = trainers.compiled(model, train)
    images, labels = np.zeros((4, 8, 8, 3), np.float32), np.array([0, 0, 1, 2])
    weights = np.array([1.0, 1.0, 0.0, 0.0])
    only_first = trainer.test_on_batch(images[:2], labels[:2], return_dict=True)["loss"]
    trainer.reset_metrics()
    weighted = trainer.test_on_batch(images, labels, sample_weight=weights, return_dict=True)
    assert weighted["loss"] == pytest.approx(only_first / 2, rel=1e-5)


def test_the_head_s_kernels_are_penalised_and_nothing_else() -> None:
    settings = {"architecture": "mobilenet_v2", "image_size": [32, 32]}
    head = {"dense": [8], "dropout": 0.0, "l2": 0.01}
    model, _ = build(**settings, head=head)
    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert len(kernels) == 2
    expected = 0.01 * sum(float((kernel.numpy() ** 2).sum()) for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    assert not build(**settings)[0].losses
    # and the loss that is trained is the sum
    model, train = build(**settings, head=head)
    images, labels = np.zeros((3, 32, 32, 3), np.float32), np.array([0, 1, 2])
    found = trainers.compiled(model, train).evaluate(images, labels, verbose=0, return_dict=True)
    answers = model.predict(images, verbose=0)[np.arange(3), labels]
    assert found["loss"] == pytest.approx(expected - np.log(answers).mean(), rel=1e-5)


@pytest.mark.parametrize("architecture", ["cnn", "dense"])
def test_a_penalty_that_would_do_nothing_is_refused(architecture: str) -> None:
    with pytest.raises(BadConfig, match=r"train\.head\.l2: .* has no head"):
        build(architecture=architecture, image_size=[32, 32], head={"l2": 0.01})


def test_without_dense_layers_the_pooled_features_are_dropped() -> None:
    settings = {"architecture": "mobilenet_v2", "image_size": [32, 32]}
    model, _ = build(**settings, head={"dense": [], "dropout": 0.2})
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.2]


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_momentum_reaches_the_optimizer(optimizer: str) -> None:
    trainer = trainers.compiled(*build(optimizer=optimizer, momentum=0.9, learning_rate=0.005))
    assert trainer.optimizer.momentum == 0.9
    assert float(trainer.optimizer.learning_rate) == pytest.approx(0.005)


@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"optimizer": "adamw", "momentum": 0.5}])
def test_momentum_of_an_optimizer_that_takes_none_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"momentum 0.* choose sgd or rmsprop"):
        Train.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"label_smoothing": 0.1}, "label_smoothing 0.1"), ({"head": {"l2": 0.01}}, "head.l2 0.01")],
)
def test_private_training_refuses_another_loss_than_it_clips(
    settings: dict[str, Any], field: str
) -> None:
    assert Train.model_validate(settings).privacy is None
    with pytest.raises(ValidationError, match=f"{field} is not supported with privacy"):
        Train.model_validate({"privacy": PRIVACY, **settings})
