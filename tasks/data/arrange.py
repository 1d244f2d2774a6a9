"""Arranges the usable, labelled images: classes, split, folders a class or packed shards."""

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tasks.contract import BadConfig, BadInput
from tasks.data.functions import as_text
from tasks.data.grouping import group_rows
from tasks.data.images import place
from tasks.data.label_conflicts import check_labels
from tasks.data.near_duplicates import Families, look_for_families
from tasks.data.shards import write_shards
from tasks.data.spellings import normalised, spelling_problem
from tasks.data.split import Grouping, hash_sides
from tasks.data.tables import column, quoted, read_table, write_table
from tasks.data.trained_on import TRAINED_ON, TrainedOn, split_settings
from tasks.spec.base import like_an_interval
from tasks.spec.data import Label, Split
from tasks.storage import read_verified

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("tasks")

SHARD_UNIT = 1_000_000
"""Bytes in a megabyte of ``split.shard_megabytes``."""


def arrange(
    metadata: Path,
    taken_in: Path,
    out: Path,
    *,
    label: Label,
    split: Split,
    champions: Mapping[str, TrainedOn] | None = None,
) -> tuple["pd.DataFrame", list[str]]:
    """Arrange a data set.

    Parameters
    ----------
    metadata : Path
        The filtered table.
    taken_in : Path
        Folder that holds ``images/`` and perhaps ``regions/``.
    out : Path
        Gets ``images.parquet``, ``classes.json``, ``near_duplicates.json``,
        ``trained_on.parquet``, ``folders/`` or shards, and ``regions/``.
    label, split : Label, Split
        As the pipeline says.
    champions : mapping of str to TrainedOn, optional
        What the models that serve were trained on, by a name for messages; it is not tested on.

    Returns
    -------
    table : DataFrame
        As written to ``images.parquet``: a mix of classes on each side, in an order that depends on
        the images alone.
    warnings : list of str
        For the report.

    Raises
    ------
    BadInput
        A class is not declared, or no row is left.
    """
    warnings: list[str] = []
    everything = read_table(metadata)
    table = _usable(everything, label, warnings)
    _check_spelling(table, label, warnings)
    warnings += check_labels(everything, table, label)
    unlabelled = (everything["image_status"] == "ok") & everything[label.column].isna()
    classes, positive = choose_classes(table, label, unlabelled=int(unlabelled.sum()))
    table["class_name"] = as_text(table[label.column])
    table["class_index"] = table["class_name"].map({c: i for i, c in enumerate(classes)})
    families = _families(table, taken_in / "images", split, warnings)
    table["near_duplicate_family"] = families.of
    table["near_duplicate_family"] = table["near_duplicate_family"].astype("Int64")
    grouping = group_rows(table, everything, families.joined, split, warnings)
    table["group_key"] = grouping.keys
    table["split_side"] = _sides(table, grouping, split)
    for name, trained_on in (champions or {}).items():
        _keep_in_training(table, split, name, trained_on, warnings)
        doubt = trained_on.doubt(table, split)
        warnings += [f"{name}: {doubt}"] if doubt else []
    order = [hashlib.sha256(str(i).encode()).hexdigest() for i in table["image_id"]]
    table = table.assign(_order=order).sort_values(
        ["split_side", "_order"], ascending=[False, True]
    )
    table = table.drop(columns="_order").reset_index(drop=True)
    table["image_path"] = _paths(table, classes)
    sources = [taken_in / "images" / image_id for image_id in table["image_id"]]
    if split.layout == "links":
        table["shard"], table["shard_offset"] = None, None
        digests = table["image_sha256"]
        for source, path, sha256 in zip(sources, table["image_path"], digests, strict=True):
            _taken_in(source, sha256)
            place(source, os.path.join(out, "folders", path))
    else:
        limit = split.shard_megabytes * SHARD_UNIT
        names, offsets = write_shards(table, sources, out, limit=limit, read=_taken_in)
        table["shard"], table["shard_offset"] = names, offsets
    table["shard"] = table["shard"].astype("str")
    table["shard_offset"] = table["shard_offset"].astype("Int64")
    for region in table["region_path"].dropna().unique():
        place(taken_in / "regions" / region, out / "regions" / region)
    write_table(table, out / "images.parquet")
    document = {"classes": classes, "positive": positive}
    (out / "classes.json").write_text(json.dumps(document, indent=1, ensure_ascii=False))
    (out / "near_duplicates.json").write_text(json.dumps(families.to_dict(), indent=1))
    TrainedOn.of(table, split).write(out / TRAINED_ON)
    return table, warnings


def _taken_in(source: Path, sha256: str) -> bytes:
    """Return an image as it was taken in."""
    return read_verified(source, sha256, stage="ingest", record="metadata.parquet")


def choose_classes(
    table: "pd.DataFrame", label: Label, *, unlabelled: int = 0
) -> tuple[list[str], str | None]:
    """Return the classes in the order of the model's outputs, and the one that is the finding.

    Parameters
    ----------
    table : DataFrame
        The rows with a usable image and a label.
    label : Label
        As the pipeline says.
    unlabelled : int
        Usable images without a label, for the message where they may be the second class.

    Raises
    ------
    BadInput
        The data hold a class that is not declared, or fewer than two.
    BadConfig
        The positive class is none of them.
    """
    counts = Counter(as_text(table[label.column]))
    if label.classes is None:
        classes = sorted(counts)
        posing = next(filter(None, map(like_an_interval, classes)), "")
        if posing:
            raise BadInput(f"label.column {label.column!r}: the class {posing}")
    else:
        classes = list(label.classes)
        strange = [(name, n) for name, n in counts.most_common() if name not in classes]
        if strange:
            examples = ", ".join(f"{quoted(name)} ({n} rows)" for name, n in strange[:5])
            raise BadInput(
                f"label.column {label.column!r} holds {len(strange)} values that are not in "
                f"label.classes: {examples}; map them with a transform, filter or declare them "
                f"(declared: {', '.join(classes)}){_declared_otherwise(strange, classes)}"
            )
    if len(classes) < 2:
        raise BadInput(
            f"label.column {label.column!r} holds a single class, {classes[0]!r} "
            f"({len(table)} rows); two are needed{_fill(label, unlabelled)}"
        )
    positive = label.positive
    if positive is None and len(classes) == 2:
        positive = classes[-1]
    if positive is not None and positive not in classes:
        raise BadConfig(f"label.positive {positive!r} is not one of {', '.join(classes[:20])}")
    return classes, positive


def _fill(label: Label, unlabelled: int) -> str:
    """Name the way to a class of the images that nobody found anything on."""
    if not unlabelled:
        return ""
    return (
        f"; {unlabelled} images have none: if they are a class of their own, say so with a "
        f"transform {{column: {label.column}, function: \"fill('background')\"}}"
    )


def _declared_otherwise(strange: list[tuple[str, int]], classes: list[str]) -> str:
    declared = {normalised(name): name for name in classes}
    for name, _ in strange:
        if normalised(name) in declared:
            return (
                f"; {quoted(name)} is {quoted(declared[normalised(name)])} but for case, blanks or "
                "number format, which function normalise() makes equal"
            )
    return ""


def _check_spelling(table: "pd.DataFrame", label: Label, warnings: list[str]) -> None:
    problem = spelling_problem(as_text(table[label.column]), label.column)
    warnings += [problem] if problem else []


def _usable(table: "pd.DataFrame", label: Label, warnings: list[str]) -> "pd.DataFrame":
    labels = column(table, label.column, "label.column")
    rows = len(table)
    fit = table["image_status"] == "ok"
    blank = fit & labels.isna()
    if blank.any():
        warnings.append(f"{int(blank.sum())} images have a blank {label.column!r} and are left out")
    kept = table[fit & ~blank].copy()
    log.info("arrange: %d of %d rows have an image and a label", len(kept), rows)
    if kept.empty:
        raise BadInput(
            f"none of {rows} rows has both an image and a label: {int((~fit).sum())} have no "
            f"usable image, {int(blank.sum())} a blank {label.column!r}"
        )
    return kept


def _families(table: "pd.DataFrame", images: Path, split: Split, warnings: list[str]) -> Families:
    if split.near_duplicates == "off" or "image_phash" not in table.columns:
        return Families(of=[None] * len(table))
    found = look_for_families(table, images, split)
    log.info(
        "arrange: %d images compared, %d are near duplicates of another, in %d families",
        found.looked_at,
        sum(found.sizes.values()),
        len(found.sizes),
    )
    if found.problem:
        warnings.append(found.problem)
    if found.too_large:
        sizes = sorted((found.sizes[family] for family in found.too_large), reverse=True)
        warnings.append(
            f"{len(sizes)} families of near duplicates are so large ({sizes[0]} images and fewer) "
            "that they are rather a kind of picture than one picture; they are not joined"
        )
    return found


def _sides(table: "pd.DataFrame", grouping: Grouping, split: Split) -> list[str]:
    if split.column is None:
        return hash_sides(grouping, test=split.test, salt=split.salt)
    sides = as_text(column(table, split.column, "split.column")).str.strip().str.lower()
    wrong = ~sides.isin(["train", "test"])
    if wrong.any():
        counts = Counter(sides[wrong].fillna("(blank)")).most_common(5)
        examples = ", ".join(f"{quoted(name)} ({n} rows)" for name, n in counts)
        raise BadInput(
            f"split.column {split.column!r} holds values other than train and test: {examples}; "
            "map them with a transform"
        )
    return list(sides)


def _keep_in_training(
    table: "pd.DataFrame", split: Split, name: str, trained_on: TrainedOn, warnings: list[str]
) -> None:
    """Take out of the test side whatever a champion was trained on: names of groups change, joined
    groups lose the image that joined them, and a hash alone would let them change sides."""
    moved = trained_on.seen(table, split) & (table["split_side"] == "test").to_numpy()
    if not moved.any():
        return
    groups = table.loc[moved, "group_key"]
    told = (
        f"{int(moved.sum())} images ({groups.nunique()} groups, such as {groups.iloc[0]}) would be "
        f"tested on, but {name} was trained on them or on others of their group"
    )
    if split.column is not None or trained_on.settings != split_settings(split):
        warnings.append(
            f"{told}; the split was made anew (split.group, test, column or salt), so they stay, "
            "and are left out of the comparison with it"
        )
        return
    if 2 * moved.sum() > (table["split_side"] == "test").sum():
        told += (
            ", which leaves less than half of the test set: a new split.salt draws it anew, and "
            "images that the champion was trained on are then left out of the comparison only"
        )
    table.loc[moved, "split_side"] = "train"
    warnings.append(f"{told}; they stay in training")


def _paths(table: "pd.DataFrame", classes: list[str]) -> list[str]:
    folders = class_folders(classes)
    return [
        f"{side}/{folders[name]}/{flat_name(image_id)}"
        for side, name, image_id in zip(
            table["split_side"], table["class_name"], table["image_id"], strict=True
        )
    ]


def class_folders(classes: list[str]) -> dict[str, str]:
    """Return a folder name for each class: safe on any file system, different for each."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for index, name in enumerate(classes):
        safe = re.sub(r"[^\w.+ -]+", "_", name).strip(". ")[:80]
        folder, number = safe, index
        while not folder or folder.lower() in taken:
            folder, number = f"{safe or 'class'}-{number}", number + 1
        taken.add(folder.lower())
        folders[name] = folder
    return folders


def flat_name(image_id: str) -> str:
    """Return a file name for an image; those from different folders never collide."""
    path = PurePosixPath(image_id)
    if len(path.parts) == 1 and len(image_id.encode()) <= 200:
        return image_id
    mark = hashlib.sha256(image_id.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{path.stem[:60]}-{mark}{path.suffix[:10]}"
