"""Which of an image's labels is the one to be learned, and which of its boxes mark the region."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tasks.contract import BadConfig, BadInput
from tasks.data.boxes import Box, PixelBox
from tasks.spec.annotations import AnnotatedImages

EXAMPLES = 5

LabelledBox = tuple[str, Box | PixelBox]


class LabelRule:
    """Applies ``source.multi_label`` to one image after the other.

    Parameters
    ----------
    spec : AnnotatedImages
        The source section.
    """

    def __init__(self, spec: AnnotatedImages) -> None:
        self.spec = spec
        self._refused: list[str] = []
        self._several = 0

    def choose(self, image: str, labels: Sequence[str]) -> str | None:
        """Return the label of an image; None when it has none, or is left out by the rule.

        Parameters
        ----------
        image : str
            For messages.
        labels : sequence of str
            In the order of the file; one may be there several times.
        """
        different = list(dict.fromkeys(labels))
        if len(different) < 2:
            return different[0] if different else None
        self._several += 1
        if self.spec.multi_label == "first":
            return different[0]
        if self.spec.multi_label == "priority":
            known = [label for label in self.spec.priority if label in different]
            if known:
                return known[0]
        if self.spec.multi_label != "drop":
            self._refused.append(f"{image[:120]} ({', '.join(different[:5])})")
        return None

    def finish(self) -> list[str]:
        """Return what is to be said about the images with several labels.

        Raises
        ------
        BadInput
            The rule has no answer for some of them.
        """
        if self._refused:
            named = "; ".join(self._refused[:EXAMPLES])
            if self.spec.multi_label == "priority":
                raise BadInput(
                    f"{len(self._refused)} images have several labels, none of them in "
                    f"source.priority: {named}; add one of each to it"
                )
            raise BadInput(
                f"{len(self._refused)} images have several labels: {named}; say what becomes of "
                "them with source.multi_label: drop, first or priority"
            )
        if not self._several:
            return []
        done = {
            "drop": "are left without a label",
            "first": "have the first in the file",
            "priority": "have the one that source.priority names first",
        }[self.spec.multi_label]
        return [f"{self._several} images have several labels and {done}"]


def relevant(
    boxes: Iterable[LabelledBox], label: str | None, wanted: Sequence[str] | None
) -> tuple[Box | PixelBox, ...]:
    """Return the boxes that mark the relevant region of an image.

    Parameters
    ----------
    boxes : iterable of (str, Box)
        All of the image's.
    label : str or None
        Label of the image.
    wanted : sequence of str or None
        Labels whose boxes count; the image's own when None.
    """
    names = {label} if wanted is None else set(wanted)
    return tuple(box for name, box in boxes if name in names)


def check_region_labels(wanted: Sequence[str] | None, boxes: Iterable[LabelledBox]) -> None:
    """Refuse a ``source.region_labels`` that no box has: a misspelt one would go unnoticed.

    Raises
    ------
    BadConfig
        Names the label, and those that there are.
    """
    if not wanted:
        return
    found = Counter(label for label, _ in boxes)
    absent = [label for label in wanted if label not in found]
    if absent:
        known = ", ".join(f"{label!r}" for label, _ in found.most_common(10)) or "no box at all"
        raise BadConfig(f"source.region_labels: no box is labelled {absent[0]!r}; there is {known}")
