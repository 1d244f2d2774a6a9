"""Renders our kustomizations, and refuses every feature of kustomize that they do not use.

``kubectl kustomize`` is the reference, and :mod:`tests.kubernetes.test_rendering` compares with it
where there is one; but a machine without it must not leave the files unchecked.
"""

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Object = dict[str, Any]

ROOT = Path(__file__).parents[2] / "docker/kubernetes"
"""Folder of the cluster files."""

_KNOWN = {"apiVersion", "kind", "resources", "components", "images", "patches"}
_SELECTORS = ("kind", "name", "namespace")


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not the last one's."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{node.start_mark}: {', '.join(map(str, twice))} stands there twice"
        return super().construct_mapping(node, deep)


def documents(path: Path) -> list[Any]:
    """Return what a YAML file holds, document by document, the empty ones left out."""
    loaded = yaml.load_all(path.read_text(), _UniqueKeys)
    return [document for document in loaded if document is not None]


def render(folder: Path) -> list[Object]:
    """Return the objects of a kustomization, patched, with their images.

    Parameters
    ----------
    folder : Path
        Folder of a ``kustomization.yaml``.

    Raises
    ------
    AssertionError
        It uses a feature that this reader does not know, a patch meets no object, or two objects
        have the same name.
    """
    objects = _render(folder, [], kind="Kustomization")
    identities = [identity(one) for one in objects]
    assert len(set(identities)) == len(identities), f"{folder}: an object stands there twice"
    return objects


def with_component(folder: Path, component: str, overlay: str) -> Path:
    """Return a copy of an overlay that also has a component, as the guide tells to add it.

    Parameters
    ----------
    folder : Path
        Empty folder for the copy.
    component, overlay : str
        Their folders below the cluster files.
    """
    copied = folder / "kubernetes"
    shutil.copytree(ROOT, copied)
    path = copied / overlay / "kustomization.yaml"
    path.write_text(path.read_text() + f"components: [../../{component}]\n")
    return path.parent


def is_component(folder: Path) -> bool:
    """Return whether a folder is part of an overlay, and not applied alone."""
    (settings,) = documents(folder / "kustomization.yaml")
    return bool(settings["kind"] == "Component")


def _render(folder: Path, objects: list[Object], *, kind: str) -> list[Object]:
    (settings,) = documents(folder / "kustomization.yaml")
    assert settings["kind"] == kind, f"{folder}: is no {kind}"
    assert set(settings) <= _KNOWN, f"{folder}: unknown {set(settings) - _KNOWN}"
    for entry in settings["resources"]:
        path = (folder / entry).resolve()
        objects = [*objects, *(render(path) if path.is_dir() else documents(path))]
    for entry in settings.get("components", []):
        objects = _render((folder / entry).resolve(), objects, kind="Component")
    for patch in settings.get("patches", []):
        _patch(objects, patch, folder)
    for image in settings.get("images", []):
        _set_image(objects, image, folder)
    return objects


def identity(one: Object) -> tuple[str, str, str, str]:
    """Return what an object is known by: API version, kind, namespace (or none), name."""
    metadata = one["metadata"]
    return one["apiVersion"], one["kind"], metadata.get("namespace", ""), metadata["name"]


def containers(one: Object) -> list[Object]:
    """Return the containers of the pod that an object makes, the first ones included."""
    spec = pod_spec(one)
    return [] if spec is None else spec.get("initContainers", []) + spec["containers"]


def pod_spec(one: Object) -> Object | None:
    """Return the specification of the pod that an object makes, if it makes one."""
    if one["kind"] in ("Deployment", "StatefulSet", "Job"):
        template: Object = one["spec"]["template"]
        return copy.copy(template["spec"])
    return None


def _patch(objects: list[Object], patch: Object, folder: Path) -> None:
    assert set(patch) == {"target", "patch"}, f"{folder}: only inline patches with a target"
    target = patch["target"]
    assert set(target) <= set(_SELECTORS), f"{folder}: unknown selector in {target}"
    operations = yaml.safe_load(patch["patch"])
    assert isinstance(operations, list), f"{folder}: only JSON patches"
    met = [n for n, one in enumerate(objects) if _is_target(one, target)]
    assert met, f"{folder}: the patch of {target} meets no object"
    for number in met:
        objects[number] = jsonpatch.apply_patch(objects[number], operations)


def _is_target(one: Object, target: dict[str, str]) -> bool:
    is_a = {"kind": one["kind"]} | one["metadata"]
    # kustomize anchors its regular expressions
    return all(re.fullmatch(target[key], is_a.get(key, "")) for key in target)


def _set_image(objects: list[Object], image: dict[str, str], folder: Path) -> None:
    assert {"name", "newTag"} <= set(image) <= {"name", "newName", "newTag"}, image
    found = [c for one in objects for c in _images(one) if c["image"] == image["name"]]
    assert found, f"{folder}: no container has the image {image['name']}"
    for container in found:
        container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"


def _images(one: Object) -> list[Object]:
    if one["kind"] == "ServingRuntime":
        return list(one["spec"]["containers"])
    return containers(one)
