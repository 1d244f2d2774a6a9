"""TFRecord files of ``tf.train.Example``, or a folder prepared by TensorFlow Datasets."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks.contract import BadInput
from tasks.data.fetch import fetch_file_or_folder, source_state
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.csv_table import listing
from tasks.data.sources.embedded import EmbeddedImages
from tasks.data.sources.features import Column, columns_of
from tasks.data.sources.record_file import read_records
from tasks.data.sources.record_folder import find_shards, gaps, is_shard, shard_of
from tasks.data.sources.tf_example import Values, parse_example
from tasks.data.sources.tfds_folder import Shard, read_columns, read_shards
from tasks.spec.sources import TFRecord


class TFRecordReader(SourceReader):
    """Every example is a row; its image is written as a file."""

    kind = "tfrecord"

    def __init__(self, spec: TFRecord) -> None:
        self.spec = spec
        self.max_quarantined = spec.max_quarantined
        self.max_missing = spec.max_missing

    def state(self) -> str:
        return source_state(self.spec.uri, [self.spec.records])

    def open(self, scratch: Path) -> Contents:
        warnings: list[str] = []
        described = None
        folder, single = fetch_file_or_folder(
            self.spec.uri,
            scratch,
            parts=[self.spec.records],
            wanted=is_shard,
            called="a TFRecord file",
        )
        if single is None and (folder / self.spec.records).is_file():
            single = self.spec.records
        if single is not None:
            shards = [shard_of(single)]
        else:
            folder /= self.spec.records
            shards = self._shards(folder, warnings)
            described = read_columns(folder, image=self.spec.image_feature)
        if described is None:
            described = self._of_first_example(folder, shards)
        columns, left_out = self._chosen(*described, warnings)
        names = [column.name for column in columns]
        if "record_file" in names:
            raise BadInput("rename feature 'record_file', which tells the file (source.features)")
        with_split = "split" not in names
        images = scratch / "tfrecord-images"
        return Contents(
            columns=[*names, *(["split"] if with_split else []), "record_file"],
            rows=self._rows(folder, shards, columns, left_out, images, with_split),
            images=images,
            warnings=warnings,
        )

    def _shards(self, folder: Path, warnings: list[str]) -> list[Shard]:
        if not folder.is_dir():
            raise BadInput(
                f"{self.spec.uri}: holds no folder {self.spec.records!r} (source.records)"
            )
        declared = read_shards(folder)
        found = find_shards(folder)
        shards = found if declared is None else declared
        surplus = sorted({shard.name for shard in found} - {shard.name for shard in shards})
        if surplus:
            warnings.append(
                f"{len(surplus)} files are not in dataset_info.json and are not read, such as "
                f"{', '.join(surplus[:5])}"
            )
        absent = [shard.name for shard in shards if not (folder / shard.name).is_file()]
        absent += gaps([shard.name for shard in found]) if declared is None else []
        if absent:
            raise BadInput(f"{self.spec.uri}: files are absent: {', '.join(absent[:5])}")
        if not shards:
            raise BadInput(
                f"{self.spec.uri}: folder {self.spec.records!r} (source.records) holds no "
                f"TFRecord file; it holds {listing(folder)}"
            )
        return shards

    def _of_first_example(
        self, folder: Path, shards: list[Shard]
    ) -> tuple[list[Column], list[str]]:
        example: Mapping[str, Values] = {}
        for shard in shards:
            record = next(read_records(folder / shard.name), None)
            if record is not None:
                example = _parsed(record, f"{shard.name}: record 1")
                break
        return columns_of(example, without=self.spec.image_feature)

    def _chosen(
        self, columns: list[Column], left_out: list[str], warnings: list[str]
    ) -> tuple[list[Column], list[str]]:
        if self.spec.features is not None:
            known = {column.name: column for column in columns}
            return [known.get(name, Column(name)) for name in self.spec.features], []
        warnings += [f"feature {name!r} is no text and is left out" for name in left_out]
        return columns, left_out

    def _rows(
        self,
        folder: Path,
        shards: list[Shard],
        columns: list[Column],
        left_out: list[str],
        target: Path,
        with_split: bool,
    ) -> Iterator[SourceRow]:
        size = sum((folder / shard.name).stat().st_size for shard in shards)
        images = EmbeddedImages(target, source_bytes=size)
        expected = {*left_out, self.spec.image_feature, *(column.name for column in columns)}
        for shard in shards:
            number = 0
            for number, record in enumerate(read_records(folder / shard.name), 1):
                where = f"{shard.name}: record {number}"
                example = _parsed(record, where)
                self._check_features(example, expected, where)
                values = [_text(example.get(c.name, ()), c, where) for c in columns]
                values += [shard.split or None] if with_split else []
                content = self._image(example, where)
                yield SourceRow(
                    values=[*values, shard.name],
                    image=None if content is None else images.add(content),
                )
            if shard.examples not in (None, number):
                raise BadInput(
                    f"{shard.name}: holds {number} examples where dataset_info.json says "
                    f"{shard.examples}; fetch it again"
                )

    def _check_features(
        self, example: Mapping[str, Values], expected: set[str], where: str
    ) -> None:
        strange = example.keys() - expected if self.spec.features is None else set()
        if strange:
            raise BadInput(
                f"{where}: has feature {min(strange)[:80]!r}, which the first record lacks; "
                "name the features to be read in source.features"
            )

    def _image(self, example: Mapping[str, Values], where: str) -> bytes | None:
        name = self.spec.image_feature
        values = example.get(name)
        if values is None and example:
            raise BadInput(
                f"{where}: has no feature {name!r} (source.image_feature); it has "
                f"{', '.join(sorted(example)[:40])}"
            )
        if not values:
            return None
        content = values[0]
        if len(values) > 1 or not isinstance(content, bytes):
            kind = type(content).__name__
            raise BadInput(
                f"{where}: feature {name!r} (source.image_feature) holds {len(values)} values of "
                f"{kind}; it must hold the bytes of one image file"
            )
        return content or None


def _parsed(record: bytes, where: str) -> dict[str, Values]:
    try:
        return parse_example(record)
    except ValueError as error:
        raise BadInput(f"{where}: {error}") from None


def _text(values: Values, column: Column, where: str) -> str | None:
    try:
        return column.text(values)
    except UnicodeDecodeError:
        raise BadInput(
            f"{where}: feature {column.name!r} holds bytes that are no UTF-8 text; name the "
            "features to be read in source.features"
        ) from None
    except ValueError as error:
        raise BadInput(f"{where}: feature {column.name!r}: {error}") from None
