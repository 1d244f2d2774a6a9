"""What is run, and what the originals published: ``experiments.yaml`` as typed models."""

import json
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).with_name("experiments.yaml")


class Original(BaseModel):
    """What the authors published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None
    """Their figure for the experiment's key metric; None where they published none."""
    what: str
    """What it is a figure of."""
    source: Annotated[str, Field(alias="from")]


class Experiment(BaseModel):
    """A pipeline with settings, run with several seeds of training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    pipeline: str
    title: str
    source: str
    """Below the data folder; ``labelled``: a bucket that is made."""
    settings: dict[str, Any] = {}
    seeds: Annotated[int, Field(ge=1)] = 5
    key: str
    """Metric that is set beside the original's figure."""
    metrics: list[str] = []
    """Further metrics of the table."""
    original: Original

    def filled(self, data: Path) -> dict[str, Any]:
        """Return the settings with the data folder in its places."""
        filled: dict[str, Any] = json.loads(json.dumps(self.settings).replace("{data}", str(data)))
        return filled


def load(path: Path = FILE) -> list[Experiment]:
    """Return the experiments of a file."""
    return [Experiment(**entry) for entry in yaml.safe_load(path.read_text())["experiments"]]
