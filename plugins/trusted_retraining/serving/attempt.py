"""One attempt to put a night's model into service: its checks, and the way back."""

import logging
import time

from tasks.contract import (
    CHAMPION,
    Champion,
    Manifest,
    Publication,
    RegistryEntry,
    RunDirectory,
    StageError,
    Verdict,
    champion_records,
    check_champion,
    return_champion,
)
from tasks.spec.masking import masked
from trusted_retraining.hooks.kserve import KServeHook
from trusted_retraining.hooks.mlflow import MlflowHook
from trusted_retraining.serving.plan import Plan
from trusted_retraining.serving.probing import Prober, Watched, ask_prometheus
from trusted_retraining.serving.publication import check_published_files
from trusted_retraining.serving.record import commit
from trusted_retraining.serving.rollout import Phase
from trusted_retraining.serving.rollouts import rollout_of
from trusted_retraining.serving.serving_now import serving_on

log = logging.getLogger("trusted_retraining.serving")


class Attempt:
    """Checks, asks and watches; knows nothing of Airflow's tasks.

    Parameters
    ----------
    run : RunDirectory
        The night.
    verdict, publication : Verdict, Publication
        What it came to.
    plan : Plan
        What is to serve.
    hook : KServeHook
        The cluster.
    """

    def __init__(
        self,
        *,
        run: RunDirectory,
        verdict: Verdict,
        publication: Publication,
        plan: Plan,
        hook: KServeHook,
    ) -> None:
        self.run = run
        self.verdict = verdict
        self.publication = publication
        self.plan = plan
        self.rollout = rollout_of(hook, plan)
        self.registry = MlflowHook(plan.settings.mlflow_uri) if verdict.model.version else None
        self.begun = False
        """Whether there may be something to take back."""
        self.left_behind = False
        """Whether taking it back has failed."""
        self._registry_before: RegistryEntry | None = None
        self._confirmed = False

    def close(self) -> None:
        """Close the connections."""
        if self.registry is not None:
            self.registry.close()

    def begin(self) -> Phase | None:
        """Start the version; None when it serves already, as champion.

        Raises
        ------
        StageError
            The files are not those that were judged, another version became champion, or the
            cluster refuses.
        """
        check_published_files(self.run, self.publication)
        champion = self._check_champion()
        is_champion = self.registry is None or (
            champion is not None and champion.digest == self.plan.digest
        )
        settled = self.rollout.serves() and is_champion
        if settled and self.rollout.already_serves():
            return None
        # From here on there may be something to take back, even if the answer never arrives. But a
        # champion that only lacks a pod at the moment stays.
        self.begun = not settled
        return self.rollout.begin()

    def wait(self, phase: Phase, *, deadline: float, poll_seconds: float) -> None:
        """Wait until the version can be asked.

        Parameters
        ----------
        phase : Phase
            What it is to be ready for.
        deadline : float
            Unix time.
        poll_seconds : float
            Time between two looks.

        Raises
        ------
        StageError
            It will not be ready, or not in time.
        """
        while True:
            found = self.rollout.look_patiently(phase)
            if found.ready:
                return
            if found.hopeless or time.time() >= deadline:
                raise self.not_ready(found.reason)
            time.sleep(poll_seconds)

    def not_ready(self, reason: str) -> StageError:
        """Return the error for a version that does not become ready."""
        plan = self.plan
        return StageError(
            f"{plan.model} version {plan.version} does not become ready (deploy.startup_seconds "
            f"{plan.pipeline.deploy.startup_seconds}): {reason}"
        )

    def prove(self) -> Watched:
        """Ask the canary for known answers, watch it, and give it every request.

        Raises
        ------
        StageError
            It has not proved itself.
        """
        plan, deploy = self.plan, self.plan.pipeline.deploy
        endpoint = self.rollout.endpoint("canary")
        bounds = {
            "max_error_rate": deploy.max_error_rate,
            "max_latency_ms": deploy.max_latency_ms,
        }
        with Prober(self.publication, endpoint) as prober:
            difference = prober.ask_all()
            log.info(
                "%s version %s at %s: %d known answers, largest difference %.2g",
                *(plan.model, plan.version, masked(endpoint.url)),
                *(len(self.publication.known_answers), difference),
            )
            seen = prober.watch(
                seconds=deploy.observe_seconds, still_wanted=self._check_not_taken_over, **bounds
            )
        log.info(
            "watched for %d s: %d requests, %d failed, 95 %% within %.0f ms",
            *(deploy.observe_seconds, seen.requests, seen.failed, seen.latency_ms),
        )
        ask_prometheus(plan.settings.serving, endpoint, seconds=deploy.observe_seconds, **bounds)
        # another night may have been quicker
        self._check_champion()
        self._check_not_taken_over()
        self.rollout.promote()
        return seen

    def confirm(self) -> float:
        """Ask the version as everybody does, then make it the champion.

        Returns
        -------
        float
            Largest difference found of a probability.

        Raises
        ------
        StageError
            It does not answer as it should, was taken back meanwhile, another version became
            champion, or MLflow cannot be reached.
        """
        with Prober(self.publication, self.rollout.endpoint("serving")) as prober:
            difference = prober.ask_all()
        self._check_champion()
        self._check_not_taken_over()
        if self.registry is not None:
            # last: whoever follows the alias finds a version that serves
            self._registry_before = self.registry.entry(self.plan.model)
            self.registry.mark_champion(self.plan.model, self._ours)
            self.registry.point_alias(self.plan.model, self.plan.version)
        self.begun, self._confirmed = False, True
        log.info("%s version %s is the champion", self.plan.model, self.plan.version)
        return difference

    def tidy(self) -> None:
        """End what was only there for the proof. What is left is no reason to fail a good night."""
        try:
            self.rollout.finish()
        except StageError as error:
            log.warning("left over: %s", error)

    def roll_back(self) -> str:
        """Return to what served before, if anything was begun; tell how that went."""
        if self._confirmed:
            return f"version {self.plan.version} serves and stays"
        if not self.begun:
            return "nothing was changed"
        try:
            told = self.rollout.roll_back()
            self._return_champion()
        except Exception as error:
            # the first reason must not be lost over the second
            log.exception("rolling back failed")
            self.left_behind = True
            return f"ROLLING BACK FAILED as well ({error}); look at {self.plan.name} by hand"
        log.error("rolled back: %s", told)
        return told

    def commit(
        self, *, already: bool, difference: float, watched: dict[str, float], seconds: float
    ) -> Manifest:
        """Write ``deployment.json`` and the manifest; log the metrics."""
        answers = 0 if already else len(self.publication.known_answers)
        metrics = {
            "deploy.known_answers": float(answers),
            "deploy.largest_difference": difference,
            "deploy.already_serving": float(already),
            **{f"deploy.{name}": value for name, value in watched.items()},
        }
        document = {
            "model": self.verdict.model.model_dump(),
            "alias": CHAMPION,
            "server_url": masked(self.rollout.endpoint("serving").url),
            "already_serving": already,
            "known_answers": answers,
            "largest_difference": difference,
            "watched": watched,
        }
        previous = self.rollout.look().state.previous
        manifest = commit(
            self.run, self.plan, document, previous=previous, metrics=metrics, seconds=seconds
        )
        self._log(metrics)
        return manifest

    def _log(self, metrics: dict[str, float]) -> None:
        note = self.run.read_json("mlflow.json")
        run_id = note.get("run_id") if isinstance(note, dict) else None
        if self.registry is None:
            return
        try:
            self.registry.set_version_tags(
                self.plan.model, self.plan.version, {"deployed_by": self.plan.run_uri}
            )
            if run_id:
                self.registry.log_metrics(str(run_id), metrics)
        except StageError as error:
            # it serves; the manifest holds the same numbers
            log.warning("%s", error)

    def _check_champion(self) -> Champion | None:
        """Refuse unless the registry's champion, and what serves, are what the verdict compared
        with; return the registry's, None where there is none."""
        model, registry = self.plan.model, self.registry
        current = registry.champion(model) if registry is not None else None
        records = champion_records(
            model,
            served=serving_on(self.rollout.hook, self.plan),
            registry=current,
            history=registry.history(model) if registry is not None else None,
        )
        check_champion(self.verdict, records)
        return current

    @property
    def _ours(self) -> Champion:
        return Champion(self.plan.version, self.plan.digest)

    def _return_champion(self) -> None:
        """Let the registry say what it said: it may have moved the alias, and its answer been
        lost."""
        if self.registry is not None and self._registry_before is not None:
            return_champion(self.registry, self.plan.model, self._ours, self._registry_before)

    def _check_not_taken_over(self) -> None:
        if self.rollout.taken_over():
            raise StageError(
                f"{self.plan.name}: this deployment was ended, or another has gone before it"
            )
