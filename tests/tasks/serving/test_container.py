"""How a model gets into a model server's container, and what is refused there."""

import base64
import os
import subprocess
from pathlib import Path

import fsspec
import httpx
import pytest

from tasks.serving import container
from tasks.serving.container import Refused, fetch_model
from tasks.serving.files import tree_digest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables/data").write_bytes(b"weights")
    return folder


def test_a_folder_and_an_address_give_the_same_files(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = tree_digest(model)
    assert fetch_model(str(model), digest=digest) == model
    store = fsspec.filesystem("memory")
    store.put(f"{model}/", "/models/films/7/", recursive=True)
    monkeypatch.setattr(container.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "served-model").mkdir()
    (tmp_path / "served-model/left-over").write_text("of a killed attempt")
    fetched = fetch_model("memory://models/films/7", digest=digest)
    assert fetched == tmp_path / "served-model"
    assert (fetched / "variables/data").read_bytes() == b"weights"


def test_what_was_not_judged_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "FIRST_WAIT_SECONDS", 0.01)
    digest = tree_digest(model)
    (model / "variables/data").write_bytes(b"other weights")
    for uri, told, reason in (
        (str(model), digest, "files were changed"),
        (str(model), "", "MODEL_DIGEST is not set"),
        (f"{model}/nowhere", digest, "there is no such folder"),
        ("memory://nowhere", digest, "memory://nowhere"),
        ("nosuchscheme://x", digest, "nosuchscheme"),
    ):
        with pytest.raises(Refused, match=reason) as caught:
            fetch_model(uri, digest=told)
        assert "\n" not in str(caught.value)


def start(python: Path, model: Path, digest: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            *(python, "-m", "tasks.serving.server", "--model-uri", model),
            *("--model-name", "demo", "--model-version", "3", "--port", "0"),
            *("--ends-with-stdin",),
        ],
        cwd=REPOSITORY,
        env=os.environ | {"MODEL_DIGEST": digest, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_container_serves_the_one_model_that_it_was_given(
    serving_python: Path, saved_models: dict[str, Path], images: list[bytes]
) -> None:
    folder = saved_models["1"]
    digest = tree_digest(folder)
    with start(serving_python, folder, digest) as server:
        assert server.stdin is not None and server.stdout is not None
        url = next(line.split()[-1] for line in server.stdout if line.startswith("model server: "))
        image = base64.b64encode(images[0]).decode()
        answer = httpx.post(
            f"{url}/v1/models/demo:predict",
            json={"instances": [{"b64": image}]},
            timeout=60,
            trust_env=False,
        ).json()
        ready = httpx.get(f"{url}/v1/models/demo", timeout=60, trust_env=False)
        server.stdin.close()
    assert (answer["model_version"], answer["model_digest"]) == ("3", digest)
    assert answer["predictions"][0]["class_name"] == "red"
    assert ready.status_code == 200, "the readiness probe of the pods"


def test_a_container_with_other_files_ends_and_says_why(
    serving_python: Path, saved_models: dict[str, Path]
) -> None:
    with start(serving_python, saved_models["1"], "0" * 64) as server:
        output, _ = server.communicate(timeout=60)
    assert server.returncode == 1
    assert "refused: " in output and "files were changed" in output and "Traceback" not in output
