"""Attacks: within their bounds, as strong as theory says, and the same as stock ART's."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import CHECKER, SIDE, SQUARE, linear_model

REPOSITORY = Path(__file__).parents[3]
STRENGTHS = [0.02, 0.1, 0.2, 0.3]


def films(night: Any) -> tuple[np.ndarray, np.ndarray]:
    images = np.stack([film.pixels for film in night.films])[..., np.newaxis].astype(np.float32)
    return images, np.array([film.label for film in night.films])


def margins(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Largest uniform change, in pixel values, that leaves the linear model's answer right."""
    shown = (images[..., 0] * CHECKER * SQUARE).sum(axis=(1, 2)) / SQUARE.sum()
    return shown * (2 * labels - 1)


def conv_model() -> Any:
    import keras

    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(6, 5, strides=3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_a_linear_model_falls_exactly_where_its_margin_says(night: Any, attack: Any) -> None:
    from tasks.trust.attacks import CompiledClassifier, logits_model
    from tasks.trust.robustness import attack_all

    images, labels = films(night)
    classifier = CompiledClassifier(logits_model(linear_model(SQUARE)), classes=2)
    clean, results = attack_all(
        classifier, images, labels, attacks=[attack], strengths=STRENGTHS, steps=10, seed=0
    )
    assert (clean == labels).all()
    shares = []
    for result in results:
        largest = 255 * result.strength
        for row, changed in result.shown.items():
            change = np.abs(changed - images[row])
            assert largest / 2 < change.max() <= largest + 1e-3
            assert changed.min() >= 0 and changed.max() <= 255
        # of both classes, turned and not: a few, however many were attacked
        assert 8 <= len(result.shown) <= 16
        assert {labels[row] for row in result.shown} == {0, 1}
        # where no pixel reaches the end of its range, the worst case is known
        margin = margins(images, labels)
        sure = np.abs(margin - largest) > 0.5
        np.testing.assert_array_equal(result.right[sure], (margin > largest)[sure])
        shares.append(result.right.mean())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.9 and shares[-1] < 0.5


def test_the_compiled_attack_is_stock_arts(night: Any) -> None:
    import keras
    from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    from tasks.trust.attacks import CompiledClassifier, attack_images, logits_model

    images, labels = films(night)
    images, targets = images[:20], np.eye(3, dtype=np.float32)[labels[:20]]
    logits = logits_model(conv_model())
    stock = TensorFlowV2Classifier(
        model=logits,
        nb_classes=3,
        input_shape=(SIDE, SIDE, 1),
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 255.0),
    )
    # chunks of 8 make two whole ones and a padded one
    ours = CompiledClassifier(logits, classes=3, chunk=8)
    np.testing.assert_allclose(ours.predict(images), stock.predict(images), atol=1e-5)
    theirs = stock.loss_gradient(images, targets) * len(images)
    # the loss is a mean over the chunk, so only the direction and the ratios are comparable
    np.testing.assert_allclose(
        ours.loss_gradient(images, targets) * 8, theirs, atol=1e-3 * np.abs(theirs).max()
    )
    stock_attacks = {
        "fgsm": FastGradientMethod(stock, eps=5.1, eps_step=5.1),
        "pgd": ProjectedGradientDescent(
            stock, eps=5.1, eps_step=2.55, max_iter=5, num_random_init=1, verbose=False
        ),
    }
    for attack, stock_attack in stock_attacks.items():
        changed = attack_images(
            ours, images, targets, attack=attack, strength=0.02, steps=5, seed=3
        )
        np.random.seed(3)
        expected = stock_attack.generate(x=images, y=targets)
        assert (changed == expected).mean() > 0.999, attack


def test_the_random_start_is_seeded_and_leaves_numpys_generator_alone(night: Any) -> None:
    from tasks.trust.attacks import CompiledClassifier, attack_images, logits_model

    images, labels = films(night)
    images, targets = images[:4], np.eye(3, dtype=np.float32)[labels[:4]]
    classifier = CompiledClassifier(logits_model(conv_model()), classes=3, chunk=4)
    options = {"attack": "pgd", "strength": 0.05, "steps": 2}
    np.random.seed(11)
    expected = np.random.random(3)
    np.random.seed(11)
    first = attack_images(classifier, images, targets, seed=1, **options)
    np.testing.assert_array_equal(np.random.random(3), expected)
    again = attack_images(classifier, images, targets, seed=1, **options)
    other = attack_images(classifier, images, targets, seed=2, **options)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_model_that_is_sure_of_itself_is_not_robust_for_that(night: Any) -> None:
    from tasks.trust.attacks import CompiledClassifier, logits_model
    from tasks.trust.robustness import attack_all

    images, labels = films(night)
    # probabilities round to 0 and 1 (on some processors less their last bit), where a clipped
    # cross-entropy has no gradient
    sure = linear_model(SQUARE, gain=20.0)
    answers = sure.predict(images, verbose=0)
    assert np.minimum(answers, 1 - answers).max() < 1e-6
    classifier = CompiledClassifier(logits_model(sure), classes=2)
    _, results = attack_all(
        classifier, images, labels, attacks=["fgsm"], strengths=[0.3], steps=1, seed=0
    )
    assert results[0].right.mean() < 0.5


@pytest.mark.parametrize("ending", ["dense", "softmax", "activation", "custom"])
def test_logits_and_probabilities_are_of_the_same_model(ending: str) -> None:
    import keras

    from tasks.trust.attacks import logits_model

    pixels = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
    if ending == "dense":
        outputs = keras.layers.Dense(3, activation="softmax")(flat)
    elif ending == "softmax":
        outputs = keras.layers.Softmax()(keras.layers.Dense(3)(flat))
    elif ending == "activation":
        outputs = keras.layers.Activation("softmax")(keras.layers.Dense(3)(flat))
    else:
        whole = keras.layers.Dense(3, activation="exponential")(flat)
        outputs = whole / keras.ops.sum(whole, axis=-1, keepdims=True)
    model = keras.Model(pixels, outputs)
    images = np.random.default_rng(0).uniform(0, 255, (5, 6, 6, 1)).astype(np.float32)
    logits = logits_model(model)(images)
    np.testing.assert_allclose(keras.ops.softmax(logits), model(images), atol=1e-6)


def test_the_stage_tells_accuracy_by_strength(night: Any) -> None:
    night.train(linear_model(SQUARE))
    options = {"strengths": [0.3, 0.02, 0.1], "images": 24, "steps": 4}
    manifest = night.check("robustness", robustness=options)
    metrics = manifest.metrics
    assert metrics["robustness.clean_accuracy"] == 1.0
    assert metrics["robustness.images"] == 24
    for attack in ("fgsm", "pgd"):
        line = [metrics[f"robustness.{attack}.accuracy_at_{s}"] for s in ("0.02", "0.1", "0.3")]
        assert line == sorted(line, reverse=True) and line[0] > line[-1]
        low = metrics[f"robustness.{attack}.accuracy_at_0.1.low"]
        assert low < line[1] < metrics[f"robustness.{attack}.accuracy_at_0.1.high"]
        assert metrics[f"robustness.{attack}.success_rate_at_0.3"] == pytest.approx(1 - line[-1])
    assert manifest.warnings == []
    assert manifest.output("accuracy_by_strength.png").bytes > 5000
    assert manifest.output("adversarial_examples.png").bytes > 20_000
    attacks = night.document("robustness", "robustness.json")["attacks"]
    assert [a["strength"] for a in attacks] == [0.02, 0.1, 0.3] * 2


def test_the_examples_are_those_of_the_weakest_attack_that_turns_them(night: Any) -> None:
    from tasks.trust.attacks import CompiledClassifier, logits_model
    from tasks.trust.robustness import attack_all
    from tasks.trust.robustness_figure import choose_examples

    images, labels = films(night)
    classifier = CompiledClassifier(logits_model(linear_model(SQUARE)), classes=2)
    clean, results = attack_all(
        classifier, images, labels, attacks=["pgd", "fgsm"], strengths=[0.3, 0.1], steps=4, seed=0
    )
    examples = choose_examples(clean, labels, results)
    assert [labels[row] for row, _ in examples] == [0, 1, 0, 1]
    for row, result in examples:
        assert row in result.shown and not result.right[row]
        assert (result.attack, result.strength) == ("pgd", 0.1)
    # none gives way to next to nothing: those that stood are shown instead
    _, results = attack_all(
        classifier, images, labels, attacks=["fgsm"], strengths=[1e-4], steps=1, seed=0
    )
    stood = choose_examples(clean, labels, results)
    assert len(stood) == 4 and all(result.right[row] for row, result in stood)


def test_the_stage_warns_when_the_examined_model_is_not_the_evaluated_one(night: Any) -> None:
    night.train(linear_model(SQUARE))
    night.evaluate(lambda film: 0)
    manifest = night.check(
        "robustness", robustness={"strengths": [0.1], "attacks": ["fgsm"], "images": 20}
    )
    assert manifest.warnings == [
        "robustness: model.keras and the evaluated model disagree on 10 of 20 images"
    ]


@pytest.mark.parametrize("known", [True, False])
def test_a_users_own_layers_are_found_again(tmp_path: Path, known: bool) -> None:
    layer = [
        "class Doubled(keras.layers.Layer):",
        "    def call(self, x):",
        "        return 2 * x",
    ]
    model = [
        "def tiny(shape, classes, train):",
        *([] if known else [f"    {line}" for line in layer]),
        "    return keras.Sequential([keras.Input(shape), Doubled(), keras.layers.Flatten(),",
        "        keras.layers.Dense(classes, activation='softmax')])",
    ]
    source = ["import keras", *(layer if known else []), *model]
    (tmp_path / "house_layers.py").write_text("\n".join(source))
    # training and attack are processes of their own: what one has imported the other has not
    scripts = [
        "import house_layers; house_layers.tiny((4, 4, 1), 2, None).save('m.keras')",
        "from pathlib import Path; from tasks.trust.attacks import load_classifier\n"
        "print(load_classifier(Path('m.keras'), architecture='house_layers:tiny').output_shape)",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    done = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        for script in scripts
    ]
    if known:
        assert done[1].stdout.splitlines()[-1] == "(None, 2)"
    else:
        last = done[1].stderr.splitlines()[-1]
        assert "BadConfig: train.architecture: the model of 'house_layers:tiny' was trained" in last
        assert "Could not locate class 'Doubled'" in last
