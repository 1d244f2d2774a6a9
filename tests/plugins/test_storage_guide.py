"""What docs/storage.md shows is what the code takes."""

import re
from pathlib import Path

import pytest
import yaml
from airflow.sdk import AssetOrTimeSchedule

from tasks.spec import Trigger, load_pipeline
from trusted_retraining.dag_builder import build_dag
from trusted_retraining.settings import Settings

GUIDE = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")
EXAMPLES = [
    yaml.safe_load(text) for text in re.findall(r"^ *```yaml\n(.*?)^ *```", GUIDE, re.M | re.S)
]


def test_the_example_makes_a_dag_that_starts_at_its_hour_or_on_new_data(tmp_path):
    (example,) = [each for each in EXAMPLES if "name" in each]
    path = tmp_path / "chest_films.yaml"
    path.write_text(yaml.safe_dump(example))
    dag = build_dag(load_pipeline(path), Settings.read())
    assert dag.dag_id == "chest_films"
    assert isinstance(dag.timetable, AssetOrTimeSchedule)
    (asset,) = dag.timetable.asset_condition.objects
    assert asset.uri == "s3://films/chest/metadata.csv"
    (watcher,) = asset.watchers
    assert watcher.trigger.poll_seconds == 120


def test_the_section_for_a_queue_is_one():
    (example,) = [each for each in EXAMPLES if "name" not in each]
    trigger = Trigger.model_validate(example["trigger"])
    assert trigger.sqs_queue and not trigger.polled


@pytest.mark.parametrize("name", ["storage_root", "storage_conn_id", "mlflow_artifacts"])
def test_settings_that_it_names_are_there(name):
    assert name in GUIDE
    assert hasattr(Settings.read(), name)
