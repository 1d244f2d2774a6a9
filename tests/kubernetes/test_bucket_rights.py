"""What Airflow's side asks of the bucket, on a real S3 API, is what its role may do there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from s3fs import S3FileSystem

from tasks.contract import (
    BadInput,
    Failure,
    Manifest,
    ModelIdentity,
    Output,
    Publication,
    RunDirectory,
    now,
    sha256_text,
    tree_sha256,
)
from tasks.serving.container import fetch_model
from tasks.spec import load_pipeline
from tasks.stages.publish import _put
from tests.kubernetes.iam import BUCKET, may
from tests.s3_server import client, credentials
from trusted_retraining import unclosed
from trusted_retraining.operators.local import LocalStageOperator
from trusted_retraining.serving.publication import check_published_files
from trusted_retraining.settings import Settings

ACTIONS = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "put_object": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "list_objects_v2": "s3:ListBucket",
    "head_bucket": "s3:ListBucket",
}
PIPELINES = Path(__file__).parents[2] / "dags/pipelines"
Asked = tuple[str, str | None, str | None]
"""Action, key, and prefix of a listing."""


@pytest.fixture
def become(s3_of_roles: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Have the storage's client be of a role."""

    def become(role: str) -> None:
        for name, value in {"AWS_ENDPOINT_URL_S3": s3_of_roles, **credentials(role)}.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()

    yield become
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """Requests of the storage's client, in turn."""
    seen: list[Asked] = []
    call = S3FileSystem._call_s3

    async def recorded(self: Any, method: str, *given: Any, **named: Any) -> Any:
        arguments = {**(given[0] if given else {}), **named}
        seen.append((ACTIONS[method], arguments.get("Key"), arguments.get("Prefix")))
        return await call(self, method, *given, **named)

    monkeypatch.setattr(S3FileSystem, "_call_s3", recorded)
    return seen


def stored(run: RunDirectory, stage: str) -> Manifest:
    """Commit a stage with one output, as the operators of Airflow's side do."""
    run.write_json(f"{stage}/{stage}.json", {})
    text = bytes(run.fs.cat_file(f"{run.path}/{stage}/{stage}.json")).decode()
    outputs = [Output(path=f"{stage}.json", bytes=len(text), sha256=sha256_text(text))]
    manifest = Manifest(
        stage=stage,
        fingerprint="f",
        location=run.stage_uri(stage),
        outputs=outputs,
    ).sealed()
    run.write_manifest(manifest)
    return manifest


def test_airflow_may_do_all_that_its_operators_do(
    s3_of_roles: str, become: Callable[[str], None], asked: list[Asked]
) -> None:
    become("trusted-retraining-airflow")
    run = RunDirectory(f"s3://{BUCKET}/retraining/demo/runs/night")
    # before a pod is asked for; while nothing is there; a failure; deploy and its second attempt
    run.forgive("ingest")
    run.retract("ingest")
    assert run.read_manifest("ingest") is None and run.read_verdict() is None
    run.write_failure(Failure(stage="ingest", exit_code=1, reason="no", at=now()))
    assert run.read_failure("ingest") is not None
    run.forgive("ingest")
    run.stands(stored(run, "deploy"))
    run.retract("deploy")
    unclosed.note(run, success=True)
    assert unclosed.noted(run) and unclosed.all_noted(run)
    unclosed.remove(run)
    operators = list(asked)
    folder = f"{BUCKET}/retraining/models/demo/8"
    key = f"{folder}/saved_model.pb".removeprefix(f"{BUCKET}/")
    client(s3_of_roles).put_object(Bucket=BUCKET, Key=key, Body=b"weights")
    asked.clear()
    digest = sha256_text(f"saved_model.pb {sha256_text('weights')}\n")
    model = ModelIdentity(name="demo", version="8", digest=digest)
    publication = Publication(
        model=model, model_uri=f"s3://{folder}", known_answers=[], tolerance=0.1
    )
    check_published_files(run, publication)
    refused = [one for one in operators + asked if not may("trusted-retraining-airflow", *one)]
    assert refused == [] and {one[0] for one in operators} > {"s3:DeleteObject", "s3:PutObject"}


def test_airflow_reads_what_a_model_in_service_rests_on(
    s3_of_roles: str,
    become: Callable[[str], None],
    asked: list[Asked],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before ``publish`` and ``deploy`` it compares the manifests of others with their XComs."""
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", f"s3://{BUCKET}/retraining")
    judged = {}
    for stage in ("arrange", "train", "evaluate", "bless", "publish"):
        become(f"trusted-retraining-{stage if stage in ('bless', 'publish') else 'stage'}")
        run = RunDirectory(f"s3://{BUCKET}/retraining/demo/runs/judged")
        manifest = Manifest(
            stage=stage,
            fingerprint="f",
            location=run.stage_uri(stage),
            inputs={n: judged[n]["digest"] for n in judged} if stage == "bless" else {},
        ).sealed()
        run.write_manifest(manifest)
        judged[stage] = manifest.model_dump(mode="json")
    ti = SimpleNamespace(
        dag_id="demo",
        run_id="judged",
        try_number=1,
        get_task_states=lambda **_: {"judged": dict.fromkeys(judged, "success")},
        xcom_pull=lambda task_ids: judged[task_ids],
    )
    context = {"run_id": "judged", "params": {}, "ti": ti}
    become("trusted-retraining-airflow")
    asked.clear()
    operators = {
        stage: LocalStageOperator(
            task_id=stage,
            stage=stage,
            pipeline=load_pipeline(PIPELINES / "demo.yaml"),
            settings=Settings.read(),
        )
        for stage in ("deploy", "publish")
    }
    assert operators["deploy"].check_vouched(context) == judged["bless"]["digest"]
    # and it withdraws what lies in the stage's place
    operators["publish"].begin(context)
    assert run.read_manifest("publish") is None
    keys = {key for action, key, _ in asked if action == "s3:GetObject"}
    assert {f"retraining/demo/runs/judged/{stage}/manifest.json" for stage in judged} <= keys
    assert all(may("trusted-retraining-airflow", *one) for one in asked)
    judged["evaluate"] = judged["train"]
    with pytest.raises(BadInput, match="result of evaluate is not what its task handed on"):
        operators["publish"].begin(context)


@pytest.mark.parametrize(
    "role", [f"trusted-retraining-{name}" for name in ("airflow", "stage", "bless", "publish")]
)
def test_a_missing_object_is_told_from_a_forbidden_one(role: str) -> None:
    """S3 answers 404 only to who may list the bucket, and a GET has no prefix to go by."""
    assert may(role, "s3:ListBucket", None, None)
    assert may(role, "s3:ListBucket", None, "retraining/demo/")
    assert not may(role, "s3:ListBucket", None, "mlflow/")


@pytest.mark.parametrize(
    "key",
    ["demo/runs/night/bless/verdict.json", "demo/runs/night/train/model.tar", "models/d/7/a"],
)
def test_airflow_cannot_remove_what_stages_have_committed(key: str) -> None:
    assert not may("trusted-retraining-airflow", "s3:DeleteObject", f"retraining/{key}", None)


def test_a_published_file_is_put_only_where_there_is_none(
    become: Callable[[str], None],
    asked: list[Asked],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    become("trusted-retraining-publish")
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"weights")
    (tmp_path / "variables/variables.index").write_bytes(b"more")
    fs = RunDirectory(f"s3://{BUCKET}/retraining/demo/runs/night").fs
    model = ModelIdentity(name="demo", version="7", digest=tree_sha256(tmp_path))
    place = f"{BUCKET}/retraining/models/demo"
    folder, copied = _put(tmp_path, fs, place, "7", model)
    assert copied == 2 and _put(tmp_path, fs, place, "7", model) == (folder, 0)
    for action, key, prefix in asked:
        assert may("trusted-retraining-publish", action, key, prefix, only_if_absent=True)
    # an attempt that has not seen what another one put there since: the store refuses to replace it
    with monkeypatch.context() as patch:
        patch.setattr(
            "tasks.stages.publish._stored_digest", lambda *_: model.digest if seen else ""
        )
        patch.setattr("tasks.stages.publish._stored_files", lambda *_: seen.append(1) or {})
        seen: list[int] = []
        versions = [fs.info(path)["LastModified"] for path in fs.find(folder)]
        assert _put(tmp_path, fs, place, "7", model) == (folder, 2)
        assert [fs.info(path)["LastModified"] for path in fs.find(folder)] == versions


def test_a_model_server_fetches_what_was_published(
    s3_of_roles: str, become: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = "retraining/models/demo/9"
    for name in ("saved_model.pb", "variables/variables.index"):
        client(s3_of_roles).put_object(Bucket=BUCKET, Key=f"{place}/{name}", Body=name.encode())
    become("trusted-retraining-serving")
    lines = [
        f"{name} {sha256_text(name)}\n" for name in ("saved_model.pb", "variables/variables.index")
    ]
    fetched = fetch_model(f"s3://{BUCKET}/{place}", digest=sha256_text("".join(lines)))
    assert (fetched / "saved_model.pb").read_text() == "saved_model.pb"
