"""The branch between deploy and reject."""

from typing import Any

from airflow.sdk import BaseBranchOperator

from tasks.contract import Manifest, RunDirectory, Verdict, run_uri
from trusted_retraining.links import MlflowRunLink, TrustReportLink
from trusted_retraining.operators.vouched import in_words, task_states, unvouched
from trusted_retraining.settings import Settings
from trusted_retraining.storage import run_directory


class BlessingGate(BaseBranchOperator):
    """Follow the verdict. Fails closed: whatever is missing or unreadable is a refusal.

    Parameters
    ----------
    settings : Settings
        Where the runs are.
    blessed, refused : str
        Task that follows a model which may, or may not, serve.
    **kwargs
        Passed to Airflow's ``BaseBranchOperator``.
    """

    operator_extra_links = (MlflowRunLink(), TrustReportLink())

    def __init__(
        self,
        *,
        settings: Settings,
        blessed: str = "deploy",
        refused: str = "reject",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.blessed = blessed
        self.refused = refused

    def choose_branch(self, context: Any) -> str:
        """Return the task to go on with."""
        unsure = self._not_succeeded(context)
        if unsure:
            # the folder may hold the verdict of an earlier attempt, about another model
            self.log.warning("refused: %s did not succeed in this attempt", ", ".join(unsure))
            return self.refused
        uri = run_uri(self.settings.storage_root, context["dag"].dag_id, context["run_id"])
        found = self._read_verdict(context)
        if found is None:
            self.log.warning("refused: there is no readable verdict in %s", uri)
            return self.refused
        run, manifest, verdict = found
        replaced = unvouched(context, run, bless=manifest)
        if replaced:
            self.log.warning("refused: %s", in_words(replaced, run))
            return self.refused
        if verdict.may_serve:
            self.log.info("blessed: %s", verdict.model.name)
            return self.blessed
        reasons = verdict.reasons or [verdict.refusal]
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        self.log.info("refused: %s%s", "; ".join(reasons[:3]), more)
        return self.refused

    def _not_succeeded(self, context: Any) -> list[str]:
        """Return the tasks before this one that have no success to show."""
        before = sorted(self.upstream_task_ids)
        if not before:
            return []
        states = task_states(context["ti"], before)
        return [name for name in before if states.get(name) != "success"]

    def _read_verdict(self, context: Any) -> tuple[RunDirectory, Manifest, Verdict] | None:
        try:
            run = run_directory(self.settings, context["dag"].dag_id, context["run_id"])
            manifest = run.read_manifest("bless")
            verdict = run.read_verdict_in_force(manifest) if manifest is not None else None
            return None if manifest is None or verdict is None else (run, manifest, verdict)
        except Exception:
            # storage out of reach, an unknown scheme: no verdict, so no deployment
            self.log.exception("the verdict could not be read")
            return None
