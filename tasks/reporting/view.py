"""What the page template is given: sections made of tables, figures, facts and remarks."""

from dataclasses import dataclass, field
from typing import Literal

Look = Literal["text", "number", "code", "pass", "fail", "quiet", "lines"]


_SENTENCE = 40
"""Letters beyond which a text does not fit into a column of a phone."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    text : str
        As it comes from the data; the template escapes it.
    look : str
        How it is set; ``lines`` keeps the line breaks. ``pass`` and ``fail`` carry a sign beside
        the colour.
    hint : str
        Small print under the text.
    """

    text: str
    look: Look = "text"
    hint: str = ""


@dataclass(kw_only=True)
class Table:
    """Rows under headings; columns whose cells are numbers are set to the right."""

    title: str = ""
    headings: list[str]
    rows: list[list[Cell]]
    folded: bool = False
    """Shown on demand; in print, always."""

    @property
    def has_sentences(self) -> bool:
        """Whether cells hold sentences: such rows are set one under the other on a phone."""
        texts = (
            cell.text
            for row in self.rows
            for cell in row
            if cell.look in ("text", "quiet", "lines")
        )
        return len(self.headings) > 2 and any(len(text) > _SENTENCE for text in texts)


@dataclass(kw_only=True)
class Figure:
    """A committed picture.

    Attributes
    ----------
    stage, name : str
        Which output it is.
    title, caption : str
        What it shows, and how to read it.
    uri : str
        The picture itself as a ``data:`` URI, filled in when the page is made.
    wide : bool
        Takes the whole width of the page, as strips of images do.
    """

    stage: str
    name: str
    title: str
    caption: str = ""
    uri: str = ""
    wide: bool = False

    @property
    def key(self) -> str:
        """``stage/name``."""
        return f"{self.stage}/{self.name}"


@dataclass(kw_only=True)
class Remark:
    """A sentence that stands out."""

    text: str
    serious: bool = False


@dataclass(kw_only=True)
class Section:
    """A part of the page with an address of its own."""

    key: str
    title: str
    lead: str = ""
    absence: str = ""
    """Why there is nothing to show."""
    facts: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is known."""
        return not (self.facts or self.remarks or self.tables or self.figures or self.absence)


def number_cell(text: str, hint: str = "") -> Cell:
    """Return a cell that is set as a number."""
    return Cell(text, "number", hint)


def verdict_cell(passed: bool) -> Cell:
    """Return a cell that says pass or fail by sign, word and colour."""
    return Cell("pass", "pass") if passed else Cell("fail", "fail")
