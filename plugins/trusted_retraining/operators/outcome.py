"""The last task of a night, which gives the DAG run its state."""

from collections.abc import Iterable, Sequence
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from tasks.contract import stages_of
from trusted_retraining.links import MlflowRunLink, TrustReportLink
from trusted_retraining.settings import Settings
from trusted_retraining.storage import run_directory


class OutcomeOperator(BaseOperator):
    """Fail the DAG run if one of its tasks failed, although the later ones came to a verdict.

    Without it a crashed check would end in a refusal and a report, and the run would look green. A
    model that was refused because it did not meet a rule is a success: the night has a verdict.

    Parameters
    ----------
    settings : Settings
        Where the runs are.
    **kwargs
        Passed to Airflow's ``BaseOperator``.
    """

    operator_extra_links = (MlflowRunLink(), TrustReportLink())

    def __init__(self, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings

    def execute(self, context: Any) -> None:
        """Read the states of the run's tasks; fail if one of them failed."""
        ti = context["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
        failed = [name for name, state in states.items() if state == "failed"]
        kept_from = [name for name, state in states.items() if state == "upstream_failed"]
        if not failed and not kept_from:
            self.log.info("the night ended with a verdict")
            return
        run = run_directory(self.settings, ti.dag_id, ti.run_id)
        order = stages_of(run)
        failed, kept_from = _in_order(failed, order), _in_order(kept_from, order)
        reasons: dict[str, list[str]] = {}
        for name in failed:
            failure = run.read_failure(name)
            reasons.setdefault(failure.reason if failure else "no reason known", []).append(name)
        told = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items()]
        message = f"failed: {'; '.join(told) or 'unknown'}"
        if kept_from:
            message += f"; not run because of that: {', '.join(kept_from)}"
        raise AirflowFailException(message)


def _in_order(names: Iterable[str], stages: Sequence[str]) -> list[str]:
    """Sort task names as a night runs them; the first is usually the cause of the others."""
    order = {name: place for place, name in enumerate(stages)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))
