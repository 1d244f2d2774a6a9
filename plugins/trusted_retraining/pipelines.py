"""Finding and reading the pipeline files."""

from pathlib import Path

from tasks.spec import Pipeline, SpecError, load_pipeline


def read_pipelines(folder: Path) -> tuple[list[Pipeline], list[str]]:
    """Read every ``*.yaml`` of a folder.

    Parameters
    ----------
    folder : Path
        Where the pipeline files are.

    Returns
    -------
    pipelines : list of Pipeline
        Those that are right, by file name.
    errors : list of str
        What is wrong with the others: file, field, value and what is allowed.
    """
    pipelines: dict[str, Pipeline] = {}
    origin: dict[str, Path] = {}
    errors = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            pipeline = load_pipeline(path)
        except SpecError as error:
            errors.append(str(error))
            continue
        if pipeline.name in pipelines:
            errors.append(
                f"{path}: name: {pipeline.name!r} is taken by {origin[pipeline.name]}; "
                "each pipeline needs a name of its own"
            )
            continue
        pipelines[pipeline.name] = pipeline
        origin[pipeline.name] = path
    return list(pipelines.values()), errors
