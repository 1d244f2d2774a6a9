"""Images with Python, by buildah on Debian: the second half of `make ground`, before or after up.

They lie in `.local/ground/images/more` and are loaded into the ground, now if it is up or when it
comes up: the base, the stages and the model server as the tests on a cluster want them, and
KServe's storage initializer.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.cluster.images import BASE, SERVING, TASKS
from tests.ground.components import find, module
from tests.ground.layout import BUILT, CONTAINERD_SOCKET, FOLDER, IMAGES, REPOSITORY
from tests.ground.node import ctr
from tests.ground.packages import install
from tests.ground.processes import run, say

MORE = IMAGES / "more"
STORAGE_INITIALIZER = "localhost/ground/storage-initializer:1"
STORE = BUILT / "buildah"
ROOT = BUILT / "debian"
TOOLS = ("buildah", "debootstrap", "netavark")
PYTHON = "python3,python3-venv,python3-pip,ca-certificates,procps"
CONTEXT = ("docker", "tasks", "LICENSE", "pyproject.toml")
"""What the images of this repository are made of."""
BUILDAH = f"buildah --root {STORE / 'root'} --runroot {STORE / 'run'} --storage-driver overlay"


def build() -> None:
    """Build what is missing, and the images of this repository when what they hold has changed."""
    key, made = _key(), MORE / "made-of"
    names = ("base", "storage-initializer", "tasks", "serving")
    there = all((MORE / f"{name}.tar").exists() for name in names)
    if there and made.exists() and made.read_text() == key:
        return
    install(TOOLS)
    made.unlink(missing_ok=True)
    MORE.mkdir(parents=True, exist_ok=True)
    STORE.mkdir(exist_ok=True)
    limits = 'default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]'
    # buildah asks for higher limits than a machine may grant
    text = f'[containers]\n{limits}\n[engine]\nruntime = "runc"\n'
    (STORE / "containers.conf").write_text(text)
    os.environ["CONTAINERS_CONF"] = str(STORE / "containers.conf")
    try:
        _base()
        _storage_initializer()
        _ours()
        made.write_text(key)
    finally:
        subprocess.run(["umount", str(STORE / "root" / "overlay")], capture_output=True)


def _key() -> str:
    digest = hashlib.sha256((FOLDER / "builder.py").read_bytes())
    words = ("git", "-C", REPOSITORY, "ls-files", "-z", "-co", "--exclude-standard", "--", *CONTEXT)
    for name in sorted(set(run(*words).split("\0"))):
        path = REPOSITORY / name
        if path.is_file():
            digest.update(f"{name}\0{path.stat().st_mode & 0o111}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _base() -> None:
    if _has(BASE):
        return
    if not ROOT.exists():
        say("fetching Debian with Python")
        part = ROOT.with_suffix(".part")
        variant = ("--variant=minbase", f"--include={PYTHON}")
        run("debootstrap", *variant, "bookworm", part, seconds=900)
        part.rename(ROOT)
    (ROOT / "usr/bin/python").unlink(missing_ok=True)
    (ROOT / "usr/bin/python").symlink_to("python3")
    # the machine's own trust store, so that pip and uv work behind a proxy too
    trusted = Path("etc/ssl/certs/ca-certificates.crt")
    shutil.copyfile(Path("/") / trusted, ROOT / trusted)
    container = _buildah("from", "scratch").strip()
    _buildah("add", "--quiet", container, str(ROOT), "/")
    path = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
    variables = {"SSL_CERT_FILE": f"/{trusted}", "PIP_CERT": f"/{trusted}", "PATH": path}
    words = [word for pair in variables.items() for word in ("--env", "=".join(pair))]
    _buildah("config", *words, "--cmd", "/bin/bash", container)
    _buildah("commit", "--quiet", container, BASE)
    _buildah("rm", container)
    _load(BASE, "base")


def _storage_initializer() -> None:
    if _has(STORAGE_INITIALIZER):
        return
    say("building the storage initializer")
    kserve = find("kserve")
    version = kserve.version.lstrip("v")
    program = module(kserve) / "python/storage-initializer/scripts/initializer-entrypoint"
    steps = (
        f"FROM {BASE}",
        f"RUN python3 -m venv /venv && /venv/bin/pip install --quiet kserve-storage=={version}",
        "COPY initializer-entrypoint /initializer",
        "ENV PATH=/venv/bin:/usr/bin:/bin HOME=/tmp",
        "USER 65532:65532",
        'ENTRYPOINT ["python", "/initializer"]',
    )
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(program, Path(folder) / "initializer-entrypoint")
        (Path(folder) / "Dockerfile").write_text("\n".join(steps) + "\n")
        _buildah("bud", "--network", "host", "--quiet", "-t", STORAGE_INITIALIZER, folder)
    _load(STORAGE_INITIALIZER, "storage-initializer")


def _ours() -> None:
    say("building the stages and the model server")
    prefix, _, tag = TASKS.partition("/tasks:")
    variables = {
        "BASE": BASE,
        "BUILDER": BUILDAH,
        "PREFIX": prefix,
        "TAG": tag.removesuffix("-cpu"),
        "NETWORK": "host",
    }
    words = [f"{name}={value}" for name, value in variables.items()]
    run("env", *words, REPOSITORY / "docker" / "build", "tasks-cpu", "serving-cpu", seconds=1800)
    _load(TASKS, "tasks")
    _load(SERVING, "serving")


def _buildah(*words: str) -> str:
    return run(*BUILDAH.split(), *words, seconds=1800)


def _has(image: str) -> bool:
    answer = subprocess.run([*BUILDAH.split(), "inspect", image], capture_output=True)
    return answer.returncode == 0


def _load(image: str, name: str) -> None:
    archive = MORE / f"{name}.tar"
    archive.unlink(missing_ok=True)
    _buildah("push", "--quiet", image, f"docker-archive:{archive}:{image}")
    if CONTAINERD_SOCKET.exists():
        ctr("images", "import", archive)
