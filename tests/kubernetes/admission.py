"""What ValidatingAdmissionPolicies say to a request, by evaluating their expressions.

An expression that cannot be evaluated is an error of the test, not a refusal. What the API server's
own type checker finds is only seen there: :mod:`tests.cluster` applies the policies.
"""

from functools import cache
from typing import Any

import cel

from tests.kubernetes.kustomization import Object

WORKER = "system:serviceaccount:airflow:airflow-worker"


def refusals(
    objects: list[Object],
    given: Object | None,
    *,
    old: Object | None = None,
    user: str = WORKER,
    groups: tuple[str, ...] = (),
) -> list[str]:
    """Return the messages of the policies that refuse a request; none if it passes.

    Parameters
    ----------
    objects : list of dict
        Among them the policies and their bindings.
    given, old : dict or None
        The object as it is to be, none where it is removed, and as it is, none where it is made.
    user : str
        Who asks.
    groups : tuple of str
        Groups of the user besides those that Kubernetes gives to a service account.
    """
    about = given or old
    assert about is not None
    kinds: dict[str, dict[str, Object]] = {}
    for one in objects:
        kinds.setdefault(one["kind"], {})[one["metadata"]["name"]] = one
    if user.startswith("system:serviceaccount:"):
        namespace = user.split(":")[2]
        groups += ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    variables = {
        "object": given,
        "oldObject": old,
        "request": {
            "kind": {"kind": about["kind"]},
            "userInfo": {"username": user, "groups": list(groups)},
        },
    }
    operation = "CREATE" if old is None else "DELETE" if given is None else "UPDATE"
    found: list[str] = []
    for binding in kinds["ValidatingAdmissionPolicyBinding"].values():
        assert binding["spec"]["validationActions"] == ["Deny"]
        policy = kinds["ValidatingAdmissionPolicy"][binding["spec"]["policyName"]]["spec"]
        assert policy["failurePolicy"] == "Fail"
        chosen = binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
        if chosen != {"kubernetes.io/metadata.name": about["metadata"]["namespace"]}:
            continue
        if any(
            _is_meant(rule, about, operation)
            for rule in policy["matchConstraints"]["resourceRules"]
        ):
            found += _refusals(policy, variables)
    return found


def plural(kind: str) -> str:
    """Return the resource of a kind."""
    return f"{kind.lower()}s"


def _is_meant(rule: Object, about: Object, operation: str) -> bool:
    group, _, version = about["apiVersion"].rpartition("/")
    return (
        group in rule["apiGroups"]
        and (version in rule["apiVersions"] or rule["apiVersions"] == ["*"])
        and plural(about["kind"]) in rule["resources"]
        and operation in rule["operations"]
    )


def _refusals(policy: Object, variables: Object) -> list[str]:
    if not all(_value(each["expression"], variables) for each in policy.get("matchConditions", [])):
        return []
    own: Object = {}
    for each in policy.get("variables", []):
        own[each["name"]] = _value(each["expression"], variables | {"variables": own})
    return [
        each["message"]
        for each in policy["validations"]
        if not _value(each["expression"], variables | {"variables": own})
    ]


def _value(expression: str, variables: Object) -> Any:
    context = cel.Context()
    # switches the type checker off, which there is none of here
    context.add_function("dyn", lambda value: value)
    for name, value in variables.items():
        context.add_variable(name, value)
    return _compiled(expression).execute(context)


_compiled = cache(cel.compile)
