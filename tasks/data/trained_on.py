"""What a model was trained on, remembered without its images: digests, perceptual hashes, hashed
names of groups, and the settings that chose them."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract import Altered
from tasks.data.functions import as_text
from tasks.data.group_sizes import without_blank_groups
from tasks.data.near_duplicates import comparable, near_codes
from tasks.spec.data import Split

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

TRAINED_ON = "trained_on.parquet"
"""Name of the file that holds a record."""

_COLUMNS = ("image_sha256", "image_phash", "group")
_SETTINGS = b"split"


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """What a model was trained on, its validation images included.

    Attributes
    ----------
    settings : dict
        Of :func:`split_settings`.
    rows : frozenset of tuple of bytes
        SHA-256 of each image's file; its perceptual hash, empty where near duplicates were not
        looked for; SHA-256 of its group's column and name.
    """

    settings: dict[str, Any]
    rows: frozenset[tuple[bytes, bytes, bytes]]

    @classmethod
    def of(cls, table: "pd.DataFrame", split: Split) -> "TrainedOn":
        """Return the record of an arranged table: of its rows that train.

        Parameters
        ----------
        table : DataFrame
            ``images.parquet`` of ``arrange``; one of an earlier release has no perceptual hashes.
        split : Split
            As it was arranged.
        """
        train = table[table["split_side"] == "train"]
        contents = [bytes.fromhex(digest) for digest in train["image_sha256"]]
        hashes = [bytes.fromhex(phash or "") for phash in _hashes(train, split)]
        groups = _digests(own_groups(train, split), split.group)
        rows = frozenset(zip(contents, hashes, groups, strict=True))
        return cls(settings=split_settings(split), rows=rows)

    @cached_property
    def digest(self) -> str:
        """Identify it, whatever file it is kept in."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        for row in sorted(self.rows):
            digest.update(b"\0".join(row))
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write it, the same bytes for the same rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = list(zip(*sorted(self.rows), strict=True)) or [(), (), ()]
        table = pa.table(
            dict(zip(_COLUMNS, (pa.array(c, pa.binary()) for c in columns), strict=True))
        )
        text = json.dumps(self.settings, sort_keys=True)
        pq.write_table(table.replace_schema_metadata({_SETTINGS: text}), path)

    @classmethod
    def read(cls, path: Path) -> "TrainedOn":
        """Read what :meth:`write` wrote.

        Raises
        ------
        Altered
            It is not such a file.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            settings = json.loads(table.schema.metadata[_SETTINGS])
            rows = frozenset(zip(*(table.column(c).to_pylist() for c in _COLUMNS), strict=True))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise Altered(f"{path}: no record of what a model was trained on: {error}") from error
        return cls(settings=settings, rows=rows)

    def unanswerable(self, table: "pd.DataFrame") -> str:
        """Return why :meth:`seen` cannot find other images of the same groups in a table; empty
        when it can."""
        column = self.settings["group"]
        if column is None or column in table:
            return ""
        return f"its groups were in column {column!r}, which the data have no more"

    def seen(self, table: "pd.DataFrame", split: Split) -> "NDArray[np.bool_]":
        """Return which rows the model was trained on: the same file, a file that is as good as the
        same, another image of the same group unless :meth:`unanswerable` says why not, or one that
        is kept together with such a row.

        Parameters
        ----------
        table : DataFrame
            All rows of tonight, on both sides; ``group_key`` names what is kept together.
        split : Split
            Tonight's.
        """
        import numpy as np

        contents = [bytes.fromhex(digest) for digest in table["image_sha256"]]
        trained = {content for content, _, _ in self.rows} - {b""}
        found = np.array([content in trained for content in contents], bool)
        column = self.settings["group"]
        if not self.unanswerable(table):
            groups = {group for _, _, group in self.rows}
            as_then = split.model_copy(update={"group": column})
            digests = _digests(own_groups(table, as_then), column)
            found |= np.array([digest in groups for digest in digests], bool)
        # whether an image of tonight is nearly the same as another has been settled by its family
        here = set(contents)
        gone = {phash for content, phash, _ in self.rows if phash and content not in here}
        hashes = _hashes(table, split)
        near = near_codes({h for h in hashes if h}, {phash.hex() for phash in gone})
        found |= np.array([phash in near for phash in hashes], bool)
        together = table["group_key"].to_numpy()
        return np.asarray(np.isin(together, np.unique(together[found])))


def split_settings(split: Split) -> dict[str, Any]:
    """Return the settings that put a group on a side; the others only ever add to training."""
    return {"group": split.group, "test": split.test, "column": split.column, "salt": split.salt}


def group_values(table: "pd.DataFrame", split: Split) -> "pd.Series":
    """Return the column ``split.group`` as text, NA where nobody knows the group."""
    return without_blank_groups(as_text(table[split.group]), split)


def own_groups(table: "pd.DataFrame", split: Split) -> "pd.Series":
    """Return each row's group as the data have it: the value of a column, or the image itself.

    Parameters
    ----------
    table : DataFrame
        Column ``image_id``, and the group's.
    split : Split
        Names the column, and the values in it that are none.
    """
    own = "image " + table["image_id"]
    if split.group is None:
        return own
    values = group_values(table, split)
    return values.where(values.notna(), own)


def _digests(groups: "pd.Series", column: str | None) -> list[bytes]:
    """Hash names, so that a record beside a model does not spell patients out."""
    names = (f"{column or ''}\0{name}" for name in groups)
    return [hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() for name in names]


def _hashes(table: "pd.DataFrame", split: Split) -> list[str | None]:
    if "image_phash" not in table:
        return [None] * len(table)
    fit = comparable(table, split)
    return [phash if ok else None for phash, ok in zip(table["image_phash"], fit, strict=True)]
