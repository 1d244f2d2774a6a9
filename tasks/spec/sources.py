"""The ``source`` section: where the images come from, one model a kind of source."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from tasks.spec.annotations import CloudAnnotations, Coco
from tasks.spec.base import Fraction, InnerFile, InnerFolder, Section, Uri
from tasks.spec.custom import Custom
from tasks.spec.database import Sql

PLACEHOLDERS = ("{filename}", "{stem}")
"""What stands for an image in ``source.regions``."""


def _is_encoding(name: str) -> str:
    try:
        # not every codec is one of texts: base64 is none
        "".encode(name)
    except LookupError:
        raise ValueError(
            f"{name!r} is no encoding of texts; such are utf-8, cp1252, gb18030, euc-kr, big5"
        ) from None
    return name


TextEncoding = Annotated[str, AfterValidator(_is_encoding)]
"""Encoding of a text, as Python names it."""


class CsvImages(Section):
    """A metadata table and a folder of images, as CLAIMED's pipeline reads them."""

    kind: Literal["csv_images"] = "csv_images"
    """How the source is laid out."""
    uri: Uri
    """Folder or archive (.tar, .tar.gz, .tar.xz, .zip): a path, an s3:// URI, or the http(s)
    address of an archive."""
    metadata: InnerFile = "metadata.csv"
    """Path of the table inside the source."""
    encoding: TextEncoding | None = None
    """Encoding of the table, such as ``gb18030``, ``euc-kr``, ``cp1251``; found out when left out,
    where there is no doubt."""
    images: InnerFolder = "images"
    """Folder of the images inside the source."""
    filename_column: str = "filename"
    """Column of the table that names the image file."""
    regions: InnerFile | None = None
    """Path pattern of the masks that mark the relevant region of an image (white is relevant), with
    ``{filename}`` and ``{stem}``: ``masks/{stem}.png``."""
    region_boxes: InnerFile | None = None
    """Path of a COCO file inside the source, whose boxes mark the relevant region of an image that
    has no mask."""
    region_labels: list[str] | None = None
    """Categories of that file whose boxes count; all when left out."""
    max_quarantined: Fraction = 0.1
    """Share of the images found that may fail verification before the night is stopped."""
    max_missing: Fraction = 0.1
    """Share of the rows whose image may be absent before the night is stopped."""

    @field_validator("regions")
    @classmethod
    def _known_placeholders(cls, pattern: str | None) -> str | None:
        strange = [
            each for each in re.findall(r"\{[^}]*\}?|\}", pattern or "") if each not in PLACEHOLDERS
        ]
        if strange:
            raise ValueError(f"{strange[0]} is none of {', '.join(PLACEHOLDERS)}")
        return pattern


class Idx(Section):
    """The four IDX files of MNIST and Fashion-MNIST, gzipped or not."""

    kind: Literal["idx"] = "idx"
    """How the source is laid out."""
    uri: Uri
    """Folder or archive that holds the four files: a path, an s3:// URI, or http(s) address."""
    class_names: list[str]
    """Names of the classes, in the order of the label bytes."""
    train_images: InnerFile = "train-images-idx3-ubyte.gz"
    """Training images file."""
    train_labels: InnerFile = "train-labels-idx1-ubyte.gz"
    """Training labels file."""
    test_images: InnerFile = "t10k-images-idx3-ubyte.gz"
    """Test images file."""
    test_labels: InnerFile = "t10k-labels-idx1-ubyte.gz"
    """Test labels file."""


class Synthetic(Section):
    """Generated chest films in the ``csv_images`` layout, with planted truths for the checks."""

    kind: Literal["synthetic"] = "synthetic"
    """How the source is laid out."""
    variant: Literal["plain", "biased"] = "plain"
    """``biased`` plants a group that the model serves worse and a marker that leaks the label."""
    rows: Annotated[int, Field(ge=40)] = 900
    """Rows of the metadata table."""
    size: Annotated[int, Field(ge=32, le=1024)] = 96
    """Side of the square images, in pixels."""
    seed: int = 7
    """Same seed, same bytes."""


class ClassFolders(Section):
    """Images in folders that are named after their class, as most image collections are."""

    kind: Literal["class_folders"] = "class_folders"
    """How the source is laid out."""
    uri: Uri
    """Folder or archive (.tar, .tar.gz, .tar.xz, .zip): a path, an s3:// URI, or the http(s)
    address of an archive."""
    images: InnerFolder = ""
    """Folder inside the source in which the levels begin; the source itself when left out."""
    levels: Annotated[list[str], Field(min_length=1)] = ["label"]
    """Columns that the folders' names give, from the outermost in: ``[label]`` for
    ``cat/1.jpg``, ``[split, label]`` for ``train/cat/1.jpg``."""
    max_quarantined: Fraction = 0.1
    """Share of the files found that may fail verification before the night is stopped."""

    @field_validator("levels")
    @classmethod
    def _different(cls, levels: list[str]) -> list[str]:
        if len({*levels, "filename"}) <= len(levels) or "" in levels:
            raise ValueError(f"levels must be different names, none of them filename, got {levels}")
        return levels


class Cifar10(Section):
    """The batches of CIFAR-10 as published, python pickles or binary."""

    kind: Literal["cifar10"] = "cifar10"
    """How the source is laid out."""
    uri: Uri
    """Folder or archive that holds the batches: a path, an s3:// URI, or http(s) address."""
    version: Literal["python", "binary"] = "python"
    """Which of the published versions; pickles are read by an unpickler that admits arrays of bytes
    and nothing else."""
    train_batches: list[InnerFile] | None = None
    """Files of the training images; ``data_batch_1`` to ``data_batch_5`` when left out (binary:
    with ``.bin``)."""
    test_batches: list[InnerFile] | None = None
    """Files of the test images; ``test_batch`` when left out (binary: with ``.bin``)."""
    class_names: list[str] = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    """Names of the classes, in the order of the labels."""


class FairFace(Section):
    """FairFace: tables of age, gender and race beside the images that they name."""

    kind: Literal["fairface"] = "fairface"
    """How the source is laid out."""
    uri: Uri
    """Folder or archive (.tar, .tar.gz, .tar.xz, .zip): a path, an s3:// URI, or the http(s)
    address of an archive."""
    train_labels: InnerFile = "fairface_label_train.csv"
    """Table of the training images; one of the two tables may be absent."""
    val_labels: InnerFile = "fairface_label_val.csv"
    """Table of the validation images, which are the published test set."""
    encoding: TextEncoding | None = None
    """Encoding of the tables; found out when left out, where there is no doubt."""
    max_quarantined: Fraction = 0.1
    """Share of the images found that may fail verification before the night is stopped."""
    max_missing: Fraction = 0.1
    """Share of the rows whose image may be absent before the night is stopped."""


class Parquet(Section):
    """A Parquet table with the images in a column, or with paths of images beside it."""

    kind: Literal["parquet"] = "parquet"
    """How the source is laid out."""
    uri: Uri
    """Folder, archive or single ``.parquet`` file: a path, an s3:// URI, or http(s) address (of an
    archive or a single file)."""
    table: InnerFolder = "metadata.parquet"
    """Table inside the source: a file, or a folder of ``.parquet`` files that are read in the order
    of their names; not asked of a single file."""
    image_column: str = "image"
    """Column of the images: the bytes of the files, a struct of ``bytes`` and ``path`` as Hugging
    Face's data sets have, or paths inside ``images``."""
    images: InnerFolder = "images"
    """Folder inside the source of images that are given as paths."""
    max_quarantined: Fraction = 0.1
    """Share of the images found that may fail verification before the night is stopped."""
    max_missing: Fraction = 0.1
    """Share of the rows whose image may be absent before the night is stopped."""


class TFRecord(Section):
    """TFRecord files of ``tf.train.Example``, or a folder prepared by TensorFlow Datasets."""

    kind: Literal["tfrecord"] = "tfrecord"
    """How the source is laid out."""
    uri: Uri
    """Folder, archive or single ``.tfrecord`` file: a path, an s3:// URI, or http(s) address (of an
    archive or a single file)."""
    records: InnerFolder = ""
    """Folder inside the source that holds the files; the source itself when left out."""
    image_feature: str = "image"
    """Feature that holds the bytes of the image file."""
    features: list[str] | None = None
    """Features that become columns; those of ``features.json``, or of the first example, when left
    out."""
    max_quarantined: Fraction = 0.1
    """Share of the images found that may fail verification before the night is stopped."""
    max_missing: Fraction = 0.1
    """Share of the examples that may hold no image before the night is stopped."""


Source = Annotated[
    CsvImages
    | Idx
    | Synthetic
    | ClassFolders
    | Cifar10
    | FairFace
    | Parquet
    | TFRecord
    | CloudAnnotations
    | Coco
    | Sql
    | Custom,
    Field(discriminator="kind"),
]
"""Told apart by ``kind``."""
