"""Deployments to KServe that end before they change anything, and say why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tasks.spec import Change
from tests.plugins.deploy.kserve_service import ISVC, Deploy, Night
from tests.tasks.committed import commit
from trusted_retraining.operators.deploy import DeployOperator


def test_files_changed_after_the_blessing_are_refused(
    cluster: Any, night: Night, deploy: Deploy, tmp_path: Path
) -> None:
    run = night("1")
    (tmp_path / "runs/models/demo_night/1/saved_model.pb").write_text("other weights")
    with pytest.raises(AirflowFailException, match="was changed after it was blessed"):
        deploy(run)
    assert cluster.objects == {}


def test_a_refused_or_unpublished_model_is_not_deployed(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    with pytest.raises(AirflowFailException, match="the verdict refuses this model: too bad"):
        deploy(night("1", blessed=False))
    run = night("2")
    run.retract("publish")
    with pytest.raises(AirflowFailException, match="run stage 'publish' first"):
        deploy(run)
    assert cluster.objects == {}


def test_a_publication_under_another_number_than_the_verdicts_is_not_deployed(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    run = night("1")
    verdict = run.read_verdict()
    assert verdict is not None
    # the registry was set up anew, and only the verdict given again
    later = verdict.model_copy(update={"model": verdict.model.model_copy(update={"version": "7"})})
    commit(run, "bless", {"verdict.json": later.model_dump_json()})
    with pytest.raises(AirflowFailException, match=r"on demo_night version 7, but version 1 was"):
        deploy(run)
    assert cluster.objects == {} and cluster.aliases == {}


@pytest.mark.parametrize("stage", ["bless", "publish"])
def test_what_a_manifest_of_the_older_format_says_is_not_deployed(
    cluster: Any, night: Night, deploy: Deploy, stage: str
) -> None:
    run = night("1")
    manifest = run.read_manifest(stage)
    assert manifest is not None
    old = {"format": 1, "digest": manifest.outputs_digest}
    run.write_manifest(manifest.model_copy(update=old))
    with pytest.raises(AirflowFailException, match=f"'{stage}'"):
        deploy(run)
    assert cluster.objects == {}


def test_a_model_that_passed_changed_rules_is_not_deployed(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    run = night("1")
    verdict = run.read_verdict()
    assert verdict is not None
    changed = [Change(field="blessing.rules", file=[{"metric": "a", "min": 1}], run=[])]
    under = verdict.model_copy(update={"changes": changed, "deployable": False})
    commit(run, "bless", {"verdict.json": under.model_dump_json()})
    with pytest.raises(AirflowFailException, match=r"not deployed \(blessing\.rules\)"):
        deploy(run)
    assert cluster.objects == {}


def test_a_deployment_that_was_triggered_with_other_settings_is_refused_whatever_the_verdict(
    cluster: Any, night: Night, operator: Callable[..., DeployOperator]
) -> None:
    run = night("1")
    context = {"run_id": run.run_id, "params": {"deploy.tolerance": 0.4}}
    with pytest.raises(AirflowFailException, match=r"not deployed \(deploy\.tolerance\)"):
        operator().execute(context)
    assert cluster.objects == {}


def test_another_champion_since_the_verdict_stops_it(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    night("1"), night("3")
    run = night("2", champion="1")
    cluster.aliases["champion"] = "3"
    with pytest.raises(AirflowFailException, match="version 3 became champion after the verdict"):
        deploy(run)
    assert cluster.objects == {}


def test_the_service_of_somebody_else_is_left_alone(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    theirs = {"metadata": {"name": "demo-night", "generation": 1, "resourceVersion": "1"}}
    cluster.objects[ISVC] = theirs | {"spec": {"predictor": {}}, "status": {}}
    cluster.kserve.lag = 99
    with pytest.raises(AirflowFailException, match=r"exists and is not ours.*nothing was"):
        deploy(night("1"))
    assert cluster.objects[ISVC]["spec"] == {"predictor": {}}


def test_a_standard_mode_without_canaries_is_refused_before_anything_changes(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    cluster.kserve.unknown = ("canary", "name")
    unknown = r"knows no spec\.predictor\.name, spec\.canary, which came with release 0\.20"
    with pytest.raises(AirflowFailException, match=unknown):
        deploy(night("1"), mode="standard")
    assert cluster.objects == {}


def test_a_mode_that_the_cluster_does_not_serve_in_is_refused(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    cluster.kserve.mode = "RawDeployment"
    with pytest.raises(AirflowException, match=r"in RawDeployment mode, deploy.mode asks for Kn"):
        deploy(night("1"))
    assert cluster.aliases == {}


def test_a_cluster_without_kserve_is_told_what_to_do(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    cluster.before = lambda number, method, path: (
        (404, "page not found") if "kserve" in path else None
    )
    with pytest.raises(AirflowFailException, match=r"install KServe, or set deploy\.target"):
        deploy(night("1"))


def test_an_api_that_stays_away_is_told_in_one_line(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    run = night("1")
    cluster.before = lambda number, method, path: "drop" if "namespaces" in path else None
    with pytest.raises(AirflowException, match="the Kubernetes API cannot be reached") as caught:
        deploy(run)
    assert "\n" not in str(caught.value) and not isinstance(caught.value, AirflowFailException)
