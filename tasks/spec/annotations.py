"""Sections of sources whose labels and boxes somebody drew: Cloud Annotations and COCO."""

from typing import Literal

from pydantic import model_validator

from tasks.spec.base import Fraction, InnerFile, InnerFolder, Section, Uri


class AnnotatedImages(Section):
    """Images whose labels and boxes stand in an annotation file."""

    kind: str
    """How the source is laid out."""
    uri: Uri
    """Folder, bucket or archive: a path, an s3:// URI, or the http(s) address of an archive."""
    multi_label: Literal["error", "drop", "first", "priority"] = "error"
    """What becomes of an image with several different labels: ``error`` stops the night, ``drop``
    leaves the image without a label, ``first`` takes the first in the file, ``priority`` the one
    that ``priority`` names first."""
    priority: list[str] = []
    """Labels in the order in which they go before others (``multi_label: priority``)."""
    region_labels: list[str] | None = None
    """Labels whose boxes mark the relevant region of an image; its own label when left out."""
    max_quarantined: Fraction = 0.1
    """Share of the images found that may fail verification before the night is stopped."""
    max_missing: Fraction = 0.1
    """Share of the annotated images that may be absent before the night is stopped."""

    @model_validator(mode="after")
    def _priority_goes_with_its_rule(self) -> "AnnotatedImages":
        if (self.multi_label == "priority") != bool(self.priority):
            raise ValueError(
                f"multi_label {self.multi_label!r} and priority {self.priority} do not go "
                "together; priority lists labels where multi_label is 'priority', and nowhere else"
            )
        return self


class CloudAnnotations(AnnotatedImages):
    """A bucket labelled with Cloud Annotations: images and ``_annotations.json`` beside them."""

    kind: Literal["cloud_annotations"] = "cloud_annotations"
    """How the source is laid out."""
    annotations: InnerFile = "_annotations.json"
    """Path of the annotation file inside the source."""
    images: InnerFolder = ""
    """Folder of the images inside the source; the source itself when empty."""


class Coco(AnnotatedImages):
    """Images and a file of object boxes in COCO's format."""

    kind: Literal["coco"] = "coco"
    """How the source is laid out."""
    annotations: InnerFile
    """Path of the annotation file inside the source, such as
    ``annotations/instances_train.json``."""
    images: InnerFolder = "images"
    """Folder of the images inside the source."""
