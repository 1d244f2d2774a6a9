"""The notes of runs that have ended and whose MLflow runs may be open, beside the pipeline's runs.

Each run has a file of its own: two that end at once do not write over each other.
"""

from contextlib import suppress

from tasks.contract import RunDirectory, storage_errors

FOLDER = "unclosed"
"""Beside the pipeline's ``runs``: ``<run>.json`` says how the run ended."""


def note(run: RunDirectory, *, success: bool) -> None:
    """Note that a run has ended and is to be closed.

    Parameters
    ----------
    run : RunDirectory
        The run.
    success : bool
        How it ended; an older note of the same run is replaced.

    Raises
    ------
    StageError
        The store cannot be reached.
    """
    pipeline, name = _place(run)
    pipeline.write_json(name, {"success": success})


def noted(run: RunDirectory) -> bool | None:
    """Return how a run ended that is to be closed; None when there is no such note.

    Raises
    ------
    StageError
        The store cannot be reached.
    """
    pipeline, name = _place(run)
    document = pipeline.read_json(name)
    return bool(document.get("success")) if isinstance(document, dict) else None


def remove(run: RunDirectory) -> None:
    """Remove the note of a run: its MLflow run is closed, or it has been started again.

    Raises
    ------
    StageError
        The store cannot be reached.
    """
    pipeline, name = _place(run)
    with storage_errors(pipeline.uri), suppress(FileNotFoundError):
        pipeline.fs.rm_file(f"{pipeline.path}/{name}")


def all_noted(run: RunDirectory) -> list[RunDirectory]:
    """Return the runs of the same pipeline that have a note.

    Raises
    ------
    StageError
        The store cannot be reached.
    """
    pipeline, _ = _place(run)
    folder = f"{pipeline.path}/{FOLDER}"
    with storage_errors(pipeline.uri):
        # other processes write there
        pipeline.fs.invalidate_cache(folder)
        try:
            paths = pipeline.fs.ls(folder, detail=False)
        except FileNotFoundError:
            return []
    names = sorted(str(path).rsplit("/", 1)[-1] for path in paths)
    return [
        RunDirectory(f"{pipeline.uri}/runs/{name.removesuffix('.json')}", run.storage_options)
        for name in names
        # a draft of a note that is being written begins with a dot
        if name.endswith(".json") and not name.startswith(".")
    ]


def _place(run: RunDirectory) -> tuple[RunDirectory, str]:
    pipeline = RunDirectory(run.uri.rpartition("/runs/")[0], run.storage_options)
    return pipeline, f"{FOLDER}/{run.run_id}.json"
