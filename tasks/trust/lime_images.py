"""LIME for images, with the perturbed copies made and classified in the model's own graph."""

from typing import Any

import numpy as np
from lime.lime_image import LimeImageExplainer
from numpy.typing import NDArray

from tasks.trust.explanations import LEAST_MASS, Explanation, Pixels, spread
from tasks.trust.masked_copies import MaskedClassifier

_ALL = 100_000  # features kept: LIME's own default


class LimeExplainer:
    """LIME [1]_ over SLIC superpixels [2]_.

    The samples, the kernel and the fit are those of :class:`lime.lime_image.LimeImageExplainer`:
    the same seed draws the same samples and finds the same weights. What is replaced is its loop,
    which builds every copy in Python and classifies ten at a time: see
    :class:`tasks.trust.masked_copies.MaskedClassifier`.

    Parameters
    ----------
    classify : callable
        Takes float32 (n, height, width, channels), pixels 0..255; returns probabilities
        (n, classes).
    samples : int
        Perturbed copies of an image, the image itself included.
    segments : int
        Superpixels asked for.
    seed : int
        Of the perturbations; every image starts from it anew, so that its explanation does not
        depend on which others are explained.

    References
    ----------
    .. [1] M. T. Ribeiro, S. Singh, C. Guestrin, "Why should I trust you?", KDD 2016.
    .. [2] R. Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods",
       IEEE TPAMI 34 (2012).
    """

    def __init__(self, classify: Any, *, samples: int, segments: int, seed: int) -> None:
        self._samples = samples
        self._segments = segments
        self._seed = seed
        self._copies = MaskedClassifier(classify)

    @property
    def batch(self) -> int:
        """Perturbed copies classified at once."""
        return self._copies.batch

    def explain(self, image: Pixels) -> Explanation:
        """Explain the class predicted for one image.

        Parameters
        ----------
        image : (height, width, channels) float32 array
            Pixels 0..255.
        """
        return self.explain_segments(image, segment(image, count=self._segments))

    def explain_segments(self, image: Pixels, segments: NDArray[np.int64]) -> Explanation:
        """Explain the class predicted for an image whose segments, 0 to n - 1, are given."""
        lime = LimeImageExplainer(random_state=self._seed)
        # explain_instance draws a seed for its segmentation first: keep in step with it
        lime.random_state.randint(0, high=1000)
        count = int(segments.max()) + 1
        switches = lime.random_state.randint(0, 2, self._samples * count)
        switches = switches.reshape(self._samples, count)
        switches[0] = 1
        probabilities = self._copies.probabilities(
            image,
            hidden=mean_colours(image, segments),
            parts=segments,
            switches=switches.astype(np.float32),
        )
        label = int(probabilities[0].argmax())
        _, weights, fidelity, _ = lime.base.explain_instance_with_data(
            switches,
            probabilities,
            # cosine distance to the row of ones: the share of switches that are on says it all
            1.0 - np.sqrt(switches.sum(axis=1) / count),
            label,
            num_features=_ALL,
        )
        found = np.zeros(count)
        for number, weight in weights:
            found[number] = weight
        return Explanation(
            heat=spread(found, segments),
            class_index=label,
            probabilities=probabilities[0].astype(np.float64),
            # of a constant there is nothing to explain: a fit of its rounding is no merit, and a
            # perfect one no reason to pass a rule
            fidelity=float(fidelity) if np.ptp(probabilities[:, label]) >= LEAST_MASS else None,
            segments=segments,
            weights=found,
        )


def segment(image: Pixels, *, count: int) -> NDArray[np.int64]:
    """Cut an image into about ``count`` superpixels of like size by SLIC.

    Parameters
    ----------
    image : (height, width, channels) float32 array
        Pixels 0..255; one channel or three.
    count : int
        Superpixels asked for; SLIC may return a few less.

    Returns
    -------
    (height, width) int array
        0 to n - 1, each number used.
    """
    from skimage.color import gray2rgb
    from skimage.segmentation import slic

    scaled = image.astype(np.float64) / 255.0
    colours = gray2rgb(scaled[..., 0]) if image.shape[-1] == 1 else scaled
    labels = slic(colours, n_segments=count, compactness=10, sigma=1, start_label=0)
    _, numbers = np.unique(labels, return_inverse=True)
    return numbers.reshape(labels.shape).astype(np.int64)


def mean_colours(image: Pixels, segments: NDArray[np.int64]) -> Pixels:
    """Return the image with every segment in its mean colour: what a hidden segment looks like."""
    flat = segments.ravel()
    sizes = np.maximum(np.bincount(flat), 1)
    channels = [
        (np.bincount(flat, weights=image[..., channel].ravel()) / sizes)[segments]
        for channel in range(image.shape[-1])
    ]
    return np.stack(channels, axis=-1).astype(np.float32)
