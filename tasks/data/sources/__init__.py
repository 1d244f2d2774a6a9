"""The kinds of sources, one class each, chosen by ``source.kind``."""

from collections.abc import Callable
from typing import Any

from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.cifar10 import Cifar10Reader
from tasks.data.sources.class_folders import ClassFoldersReader
from tasks.data.sources.cloud_annotations import CloudAnnotationsReader
from tasks.data.sources.coco import CocoReader
from tasks.data.sources.csv_images import CsvImagesReader
from tasks.data.sources.custom import CustomReader
from tasks.data.sources.fairface import FairFaceReader
from tasks.data.sources.idx import IdxReader
from tasks.data.sources.parquet import ParquetReader
from tasks.data.sources.sql import SqlReader
from tasks.data.sources.synthetic import SyntheticReader
from tasks.data.sources.tfrecord import TFRecordReader
from tasks.spec.annotations import CloudAnnotations, Coco
from tasks.spec.custom import Custom
from tasks.spec.database import Sql
from tasks.spec.sources import (
    Cifar10,
    ClassFolders,
    CsvImages,
    FairFace,
    Idx,
    Parquet,
    Source,
    Synthetic,
    TFRecord,
)

__all__ = ["Contents", "SourceReader", "SourceRow", "open_source"]

_READERS: dict[type, Callable[[Any], SourceReader]] = {
    Cifar10: Cifar10Reader,
    ClassFolders: ClassFoldersReader,
    CloudAnnotations: CloudAnnotationsReader,
    Coco: CocoReader,
    CsvImages: CsvImagesReader,
    Custom: CustomReader,
    FairFace: FairFaceReader,
    Idx: IdxReader,
    Parquet: ParquetReader,
    Sql: SqlReader,
    Synthetic: SyntheticReader,
    TFRecord: TFRecordReader,
}


def open_source(source: Source) -> SourceReader:
    """Return the reader of a source section."""
    return _READERS[type(source)](source)
