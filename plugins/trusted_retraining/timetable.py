"""When a night starts: at its hour, when new data are there, or both."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable
from croniter import CroniterBadDateError, croniter

from tasks.spec import Pipeline, SpecError, Trigger
from trusted_retraining.settings import Settings

_SCHEDULES = "give one such as '0 2 * * *' (UTC), or null for no hour of its own"


def schedule_of(pipeline: Pipeline, settings: Settings) -> Any:
    """Return what a DAG takes as its schedule.

    Parameters
    ----------
    pipeline : Pipeline
        Its ``schedule`` and ``trigger``.
    settings : Settings
        The connection with which a bucket is looked at.

    Returns
    -------
    CronTriggerTimetable, AssetOrTimeSchedule, list of Asset, or None
        None for a pipeline that only people start.

    Raises
    ------
    SpecError
        Airflow takes the cron expression, or the address that is watched, for none.
    """
    nightly = None
    if pipeline.schedule is not None:
        # A new pipeline waits for its hour. With a start date in the past, or without
        # run_immediately, Airflow would start the night that has just gone by as soon as it sees
        # the DAG.
        try:
            nightly = CronTriggerTimetable(
                pipeline.schedule, timezone="UTC", run_immediately=timedelta(0)
            )
            nightly.validate()
            # looks fifty years ahead; Airflow itself would let the scheduler find out
            croniter(nightly.expression, datetime.now(UTC)).get_next()
        except CroniterBadDateError as error:
            raise SpecError(
                f"schedule: {pipeline.schedule!r} names no day that comes; {_SCHEDULES}"
            ) from error
        except Exception as error:
            raise SpecError(
                f"schedule: {pipeline.schedule!r} is no cron expression ({error}); {_SCHEDULES}"
            ) from error
    if pipeline.trigger is None:
        return nightly
    asset = new_data_asset(pipeline, pipeline.trigger, settings)
    return [asset] if nightly is None else AssetOrTimeSchedule(timetable=nightly, assets=[asset])


def new_data_asset(pipeline: Pipeline, trigger: Trigger, settings: Settings) -> Asset:
    """Return the asset whose events start a night, with the watcher that makes them.

    Parameters
    ----------
    pipeline : Pipeline
        The pipeline.
    trigger : Trigger
        Its section.
    settings : Settings
        The connection with which a bucket or queue is looked at.
    """
    watched = pipeline.watched_uri or ""
    uri = watched if "://" in watched else Path(watched).absolute().as_uri()
    watchers = []
    if trigger.sqs_queue is not None:
        # imported late: only who watches a queue has to wait for the provider
        from airflow.providers.amazon.aws.triggers.sqs import SqsSensorTrigger

        watcher = SqsSensorTrigger(
            sqs_queue=trigger.sqs_queue, aws_conn_id=settings.storage_conn_id, wait_time_seconds=20
        )
        watchers.append(AssetWatcher(name=f"{pipeline.name}-queue", trigger=watcher))
    elif trigger.poll_seconds is not None:
        from trusted_retraining.triggers.new_data import NewDataTrigger

        looker = NewDataTrigger(
            uri=watched, conn_id=settings.storage_conn_id, poll_seconds=trigger.poll_seconds
        )
        watchers.append(AssetWatcher(name=f"{pipeline.name}-listing", trigger=looker))
    try:
        return Asset(name=uri, uri=uri, watchers=watchers)
    except Exception as error:
        field = "trigger.uri" if trigger.uri else "source.uri"
        raise SpecError(
            f"{field}: {uri!r} cannot be watched as an asset of Airflow ({error}); give a path or "
            "an s3:// URI in trigger.uri"
        ) from error
