"""Container images of a single static program, made without a builder and without a base image."""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.ground.layout import BIN, IMAGES


@dataclass(frozen=True)
class Image:
    """An image that is a program of `.local/ground/bin` and nothing else."""

    name: str
    program: str
    path: str
    arguments: tuple[str, ...] = ()
    tier: int = 1

    @property
    def reference(self) -> str:
        """Return its name on the node."""
        return f"localhost/ground/{self.name}:1"

    @property
    def archive(self) -> Path:
        """Return the file that holds it."""
        return IMAGES / f"{self.name}.tar"


ALL = (
    Image("pause", "pause", "/pause"),
    Image("coredns", "coredns", "/coredns"),
    Image("kserve-manager", "kserve-manager", "/manager"),
    Image("agnhost", "agnhost", "/agnhost", ("pause",)),
    Image("kueue-manager", "kueue-manager", "/manager", tier=2),
)


def make(image: Image) -> None:
    """Write an image's archive, unless that of this very program is there."""
    program = BIN / image.program
    if not program.exists():
        return
    if image.archive.exists() and image.archive.stat().st_mtime > program.stat().st_mtime:
        return
    layer = _layer(program, image.path)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": [image.path],
            "Cmd": list(image.arguments) or None,
            "User": "65532:65532",
            "WorkingDir": "/",
            "Env": ["PATH=/"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "tests/ground"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [image.reference], "Layers": ["layer.tar"]}]
    IMAGES.mkdir(parents=True, exist_ok=True)
    part = image.archive.with_suffix(".part")
    with tarfile.open(part, "w") as archive:
        _add(archive, "layer.tar", layer)
        _add(archive, "config.json", json.dumps(config).encode())
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    part.rename(image.archive)


def _layer(program: Path, path: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        layer.addfile(folder)
        _add(layer, path.lstrip("/"), program.read_bytes(), mode=0o755)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
