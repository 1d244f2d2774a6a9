"""Images that stand inside a table or a record, written as files."""

import hashlib
from pathlib import Path

from tasks.contract import BadInput
from tasks.data.archives import FREE_BYTES, MAX_RATIO

_SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"BM": ".bmp",
}


class EmbeddedImages:
    """Writes images as files that are named by their content.

    So an image keeps its name, and with it its side of the split, when a table is sorted anew or
    cut into other parts.

    Parameters
    ----------
    folder : Path
        For the files; made when missing.
    source_bytes : int
        Size of the source; what is written is bound by it, as with an archive.
    """

    def __init__(self, folder: Path, *, source_bytes: int) -> None:
        self.folder = folder
        self._limit = FREE_BYTES + MAX_RATIO * source_bytes
        self._written = 0
        self._times: dict[bytes, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, content: bytes) -> str:
        """Write an image and return its name.

        Raises
        ------
        BadInput
            All that has been written is far more than the size of the source warrants.
        """
        self._written += len(content)
        if self._written > self._limit:
            raise BadInput(
                f"the images unpack to more than {self._limit} bytes, {MAX_RATIO} times the size "
                "of the source; write them as files if that is meant"
            )
        digest = hashlib.sha256(content).digest()[:16]
        times = self._times[digest] = self._times.get(digest, 0) + 1
        again = f"-{times}" if times > 1 else ""
        name = f"{digest.hex()}{again}{_suffix(content)}"
        (self.folder / name).write_bytes(content)
        return name


def _suffix(content: bytes) -> str:
    return next((s for magic, s in _SUFFIXES.items() if content.startswith(magic)), ".bin")
