"""Sources that are read from a database of films."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.data.ingest import Summary, ingest
from tasks.data.sources import open_source
from tasks.spec import Sql

Encode = Callable[..., bytes]

SECRET = "s3cr3t/@pass"  # noqa: S105
QUERY = "SELECT image, finding, sex, age, id FROM films WHERE finding LIKE '%' ORDER BY id"


def source(images: Path | str, **fields: Any) -> Sql:
    return Sql.model_validate(
        {"query": QUERY, "images": str(images), "max_missing": 1, "max_quarantined": 1, **fields}
    )


def take_in(spec: Sql, tmp_path: Path) -> tuple[Summary, pd.DataFrame]:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    summary = ingest(open_source(spec), out, scratch=tmp_path / "scratch")
    return summary, pd.read_parquet(out / "metadata.parquet")
