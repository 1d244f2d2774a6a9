"""What is known about a run: read through the contract, tolerant of anything missing or damaged."""

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tasks.contract import (
    REQUEST,
    Failure,
    Manifest,
    NoInput,
    Request,
    RunDirectory,
    Verdict,
    extras_of,
    open_filesystem,
    stage_names,
    storage_errors,
)
from tasks.contract.filesystem import read_whole
from tasks.spec import Change, Pipeline, changes
from tasks.spec.masking import masked_deep

log = logging.getLogger("tasks")

Status = Literal["computed", "reused", "failed", "not run"]


@dataclass(frozen=True, kw_only=True)
class StageFacts:
    """One stage of a run: its manifest, or why there is none.

    Attributes
    ----------
    name : str
    manifest : Manifest or None
        What it committed.
    failure : Failure or None
        Its last failed attempt; None when a manifest stands.
    """

    name: str
    manifest: Manifest | None
    failure: Failure | None

    @property
    def status(self) -> Status:
        """Whether the result was computed, taken over, or is missing."""
        if self.manifest is not None:
            return "reused" if self.manifest.reused_from else "computed"
        return "failed" if self.failure is not None else "not run"

    @property
    def absence(self) -> str:
        """Why there is no result, in words; empty when there is one."""
        if self.manifest is not None:
            return ""
        if self.failure is not None:
            return f"failed with exit code {self.failure.exit_code}: {self.failure.reason}"
        return "not run"

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics without the stage's name in front."""
        return {
            name.removeprefix(f"{self.name}."): value
            for name, value in (self.manifest.metrics if self.manifest else {}).items()
        }

    @property
    def notes(self) -> dict[str, str]:
        """Notes on metrics, without the stage's name in front."""
        return {
            name.removeprefix(f"{self.name}."): text
            for name, text in (self.manifest.notes if self.manifest else {}).items()
        }

    def outputs(self, suffix: str) -> list[str]:
        """Return the names of the committed files that end so."""
        if self.manifest is None:
            return []
        return [output.path for output in self.manifest.outputs if output.path.endswith(suffix)]

    def read_bytes(self, name: str) -> bytes | None:
        """Return a committed file; None when it is absent or is not what was committed."""
        try:
            if self.manifest is None:
                return None
            output = self.manifest.output(name)
            fs, folder = open_filesystem(self.manifest.location)
            # a store that is away must not make a page that says that everything is missing
            with storage_errors(self.manifest.location):
                raw = read_whole(fs, f"{folder}/{name}")
        except (OSError, KeyError, ValueError, NoInput):
            return None
        if hashlib.sha256(raw).hexdigest() != output.sha256:
            log.warning("report: %s/%s is not the file that was committed", self.name, name)
            return None
        return raw

    def read_json(self, name: str) -> dict[str, Any]:
        """Return a committed JSON object; empty when absent, damaged or something else."""
        raw = self.read_bytes(name)
        try:
            document = json.loads(raw) if raw is not None else {}
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


class RunFacts:
    """Everything that the run directory tells about one run.

    Parameters
    ----------
    run : RunDirectory
        The run; nothing in it needs to exist.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.extras = {extra.name: extra for extra in extras_of(run)}
        self.stages = {
            name: _read_stage(run, name) for name in stage_names(list(self.extras.values()))
        }

    @cached_property
    def verdict(self) -> Verdict | None:
        """The committed verdict."""
        return self.run.read_verdict()

    @cached_property
    def pipeline(self) -> dict[str, Any]:
        """The pipeline as run, as a plain document; empty when it was not recorded."""
        # an earlier version may have stored what is refused today
        document = masked_deep(self.run.read_json("pipeline.json"))
        return document if isinstance(document, dict) else {}

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline; from the folder when it was not recorded."""
        return str(self.pipeline.get("name") or self.run.pipeline_path.rsplit("/", 1)[-1])

    @property
    def blessed(self) -> bool:
        """Whether a verdict was given under which the model may serve."""
        return self.verdict is not None and self.verdict.may_serve

    @cached_property
    def request(self) -> Request | None:
        """What the run was begun with; None when it was not recorded, or cannot be read."""
        try:
            return Request.model_validate(self.run.read_json(REQUEST))
        except ValueError:
            return None

    @cached_property
    def changes(self) -> list[Change]:
        """What the run has otherwise than its pipeline file, as its verdict says or, without one,
        as it was recorded."""
        if self.verdict is not None:
            return self.verdict.changes
        try:
            file, run = (
                Pipeline.model_validate(each, context={"stored": True})
                for each in (self.request.file if self.request else None, self.pipeline)
            )
            return changes(file, run)
        except ValueError:
            return []

    @property
    def requested_by(self) -> str:
        """Who triggered the run; empty when the schedule or new data did."""
        if self.verdict is not None and self.verdict.requested_by:
            return self.verdict.requested_by
        return self.request.requested_by if self.request else ""

    @property
    def needed(self) -> list[StageFacts]:
        """The stages that this night needed: ``deploy`` and ``reject`` exclude each other."""
        return [facts for name, facts in self.stages.items() if name not in self.spared]

    @property
    def spared(self) -> set[str]:
        """The stages that this night could do without."""
        spared = {"reject" if self.blessed else "deploy"}
        # only where a cluster serves; where it failed, deploy has no result either
        if not self.blessed or self.stages["publish"].status == "not run":
            spared.add("publish")
        publish = self.pipeline.get("publish")
        if not (isinstance(publish, dict) and publish.get("dataset")):
            spared.add("publish_data")
        for name, extra in self.extras.items():
            if spared & set(extra.after):
                spared.add(name)
        return spared

    @property
    def state(self) -> Literal["success", "failed"]:
        """``failed`` when a needed stage has no result, even if the night went on without it."""
        return "success" if all(facts.manifest for facts in self.needed) else "failed"

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of the run under its full dotted name."""
        return {
            name: value
            for facts in self.stages.values()
            if facts.manifest
            for name, value in facts.manifest.metrics.items()
        }

    @property
    def model(self) -> dict[str, str | None]:
        """Name, version and alias of the night's model; the alias tells what became of it."""
        judged = self.verdict.model if self.verdict else None
        name = judged.name if judged else self._model_name()
        version = judged.version if judged else None
        version = version or self._registered_version()
        alias = None
        if version is not None:
            alias = "champion" if self._serves(version) else "challenger"
        return {"name": name, "version": version, "alias": alias}

    @property
    def subject(self) -> str:
        """The night's model in words: ``demo version 7``."""
        version = self.model["version"]
        return f"{self.model['name']} version {version}" if version else str(self.model["name"])

    @property
    def champion(self) -> str | None:
        """Who served when the night was judged, in words; None when nobody is known to."""
        if self.verdict is not None and self.verdict.champion is not None:
            return f"{self.verdict.champion.name} version {self.verdict.champion.version}"
        champion = self.stages["reject"].read_json("rejection.json").get("champion")
        if isinstance(champion, dict) and champion.get("version"):
            return f"{self.model['name']} version {champion['version']}"
        return None

    @property
    def mlflow_run_id(self) -> str | None:
        """The MLflow run, when the night was tracked."""
        document = self.run.read_json("mlflow.json")
        found = document.get("run_id") if isinstance(document, dict) else None
        return str(found) if found else None

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """Every warning with the stage that gave it."""
        return [
            (facts.name, text)
            for facts in self.stages.values()
            if facts.manifest
            for text in facts.manifest.warnings
        ]

    def _serves(self, version: str) -> bool:
        champion = self.verdict.champion if self.verdict else None
        # a champion that is refused today goes on serving until another one is blessed
        return self.stages["deploy"].manifest is not None or (
            champion is not None and champion.version == version
        )

    def _model_name(self) -> str:
        deploy = self.pipeline.get("deploy")
        chosen = deploy.get("model_name") if isinstance(deploy, dict) else None
        return str(chosen or self.pipeline_name)

    def _registered_version(self) -> str | None:
        for stage, name in (("deploy", "deployment.json"), ("reject", "rejection.json")):
            model = self.stages[stage].read_json(name).get("model")
            version = model.get("version") if isinstance(model, dict) else None
            if version:
                return str(version)
        return None


def _read_stage(run: RunDirectory, name: str) -> StageFacts:
    manifest = run.read_manifest(name)
    failure = None if manifest else run.read_failure(name)
    return StageFacts(name=name, manifest=manifest, failure=failure)
