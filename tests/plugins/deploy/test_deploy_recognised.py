"""A champion that an earlier release trained, and a run that trains the very same model again."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.contract import RunDirectory, tree_sha256
from tests.tasks.committed import commit

Object = dict[str, Any]
Deploy = Callable[..., Object]
Night = Callable[..., RunDirectory]
WAYS = [{"mode": "knative"}, {"mode": "standard"}, {"target": "deployment"}]

ways = pytest.mark.parametrize("way", WAYS, ids=["knative", "standard", "deployment"])


@pytest.fixture
def recognised(tmp_path: Path, cluster: Any) -> Callable[[RunDirectory], RunDirectory]:
    """Return a function that trains the model of a run again: its files have another digest, and
    the version has been recognised by it."""

    def again(first: RunDirectory) -> RunDirectory:
        runs = tmp_path / "runs"
        folder = runs / "models/demo_night/1-new"
        (folder / "variables").mkdir(parents=True)
        (folder / "saved_model.pb").write_text("weights of 1")
        (folder / "variables/data").write_text("7")
        (folder / "fingerprint.pb").write_text("without a random id")
        digest = tree_sha256(folder)
        cluster.answers[digest] = cluster.answers[cluster.versions["1"]]
        cluster.former["1"], cluster.versions["1"] = cluster.versions["1"], digest
        verdict = json.loads((Path(first.path) / "bless/verdict.json").read_text())
        publication = json.loads((Path(first.path) / "publish/publication.json").read_text())
        verdict["model"]["digest"] = publication["model"]["digest"] = digest
        verdict["champion"] = verdict["model"]
        publication["model_uri"] = f"file://{folder}"
        run = RunDirectory(f"{runs}/demo_night/runs/again")
        commit(run, "bless", {"verdict.json": json.dumps(verdict)})
        commit(run, "publish", {"publication.json": json.dumps(publication)})
        return run

    return again


@ways
def test_it_serves_already_and_nothing_is_rolled_out(
    cluster: Any, night: Night, deploy: Deploy, recognised: Any, way: Object
) -> None:
    first = night("1")
    deploy(first, **way)
    before = copy.deepcopy(cluster.objects)
    manifest = deploy(recognised(first), **way)
    assert manifest["metrics"]["deploy.already_serving"] == 1
    assert cluster.objects == before
    assert cluster.aliases["champion"] == "1"


@ways
def test_other_settings_are_rolled_out_all_the_same(
    cluster: Any, night: Night, deploy: Deploy, recognised: Any, way: Object
) -> None:
    first = night("1")
    deploy(first, **way)
    manifest = deploy(recognised(first), memory="3Gi", **way)
    assert manifest["metrics"]["deploy.already_serving"] == 0
    assert cluster.aliases["champion"] == "1"
