"""Run by the serving environment: is an InferenceService what KServe's own models know?

Reads objects as JSON from standard input; tells what does not fit, one line each.
"""

import json
import re
import sys
from typing import Any

import kserve.models
import kubernetes.client.models

BUILT_IN = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def misfits(value: Any, kind: str, path: str) -> list[str]:
    if inner := re.fullmatch(r"[Ll]ist\[(.+)\]", kind):
        if not isinstance(value, list):
            return [f"{path}: is no list"]
        return [
            each
            for number, entry in enumerate(value)
            for each in misfits(entry, inner[1], f"{path}[{number}]")
        ]
    if inner := re.fullmatch(r"[Dd]ict[\[(]str, (.+)[\])]", kind):
        return [each for k, v in value.items() for each in misfits(v, inner[1], f"{path}.{k}")]
    if kind in BUILT_IN:
        right = isinstance(value, BUILT_IN[kind]) and (kind == "bool") == isinstance(value, bool)
        return [] if right else [f"{path}: {value!r} is no {kind}"]
    model = getattr(kserve.models, kind, None) or getattr(
        kubernetes.client.models, re.sub(r"^K8sIoApi\w+?(?=V1)", "", kind), None
    )
    if model is None:
        # quantities, integers or strings, addresses: their text is the API server's to judge
        return [] if isinstance(value, str | int | dict) else [f"{path}: {value!r} is no {kind}"]
    names = {wire: name for name, wire in model.attribute_map.items()}
    found = [f"{path}.{key}: {kind} has no such field" for key in value if key not in names]
    known = {key: entry for key, entry in value.items() if key in names}
    try:
        model(**{names[key]: entry for key, entry in known.items()})
    except ValueError as error:
        found.append(f"{path}: {error}")
    for key, entry in known.items():
        found += misfits(entry, model.openapi_types[names[key]], f"{path}.{key}")
    return found


for number, document in enumerate(json.load(sys.stdin)):
    for line in misfits(document, "V1beta1InferenceService", str(number)):
        sys.stdout.write(line + "\n")
