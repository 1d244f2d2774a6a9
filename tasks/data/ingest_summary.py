"""What became of the rows of a source, and whether that will do."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tasks.contract import BadInput
from tasks.data.images import QUARANTINED
from tasks.data.sources import SourceReader
from tasks.spec.foreign_text import shown


@dataclass
class Summary:
    """What was taken in.

    Attributes
    ----------
    rows : int
        Rows of the source's table.
    by_status : Counter
        Rows by what became of their image.
    duplicates : int
        Usable images whose content an earlier row has too.
    regions : int
        Usable images with a mask, or boxes, of the relevant region.
    turned : int
        Usable images whose EXIF data turn or mirror them.
    holes : list of str
        Usable images whose picture data may be lost in part.
    sideways_masks : int
        Masks of the size of their image as it is stored, which EXIF turns by a quarter.
    modes : Counter
        Usable images by pixel mode.
    examples : dict of str to list of str
        Up to five file names and reasons for each status that is not ok.
    warnings : list of str
        For the report.
    """

    rows: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    regions: int = 0
    turned: int = 0
    sideways_masks: int = 0
    holes: list[str] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def usable(self) -> int:
        """Rows whose image can be used."""
        return self.by_status["ok"]

    @property
    def quarantined(self) -> int:
        """Rows whose image is there but cannot be used."""
        return sum(self.by_status[status] for status in QUARANTINED)

    @property
    def missing(self) -> int:
        """Rows without image."""
        return self.by_status["missing"]

    def repeats(self) -> list[str]:
        """Return what is to be said where most rows name a file that an earlier row names."""
        repeated = self.by_status["repeated"]
        if 2 * repeated <= self.rows:
            return []
        return [
            f"{repeated} of {self.rows} rows name a file that an earlier row names, and only "
            f"{self.rows - repeated} rows are left; is this the column of the images' files?"
        ]

    def suspicious(self) -> list[str]:
        """Warn of images that decode, though a part of them may be lost."""
        if not self.holes:
            return []
        return [
            f"{len(self.holes)} JPEG files hold long runs of zeros where the picture should be, as "
            "a lost sector or a broken download leaves; plain areas may be written so, too: look "
            f"at them, such as {', '.join(shown(name) for name in self.holes[:5])}"
        ]

    def orientations(self) -> list[str]:
        """Warn of images that are not seen as they are stored."""
        if not self.turned:
            return []
        sideways = [
            f"{self.sideways_masks} masks have the size of their image as it is stored, though "
            "EXIF turns it by a quarter: masks are taken to be drawn on the image upright, so turn "
            "them, unless train.exif_orientation is 'ignore'"
        ] * bool(self.sideways_masks)
        return [
            f"{self.turned} of {self.usable} images are stored turned or mirrored, as their EXIF "
            "orientation says: training and serving put them upright, unless "
            "train.exif_orientation is 'ignore'",
            *sideways,
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "rows": self.rows,
            "usable": self.usable,
            "missing": self.missing,
            "quarantined": self.quarantined,
            "by_status": dict(sorted(self.by_status.items())),
            "duplicates": self.duplicates,
            "regions": self.regions,
            "turned": self.turned,
            "modes": dict(sorted(self.modes.items())),
            "examples": self.examples,
        }


def check_thresholds(summary: Summary, reader: SourceReader) -> None:
    """Stop the night when too much is missing or unusable.

    Raises
    ------
    BadInput
        With the counts and up to five examples.
    """
    if summary.rows == 0:
        raise BadInput("the source's table has no rows")
    missing = summary.missing / summary.rows
    if missing > reader.max_missing:
        raise BadInput(
            f"{summary.missing} of {summary.rows} rows have no image ({missing:.1%}; "
            f"source.max_missing is {reader.max_missing:.1%}): {_examples(summary, ['missing'])}"
        )
    found = summary.rows - summary.missing - summary.by_status["repeated"]
    if found and summary.quarantined / found > reader.max_quarantined:
        raise BadInput(
            f"{summary.quarantined} of {found} images cannot be used "
            f"({summary.quarantined / found:.1%}; source.max_quarantined is "
            f"{reader.max_quarantined:.1%}): {_examples(summary, list(QUARANTINED))}"
        )
    if summary.usable == 0:
        raise BadInput(
            f"none of {summary.rows} rows has a usable image: {_examples(summary, ['missing'])}"
        )


def _examples(summary: Summary, statuses: list[str]) -> str:
    found = [text for status in statuses for text in summary.examples.get(status, [])]
    return "; ".join(found[:5])
