"""Sections that say how the model is trained and evaluated."""

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tasks.spec.base import NO_TRUTH, Fraction, OpenFraction, PositiveInt, Section, Uri
from tasks.spec.marks import Address, Code

OWN_ARCHITECTURES = ("cnn", "dense")
"""Architectures that this package defines."""

APPLICATIONS = (
    *("ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge"),
    *("DenseNet121", "DenseNet169", "DenseNet201"),
    *(f"EfficientNetB{number}" for number in range(8)),
    *(f"EfficientNetV2{kind}" for kind in ("B0", "B1", "B2", "B3", "L", "M", "S")),
    *("InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small"),
    *("NASNetLarge", "NASNetMobile"),
    *("ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2", "ResNet50", "ResNet50V2"),
    *("VGG16", "VGG19", "Xception"),
)
"""Functions of ``keras.applications``, so that a name is checked where Keras is not imported."""


def application(architecture: str) -> str | None:
    """Return the function of ``keras.applications`` of that name; None when there is none.

    ``mobilenet_v2`` and ``MobileNetV2`` are the same name.
    """
    wanted = architecture.replace("_", "").lower()
    return next((name for name in APPLICATIONS if name.lower() == wanted), None)


class Head(Section):
    """Layers between the pooled features and the softmax."""

    dense: list[PositiveInt] = [512, 512]
    """Units of each dense layer (ReLU)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout rate after each of them; of the pooled features where there are none."""
    l2: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the L2 penalty on the kernels of these layers and of the softmax; 0 is none."""


class Augmentation(Section):
    """Random changes of the training images; 0 is off."""

    flip: bool = False
    """Mirror left and right."""
    rotation: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest turn, as a fraction of a full one."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest zoom, as a fraction of the side."""
    translation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest shift, as a fraction of the side."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest change of contrast, as a fraction."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest change of brightness, as a fraction of the pixel range."""


class Privacy(Section):
    """Differentially private training (DP-SGD): the gradient of each image is clipped, and noise is
    added to their sum, so that the model says little about whether any one image was learned from.
    """

    l2_norm_clip: Annotated[float, Field(gt=0), NO_TRUTH] = 1.0
    """Largest Euclidean norm of an image's gradient; a longer one is scaled down to it."""
    noise_multiplier: Annotated[float, Field(ge=0.1, le=1000), NO_TRUTH] | None = None
    """Standard deviation of the noise on a step's sum of gradients, as a multiple of
    ``l2_norm_clip``."""
    target_epsilon: Annotated[float, Field(ge=0.01, le=100), NO_TRUTH] | None = None
    """In place of ``noise_multiplier``: the epsilon to be kept to, from which the noise is
    calculated."""
    delta: Annotated[float, Field(gt=0, lt=0.01)] = 1e-5
    """Probability with which epsilon may fail to hold; less than one in the number of training
    images."""
    chunk: PositiveInt = 64
    """Images whose gradients are held in memory at a time; changes nothing but speed."""
    class_count_noise: Annotated[float, Field(ge=1), NO_TRUTH] = 20.0
    """With ``class_weights: balanced``, standard deviation of the noise on the number of images of
    each class, which the weights are made of. It counts towards epsilon."""

    @model_validator(mode="after")
    def _noise_is_given_once(self) -> "Privacy":
        if (self.noise_multiplier is None) == (self.target_epsilon is None):
            raise ValueError("give noise_multiplier or target_epsilon, one of the two")
        return self


class Train(Section):
    """The model and how it is fitted."""

    architecture: Annotated[str, Code(unless=r"\w+")] = "mobilenet_v2"
    """``mobilenet_v2``, ``cnn`` (three convolution blocks 32-64-64), ``dense`` (128 units), any
    function of ``keras.applications`` by its name, or ``package.module:function`` that takes
    ``(input_shape, classes, train)`` and returns an uncompiled Keras model that reads pixels 0..255
    and ends in a softmax."""
    alpha: Annotated[float, Field(gt=0, le=2)] = 0.35
    """Width multiplier of MobileNetV2."""
    image_size: tuple[PositiveInt, PositiveInt] = (96, 96)
    """Height and width that the model sees, in pixels."""
    channels: Literal[1, 3] = 3
    """Grey or colour input; ImageNet architectures want 3."""
    exif_orientation: Literal["apply", "ignore"] = "apply"
    """``apply`` turns image files upright as their EXIF data say, in training as in serving;
    ``ignore`` takes the pixels as they are stored."""
    weights: Annotated[Uri, Address(words=("none", "imagenet"))] = "none"
    """``imagenet`` (fetched by Keras), ``none`` (random) or path or URI of a weights file."""
    # not strict: the trigger form has a free text for both
    frozen: Literal["all", "none"] | Annotated[int, Field(ge=1)] = "none"
    """Layers of the backbone that keep their weights: all, none, or the first so many."""
    head: Head = Head()
    """Layers on top of an ImageNet architecture."""
    augmentation: Augmentation = Augmentation()
    """Random changes of the training images."""
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    """Keras optimizer."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Step size; the optimizer's own default when left out."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Momentum of ``sgd`` or ``rmsprop``; none when left out."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a training label's weight that is spread over all classes; 0 leaves labels as they
    are."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Passes over the training images."""
    batch_size: PositiveInt = 32
    """Images a step."""
    validation_split: OpenFraction = 0.1
    """Share of the training groups that is watched, not learned from."""
    class_weights: Literal["balanced", "none"] = "none"
    """``balanced`` weighs a class by the inverse of its frequency."""
    early_stopping: PositiveInt | None = None
    """Epochs without a better validation loss until training stops and the best weights return."""
    mixed_precision: Literal["auto", "on", "off"] = "auto"
    """float16 arithmetic; ``auto`` turns it on where a GPU is found."""
    seed: int = 0
    """Seed of weights, order, dropout and augmentation; in private training of the first weights
    alone."""
    privacy: Privacy | None = None
    """Differentially private training; null: without any guarantee."""

    @field_validator("architecture")
    @classmethod
    def _looks_like_a_name(cls, text: str) -> str:
        head, _, function = text.partition(":")
        names = head.split(".") + ([function] if ":" in text else [])
        if not all(part.isidentifier() for part in names):
            raise ValueError(
                f"{text!r} is neither a name of keras.applications nor package.module:function"
            )
        if ":" not in text and text not in OWN_ARCHITECTURES and application(text) is None:
            names = [*OWN_ARCHITECTURES, *APPLICATIONS]
            near = get_close_matches(text.replace("_", ""), names, n=2, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(
                f"{text!r} is no architecture{hint} There is {', '.join(names)} and "
                "package.module:function"
            )
        return text

    @model_validator(mode="after")
    def _momentum_has_a_place(self) -> "Train":
        if self.momentum is not None and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(
                f"momentum {self.momentum:g} does not go with optimizer {self.optimizer}, which "
                "has momenta of its own; leave momentum out, or choose sgd or rmsprop"
            )
        return self

    @model_validator(mode="after")
    def _private_without_other_losses(self) -> "Train":
        for name, value in (
            ("label_smoothing", self.label_smoothing),
            ("head.l2", self.head.l2),
        ):
            if self.privacy is not None and value:
                raise ValueError(
                    f"{name} {value:g} is not supported with privacy, whose step has a loss of its "
                    "own: the plain cross-entropy of each image; leave it at 0"
                )
        return self

    @model_validator(mode="after")
    def _private_in_full_precision(self) -> "Train":
        if self.privacy is not None and self.mixed_precision == "on":
            raise ValueError(
                "mixed_precision 'on' does not go with privacy: in float16 gradients overflow "
                "before they are clipped; leave it at auto or off"
            )
        return self


class Evaluate(Section):
    """How the model is measured on the test rows."""

    batch_size: PositiveInt = 256
    """Images a step."""
    mistakes: Annotated[int, Field(ge=0, le=100)] = 12
    """Worst mistakes shown as a picture."""
    answers: Annotated[int, Field(ge=0, le=100)] = 12
    """Test images, from every class in turn, shown with the answer to them and its confidence."""
    bootstrap: Annotated[int, Field(ge=0, le=100_000), NO_TRUTH] = 1000
    """Resamples of the confidence intervals; 0 leaves them out."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the intervals."""
    overfit_gap: Fraction = 0.1
    """Gap between logged and inference-mode training accuracy above which a warning is given."""
