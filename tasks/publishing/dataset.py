"""The data set as it is published: images, labels and metadata in files, a card, a fingerprint."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract import BadInput, now
from tasks.publishing.card import data_card, description
from tasks.publishing.destination import Destination, PublishedFile, point_to
from tasks.publishing.shards import write_shards
from tasks.spec import Pipeline, PublishDataset

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from tasks.data import Arranged

log = logging.getLogger("tasks")

LATEST = "latest.json"
"""Beside the data sets of a pipeline: which of them is the last published."""

_OWN = ("image_id", "image_sha256", "split", "class_name", "class_index")
_INTERNAL = frozenset(
    {
        *("image_path", "shard", "shard_offset", "image_bytes", "image_status", "region_path"),
        *("image_id", "image_sha256", "image_phash", "split_side", "class_name", "class_index"),
        *("near_duplicate_family", "image"),
    }
)
"""Columns of the arrangement that mean nothing elsewhere, or are published under another name."""

SHARD_UNIT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published data set.

    Attributes
    ----------
    uri : str
        Its folder.
    fingerprint : str
        Digest of its rows (images, labels, sides, published columns) and of its terms.
    rows : int
        Rows in all.
    bytes : int
        Size of all files.
    already : bool
        Whether it had been published before, so that nothing was written.
    """

    uri: str
    fingerprint: str
    rows: int
    bytes: int
    already: bool


def published_table(arranged: "Arranged", options: PublishDataset) -> "pd.DataFrame":
    """Return the rows that are published, with the columns of the metadata that were asked for.

    Raises
    ------
    BadInput
        ``columns`` names one that is not there.
    """
    table = arranged.table().sort_values(["split_side", "image_id"], kind="stable")
    there = [str(name) for name in table.columns if name not in _INTERNAL]
    if options.columns is not None:
        strange = [name for name in options.columns if name not in there]
        if strange:
            raise BadInput(
                f"publish.dataset.columns: there is no column {strange[0]!r}; the columns are "
                f"{', '.join(there)}"
            )
        there = [name for name in there if name in options.columns]
    named = table.rename(columns={"split_side": "split"})
    return named[[*_OWN, *(name for name in there if name not in _OWN)]].reset_index(drop=True)


def data_fingerprint(
    table: "pd.DataFrame", classes: list[str], *, terms: Sequence[str] = ()
) -> str:
    """Return the digest of what is published: the same images, labels and columns, the same digest.

    Parameters
    ----------
    table : DataFrame
        As :func:`published_table` returns it.
    classes : list of str
        In the order of their indices.
    terms : sequence of str
        What the card says of them: licence and description. Data under other terms are published
        anew, so that nobody reads terms that hold no longer.

    Returns
    -------
    str
        64 hexadecimal digits; how the data are stored does not matter.
    """
    digest = hashlib.sha256(json.dumps([classes, list(table.columns), *terms]).encode())
    for row in _rows(table):
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def publish_dataset(
    arranged: "Arranged", options: PublishDataset, *, pipeline: Pipeline, scratch: Path
) -> Published:
    """Publish the arranged data, unless this very content has been published there before.

    Parameters
    ----------
    arranged : Arranged
        What ``arrange`` committed.
    options : PublishDataset
        Where, and how.
    pipeline : Pipeline
        The night's, for the card.
    scratch : Path
        Folder for one file at a time.

    Raises
    ------
    StageError
        The destination cannot be written.
    """
    table = published_table(arranged, options)
    terms = (options.license, description(options, pipeline))
    fingerprint = data_fingerprint(table, arranged.classes, terms=terms)
    parent = f"{options.uri.rstrip('/')}/{pipeline.name}"
    name = f"{fingerprint[:16]}-{options.format}"
    destination = Destination(f"{parent}/{name}")
    found = destination.published()
    if found is not None and found.get("fingerprint") == fingerprint:
        log.info("publish_data: %s holds these %d rows already", destination.uri, len(table))
        _point(parent, name, fingerprint)
        return _told(destination, found, already=True)
    destination.retract()
    files: list[PublishedFile] = []
    try:
        _put_shards(arranged, table, options, destination, scratch, files)
        document = _document(arranged, table, options, pipeline, fingerprint)
        card = scratch / "README.md"
        card.write_text(data_card(document, options=options, pipeline=pipeline), encoding="utf-8")
        files.append(destination.put(card.name, card))
        destination.commit(document, files)
    finally:
        destination.withdraw()
    log.info("publish_data: %d rows are at %s", len(table), destination.uri)
    # after the manifest: whoever follows it finds a whole data set
    _point(parent, name, fingerprint)
    document["files"] = [entry.model_dump() for entry in files]
    return _told(destination, document, already=False)


def _put_shards(
    arranged: "Arranged",
    table: "pd.DataFrame",
    options: PublishDataset,
    destination: Destination,
    scratch: Path,
    files: list[PublishedFile],
) -> None:
    schema = _schema(table)
    whole = arranged.table().set_index("image_id", drop=False)
    for side in ("train", "test"):
        rows = table[table["split"] == side]
        if rows.empty:
            continue
        # in the order in which they are published, with the place of each image
        images = arranged.read_bytes(whole.loc[rows["image_id"]].reset_index(drop=True))
        written = write_shards(
            ({**row, "image": raw} for row, raw in zip(_rows(rows), images, strict=True)),
            form=options.format,
            schema=schema,
            side=side,
            limit=options.shard_megabytes * SHARD_UNIT,
            scratch=scratch,
            finished=lambda path: files.append(destination.put(f"data/{path.name}", path)),
        )
        log.info("publish_data: %s: %d rows", side, written)


def _document(
    arranged: "Arranged",
    table: "pd.DataFrame",
    options: PublishDataset,
    pipeline: Pipeline,
    fingerprint: str,
) -> dict[str, Any]:
    counts = table.groupby(["split", "class_name"]).size()
    return {
        "pipeline": pipeline.name,
        "fingerprint": fingerprint,
        "format": options.format,
        "classes": arranged.classes,
        "positive": arranged.positive,
        "rows": len(table),
        "counts": {
            side: {name: int(counts.get((side, name), 0)) for name in arranged.classes}
            for side in ("train", "test")
        },
        "columns": {field.name: str(field.type) for field in _schema(table)},
        "published_at": now(),
    }


def _point(parent: str, name: str, fingerprint: str) -> None:
    point_to(parent, LATEST, {"folder": name, "fingerprint": fingerprint})


def _told(destination: Destination, document: dict[str, Any], *, already: bool) -> Published:
    return Published(
        uri=destination.uri,
        fingerprint=str(document["fingerprint"]),
        rows=int(document["rows"]),
        bytes=sum(int(entry["bytes"]) for entry in document["files"]),
        already=already,
    )


def _schema(table: "pd.DataFrame") -> "pa.Schema":
    import pandas as pd
    import pyarrow as pa

    fields = [pa.field("image", pa.binary())]
    for name in table.columns:
        values = table[name]
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_integer_dtype(values):
            kind = pa.int64()
        elif pd.api.types.is_float_dtype(values):
            kind = pa.float64()
        else:
            kind = pa.string()
        fields.append(pa.field(str(name), kind))
    return pa.schema(fields)


def _rows(table: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    import pandas as pd

    kinds = {field.name: str(field.type) for field in _schema(table) if field.name != "image"}
    convert = {"int64": int, "double": float, "string": str}
    columns = {name: table[name].tolist() for name in kinds}
    for position in range(len(table)):
        yield {
            name: None if pd.isna(values[position]) else convert[kinds[name]](values[position])
            for name, values in columns.items()
        }
