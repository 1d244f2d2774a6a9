"""Whether two exports are of one model, although their files differ.

Earlier releases left two things in a SavedModel that are no function of the model: a random id in
``fingerprint.pb``, and a counter of the process in the names of functions and of resources.
"""

import re
from collections.abc import Callable, Iterator
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
        return bool(_graph(one / _GRAPH) == _graph(other / _GRAPH))
    return not differing


def _graph(path: Path) -> Any:
    """Return a SavedModel's graph with the order of what was counted in place of the numbers."""
    import_tensorflow()
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString(path.read_bytes())
    functions = [each for graph in saved.meta_graphs for each in graph.graph_def.library.function]
    counted = {match for each in functions if (match := _COUNTED.fullmatch(each.signature.name))}
    order = sorted((match[1], int(match[2]), match[0]) for match in counted)
    names = {name: f"{stem}#{rank}" for rank, (stem, _, name) in enumerate(order)}
    numbers = sorted({int(value.s) for value in _attributes(saved) if value.s.isdigit()})
    for value in _attributes(saved):
        if value.s.isdigit():
            value.s = b"#%d" % numbers.index(int(value.s))
    found = re.compile("|".join(f"{re.escape(name)}(?!\\d)" for name in names) or "(?!)")
    graph = _renamed(
        MessageToDict(saved), lambda text: found.sub(lambda match: names[match[0]], text)
    )
    for each in graph.get("metaGraphs", []):
        library = each.get("graphDef", {}).get("library", {})
        library.get("function", []).sort(key=lambda function: str(function["signature"]["name"]))
    return graph


def _attributes(saved: Any) -> Iterator[Any]:
    """Yield the attributes of every node; some are names that hold nothing but a count."""
    for graph in saved.meta_graphs:
        for node in graph.graph_def.node:
            yield from node.attr.values()
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                yield from node.attr.values()
            for arguments in function.arg_attr.values():
                yield from arguments.attr.values()


def _renamed(document: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(document, dict):
        return {rename(key): _renamed(value, rename) for key, value in document.items()}
    if isinstance(document, list):
        return [_renamed(value, rename) for value in document]
    return rename(document) if isinstance(document, str) else document
