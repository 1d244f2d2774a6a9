"""The kinds of sources, one class each, chosen by ``source.kind``."""

from collections.abc import Callable
from typing import Any

from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.cifar10 import Cifar10Reader
from tasks.data.sources.class_folders import ClassFoldersReader
from tasks.data.sources.csv_images import CsvImagesReader
from tasks.data.sources.idx import IdxReader
from tasks.data.sources.synthetic import SyntheticReader
from tasks.spec.sources import Cifar10, ClassFolders, CsvImages, Idx, Source, Synthetic

__all__ = ["Contents", "SourceReader", "SourceRow", "open_source"]

_READERS: dict[type, Callable[[Any], SourceReader]] = {
    ClassFolders: ClassFoldersReader,
    Cifar10: Cifar10Reader,
    CsvImages: CsvImagesReader,
    Idx: IdxReader,
    Synthetic: SyntheticReader,
}


def open_source(source: Source) -> SourceReader:
    """Return the reader of a source section."""
    return _READERS[type(source)](source)
