"""The card of a published data set: what it is, what it holds, and where it comes from."""

import json
from typing import Any

from tasks.spec import Pipeline, PublishDataset
from tasks.spec.foreign_text import visible
from tasks.spec.masking import without_queries


def data_card(document: dict[str, Any], *, options: PublishDataset, pipeline: Pipeline) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    document : dict
        The manifest: counts, columns, fingerprint.
    options : PublishDataset
        Description and licence.
    pipeline : Pipeline
        Source, transformations, predicates, split.
    """
    about = description(options, pipeline)
    parts = [
        f"# {pipeline.name}: images and labels",
        about or "No description was given.",
        f"Fingerprint `{document['fingerprint']}`, format {document['format']}, "
        f"{document['rows']:,} rows, published {document['published_at']}. Licence: "
        f"{options.license or 'not stated'}.",
        "## Classes",
        _counts(document),
        "## Columns",
        _columns(document),
        "## How it was made",
        _made(pipeline),
        "## How to read it",
        _reading(document["format"]),
    ]
    return "\n\n".join(parts) + "\n"


def description(options: PublishDataset, pipeline: Pipeline) -> str:
    """Return what the card says that the data are; empty where nothing says it."""
    return (options.description or pipeline.description).strip()


def _counts(document: dict[str, Any]) -> str:
    counts = document["counts"]
    lines = ["| Class | Index | Train | Test |", "| --- | --- | --- | --- |"]
    for index, name in enumerate(document["classes"]):
        cells = [_cell(name), str(index)]
        cells += [f"{counts[side][name]:,}" for side in ("train", "test")]
        lines.append(f"| {' | '.join(cells)} |")
    if document["positive"]:
        lines += ["", f"The finding is {_cell(document['positive'])}."]
    return "\n".join(lines)


_MEANINGS = {
    "image": "bytes of the image file, as it was taken in",
    "image_id": "name of the image in the source",
    "image_sha256": "digest of its bytes",
    "split": "train or test; a group is never on both sides",
    "class_name": "label",
    "class_index": "its place in the list of classes",
    "group_key": "what was kept together in the split, such as a patient",
}


def _columns(document: dict[str, Any]) -> str:
    lines = ["| Column | Type | Meaning |", "| --- | --- | --- |"]
    for name, kind in document["columns"].items():
        meaning = _MEANINGS.get(name, "metadata of the source")
        lines.append(f"| {_cell(name)} | {kind} | {meaning} |")
    return "\n".join(lines)


def _made(pipeline: Pipeline) -> str:
    source = pipeline.source.model_dump(mode="json", exclude_defaults=True)
    lines = [f"- source: {pipeline.source.kind} {_code(source)}"]
    for transform in pipeline.transform:
        into = f" into {_code(transform.into)}" if transform.into else ""
        lines.append(f"- column {_code(transform.column)}: {_code(transform.function)}{into}")
    lines += [f"- rows kept where {_code(predicate)}" for predicate in pipeline.filter]
    lines.append(f"- label: {_code(pipeline.label.model_dump(mode='json', exclude_none=True))}")
    lines.append(f"- split: {_code(pipeline.split.model_dump(mode='json', exclude_defaults=True))}")
    lines.append("- images that cannot be decoded, and rows without an image, are left out")
    return "\n".join(lines)


def _reading(form: str) -> str:
    if form == "parquet":
        return (
            "`pandas.read_parquet('data/train-00000.parquet')`, or the folder `data/` with "
            "`pyarrow.dataset`; column `image` is what `PIL.Image.open(io.BytesIO(...))` takes. "
            "`manifest.json` lists the files with size and SHA-256; it is written last."
        )
    return (
        "`tf.data.TFRecordDataset` over `data/train-*.tfrecord`; each record is a "
        "`tf.train.Example` whose features are the columns above (a blank is left out), `image` "
        "for `tf.io.decode_image`. `manifest.json` lists the files with size and SHA-256; it is "
        "written last."
    )


def _code(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = visible(without_queries(text), keep="\n\t")
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def _cell(text: str) -> str:
    return visible(" ".join(text.split())).replace("|", "\\|")
