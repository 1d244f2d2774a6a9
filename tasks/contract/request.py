"""What a run was begun with, to which every later stage of it is held."""

import json
from typing import Any

from tasks.contract.errors import BadConfig
from tasks.contract.records import Record
from tasks.contract.run_directory import RunDirectory
from tasks.spec import Pipeline, SpecError
from tasks.spec.masking import masked_deep
from tasks.spec.overrides import check_same_run

REQUEST = "run.json"
"""Name of the :class:`Request` in the run's folder."""


class Request(Record):
    """What a run was begun with, and by whom.

    Attributes
    ----------
    file : dict
        The pipeline file, as JSON, before any change.
    requested_by : str
        User who triggered the run; empty when the schedule or new data did.
    """

    file: dict[str, Any]
    requested_by: str = ""


def begun(run: RunDirectory, file: Pipeline, *, requested_by: str = "") -> Pipeline:
    """Return the pipeline file that the run was begun with; the first stage records it.

    Parameters
    ----------
    run : RunDirectory
        The run.
    file : Pipeline
        The pipeline as in the file that this stage was given.
    requested_by : str
        Who triggered the run; empty when the schedule or new data did.

    Raises
    ------
    BadConfig
        The stage was given another one, or the record cannot be read.
    """
    found = run.read_json(REQUEST)
    if found is None and not run.fs.exists(f"{run.path}/{REQUEST}"):
        document = masked_deep(json.loads(file.to_json()))
        run.write_json(REQUEST, Request(file=document, requested_by=requested_by).model_dump())
        return file
    try:
        stored = Request.model_validate(found).file
        known = Pipeline.model_validate(stored, context={"stored": True})
    except ValueError as error:
        raise BadConfig(
            f"{run.uri}/{REQUEST}: cannot be read, so nothing tells what the run was begun with: "
            "start a new run"
        ) from error
    try:
        check_same_run(known, file)
    except SpecError as error:
        raise BadConfig(str(error)) from error
    return known
