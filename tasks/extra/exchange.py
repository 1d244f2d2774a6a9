"""The folders through which a foreign program is given its inputs and leaves its outputs."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.contract import Manifest, NoInput, StageError
from tasks.spec import ExtraStage, Pipeline
from tasks.spec.masking import masked_deep

_RECORD = "record.json"


@dataclass(frozen=True)
class Exchange:
    """A folder that holds the inputs, the outputs, and what must survive between two processes.

    Attributes
    ----------
    folder : Path
        A foreign container sees ``inputs/`` (read-only) and ``outputs/`` of it, and no more.
    """

    folder: Path

    @property
    def inputs(self) -> Path:
        """What the program is given: ``<stage>/<output>``."""
        return self.folder / "inputs"

    @property
    def outputs(self) -> Path:
        """Where the program leaves its results."""
        return self.folder / "outputs"

    @property
    def home(self) -> Path:
        """An empty home: programs look for credentials in the user's."""
        return self.folder / "home"

    def clear(self, *, shared: bool = False) -> None:
        """Make the folders, empty: a killed attempt may have been half-way.

        Parameters
        ----------
        shared : bool
            Let another user write the outputs: a container may have one of its own.
        """
        for folder in (self.inputs, self.outputs, self.home):
            _remove(folder)
            folder.mkdir(parents=True)
        if shared:
            self.outputs.chmod(0o777)

    def write_record(self, document: Mapping[str, object]) -> None:
        """Keep what the process that takes the outputs has to know."""
        (self.folder / _RECORD).write_text(json.dumps(document), encoding="utf-8")

    def read_record(self) -> dict[str, object]:
        """Return what was kept.

        Raises
        ------
        StageError
            There is nothing.
        """
        try:
            document = json.loads((self.folder / _RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StageError(
                f"{self.folder / _RECORD}: cannot be read ({error}); run the stage again"
            ) from error
        return dict(document)


def give_inputs(
    extra: ExtraStage,
    *,
    pipeline: Pipeline,
    manifests: Mapping[str, Manifest],
    locate: Callable[[str, str], Path],
    target: Path,
    copy: bool,
) -> int:
    """Put what a program may read into its folder of inputs.

    Parameters
    ----------
    extra : ExtraStage
        Says which outputs.
    pipeline : Pipeline
        The night's; becomes ``pipeline.json``.
    manifests : mapping of str to Manifest
        Stage to what it committed; each becomes ``<stage>/manifest.json``.
    locate : callable
        Returns the local path of a stage's output, fetched if it must be.
    target : Path
        The folder.
    copy : bool
        Copy rather than link: what is written into a link would alter the committed output.

    Returns
    -------
    int
        Outputs given.

    Raises
    ------
    NoInput
        ``reads`` names an output that was not committed.
    """
    (target / "pipeline.json").write_text(
        json.dumps(masked_deep(json.loads(pipeline.to_json()))), encoding="utf-8"
    )
    given = 0
    for stage, manifest in manifests.items():
        folder = target / stage
        folder.mkdir()
        (folder / "manifest.json").write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        for name in _wanted(extra, manifest):
            _place(locate(stage, name), folder / name.rstrip("/"), copy=copy)
            given += 1
    return given


def _wanted(extra: ExtraStage, manifest: Manifest) -> list[str]:
    there = {output.path.rstrip("/"): output.path for output in manifest.outputs}
    if extra.reads is None:
        return list(there.values())
    own = [entry for entry in extra.reads if entry.partition("/")[0] == manifest.stage]
    names = [entry.partition("/")[2].rstrip("/") for entry in own]
    for name in names:
        if name not in there:
            raise NoInput(
                f"{extra.name}: reads: {manifest.stage} committed no {name}; there is "
                f"{', '.join(sorted(there)) or 'nothing'}"
            )
    return [there[name] for name in names]


def _place(source: Path, target: Path, *, copy: bool) -> None:
    def put(one: str, other: str) -> str:
        if not copy:
            try:
                os.link(one, other)
            except OSError:
                # another file system, or links are not allowed
                pass
            else:
                return other
        return shutil.copyfile(one, other)

    if source.is_dir():
        shutil.copytree(source, target, copy_function=put)
    else:
        put(str(source), str(target))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
