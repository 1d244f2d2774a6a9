"""Section that says what a night publishes beside its model."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tasks.spec.base import NO_SECRET, PositiveInt, Section, Uri
from tasks.spec.marks import Address


def _writable(uri: str) -> str:
    if uri.startswith(("http://", "https://")):
        raise ValueError("cannot be written to; give a folder or an s3:// URI")
    return uri


Destination = Annotated[Uri, AfterValidator(_writable)]


class PublishDataset(Section):
    """The cleaned, arranged data set, with its card and fingerprint."""

    uri: Destination
    """Folder or s3:// URI; the data come to lie in ``<uri>/<pipeline>/<fingerprint>/``."""
    format: Literal["parquet", "tfrecord"] = "parquet"
    """How images, labels and metadata are stored."""
    shard_megabytes: PositiveInt = 256
    """Size at which a file is closed."""
    columns: list[str] | None = None
    """Columns of the metadata that are published; left out: all, those of the group (a patient's
    number) and of protected attributes too. Image, class and side of the split always are."""
    license: str = ""
    """Terms under which the data may be used, for the card."""
    description: str = ""
    """What the data are, for the card (Markdown); left out: the pipeline's description."""


class PublishReport(Section):
    """The report page."""

    uri: Destination
    """Folder or s3:// URI; the page comes to lie in ``<uri>/<pipeline>/<run>/report.html``."""
    browse: Annotated[str, Field(pattern=r"^https?://[^\s@]+$"), NO_SECRET, Address()] | None = None
    """Address at which a browser reaches that folder, for links; left out: there are none."""


class Publish(Section):
    """What a night puts where others find it, beside the model that it serves; nothing unless it
    is declared."""

    dataset: PublishDataset | None = None
    """The data set; null: it is not published."""
    report: PublishReport | None = None
    """The report page; null: it is not published."""
