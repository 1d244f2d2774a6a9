"""Settings come from one section, with defaults, and from the environment before it."""

from pathlib import Path

import pytest

from tasks.spec import Pipeline
from trusted_retraining.pods import stage_variables
from trusted_retraining.settings import SettingError, Settings


def test_defaults_lie_inside_the_state_folder() -> None:
    settings = Settings.read()
    assert settings.runtime == "local"
    assert settings.storage_root == f"{settings.state}/runs"
    assert settings.mlflow_uri == f"sqlite:///{settings.state}/mlflow/mlflow.db"
    assert settings.pipelines.name == "pipelines" and settings.pipelines.is_dir()


def test_the_environment_goes_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STATE", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", "s3://bucket/prefix")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_UI", "http://mlflow:5000/")
    settings = Settings.read()
    assert settings.storage_root == "s3://bucket/prefix"
    assert settings.serving_root == f"{tmp_path}/served"
    assert settings.mlflow_ui == "http://mlflow:5000"


def test_logging_and_registry_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.environment import Environment

    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI", "none")
    variables = Settings.read().stage_environment()
    assert variables["MLFLOW_TRACKING_URI"] == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", variables["MLFLOW_TRACKING_URI"])
    assert Environment.read().mlflow_uri == ""


def test_an_unknown_runtime_is_refused_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__RUNTIME", "mainframe")
    with pytest.raises(SettingError, match=r"runtime: 'mainframe' is not one of local"):
        Settings.read()


def test_a_stage_gets_exactly_the_variables_that_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.environment import Environment

    settings = Settings.read()
    for name, value in settings.stage_environment().items():
        monkeypatch.setenv(name, value)
    environment = Environment.read()
    assert environment.mlflow_uri == settings.mlflow_uri
    assert environment.mlflow_artifacts == settings.mlflow_artifacts
    assert str(environment.serving_root) == settings.serving_root
    assert str(environment.serving_python) == settings.serving_python
    assert environment.state_dir == settings.state


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STORAGE_ROOT", "s3://AKID:hunter2@bucket/prefix"),
        ("MLFLOW_URI", "http://me:hunter2@mlflow:5000"),
        ("MLFLOW_URI", "http://mlflow:5000?token=hunter2"),
        ("MLFLOW_ARTIFACTS", "https://host/x?X-Amz-Signature=hunter2"),
        ("SERVER_URL", "http://hunter2@server:8080"),
        ("MLFLOW_UI", "https://me:hunter2@mlflow"),
    ],
)
@pytest.mark.parametrize("runtime", ["local", "kubernetes"])
def test_an_address_with_a_credential_is_refused_in_every_runtime(
    monkeypatch: pytest.MonkeyPatch, runtime: str, name: str, value: str
) -> None:
    monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)
    pipeline = Pipeline.model_validate(
        {
            "name": "films",
            "runtime": runtime,
            "source": {"kind": "synthetic"},
            "label": {"column": "finding"},
        }
    )
    with pytest.raises(SettingError, match=f"{name.lower()}: .* holds .* secret") as caught:
        Settings.read().runtime_of(pipeline)
    assert "hunter2" not in str(caught.value)


def test_changed_rules_are_not_deployed_and_no_address_is_allowed_unless_somebody_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tasks.environment import Environment

    def environment() -> Environment:
        for name, value in stage_variables(Settings.read()).items():
            monkeypatch.setenv(name, value)
        return Environment.read()

    assert (Settings.read().deploy_changed_rules, Settings.read().allowed_addresses) == (False, ())
    assert (environment().deploy_changed_rules, environment().allowed_addresses) == (False, ())
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEPLOY_CHANGED_RULES", "True")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__ALLOWED_ADDRESSES", "s3://films/,/data")
    assert environment().deploy_changed_rules
    assert environment().allowed_addresses == ("s3://films/", "/data")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEPLOY_CHANGED_RULES", "maybe")
    with pytest.raises(SettingError, match="deploy_changed_rules: 'maybe' is not one of"):
        Settings.read()


@pytest.mark.parametrize("prefix", ["s3://films/../all", "https://me@host/", "s3a::x"])
def test_a_prefix_that_nothing_can_lie_below_is_refused(
    monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__ALLOWED_ADDRESSES", f"/data,{prefix}")
    with pytest.raises(SettingError, match="allowed_addresses"):
        Settings.read()
