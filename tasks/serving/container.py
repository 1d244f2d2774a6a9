"""How a model gets into a model server's container. Standard library and, for addresses, fsspec."""

import logging
import shutil
import tempfile
import time
from pathlib import Path

from tasks.serving.files import tree_digest

log = logging.getLogger("tasks.serving")

TERMINATION_LOG = Path("/dev/termination-log")
"""What is written there, Kubernetes tells as the reason why the container ended."""

ATTEMPTS, FIRST_WAIT_SECONDS = 4, 1.0
"""Times that a fetch is tried, and the wait before the second, which doubles."""


class Refused(Exception):
    """The container cannot serve; the text is one line for a person."""


def fetch_model(uri: str, *, digest: str) -> Path:
    """Return the folder of a model whose files are the ones that were judged.

    Parameters
    ----------
    uri : str
        Folder on this machine, or an address that fsspec knows, which is fetched into the folder
        for temporary files.
    digest : str
        Tree digest that the files must have.

    Raises
    ------
    Refused
        The digest is not told, or is another; or there is no model.
    """
    if not digest:
        raise Refused("MODEL_DIGEST is not set: a server only serves files that were judged")
    local = "://" not in uri or uri.startswith("file://")
    folder = Path(uri.removeprefix("file://")) if local else _download(uri)
    if not folder.is_dir():
        raise Refused(f"{uri}: there is no such folder")
    found = tree_digest(folder)
    if found != digest:
        raise Refused(
            f"{uri}: files were changed: digest is {found[:12]}, the verdict is on {digest[:12]}"
        )
    return folder


def say_why(reason: str) -> None:
    """Tell why the container ends: in its log, and where Kubernetes reads it."""
    log.error("refused: %s", reason)
    try:
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text(reason[:4000], encoding="utf-8")
    except OSError as error:
        log.warning("%s: %s", TERMINATION_LOG, error)


def _download(uri: str) -> Path:
    from fsspec.core import url_to_fs

    folder = Path(tempfile.gettempdir()) / "served-model"
    wait = FIRST_WAIT_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        # what a killed attempt left is no part of the model
        shutil.rmtree(folder, ignore_errors=True)
        try:
            fs, path = url_to_fs(uri)
            root = path.rstrip("/")
            files = fs.find(root)
            for each in files:
                name = each.removeprefix(f"{root}/")
                if any(part in ("", ".", "..") for part in name.split("/")):
                    raise Refused(f"{uri}: object {name[:200]!r} is no plain path; remove it")
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(each, str(target))
        except Refused:
            raise
        except Exception as error:
            # fsspec's file systems have no error in common
            reason = f"{uri}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if attempt == ATTEMPTS:
                raise Refused(reason) from error
            log.warning("%s; again in %g s", reason, wait)
        else:
            if not files:
                raise Refused(f"{uri}: there are no files")
            size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
            log.info("fetched %d files, %.1f MB, from %s", len(files), size / 1e6, uri)
            return folder
        time.sleep(wait)
        wait *= 2
    raise AssertionError("unreachable")
