"""Whether two exports are of one model, although their files differ.

Earlier releases left two things in a SavedModel that are no function of the model: a random id in
``fingerprint.pb``, and a counter of the process in the names of its graph's functions.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.contract import tree_files
from tasks.native_log import import_tensorflow

_FINGERPRINT, _GRAPH = "fingerprint.pb", "saved_model.pb"
_COUNTED = re.compile(r"(.*_)(\d+)", re.DOTALL)


def is_same_model(one: Path, other: Path) -> bool:
    """Return whether two SavedModel folders hold the same weights, description and graph.

    Parameters
    ----------
    one, other : Path
        SavedModel folders.
    """
    ours, theirs = tree_files(one), tree_files(other)
    if ours.keys() != theirs.keys() or _GRAPH not in ours:
        return False
    differing = {name for name in ours if ours[name] != theirs[name]} - {_FINGERPRINT}
    if differing == {_GRAPH}:
        return _graph(one / _GRAPH) == _graph(other / _GRAPH)
    return not differing


def _graph(path: Path) -> Any:
    """Return a SavedModel's graph with functions that are named by their order."""
    import_tensorflow()
    from google.protobuf.json_format import MessageToDict
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString(path.read_bytes())
    counted = [
        (match[1], int(match[2]), match[0])
        for graph in saved.meta_graphs
        for function in graph.graph_def.library.function
        if (match := _COUNTED.fullmatch(function.signature.name))
    ]
    names = {name: f"{stem}#{rank}" for rank, (stem, _, name) in enumerate(sorted(counted))}
    found = re.compile("|".join(f"{re.escape(name)}(?!\\d)" for name in names) or r"(?!)")
    document = MessageToDict(saved)
    renamed = _renamed(document, lambda text: found.sub(lambda match: names[match[0]], text))
    for graph in renamed.get("metaGraphs", []):
        functions = graph.get("graphDef", {}).get("library", {}).get("function", [])
        functions.sort(key=lambda function: str(function["signature"]["name"]))
    return renamed


def _renamed(document: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(document, dict):
        return {rename(key): _renamed(value, rename) for key, value in document.items()}
    if isinstance(document, list):
        return [_renamed(value, rename) for value in document]
    return rename(document) if isinstance(document, str) else document
