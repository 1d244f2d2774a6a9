"""A champion of an earlier state is not tested on what it was trained on."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tasks.data.split import in_test
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tests.upgrades.old_state import OldState


def _arranged(
    old_state: OldState, pipeline: Pipeline, environment: Environment
) -> tuple[pd.DataFrame, list[str]]:
    run = old_state.run("upgraded")
    for stage in ("ingest", "transform", "filter", "arrange"):
        manifest = run_stage(load_stage(stage), pipeline=pipeline, run=run, environment=environment)
    return pd.read_parquet(Path(run.path, "arrange/images.parquet")), manifest.warnings


def _trained(old_state: OldState) -> set[str]:
    # the second night deployed the champion, and arranged what the first did
    manifest = old_state.run("second").read_manifest("arrange")
    assert manifest is not None
    folder = manifest.location.removeprefix("file://")
    old = pd.read_parquet(Path(folder, "images.parquet"))
    return set(old.loc[old["split_side"] == "train", "image_sha256"])


def test_nobody_changes_sides_by_an_upgrade(old_state: OldState) -> None:
    table, warnings = _arranged(old_state, old_state.pipeline, old_state.environment)
    trained = table["image_sha256"].isin(_trained(old_state))
    assert (table["split_side"] == "train").tolist() == trained.tolist()
    assert trained.any() and not trained.all()
    assert not any("trained on" in warning for warning in warnings)


@pytest.mark.parametrize("with_registry", [True, False])
def test_patients_who_get_other_names_stay_in_training(
    old_state: OldState, with_registry: bool
) -> None:
    environment = old_state.environment
    if not with_registry:
        environment = replace(environment, mlflow_uri="")
    document = old_state.pipeline.model_dump(mode="json", by_alias=True)
    document["transform"].append({"column": "patientid", "function": "regex('^', 'renamed ')"})
    table, warnings = _arranged(old_state, Pipeline.model_validate(document), environment)
    assert table["patientid"].dropna().str.startswith("renamed ").all()
    trained = table["image_sha256"].isin(_trained(old_state))
    assert set(table.loc[trained, "split_side"]) == {"train"}
    by_name = table["group_key"].map(lambda name: in_test(name, test=0.3))
    assert (by_name & trained).any()
    assert any("they stay in training" in warning for warning in warnings)
