"""What tasks of a DAG run vouch for: a stage's result is what its task has handed on as XCom."""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.contract import Manifest, RunDirectory


def unvouched(
    context: Mapping[str, Any],
    run: RunDirectory,
    *,
    bless: Manifest | None = None,
    read: Iterable[str] = (),
) -> list[str]:
    """Return the stages whose committed result no task of this attempt vouches for: the verdict
    itself, and what it was made of.

    A task vouches for what it handed on as XCom, which no stage can write; one that did not succeed
    vouches for nothing, whatever lies in its folder.

    Parameters
    ----------
    context : mapping
        Airflow's task context.
    run : RunDirectory
        The night.
    bless : Manifest, optional
        What ``bless`` committed, where it has been read.
    read : iterable of str
        Stages whose results are read now, and so must be what they were; one that is gone is not
        told of here.
    """
    manifest = bless or run.read_manifest("bless")
    if manifest is None:
        return ["bless"]
    wanted = {name: {digest} for name, digest in manifest.inputs.items()}
    wanted["bless"] = {manifest.digest}
    for name in read:
        found = run.read_manifest(name)
        if found is not None:
            wanted.setdefault(name, set()).add(found.digest)
    ti = context["ti"]
    states = task_states(ti, sorted(wanted))
    handed = {name: ti.xcom_pull(task_ids=name) for name in wanted}
    return [
        name
        for name, document in handed.items()
        if states.get(name) != "success"
        or not isinstance(document, dict)
        or {document.get("digest")} != wanted[name]
    ]


def in_words(stages: list[str], run: RunDirectory) -> str:
    """Say what is wrong with such stages, and the way out."""
    return (
        f"in {run.uri} the result of {', '.join(stages)} is not what its task handed on as XCom: "
        "the task did not succeed in this attempt, the result was replaced afterwards, or the XCom "
        "removed; clear the task and those after it"
    )


def task_states(ti: Any, tasks: list[str]) -> dict[str, Any]:
    """Return the states of tasks of this very run."""
    found = ti.get_task_states(dag_id=ti.dag_id, task_ids=tasks, run_ids=[ti.run_id])
    return dict(found.get(ti.run_id, {}))
