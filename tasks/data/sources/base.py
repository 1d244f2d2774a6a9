"""The one interface behind which every kind of source stands."""

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tasks.data.boxes import Box, PixelBox


@dataclass(frozen=True)
class SourceRow:
    """One row of the source's table.

    Attributes
    ----------
    values : list of str or None
        One cell a column; None where blank.
    image : str or None
        Path of the image relative to the images folder, as the source gives it: it is checked
        before it is followed. None where the row names none.
    region : str or None
        Path of the mask of the relevant region relative to the regions folder, if one may exist.
    boxes : tuple of Box or PixelBox
        Boxes that mark the relevant region, taken where there is no mask.
    """

    values: list[str | None]
    image: str | None
    region: str | None = None
    boxes: tuple[Box | PixelBox, ...] = ()


@dataclass(frozen=True)
class Contents:
    """A source, fetched and opened.

    Attributes
    ----------
    columns : list of str
        Columns of the table.
    rows : iterator of SourceRow
        In the order of the table; read once, never held as a whole.
    images : Path
        Folder of the image files, on this machine.
    regions : Path or None
        Folder of the region masks.
    warnings : sequence of str
        What a person should know about the source; may grow while the rows are read.
    region_of : callable or None
        Returns ``region`` for the file of an image, where the rows do not give it: a row may name
        its file in another spelling.
    root : Path or None
        Folder of the whole source, in which a message may find what the images' folder lacks.
    complete : bool
        Whether the images' folder holds all images, not only those that rows name: then a name may
        be looked for in other spellings.
    """

    columns: list[str]
    rows: Iterator[SourceRow]
    images: Path
    regions: Path | None = None
    warnings: Sequence[str] = ()
    region_of: Callable[[str], str | None] | None = None
    root: Path | None = None
    complete: bool = True


class SourceReader(abc.ABC):
    """Reads one kind of source. Constructed with its section of the pipeline file.

    Attributes
    ----------
    max_quarantined : float
        Share of the images found that may fail verification.
    max_missing : float
        Share of the rows whose image may be absent.
    """

    kind: ClassVar[str]
    max_quarantined: float = 0.0
    max_missing: float = 0.0

    @abc.abstractmethod
    def state(self) -> str:
        """Return a text that changes when the source does, without reading its contents.

        Raises
        ------
        NoInput
            The source does not exist.
        """

    @abc.abstractmethod
    def open(self, scratch: Path) -> Contents:
        """Make the source readable on this machine.

        Parameters
        ----------
        scratch : Path
            Folder for downloads and unpacked files; survives a killed attempt, so that a download
            goes on where it stopped.

        Raises
        ------
        NoInput
            The source does not exist.
        BadInput
            It is not laid out as its kind says.
        """
