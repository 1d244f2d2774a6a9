"""A pipeline file that is wrong costs its own DAG and no other, and the error names what is wrong.

Whatever Airflow refuses while it builds, validates or serializes a DAG would otherwise be an error
of retraining.py, and Airflow takes every DAG of a file with an error out of service.
"""

import os
import shutil
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

from trusted_retraining import dag_builder
from trusted_retraining.local import home

DAGS = home.ROOT / "dags"

SMALL = """
name: {name}
source: {{kind: class_folders, uri: /data/films}}
label: {{column: label}}
"""


@pytest.fixture(scope="module", autouse=True)
def database() -> None:
    home.prepare(Path(os.environ["TEST_AIRFLOW_STATE"]))


@pytest.fixture
def folder(tmp_path: Path, pipelines_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(pipelines_folder / "demo.yaml", tmp_path)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__PIPELINES", str(tmp_path))
    return tmp_path


def load() -> tuple[set[str], str]:
    """Return the DAGs in service, and what the import error says."""
    bag = BundleDagBag(DAGS, bundle_path=DAGS, bundle_name="dags-folder")
    assert set(bag.import_errors) <= {"pipeline_errors.py"}
    for dag in bag.dags.values():
        DagSerialization.to_dict(dag)
    return set(bag.dags), bag.import_errors.get("pipeline_errors.py", "")


def write(folder: Path, name: str, more: str = "") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SMALL.format(name=name) + more)
    return path


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ("schedule: nightly", "schedule", "'nightly'"),
        ("schedule: ''", "schedule", "''"),
        ("schedule: '0 25 * * *'", "schedule", "'0 25 * * *'"),
        ("schedule: '0 0 31 2 *'", "schedule", "'0 0 31 2 *'"),
        ("schedule: '0 0 1 1 * 0 2020'", "schedule", "'0 0 1 1 * 0 2020'"),
        ("stage_timeout_minutes: 99999999999999", "stage_timeout_minutes", "99999999999999"),
        ("retry_delay_seconds: 99999999999999", "retry_delay_seconds", "99999999999999"),
        ("trigger: {poll_seconds: 99999999999999}", "trigger.poll_seconds", "99999999999999"),
        ("schedule: '* * * * * * * *'", "schedule", "'* * * * * * * *'"),
        (f"tags: [{'t' * 120}]", "tags.0", "'ttt"),
        ("tags: ['']", "tags.0", "''"),
        ("owner: ''", "owner", "''"),
        ("trigger: {uri: 'airflow://x'}", "trigger.uri", "'airflow://x'"),
        ("trigger: {uri: 's3://'}", "trigger.uri", "'s3://'"),
        (f"trigger: {{uri: 's3://films/{'x' * 1600}'}}", "trigger.uri", "'s3://films/xxx"),
        ("train: {weights: /no/such.h5}", "train.weights", "'/no/such.h5'"),
        ("train: {architecture: resnet5}", "train.architecture", "'resnet5'"),
    ],
)
def test_what_airflow_or_the_machine_refuses_is_told_by_file_and_field(
    folder: Path, more: str, field: str, value: str
) -> None:
    path = write(folder, "films", more)
    dags, error = load()
    assert dags == {"demo"}
    assert f"{path}: {field}: " in error
    assert value in error


def test_what_nobody_thought_of_is_still_an_error_of_its_own_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder, "films")
    build = dag_builder.build_dag

    def breaks(pipeline, settings):
        dag = build(pipeline, settings)
        if pipeline.name == "films":
            # no JSON, so that Airflow can build the DAG but not store it
            dag.params["force"] = object()
            dag.tags = {object()}
        return dag

    monkeypatch.setattr(dag_builder, "build_dag", breaks)
    dags, error = load()
    assert dags == {"demo"}
    assert f"{path}: Airflow makes no DAG of it: " in error


def test_a_folder_and_a_dead_link_that_look_like_files_cost_nothing(folder: Path) -> None:
    (folder / "films.yaml").mkdir()
    (folder / "gone.yaml").symlink_to(folder / "nowhere")
    (folder / "binary.yaml").write_bytes(b"\x00\xff\xfe")
    dags, error = load()
    assert dags == {"demo"}
    for name in ("films", "gone", "binary"):
        assert f"{folder / name}.yaml: " in error


def test_a_name_too_long_for_a_cluster_is_found_when_the_file_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "STORAGE_ROOT": "s3://bucket/runs",
        "MLFLOW_URI": "http://mlflow:5000",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)
    long = "a_model_with_a_name_that_goes_on_for_far_too_long"
    path = write(folder, long, "runtime: kubernetes")
    dags, error = load()
    assert dags == {"demo"}
    assert f"{path}: deploy.model_name: '{long}' has 49 characters" in error
    assert "up to 40" in error


def test_a_long_name_is_no_fault_where_no_cluster_serves(folder: Path) -> None:
    write(folder, "a_model_with_a_name_that_goes_on_for_far_too_long")
    dags, error = load()
    assert len(dags) == 2
    assert not error


@pytest.mark.parametrize("file", ["aa_first", "zz_last"])
def test_no_file_can_take_the_model_name_of_the_pipeline_that_bears_it(
    folder: Path, file: str
) -> None:
    path = write(folder, file, "deploy: {model_name: demo}")
    dags, error = load()
    assert dags == {"demo"}
    assert f"{path}: deploy.model_name: 'demo' belongs to pipeline 'demo' ({folder}/demo.yaml)" in (
        error
    )


@pytest.mark.parametrize("file", ["aa_first", "zz_last"])
def test_no_file_can_take_the_name_of_the_pipeline_that_bears_it(folder: Path, file: str) -> None:
    path = write(folder, file)
    path.write_text(SMALL.format(name="demo"))
    dags, error = load()
    assert dags == {"demo"}
    assert f"{path}: name: 'demo' belongs to pipeline 'demo' ({folder}/demo.yaml)" in error
    # not even while the file that bears it has an error
    (folder / "demo.yaml").write_text("name: [")
    dags, error = load()
    assert not dags
    assert f"{path}: name: 'demo' belongs to pipeline 'demo' ({folder}/demo.yaml)" in error


def test_of_two_that_claim_a_name_which_neither_bears_none_is_right(folder: Path) -> None:
    first, second = write(folder, "site_a"), write(folder, "site_b")
    for path in (first, second):
        path.write_text(SMALL.format(name="films"))
    dags, error = load()
    assert dags == {"demo"}
    assert f"{first}: name: 'films' is claimed by {second} as well" in error
    assert f"{second}: name: 'films' is claimed by {first} as well" in error


def test_of_two_that_ask_for_one_model_name_the_second_is_wrong(folder: Path) -> None:
    first = write(folder, "films_a", "deploy: {model_name: films}")
    second = write(folder, "films_b", "deploy: {model_name: films}")
    dags, error = load()
    assert dags == {"demo", "films_a"}
    expected = f"{second}: deploy.model_name: 'films' belongs to pipeline 'films_a' ({first})"
    assert expected in error


def test_a_file_may_be_called_otherwise_and_serve_under_a_name_that_is_free(folder: Path) -> None:
    (folder / "site_a.yaml").write_text(SMALL.format(name="films"))
    write(folder, "lungs", "deploy: {model_name: chest}")
    write(folder, "newer", "deploy: {model_name: lungs}")
    dags, error = load()
    assert dags == {"demo", "films", "lungs", "newer"}
    assert not error


def test_aliases_without_an_end_cost_their_own_file_alone(folder: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)]
    path = write(folder, "bomb", f"a0: &a0 [{', '.join(['lol'] * 9)}]\n{''.join(levels)}")
    dags, error = load()
    assert dags == {"demo"}
    assert f"{path}: holds more than " in error


def test_what_is_nearly_called_as_a_pipeline_file_is_told(folder: Path) -> None:
    for name in ("films.yml", "films.YAML"):
        (folder / name).write_text(SMALL.format(name="films"))
    (folder / "notes.txt").write_text("of the folder")
    (folder / ".yamllint.yml").write_text("rules: {}")
    (folder / ".draft.yaml").write_text(SMALL.format(name="draft"))
    dags, error = load()
    assert dags == {"demo"}
    assert f"{folder}/films.yml: is not read; call it films.yaml" in error
    assert f"{folder}/films.YAML: is not read; call it films.yaml" in error
    assert not any(name in error for name in ("notes", "yamllint", "draft"))


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "films.yaml")
    dags, error = load()
    assert dags == {"demo"}
    assert f"{folder}/films.yaml: is no file" in error


def test_names_that_a_cluster_cannot_tell_apart_are_one_name(folder: Path) -> None:
    """The plain one keeps it."""
    second = write(folder, "demo_", "")
    dags, error = load()
    assert dags == {"demo"}
    assert f"{second}: deploy.model_name: 'demo_' belongs to pipeline 'demo'" in error


def test_only_the_demo_starts_by_itself(pipelines_folder: Path) -> None:
    bag = BundleDagBag(DAGS / "retraining.py", bundle_path=DAGS, bundle_name="dags-folder")
    started = {name for name, dag in bag.dags.items() if dag.is_paused_upon_creation is False}
    assert started == {"demo"}
    assert "dags_are_paused_at_creation = True" in (home.ROOT / "airflow.cfg.template").read_text(
        encoding="utf-8"
    )
