"""The cluster in KUBECONFIG, asked and told by its command line."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.waiting import wait_for


def kubectl(*words: str, given: dict[str, Any] | None = None) -> str:
    """Return what kubectl prints.

    Parameters
    ----------
    *words : str
        Its arguments.
    given : dict, optional
        Object that it reads from its standard input.

    Raises
    ------
    subprocess.CalledProcessError
        It failed; what it said is told beside it.
    """
    text = None if given is None else json.dumps(given)
    answer = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True)
    try:
        answer.check_returncode()
    except subprocess.CalledProcessError as error:
        error.add_note(answer.stderr)
        raise
    return answer.stdout


def images_on_nodes() -> set[str]:
    """Return the images that the nodes say they have; a new one is told after a while."""
    path = "jsonpath={.items[*].status.images[*].names[*]}"
    return set(kubectl("get", "nodes", "-o", path, "--request-timeout=20s").split())


@contextmanager
def own_namespace(prefix: str) -> Iterator[str]:
    """Make a namespace that nobody else has, in which pods can start; remove it in the end."""
    name = f"{prefix}-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    try:
        # without it a pod is refused
        accounts = ("-n", name, "get", "serviceaccounts", "-o", "name")
        assert wait_for(lambda: "serviceaccount/default" in kubectl(*accounts))
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")
