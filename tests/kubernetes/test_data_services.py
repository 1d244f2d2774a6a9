"""MLflow's and PostgreSQL's part of the files, run: a real database and a real S3 API."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from tests import s3_server
from tests.kubernetes.kustomization import Object

PASSWORDS = {"airflow": "airflow0", "mlflow": "p'a\"ss $1\\x"}


@dataclass(frozen=True)
class Database:
    """A PostgreSQL that was set up by the script of the overlay ``kind``."""

    binaries: Path
    folder: Path
    port: int

    def ask(self, user: str, password: str, database: str) -> str:
        """Return what ``psql`` says, error or answer."""
        done = subprocess.run(
            [self.binaries / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", user,
             "-d", database, "-Atc", "SELECT current_user"],
            env={"PGPASSWORD": password}, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip() or done.stderr


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def database(kind: list[Object]) -> Iterator[Database]:
    """PostgreSQL as its image starts it, with the script that the image would run once."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # it refuses to run as root
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    secrets = folder / "secrets"
    secrets.mkdir()
    for name, password in PASSWORDS.items():
        (secrets / f"{name}_password").write_text(password)
    (init,) = [one for one in kind if one["metadata"]["name"] == "postgresql-init"]
    script = folder / "databases.sh"
    text = init["data"]["databases.sh"].replace("/run/secrets/postgresql", str(secrets))
    script.write_text(text)
    if user:
        subprocess.run(["chown", "-R", "postgres", folder], check=True)
    made = Database(binaries=found[-1], folder=folder, port=free_port())

    def call(*words: object) -> None:
        environment = {"PATH": f"{made.binaries}:/usr/bin:/bin", "PGHOST": str(folder),
                       "PGPORT": str(made.port)}  # fmt: skip
        subprocess.run(
            [str(word) for word in words], check=True, cwd=folder, env=environment,
            stdout=subprocess.DEVNULL, **user,  # type: ignore[call-overload]
        )  # fmt: skip

    call("initdb", "-D", folder / "data", "-U", "postgres", "--auth-local=trust",
         "--auth-host=scram-sha-256", "--no-sync")  # fmt: skip
    options = f"-p {made.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    call("pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w", "-o", options, "start")
    try:
        # the image reads it into its own shell
        call("bash", "-ec", f". {script}")
        yield made
    finally:
        call("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def test_each_owner_has_its_database_and_no_other(database: Database) -> None:
    assert database.ask("mlflow", PASSWORDS["mlflow"], "mlflow") == "mlflow"
    assert database.ask("airflow", PASSWORDS["airflow"], "airflow") == "airflow"
    assert "authentication failed" in database.ask("mlflow", "wrong", "mlflow")
    assert "permission denied" in database.ask("mlflow", PASSWORDS["mlflow"], "airflow")


@pytest.fixture
def object_store(s3: str) -> str:
    """An S3 API with the bucket of the overlay."""
    s3_server.client(s3).create_bucket(Bucket="trusted-retraining")
    return s3


@pytest.mark.e2e
def test_mlflow_as_deployed_keeps_records_and_artifacts(
    kind: list[Object], database: Database, object_store: str, tmp_path: Path
) -> None:
    (deployment,) = [one for one in kind if one["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    (settings,) = [
        one for one in kind
        if one["kind"] == "ConfigMap" and one["metadata"]["namespace"] == "mlflow"
    ]  # fmt: skip
    port = free_port()
    quoted = "p%27a%22ss%20%241%5Cx"
    environment = settings["data"] | {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
        "MLFLOW_BACKEND_STORE_URI": (
            f"postgresql+psycopg2://mlflow:{quoted}@127.0.0.1:{database.port}/mlflow"
        ),
        # the client below does not know it by the service's name
        "MLFLOW_SERVER_ALLOWED_HOSTS": (
            f"{settings['data']['MLFLOW_SERVER_ALLOWED_HOSTS']},127.0.0.1:{port}"
        ),
        # the keys of the secret mlflow-storage
        **s3_server.credentials(),
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": object_store,
        "MLFLOW_S3_ENDPOINT_URL": object_store,
    }
    (first,) = spec["initContainers"]
    migrate = [*first["command"], *first["args"]]
    subprocess.run(migrate, env=environment, check=True, cwd=tmp_path)
    (container,) = spec["containers"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            container["command"], env=environment, cwd=tmp_path, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}{container['readinessProbe']['httpGet']['path']}", server)
        listed = f"{address}/api/2.0/mlflow/experiments/search?max_results=1"
        for host, status in (
            ("mlflow.mlflow.svc:5000", 200), ("localhost:5000", 200), ("evil.example", 403)
        ):  # fmt: skip
            assert _status(Request(listed, headers={"Host": host})) == status  # noqa: S310
        client = {
            name: environment[name] for name in ("PATH", "HOME")
        } | {"MLFLOW_TRACKING_URI": address}  # fmt: skip
        # a stage: no key of the object store, its artifacts go through the server
        subprocess.run([sys.executable, "-c", _LOG], env=client, check=True, cwd=tmp_path)
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
    store = s3_server.client(object_store)
    kept = store.list_objects_v2(Bucket="trusted-retraining", Prefix="mlflow/")["Contents"]
    assert [each["Key"].rpartition("/")[2] for each in kept] == ["note.txt"]


_LOG = """
import mlflow
with mlflow.start_run():
    mlflow.log_metric("a", 1.0)
    mlflow.log_text("kept", "note.txt")
"""


def _status(request: Request) -> int:
    try:
        with urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except HTTPError as error:
        return error.code


def _wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 120
    while True:
        try:
            if _status(Request(address)) == 200:  # noqa: S310
                return
        except (URLError, OSError):
            assert server.poll() is None and time.monotonic() < until
        time.sleep(0.5)
