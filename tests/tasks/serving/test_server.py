"""The model server over real sockets, in its own environment."""

import base64
import json
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from tasks.serving.client import KnownAnswer, ServerClient
from tasks.serving.deployment import Deployment, deploy
from tasks.serving.files import Pointer, read_pointer, tree_digest, write_pointer

REPOSITORY = Path(__file__).parents[3]
V1, V2 = "/v1/models/demo:predict", "/v2/models/demo/infer"


@dataclass
class Server:
    root: Path
    process: "subprocess.Popen[bytes]"
    url: str

    @property
    def folder(self) -> Path:
        return self.root / "demo"

    def point_to(self, version: str) -> Pointer:
        pointer = Pointer(version=version, digest=tree_digest(self.folder / version), path=version)
        write_pointer(self.folder, pointer)
        return pointer


@pytest.fixture(scope="module")
def server(
    start_server: Callable[[Path], AbstractContextManager[tuple["subprocess.Popen[bytes]", str]]],
    saved_models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("served")
    for version, folder in saved_models.items():
        shutil.copytree(folder, root / "demo" / version)
    write_pointer(
        root / "demo", Pointer(version="1", digest=tree_digest(root / "demo" / "1"), path="1")
    )
    with start_server(root) as (process, url):
        yield Server(root, process, url)
    assert process.returncode == 0


@pytest.fixture
def version_1(server: Server) -> Iterator[ServerClient]:
    pointer = server.point_to("1")
    with ServerClient(server.url) as client:
        client.wait_until_served("demo", pointer.digest, seconds=30)
        yield client


def b64(image: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(image).decode()}


def test_v1_classifies_image_bytes(
    version_1: ServerClient, images: list[bytes], expected: dict[str, Any]
) -> None:
    answer = version_1.predict_v1("demo", images)
    assert [each["class_name"] for each in answer["predictions"]] == ["red", "green", "red"]
    for given, row in zip(answer["predictions"], expected["1"], strict=True):
        assert given["probabilities"] == pytest.approx(row, abs=0.02)
    assert answer["model_version"] == "1"


def test_v2_gives_the_same_answers_as_v1(version_1: ServerClient, images: list[bytes]) -> None:
    first = version_1.predict_v1("demo", images)["predictions"]
    second = version_1.infer_v2("demo", images)
    outputs = {each["name"]: each for each in second["outputs"]}
    flat = [value for each in first for value in each["probabilities"]]
    assert outputs["probabilities"]["data"] == pytest.approx(flat, abs=1e-6)
    assert outputs["class_name"]["data"] == [each["class_name"] for each in first]
    assert second["model_version"] == "1"


def test_both_protocols_take_pixels(version_1: ServerClient) -> None:
    pixels = [[[250.0, 10.0, 30.0]] * 16] * 16
    one = httpx.post(version_1.url + V1, json={"instances": [pixels, pixels]}).json()
    assert [each["class_name"] for each in one["predictions"]] == ["red", "red"]
    tensor = {"name": "images", "datatype": "FP32", "shape": [1, 16, 16, 3], "data": [pixels]}
    two = httpx.post(version_1.url + V2, json={"inputs": [tensor]}).json()
    flat = one["predictions"][0]["probabilities"]
    assert two["outputs"][0]["data"] == pytest.approx(flat, abs=1e-6)


@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2/health/ready", "/v2/models/demo/ready", "/v1/models/demo"]
)
def test_health_is_told(version_1: ServerClient, path: str) -> None:
    assert httpx.get(version_1.url + path).status_code == 200


def test_metrics_count_the_requests(version_1: ServerClient, images: list[bytes]) -> None:
    version_1.predict_v1("demo", images)
    text = httpx.get(f"{version_1.url}/metrics").text
    count = 'request_predict_seconds_count{model_name="demo"}'
    assert any(
        line.startswith(count) and float(line.split()[-1]) >= 1 for line in text.splitlines()
    )


def test_the_server_listens_on_loopback_only(server: Server) -> None:
    connections = psutil.Process(server.process.pid).net_connections("tcp")
    addresses = {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


def fp32(shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"inputs": [{"name": "images", "datatype": "FP32", "shape": shape, "data": data}]}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (V1, {}, "instances"),
        (V1, [1], "instances"),
        (V1, {"instances": []}, "instances"),
        (V1, {"instances": "abc"}, "instances"),
        (V1, {"instances": [{"b64": "!!"}]}, "not base64"),
        (V1, {"instances": [{"b64": ""}]}, "empty"),
        (V1, {"instances": [{"b64": 3}]}, "b64"),
        (V1, {"instances": [b64(b"no image")]}, "instance 0: cannot be decoded"),
        (V1, {"instances": [[1, 2], [3]]}, "not equal lists"),
        (V1, {"instances": [[[[1, 2, 3]]]]}, "must be [N, 16, 16, 3]"),
        (V1, {"instances": [[1], b64(b"x")]}, "mix"),
        (V1, {"instances": [0] * 2000}, "shape"),
        (V1, {"instances": [b64(b"x")] * 1025}, "must be 1 .. 1024"),
        (V2, {"inputs": []}, "must be one"),
        (V2, fp32([1, 16, 16, 3], [1.0]), "do not fit"),
        (V2, fp32([1, 8, 8, 3], [1.0] * 192), "must be [N, 16, 16, 3]"),
        (V2, {"inputs": [{"name": "x", "datatype": "BOOL", "shape": [1], "data": [True]}]}, "BOOL"),
        (V2, {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["!"]}]}, "b"),
        (V2, {"nothing": 1}, "inputs"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_request_is_the_senders_fault_and_says_why(
    version_1: ServerClient, path: str, body: Any, said: str
) -> None:
    response = httpx.post(version_1.url + path, json=body)
    assert 400 <= response.status_code < 500
    assert said in response.text


def test_broken_bodies_are_the_senders_fault(version_1: ServerClient) -> None:
    header = "Inference-Header-Content-Length"
    tensor = {"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}}
    text = json.dumps({"inputs": [tensor]}).encode()
    binary = {"content-type": "application/octet-stream"}
    answers = [
        httpx.post(version_1.url + V1, content=b"{no json"),
        httpx.post(version_1.url + V2, content=b"{no json"),
        httpx.post(version_1.url + V2, content=b"x", headers={**binary, header: "many"}),
        httpx.post(
            version_1.url + V2,
            content=text + struct.pack("<I", 99) + b"\xff" * 5,
            headers={**binary, header: str(len(text))},
        ),
        httpx.post(f"{version_1.url}/v1/models/other:predict", json={"instances": [[1]]}),
    ]
    assert [each.status_code for each in answers] == [400, 400, 400, 400, 404]


def test_a_truncated_image_among_good_ones_is_named(
    version_1: ServerClient, images: list[bytes]
) -> None:
    body = {"instances": [b64(images[0]), b64(images[0][:40])]}
    response = httpx.post(version_1.url + V1, json=body)
    assert response.status_code == 400
    assert "instance 1: cannot be decoded" in response.text


def test_an_animated_webp_is_refused_before_it_can_damage_the_server(
    version_1: ServerClient, images: list[bytes]
) -> None:
    frames = [Image.new("RGB", (24, 24), colour) for colour in ("red", "green")]
    buffer = BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    body = {"instances": [b64(images[0]), b64(buffer.getvalue())]}
    response = httpx.post(version_1.url + V1, json=body)
    assert response.status_code == 400
    assert "instance 1: an animated WebP cannot be served" in response.text


def test_a_switch_under_load_fails_no_request(
    server: Server, version_1: ServerClient, images: list[bytes]
) -> None:
    versions: list[str] = []
    failures: list[str] = []
    done = threading.Event()

    def ask() -> None:
        with ServerClient(server.url) as client:
            while not done.is_set():
                try:
                    versions.append(client.predict_v1("demo", images)["model_version"])
                except Exception as error:
                    failures.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for version in ("2", "1", "2"):
            pointer = server.point_to(version)
            version_1.wait_until_served("demo", pointer.digest, seconds=60)
            seen = len(versions)
            while len(versions) < seen + 8 and not failures:
                time.sleep(0.01)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert {"1", "2"} == set(versions)
    assert versions[-1] == "2"


def test_a_deployment_switches_the_running_server_and_asks_it(
    server: Server,
    version_1: ServerClient,
    serving_python: Path,
    saved_models: dict[str, Path],
    images: list[bytes],
    expected: dict[str, Any],
) -> None:
    aliases: list[str] = []
    answers = [
        KnownAnswer(image_id=str(index), image=image, probabilities=row)
        for index, (image, row) in enumerate(zip(images, expected["2"], strict=True))
    ]
    deployed = deploy(
        Deployment(
            model="demo",
            version="2",
            digest=tree_digest(saved_models["2"]),
            source=saved_models["2"],
            root=server.root,
            python=serving_python,
            server_url=server.url,
            tolerance=0.02,
            startup_seconds=120,
            known_answers=lambda: answers,
            champion_digest=lambda: tree_digest(saved_models["1"]),
            set_champion=lambda: aliases.append(
                version_1.predict_v1("demo", images)["model_version"]
            ),
        )
    )
    # when the alias moved, the server had switched
    assert aliases == ["2"]
    assert deployed.previous is not None
    assert deployed.previous.version == "1"


def test_the_load_endpoint_switches_at_once(server: Server, version_1: ServerClient) -> None:
    pointer = server.point_to("2")
    version_1.switch_now("demo")
    assert version_1.served("demo")["serving"]["digest"] == pointer.digest


def test_changed_files_are_refused_and_the_old_version_goes_on_serving(
    server: Server, version_1: ServerClient, images: list[bytes]
) -> None:
    shutil.copytree(server.folder / "2", server.folder / "3")
    honest = Pointer(version="3", digest=tree_digest(server.folder / "3"), path="3")
    variables = server.folder / "3" / "variables" / "variables.data-00000-of-00001"
    variables.write_bytes(variables.read_bytes()[:-1] + b"\x01")
    write_pointer(server.folder, honest)
    version_1.switch_now("demo")
    entry = version_1.served("demo")
    assert "files were changed" in entry["problem"]
    assert entry["serving"]["version"] == "1"
    assert version_1.predict_v1("demo", images)["model_version"] == "1"


def test_a_model_whose_pointer_is_gone_is_not_served(
    server: Server, version_1: ServerClient
) -> None:
    pointer = read_pointer(server.folder)
    write_pointer(server.folder, None)
    version_1.switch_now("demo")
    assert httpx.get(f"{server.url}/v2/models/demo/ready").status_code == 404
    write_pointer(server.folder, pointer)
    version_1.switch_now("demo")
    assert httpx.get(f"{server.url}/v2/models/demo/ready").status_code == 200
