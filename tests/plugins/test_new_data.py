"""New data start a night, beside its hour or instead of it."""

import asyncio
import os
from pathlib import Path

import pytest
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable

from tasks.spec import Pipeline, SpecError, apply_overrides, load_pipeline
from trusted_retraining.local import home
from trusted_retraining.params import trigger_form
from trusted_retraining.pipelines import check_trigger, usable_pipelines
from trusted_retraining.settings import Settings
from trusted_retraining.storage import s3_options
from trusted_retraining.timetable import schedule_of
from trusted_retraining.triggers.new_data import NewDataTrigger

SOURCE = {"kind": "csv_images", "uri": "s3://films/covid"}


def pipeline(**fields):
    document = {"name": "films", "source": SOURCE, "label": {"column": "finding"}, **fields}
    return Pipeline.model_validate(document)


def asset_of(schedule):
    (asset,) = schedule.asset_condition.objects
    return asset


def test_a_pipeline_without_trigger_has_its_hour_alone():
    assert isinstance(schedule_of(pipeline(), Settings.read()), CronTriggerTimetable)
    assert schedule_of(pipeline(schedule=None), Settings.read()) is None


def test_a_night_starts_at_its_hour_or_when_the_bucket_changes():
    schedule = schedule_of(pipeline(trigger={"poll_seconds": 60}), Settings.read())
    assert isinstance(schedule, AssetOrTimeSchedule)
    assert schedule.timetable.expression == "0 2 * * *"
    asset = asset_of(schedule)
    assert asset.uri == "s3://films/covid"
    (watcher,) = asset.watchers
    path, arguments = watcher.trigger.serialize()
    assert path == "trusted_retraining.triggers.new_data.NewDataTrigger"
    assert arguments == {"uri": "s3://films/covid", "conn_id": "aws_default", "poll_seconds": 60}


def test_a_pipeline_can_wait_for_new_data_alone():
    (asset,) = schedule_of(pipeline(schedule=None, trigger={}), Settings.read())
    assert asset.uri == "s3://films/covid"


def test_others_may_tell_of_changes():
    there = "https://example.org/films.zip"
    source = {**SOURCE, "uri": there}
    schedule = schedule_of(pipeline(source=source, trigger={"poll_seconds": None}), Settings.read())
    assert asset_of(schedule).uri.startswith("https://example.org/films.zip")
    assert asset_of(schedule).watchers == []


def test_a_queue_takes_the_place_of_looking():
    queue = "https://sqs.eu-central-1.amazonaws.com/1/films"
    asset = asset_of(schedule_of(pipeline(trigger={"sqs_queue": queue}), Settings.read()))
    (watcher,) = asset.watchers
    path, arguments = watcher.trigger.serialize()
    assert path == "airflow.providers.amazon.aws.triggers.sqs.SqsSensorTrigger"
    assert arguments["sqs_queue"] == queue and arguments["aws_conn_id"] == "aws_default"


@pytest.mark.parametrize(
    "source", [{"kind": "synthetic"}, {**SOURCE, "uri": "https://example.org/films.zip"}]
)
def test_what_cannot_be_listed_cannot_be_watched(source):
    with pytest.raises(ValueError, match=r"cannot be listed; give a path or an s3:// URI"):
        pipeline(source=source, trigger={})
    assert pipeline(source=source, trigger={"uri": "s3://films/ready"}).watched_uri


@pytest.mark.parametrize(
    ("fields", "root", "written"),
    [
        ({}, "s3://films/covid/runs", "storage_root"),
        ({}, "s3a://films/covid", "storage_root"),
        ({"trigger": {"uri": "s3://films/"}}, "s3://films/runs", "storage_root"),
        ({"publish": {"dataset": {"uri": "s3://films/covid/out"}}}, "s3://runs", "publish.dataset"),
    ],
)
def test_nights_that_would_start_each_other_are_refused(monkeypatch, fields, root, written):
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", root)
    watched = pipeline(**{"trigger": {}, **fields})
    with pytest.raises(SpecError, match=rf"{written}.*each night would start the next"):
        check_trigger(watched, Settings.read())


@pytest.mark.parametrize("trigger", [None, {"poll_seconds": None}, {"uri": "s3://films/ready"}])
def test_a_folder_that_nobody_looks_at_may_hold_what_nights_write(monkeypatch, trigger):
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", "s3://films/covid/runs")
    check_trigger(pipeline(trigger=trigger), Settings.read())


def test_a_folder_beside_what_nights_write_can_be_watched(monkeypatch):
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", "s3://films/covid-runs")
    check_trigger(pipeline(trigger={}), Settings.read())


def test_a_pipeline_that_would_start_itself_is_an_import_error(monkeypatch, tmp_path):
    (tmp_path / "films.yaml").write_text(pipeline(trigger={}).to_json())
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__PIPELINES", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", "s3://films/covid/runs")
    usable, errors = usable_pipelines(Settings.read())
    assert not usable and "films.yaml: trigger: s3://films/covid holds" in errors[0]


def test_the_trigger_belongs_to_the_dag_and_is_not_on_the_form():
    watched = pipeline(trigger={})
    assert not [name for name in trigger_form(watched) if name.startswith("trigger")]
    assert load_pipeline(watched.to_json()) == watched
    with pytest.raises(SpecError):
        apply_overrides(watched, {"trigger.poll_seconds": 1})


def events(trigger, change, *, looks):
    """Return the events of a watcher for which ``change`` is called before each further look."""

    async def watch():
        found = []

        async def collect():
            async for event in trigger.run():
                found.append(event.payload)

        task = asyncio.create_task(collect())
        for number in range(looks):
            change(number)
            await asyncio.sleep(4 * trigger.poll_seconds)
        task.cancel()
        return found

    return asyncio.run(watch())


def test_the_watcher_tells_of_each_change_once(tmp_path):
    (tmp_path / "images").mkdir()
    trigger = NewDataTrigger(uri=str(tmp_path), conn_id="", poll_seconds=0.05)

    def change(number):
        if number in (1, 3):
            (tmp_path / "images" / f"{number}.png").write_bytes(b"x")

    told = events(trigger, change, looks=6)
    assert len(told) == 2
    assert told[0]["uri"] == str(tmp_path) and told[0]["state"] != told[1]["state"]


def test_the_watcher_waits_for_the_end_of_an_upload(tmp_path):
    trigger = NewDataTrigger(uri=str(tmp_path), conn_id="", poll_seconds=0.05)
    looks = []
    # a new file is there at each of the looks 2 to 6, and then no more
    states = iter(["a", "b", "c", "d", "e", "e", "e", "e"])

    def look():
        looks.append(next(states, "e"))
        return looks[-1]

    trigger.look = look
    told = events(trigger, lambda number: None, looks=6)
    assert [event["state"] for event in told] == ["e"]


def test_the_watcher_survives_a_store_that_is_away(tmp_path):
    trigger = NewDataTrigger(uri=str(tmp_path), conn_id="", poll_seconds=0.05)
    answers = iter(["a", OSError("away"), "b", "b", "b"])

    def look():
        answer = next(answers, "b")
        if isinstance(answer, Exception):
            raise answer
        return answer

    trigger.look = look
    assert [e["state"] for e in events(trigger, lambda number: None, looks=5)] == ["b"]


def test_credentials_and_endpoint_come_from_the_connection(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_FILMS_STORE",
        '{"conn_type": "aws", "login": "of-a-test", "password": "secret-of-a-test", '
        '"extra": {"region_name": "eu-central-1", "endpoint_url": "http://127.0.0.1:9"}}',
    )
    options = s3_options("films_store")
    assert options["endpoint_url"] == "http://127.0.0.1:9"
    assert options["client_kwargs"]["region_name"] == "eu-central-1"
    credentials = asyncio.run(options["session"].get_credentials())
    assert credentials.access_key == "of-a-test"


DAG_FILE = """
from airflow.sdk import DAG
from tasks.spec import load_pipeline
from trusted_retraining.dag_builder import build_dag
from trusted_retraining.settings import Settings
dag = build_dag(load_pipeline({spec!r}), Settings.read())
"""


def test_an_event_of_the_asset_makes_a_run(tmp_path):
    """The scheduler's own code, on a database of its own."""
    from airflow.assets.manager import asset_manager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models.asset import AssetModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.sqlalchemy import prohibit_commit
    from sqlalchemy import select

    home.prepare(Path(os.environ["TEST_AIRFLOW_STATE"]))
    watched = pipeline(
        name="films_of_a_test", trigger={}, schedule="0 2 * * *", is_paused_upon_creation=False
    )
    (tmp_path / "films.py").write_text(DAG_FILE.format(spec=watched.to_json()))
    bag = BundleDagBag(tmp_path, bundle_path=tmp_path, bundle_name="of-a-test")
    assert bag.import_errors == {}
    with create_session() as session:
        session.merge(DagBundleModel(name="of-a-test"))
    sync_bag_to_db(bag, "of-a-test", None)
    with create_session() as session:
        asset = session.scalar(select(AssetModel).where(AssetModel.uri == "s3://films/covid"))
        assert [trigger.classpath for trigger in asset.triggers] == [
            "trusted_retraining.triggers.new_data.NewDataTrigger"
        ]
        asset_manager.register_asset_change(asset=asset, session=session)
    runner = SchedulerJobRunner(job=Job())
    with create_session() as session:
        with prohibit_commit(session) as guard:
            runner._create_dagruns_for_dags(guard, session)
            guard.commit()
        runs = session.scalars(select(DagRun).where(DagRun.dag_id == "films_of_a_test")).all()
        assert [run.run_type for run in runs] == ["asset_triggered"]
        assert [event.asset_id for event in runs[0].consumed_asset_events] == [asset.id]
