"""The kinds of sources, one class each, chosen by ``source.kind``."""

from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.csv_images import CsvImagesReader
from tasks.data.sources.idx import IdxReader
from tasks.data.sources.synthetic import SyntheticReader
from tasks.spec.data import CsvImages, Idx, Source, Synthetic

__all__ = ["Contents", "SourceReader", "SourceRow", "open_source"]


def open_source(source: Source) -> SourceReader:
    """Return the reader of a source section."""
    if isinstance(source, CsvImages):
        return CsvImagesReader(source)
    if isinstance(source, Idx):
        return IdxReader(source)
    if isinstance(source, Synthetic):
        return SyntheticReader(source)
    raise TypeError(f"no reader for source kind {source.kind!r}")
