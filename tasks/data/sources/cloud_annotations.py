"""A bucket that was labelled with Cloud Annotations, as Elyra's first workflow reads it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.contract import BadInput
from tasks.data.fetch import fetch, is_remote, local_path, source_state
from tasks.data.names import is_plain_path
from tasks.data.objects import is_object_store, listing
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.cloud_annotations_file import AnnotatedImage, read_cloud_annotations
from tasks.data.sources.foreign_exports import recognised
from tasks.data.sources.labels import LabelRule, check_region_labels, relevant
from tasks.data.spelled_names import SpelledNames
from tasks.spec.annotations import CloudAnnotations


class CloudAnnotationsReader(SourceReader):
    """One row an image of ``_annotations.json``: its label, all its labels, its boxes."""

    kind = "cloud_annotations"

    def __init__(self, spec: CloudAnnotations) -> None:
        self.spec = spec
        self.max_quarantined = spec.max_quarantined
        self.max_missing = spec.max_missing

    def state(self) -> str:
        uri, name = self.spec.uri, self.spec.annotations
        if self._is_archive():
            return source_state(uri, [name])
        # only what the file names is read: models and runs may lie in the same bucket
        with tempfile.TemporaryDirectory(prefix="annotations-") as folder:
            images, _ = self._annotated(fetch(uri, Path(folder), parts=[name]))
        return source_state(uri, self._parts(images))

    def open(self, scratch: Path) -> Contents:
        uri = self.spec.uri
        root = fetch(uri, scratch / "annotations", parts=[self.spec.annotations])
        images, warnings = self._annotated(root)
        complete = not is_object_store(uri) or self._is_archive()
        if not complete:
            root = fetch(uri, scratch, parts=self._parts(images))
        folder = root / self.spec.images
        if complete and not folder.is_dir():
            raise BadInput(
                f"{uri}: holds no folder {self.spec.images!r} (source.images); "
                "'.' is the source itself"
            )
        check_region_labels(
            self.spec.region_labels, (box for image in images for box in image.boxes)
        )
        rule = LabelRule(self.spec)
        chosen = [rule.choose(image.name, image.labels) for image in images]
        return Contents(
            columns=["filename", "label", "labels", "boxes"],
            rows=self._rows(images, chosen),
            images=folder,
            warnings=[*warnings, *rule.finish()],
            root=root,
            complete=complete,
        )

    def _rows(self, images: list[AnnotatedImage], chosen: list[str | None]) -> Iterator[SourceRow]:
        for image, label in zip(images, chosen, strict=True):
            labels = "|".join(dict.fromkeys(image.labels)) or None
            yield SourceRow(
                values=[image.name, label, labels, str(len(image.boxes))],
                image=image.name,
                boxes=relevant(image.boxes, label, self.spec.region_labels),
            )

    def _is_archive(self) -> bool:
        uri = self.spec.uri
        if is_object_store(uri):
            return "" in listing(uri, [self.spec.annotations])
        return is_remote(uri) or local_path(uri).is_file()

    def _parts(self, images: list[AnnotatedImage]) -> list[str]:
        names = [image.name for image in images if is_plain_path(image.name)]
        if not is_object_store(self.spec.uri):
            names = self._spelled([image.name for image in images])
        prefix = f"{self.spec.images.strip('/')}/".lstrip("/")
        return [self.spec.annotations, *(f"{prefix}{name}" for name in names)]

    def _spelled(self, names: list[str]) -> list[str]:
        """Return the names that the files have on this machine."""
        folder = local_path(self.spec.uri) / self.spec.images
        if not folder.is_dir():
            return []
        return list(SpelledNames(folder).files(names).values())

    def _annotated(self, root: Path) -> tuple[list[AnnotatedImage], list[str]]:
        path = root / self.spec.annotations
        if not path.is_file():
            raise BadInput(
                f"{self.spec.uri}: holds no file {self.spec.annotations!r} (source.annotations); "
                f"is it labelled with Cloud Annotations?{recognised(root)}"
            )
        return read_cloud_annotations(path)
