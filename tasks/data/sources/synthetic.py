"""Generated films, read back through the same path as real ones."""

from pathlib import Path

from tasks.data.sources.base import Contents, SourceReader
from tasks.data.sources.csv_images import CsvImagesReader
from tasks.data.synthetic import generate
from tasks.spec.sources import CsvImages, Synthetic


class SyntheticReader(SourceReader):
    """Generates the data set and reads it as a ``csv_images`` source with lung masks as regions."""

    kind = "synthetic"
    # the flaws that are planted
    max_quarantined = 0.1
    max_missing = 0.1

    def __init__(self, spec: Synthetic) -> None:
        self.spec = spec

    def state(self) -> str:
        return ""

    def open(self, scratch: Path) -> Contents:
        folder = scratch / "generated"
        generate(
            folder,
            rows=self.spec.rows,
            variant=self.spec.variant,
            size=self.spec.size,
            seed=self.spec.seed,
        )
        return CsvImagesReader(CsvImages(uri=str(folder), regions="masks/{stem}.png")).open(scratch)
