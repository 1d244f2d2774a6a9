"""From a pipeline to its DAG."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import DagSerialization

from tasks.contract import CHECKS, STAGE_TEXTS
from tasks.spec import MODEL_STAGES, Pipeline, after_verdict, in_order
from trusted_retraining.links import PublishedLink
from trusted_retraining.operators.gate import BlessingGate
from trusted_retraining.operators.local import LocalStageOperator
from trusted_retraining.operators.outcome import OutcomeOperator
from trusted_retraining.params import trigger_form
from trusted_retraining.pipelines import one_line, serves_on_cluster, usable_pipelines
from trusted_retraining.settings import Runtime, Settings
from trusted_retraining.timetable import schedule_of

GPU_POOL = "gpu"
"""Pool of the stages that run the model: their number at a time is that of the GPUs."""

PREPARATION = ("ingest", "transform", "filter", "arrange", "validate", "train", "evaluate")
"""Stages in a row, before the checks."""

LONGEST_RETRY_DELAY = timedelta(hours=1)

TASK_TEXTS = {
    **STAGE_TEXTS,
    "blessing_gate": "follows the verdict; anything missing is a refusal",
    "outcome": "fails the run if any stage failed",
}


def build_dags(settings: Settings) -> tuple[dict[str, DAG], list[str]]:
    """Build the DAG of every pipeline, each under guard.

    Airflow takes every DAG of a file that raises out of service, so nothing that one pipeline file
    holds may make the building of the others end.

    Parameters
    ----------
    settings : Settings
        The installation's settings.

    Returns
    -------
    dags : dict of str to DAG
        By name of the pipeline; each has been validated and can be serialized.
    errors : list of str
        What is wrong with the other files.
    """
    pipelines, errors = usable_pipelines(settings)
    dags = {}
    for path, pipeline in pipelines.items():
        try:
            dag = build_dag(pipeline, settings)
            dag.validate()  # type: ignore[no-untyped-call]
            dag.check_cycle()
            DagSerialization.to_dict(dag)
        except Exception as error:
            errors.append(f"{path}: Airflow makes no DAG of it: {one_line(error)}")
        else:
            dags[pipeline.name] = dag
    return dags, errors


def build_dag(pipeline: Pipeline, settings: Settings) -> DAG:
    """Return the DAG of one night of a pipeline.

    Parameters
    ----------
    pipeline : Pipeline
        As in its file.
    settings : Settings
        The installation's settings; the runtime decides about the operator class.

    Raises
    ------
    SettingError
        Stages are pods, and something is set so that pods cannot work with it.
    SpecError
        The model cannot be served where the file says.
    """
    with DAG(
        dag_id=pipeline.name,
        description=_first_line(pipeline.description),
        schedule=schedule_of(pipeline, settings),
        catchup=False,
        max_active_runs=1,
        tags=sorted({"trusted-retraining", *pipeline.tags}),
        default_args=_default_arguments(pipeline, settings),
        is_paused_upon_creation=pipeline.is_paused_upon_creation,
        # a DAG is in service where its file says so, not wherever one was built
        auto_register=False,
    ) as dag:
        _build_tasks(pipeline, settings)
    dag.doc_md = _doc(pipeline, dag)
    # Put in last: an operator created after it copies the whole form, and given to DAG it would be
    # checked against its schema at every parse, although the pipeline has been checked. The two
    # were three quarters of the parse time. Airflow hands the form to the tasks when they run.
    dag.params.update(trigger_form(pipeline))
    return dag


def _build_tasks(pipeline: Pipeline, settings: Settings) -> None:
    runtime = settings.runtime_of(pipeline)
    published = serves_on_cluster(pipeline, settings)
    operator = _operator(runtime)

    def stage(name: str, **more: Any) -> BaseOperator:
        built: BaseOperator = operator(
            task_id=name,
            stage=name,
            pipeline=pipeline,
            settings=settings,
            doc_md=TASK_TEXTS[name],
            pool=GPU_POOL if name in MODEL_STAGES else None,
            **more,
        )
        return built

    row = [stage(name) for name in PREPARATION]
    for earlier, later in pairwise(row):
        earlier >> later
    checks = [stage(name) for name in CHECKS]
    # all_done: a crashed check must end in a refusal that says so, not in silence
    bless = stage("bless", trigger_rule="all_done")
    gate = BlessingGate(
        task_id="blessing_gate",
        settings=settings,
        blessed="publish" if published else "deploy",
        trigger_rule="all_done",
        doc_md=TASK_TEXTS["blessing_gate"],
    )
    blessed = [stage("publish"), _deploy(pipeline, settings)] if published else [stage("deploy")]
    reject = stage("reject")
    # one of the two is always skipped, and the other may have failed: the report tells of it
    report = stage("report", trigger_rule="all_done")
    outcome = OutcomeOperator(
        task_id="outcome",
        settings=settings,
        trigger_rule="all_done",
        retries=0,
        doc_md=TASK_TEXTS["outcome"],
    )
    row[-1] >> checks >> bless >> gate >> [blessed[0], reject]
    for earlier, later in pairwise(blessed):
        earlier >> later
    [blessed[-1], reject] >> report >> outcome
    if pipeline.publish.dataset is not None:
        # beside the training: data that passed their checks are published whatever the model does
        published_data = _with_link(stage("publish_data"))
        row[PREPARATION.index("validate")] >> published_data >> report
    if pipeline.publish.report is not None:
        _with_link(report)
    if pipeline.extra_stages:
        _add_extra_stages(pipeline, settings, ours=[*row, *checks, bless, *blessed, reject, report])


def _with_link(task: BaseOperator) -> BaseOperator:
    """Give a task the button that leads to what it publishes."""
    task.operator_extra_links = (*task.operator_extra_links, PublishedLink())
    return task


def _add_extra_stages(
    pipeline: Pipeline, settings: Settings, *, ours: Sequence[BaseOperator]
) -> None:
    """Put the extra stages where they belong: before the verdict, unless they come after it."""
    from trusted_retraining.operators.extra import extra_operator

    operator = extra_operator(settings.runtime_of(pipeline))
    extras = in_order(pipeline.extra_stages)
    late = after_verdict(extras)
    tasks = {task.task_id: task for task in ours}
    for extra in extras:
        built: BaseOperator = operator(
            task_id=extra.name,
            stage=extra.name,
            pipeline=pipeline,
            settings=settings,
            doc_md=_extra_text(extra.description),
            pool=GPU_POOL if extra.requests(pipeline.resources).gpu else None,
            execution_timeout=stage_timeout(pipeline, settings, minutes=extra.timeout_minutes),
        )
        tasks[extra.name] = built
        [tasks[name] for name in extra.after] >> built
        built >> tasks["report" if extra.name in late else "bless"]


def _extra_text(description: str) -> str:
    return " ".join(description.split()) or "a stage of this pipeline's own"


def _operator(runtime: Runtime) -> Any:
    """Return the operator class of the stages."""
    if runtime == "local":
        return LocalStageOperator
    # imported late: the providers take seconds, for which a machine without a cluster need not wait
    from trusted_retraining.operators import pod

    return pod.StageEksPodOperator if runtime == "eks" else pod.StagePodOperator


def _deploy(pipeline: Pipeline, settings: Settings) -> BaseOperator:
    from trusted_retraining.operators.deploy import DeployOperator

    return DeployOperator(
        task_id="deploy", pipeline=pipeline, settings=settings, doc_md=TASK_TEXTS["deploy"]
    )


def _default_arguments(pipeline: Pipeline, settings: Settings) -> dict[str, Any]:
    return {
        "owner": pipeline.owner,
        "retries": pipeline.retries,
        "retry_delay": timedelta(seconds=pipeline.retry_delay_seconds),
        "retry_exponential_backoff": True,
        "max_retry_delay": LONGEST_RETRY_DELAY,
        "execution_timeout": stage_timeout(pipeline, settings),
    }


def stage_timeout(
    pipeline: Pipeline, settings: Settings, *, minutes: int | None = None
) -> timedelta:
    """Return the time after which a stage's task is ended.

    Parameters
    ----------
    pipeline, settings : Pipeline, Settings
        Of the DAG.
    minutes : int, optional
        The stage's own; the pipeline's when left out.
    """
    timeout = timedelta(minutes=minutes or pipeline.stage_timeout_minutes)
    if settings.runtime_of(pipeline) != "local":
        # the stage's own time is the pod's deadline; waiting for a GPU is not part of it
        waiting = settings.cluster.schedule_timeout_seconds
        waiting += settings.cluster.startup_timeout_seconds
        timeout += timedelta(seconds=waiting)
    return timeout


def _first_line(text: str) -> str | None:
    return text.strip().partition("\n")[0].partition(". ")[0] or None


def _doc(pipeline: Pipeline, dag: DAG) -> str:
    own = {extra.name: _extra_text(extra.description) for extra in pipeline.extra_stages}
    texts = {**TASK_TEXTS, **{name: text.replace("|", "\\|") for name, text in own.items()}}
    stages = "\n".join(f"| `{n}` | {text} |" for n, text in texts.items() if n in dag.task_dict)
    return (
        f"### {pipeline.name}\n\n{pipeline.description.strip()}\n\n"
        f"| Stage | What it does |\n| --- | --- |\n{stages}\n\n"
        f"Settings: `{pipeline.name}.yaml` in the folder of pipeline files; *Trigger* changes most "
        "of them for one night; under changed rules a model is judged, not deployed. What the "
        "stages read and write, and what the rules mean: `docs/`.\n"
    )
