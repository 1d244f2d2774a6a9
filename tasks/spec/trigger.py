"""Section that says which new data start a night."""

from typing import Annotated

from pydantic import Field

from tasks.spec.base import WEEK_SECONDS, Section, Uri


class Trigger(Section):
    """New data start a night, beside the schedule: an event of the Airflow asset at an address."""

    uri: Uri | None = None
    """Folder or object that is watched, a path or s3:// URI; the source's own when left out. It is
    also the asset's address, for those who tell of changes over Airflow's API or as an outlet."""
    poll_seconds: Annotated[int, Field(ge=10, le=WEEK_SECONDS)] | None = 300
    """Seconds between two looks at its listing; a night starts once two in a row agree on a change.
    null: nobody looks, others tell."""
    sqs_queue: Uri | None = None
    """Address of the SQS queue of the bucket's notifications; takes the place of looking."""

    @property
    def polled(self) -> bool:
        """Whether somebody has to look."""
        return self.sqs_queue is None and self.poll_seconds is not None
