"""Models that the benchmarks share, with random weights: time does not depend on them."""

from typing import Any

import keras


def small_cnn(side: int, *, channels: int = 3, classes: int = 3) -> Any:
    """Three convolution blocks 32-64-64 and a dense layer, as in the CIFAR-10 example."""
    keras.utils.set_random_seed(0)
    layers: list[Any] = [
        keras.Input((side, side, channels)),
        keras.layers.Rescaling(1 / 255),
    ]
    for filters in (32, 64, 64):
        layers.append(keras.layers.Conv2D(filters, 3, activation="relu"))
        layers.append(keras.layers.MaxPooling2D())
    layers.append(keras.layers.Flatten())
    layers.append(keras.layers.Dense(64, activation="relu"))
    layers.append(keras.layers.Dense(classes, activation="softmax"))
    return keras.Sequential(layers)


def mobilenet_v2(side: int, *, alpha: float = 0.35, classes: int = 3) -> Any:
    """MobileNetV2 with a softmax on its pooled features, batch norm in inference mode."""
    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV2(
        (side, side, 3), alpha=alpha, include_top=False, weights=None, pooling="avg"
    )
    pixels = keras.Input((side, side, 3))
    _settle_batch_norm(backbone, side)
    features = backbone(keras.layers.Rescaling(1 / 127.5, -1)(pixels), training=False)
    return keras.Model(pixels, keras.layers.Dense(classes, activation="softmax")(features))


def _settle_batch_norm(model: Any, side: int) -> None:
    """Set the moving averages from a few images: without them the random net answers nothing."""
    layers = [layer for layer in model.layers if hasattr(layer, "moving_mean")]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    model(smooth_images(32, side) / 127.5 - 1, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def smooth_images(count: int, side: int, *, seed: int = 0) -> Any:
    """Random pictures with structure, float32 (count, side, side, 3), pixels 0..255."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(count, side, side, 3))
    blurred = gaussian_filter(noise, sigma=(0, side / 16, side / 16, 0))
    low = blurred.min(axis=(1, 2, 3), keepdims=True)
    high = blurred.max(axis=(1, 2, 3), keepdims=True)
    return np.round((blurred - low) / (high - low) * 255).astype(np.float32)
