"""The arranged data set, as every later stage reads it."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from tasks.data.shards import shard_folder
from tasks.storage import compare, read_verified, unreadable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


class CommittedOutputs(Protocol):
    """What ``arrange`` committed: a :class:`tasks.stages.base.StageInput`."""

    def path(self, name: str) -> Path:
        """Return the local path of an output, hashed."""

    def unverified_path(self, name: str) -> Path:
        """Return the local path of an output."""

    def read(self, name: str) -> bytes:
        """Return the content of a file, hashed."""

    def has(self, name: str) -> bool:
        """Tell whether an output was committed."""


class Arranged:
    """Images, labels, split and metadata that ``arrange`` committed.

    Parameters
    ----------
    outputs : StageInput
        The committed outputs of ``arrange``.
    """

    def __init__(self, outputs: CommittedOutputs) -> None:
        document = json.loads(outputs.read("classes.json"))
        self.classes: list[str] = document["classes"]
        """Class names, in the order of the model's outputs."""
        self.positive: str | None = document["positive"]
        """Class that counts as the finding, if there is one."""
        # asked for only when needed: outputs of a remote run are fetched
        self._outputs = outputs
        self._table: pd.DataFrame | None = None

    @property
    def positive_index(self) -> int | None:
        """Index of the positive class."""
        return None if self.positive is None else self.classes.index(self.positive)

    def table(self, split: Literal["train", "test"] | None = None) -> "pd.DataFrame":
        """Return one row an image.

        Parameters
        ----------
        split : {'train', 'test'}, optional
            Only the rows of one side.

        Returns
        -------
        DataFrame
            ``image_id``, ``image_path``, ``image_sha256``, ``split_side``, ``class_name``,
            ``class_index``, ``group_key``, ``region_path`` and all columns of the metadata. The
            caller may change it.
        """
        import pandas as pd

        if self._table is None:
            self._table = pd.read_parquet(io.BytesIO(self._outputs.read("images.parquet")))
        table = self._table
        if split is not None:
            table = table[table["split_side"] == split]
        return table.reset_index(drop=True)

    def read_bytes(self, rows: "pd.DataFrame") -> Iterator[bytes]:
        """Yield the image file of each row, in order.

        Parameters
        ----------
        rows : DataFrame
            Rows of :meth:`table`, in any order.

        Raises
        ------
        Altered
            The bytes are not those that the table gives the digest of.
        """
        if not self._outputs.has("folders/"):
            yield from self._members(rows)
            return
        folder = self._outputs.unverified_path("folders/")
        for path, sha256 in zip(rows["image_path"], rows["image_sha256"], strict=True):
            yield read_verified(folder / path, sha256, stage="arrange", record="images.parquet")

    def _members(self, rows: "pd.DataFrame") -> Iterator[bytes]:
        """Yield slices of shards."""
        columns = ("image_id", "shard", "shard_offset", "image_bytes", "image_sha256")
        opened: dict[str, BinaryIO] = {}
        try:
            members = zip(*(rows[column] for column in columns), strict=True)
            for image_id, name, offset, size, sha256 in members:
                if name not in opened:
                    if len(opened) >= 64:
                        opened.pop(next(iter(opened))).close()
                    opened[name] = self._shard(name)
                opened[name].seek(int(offset))
                content = opened[name].read(int(size))
                digest, place = hashlib.sha256(content).hexdigest(), f"{name}: {image_id}"
                compare(digest, sha256, place, stage="arrange", record="images.parquet")
                yield content
        finally:
            for stream in opened.values():
                stream.close()

    def _shard(self, name: str) -> BinaryIO:
        path = self._outputs.unverified_path(shard_folder(name)) / name
        try:
            return path.open("rb")
        except OSError as error:
            raise unreadable(path, error, stage="arrange") from error

    def region(self, row: Any) -> "NDArray[np.uint8] | None":
        """Return the mask of the relevant region of a row's image.

        Parameters
        ----------
        row : Series or named tuple
            A row of :meth:`table`.

        Returns
        -------
        uint8 array, height x width, or None
            0 outside, up to 255 inside, in the mask's own size; None when the image has no mask.
        """
        import numpy as np
        from PIL import Image

        path = (
            row["region_path"]
            if hasattr(row, "index") and not isinstance(row, tuple)
            else (row.region_path)
        )
        if not isinstance(path, str) or not self._outputs.has("regions/"):
            return None
        with Image.open(self._outputs.path("regions/") / path) as image:
            mask = np.asarray(image.convert("L"), np.uint8)
        # masks are at times stored as 0 and 1
        return mask * 255 if mask.max(initial=0) == 1 else mask
