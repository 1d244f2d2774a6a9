"""What tasks of a DAG run vouch for: a stage's result is what its task has handed on as XCom."""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.contract import BadInput, Manifest, RunDirectory

_IN_SERVICE = ("publish", "deploy")
"""Stages that put a model into service."""

_READ_FOR_IT = ("arrange", "train", "evaluate", "publish")
"""Stages whose results they read beside the verdict."""


def judged_for(stage: str, context: Mapping[str, Any], run: RunDirectory) -> str:
    """Return the digest of the verdict that its task vouches for, and so do those of all results
    that a stage reads beside it; empty for a stage that puts nothing into service.

    Raises
    ------
    BadInput
        One of them was replaced.
    """
    if stage not in _IN_SERVICE:
        return ""
    read = [name for name in _READ_FOR_IT if name != stage]
    bless = run.read_manifest("bless")
    replaced = ["bless"] if bless is None else unvouched(context, run, bless=bless, read=read)
    if bless is None or replaced:
        raise BadInput(in_words(replaced, run))
    return bless.digest


def unvouched(
    context: Mapping[str, Any],
    run: RunDirectory,
    *,
    bless: Manifest,
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
    bless : Manifest
        What ``bless`` committed, by the very reading that is followed: the next may find another.
    read : iterable of str
        Stages whose results are read now, and so must be what they were; one that is gone is not
        told of here.
    """
    wanted = {name: {digest} for name, digest in bless.inputs.items()}
    wanted["bless"] = {bless.digest}
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
