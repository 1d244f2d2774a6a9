"""What the policies of the roles in ``overlays/eks/iam`` let pass, by IAM's rules."""

import json
from fnmatch import fnmatchcase
from typing import Any

from tests.kubernetes.kustomization import ROOT

BUCKET = "example-trusted-retraining"
POLICIES: dict[str, Any] = {
    path.stem: json.loads(path.read_text())
    for path in sorted((ROOT / "overlays/eks/iam").glob("*.json"))
}


def may(
    role: str,
    action: str,
    key: str | None,
    prefix: str | None = None,
    *,
    only_if_absent: bool = False,
) -> bool:
    """Return whether the policy of a role lets a request pass: one allows it, and none denies it.

    Parameters
    ----------
    role, action : str
        Such as ``trusted-retraining-stage`` and ``s3:PutObject``.
    key, prefix : str or None
        The object; or, with no key, the prefix of a listing.
    only_if_absent : bool
        Whether an upload carries ``If-None-Match: *``.
    """
    resource = f"arn:aws:s3:::{BUCKET}" if key is None else f"arn:aws:s3:::{BUCKET}/{key}"
    asked = {
        "s3:prefix": prefix,
        "s3:if-none-match": "*" if only_if_absent else None,
        "s3:ObjectCreationOperation": "true" if action == "s3:PutObject" else None,
    }
    effects = {
        statement["Effect"]
        for statement in POLICIES[role]["Statement"]
        if action in statement["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        and all(
            _holds(operator, name, listed(values), asked[name])
            for operator, keys in statement.get("Condition", {}).items()
            for name, values in keys.items()
        )
    }
    assert effects <= {"Allow", "Deny"}
    return effects == {"Allow"}


def policy_for(role: str, bucket: str = BUCKET) -> dict[str, Any]:
    """Return the policy of a role as it is shipped, for SeaweedFS and a bucket.

    SeaweedFS knows no operator that ends with ``IfExists``: a statement with one grants nothing
    there. It becomes the two that it means: with the condition, and for requests without its key.
    """
    policy = json.loads(json.dumps(POLICIES[role]).replace(BUCKET, bucket))
    statements = []
    for statement in policy["Statement"]:
        condition = statement.get("Condition", {})
        if not any(operator.endswith("IfExists") for operator in condition):
            statements.append(statement)
            continue
        ((operator, keys),) = condition.items()
        ((key, values),) = keys.items()
        there, absent = {operator.removesuffix("IfExists"): {key: values}}, {"Null": {key: "true"}}
        statements += [statement | {"Condition": each} for each in (there, absent)]
    return policy | {"Statement": statements}


def listed(value: str | list[str]) -> list[str]:
    """Return the values of a field that may also hold one alone."""
    return [value] if isinstance(value, str) else value


def _holds(operator: str, name: str, values: list[str], given: str | None) -> bool:
    if operator == "Null":
        return values == [str(given is None).lower()]
    if operator == "Bool":
        return given in values
    assert operator in ("StringLike", "StringLikeIfExists") and name == "s3:prefix"
    if given is None:
        return operator.endswith("IfExists")
    return any(fnmatchcase(given, pattern) for pattern in values)
