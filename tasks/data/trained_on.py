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
from tasks.data.spellings import normalised
from tasks.spec.data import Split

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

TRAINED_ON = "trained_on.parquet"
"""Name of the file that holds a record."""

_COLUMNS = ("image_sha256", "image_phash", "group", "group_normalised")
_OF_EARLIER_RELEASES = _COLUMNS[:3]
_NO_GROUP = b"-"
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
        looked for; SHA-256 of its group's column and name; SHA-256 of the name alone in the one
        spelling of :func:`tasks.data.spellings.normalised`, empty in a record of an earlier
        release.
    """

    settings: dict[str, Any]
    rows: frozenset[tuple[bytes, bytes, bytes, bytes]]

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
        rows = frozenset(zip(contents, hashes, groups, _normalised(train, split), strict=True))
        return cls(settings=split_settings(split), rows=rows)

    @cached_property
    def digest(self) -> str:
        """Identify it, whatever file it is kept in."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        for row in sorted(self.rows):
            digest.update(b"\0".join(row[: len(self._columns)]))
        return digest.hexdigest()

    @property
    def _columns(self) -> tuple[str, ...]:
        return _COLUMNS if all(row[3] for row in self.rows) else _OF_EARLIER_RELEASES

    def write(self, path: Path) -> None:
        """Write it, the same bytes for the same rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = list(zip(*sorted(self.rows), strict=True)) or [()] * len(_COLUMNS)
        table = pa.table(
            {
                name: pa.array(column, pa.binary())
                for name, column in zip(self._columns, columns, strict=False)
            }
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
            names = _COLUMNS if _COLUMNS[3] in table.column_names else _OF_EARLIER_RELEASES
            columns = [table.column(name).to_pylist() for name in names]
            columns += [[b""] * len(table)] * (len(_COLUMNS) - len(columns))
            rows = frozenset(zip(*columns, strict=True))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise Altered(f"{path}: no record of what a model was trained on: {error}") from error
        return cls(settings=settings, rows=rows)

    def seen(self, table: "pd.DataFrame", split: Split) -> "NDArray[np.bool_]":
        """Return which rows the model was trained on: the same file, a file that is as good as the
        same, another image of the same group unless :meth:`doubt` says why not, or one that
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
        trained = {row[0] for row in self.rows} - {b""}
        found = np.array([content in trained for content in contents], bool)
        column = self.settings["group"]
        if column is None or column in table:
            groups = {row[2] for row in self.rows}
            as_then = split.model_copy(update={"group": column})
            digests = _digests(own_groups(table, as_then), column)
            found |= np.array([digest in groups for digest in digests], bool)
        for name in {column, split.group} & set(table.columns):
            found |= self._spelled_otherwise(table, split.model_copy(update={"group": name}))
        # whether an image of tonight is nearly the same as another has been settled by its family
        here = set(contents)
        gone = {phash for content, phash, *_ in self.rows if phash and content not in here}
        hashes = _hashes(table, split)
        near = near_codes({h for h in hashes if h}, {phash.hex() for phash in gone})
        found |= np.array([phash in near for phash in hashes], bool)
        together = table["group_key"].to_numpy()
        return np.asarray(np.isin(together, np.unique(together[found])))

    def doubt(self, table: "pd.DataFrame", split: Split) -> str:
        """Return why :meth:`seen` may miss images of groups that the model was trained on; empty
        where it cannot.

        Images that are still there say which of tonight's groups they belong to, whatever those
        were called. The groups of the others are only known by the column and names of then.

        Parameters
        ----------
        table, split
            As for :meth:`seen`.
        """
        here = {bytes.fromhex(digest) for digest in table["image_sha256"]}
        gone = sum(row[0] not in here for row in self.rows)
        column = self.settings["group"]
        if not gone or column == split.group or column in table:
            return ""
        then = "it had no split.group" if column is None else f"there is no column {column!r} now"
        return (
            f"which groups {gone} images of its training belong to is not known ({then}, and they "
            "are not among the images any more): test images may be of the same groups"
        )

    def _spelled_otherwise(self, table: "pd.DataFrame", split: Split) -> "NDArray[np.bool_]":
        """Return which rows are of a group that was trained on under another spelling of its name.

        Where the very spelling of then is there too, the others are other groups.
        """
        import numpy as np

        names, forms = {row[2] for row in self.rows}, {row[3] for row in self.rows}
        exact = _digests(own_groups(table, split), split.group)
        own = _normalised(table, split)
        settled = {form for name, form in zip(exact, own, strict=True) if name in names}
        wanted = forms - settled - {b"", _NO_GROUP}
        return np.array([form in wanted for form in own], bool)


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


def _normalised(table: "pd.DataFrame", split: Split) -> list[bytes]:
    """Hash the one spelling of the groups' names, without their column: both are changed."""
    if split.group is None:
        return [_NO_GROUP] * len(table)
    values = group_values(table, split)
    return [
        hashlib.sha256(normalised(value).encode("utf-8", "surrogatepass")).digest()
        if isinstance(value, str)
        else _NO_GROUP
        for value in values
    ]


def _hashes(table: "pd.DataFrame", split: Split) -> list[str | None]:
    if "image_phash" not in table:
        return [None] * len(table)
    fit = comparable(table, split)
    return [phash if ok else None for phash, ok in zip(table["image_phash"], fit, strict=True)]
