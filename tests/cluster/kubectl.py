"""The cluster in KUBECONFIG, asked and told by its command line."""

import json
import subprocess
from typing import Any


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
