"""Writes rows and their image files into files of a bounded size: Parquet or TFRecord."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BYTES = 32_000_000
"""Bytes of images that are in memory at a time; a row group of Parquet."""

Row = dict[str, Any]


class Writer(Protocol):
    """Writes the rows of one file."""

    def write(self, rows: list[Row]) -> None:
        """Add rows."""

    def close(self) -> None:
        """Finish the file."""


def write_shards(
    rows: Iterable[Row],
    *,
    form: Literal["parquet", "tfrecord"],
    schema: "pa.Schema",
    side: str,
    limit: int,
    scratch: Path,
    finished: Callable[[Path], None],
) -> int:
    """Write rows into ``<side>-00000.parquet`` and so on, the same bytes for the same rows.

    Parameters
    ----------
    rows : iterable of dict
        Column to value; ``image`` holds the bytes of the image file.
    form : {"parquet", "tfrecord"}
        Format of the files.
    schema : pyarrow.Schema
        Columns and their types.
    side : str
        What the names begin with.
    limit : int
        Bytes of images at which a file is closed.
    scratch : Path
        Gets one file at a time.
    finished : callable
        Takes a finished file, which is removed afterwards.

    Returns
    -------
    int
        Rows written.
    """
    count, number, size, pending = 0, 0, 0, 0
    waiting: list[Row] = []
    writer: Writer | None = None
    path = scratch

    def close() -> None:
        nonlocal writer, size, pending
        if writer is None:
            return
        if waiting:
            writer.write(waiting)
            waiting.clear()
        writer.close()
        writer, size, pending = None, 0, 0
        finished(path)
        path.unlink()

    for row in rows:
        content = len(row["image"])
        if size and size + content > limit:
            close()
            number += 1
        if writer is None:
            path = scratch / f"{side}-{number:05d}.{form}"
            writer = _ParquetFile(path, schema) if form == "parquet" else _TFRecordFile(path)
        waiting.append(row)
        count, size, pending = count + 1, size + content, pending + content
        if pending >= GROUP_BYTES:
            writer.write(waiting)
            waiting.clear()
            pending = 0
    close()
    return count


class _ParquetFile:
    def __init__(self, path: Path, schema: "pa.Schema") -> None:
        import pyarrow.parquet as pq

        self._schema = schema
        # images are compressed already; the dictionary pays for names of classes and groups
        plain = {"image": "NONE"}
        compression = {name: plain.get(name, "ZSTD") for name in schema.names}
        names = [name for name in schema.names if name != "image"]
        self._file = pq.ParquetWriter(
            path, schema, compression=compression, use_dictionary=names, write_statistics=names
        )

    def write(self, rows: list[Row]) -> None:
        import pyarrow as pa

        self._file.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def close(self) -> None:
        self._file.close()


class _TFRecordFile:
    """Examples as ``tf.io.parse_single_example`` reads them; a blank is a feature left out."""

    def __init__(self, path: Path) -> None:
        from tasks.native_log import import_tensorflow

        import_tensorflow()
        import tensorflow as tf

        self._tf = tf
        self._file = tf.io.TFRecordWriter(str(path))

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            features = {name: self._feature(value) for name, value in sorted(row.items())}
            given = {name: feature for name, feature in features.items() if feature is not None}
            example = self._tf.train.Example(features=self._tf.train.Features(feature=given))
            self._file.write(example.SerializeToString(deterministic=True))

    def close(self) -> None:
        self._file.close()

    def _feature(self, value: Any) -> Any:
        train = self._tf.train
        if value is None:
            return None
        if isinstance(value, bool | int):
            return train.Feature(int64_list=train.Int64List(value=[int(value)]))
        if isinstance(value, float):
            return train.Feature(float_list=train.FloatList(value=[value]))
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8")
        return train.Feature(bytes_list=train.BytesList(value=[raw]))
