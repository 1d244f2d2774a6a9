"""Keeps credentials out of log lines.

Airflow's masker knows the values of its own connections. What a pod holds comes from secrets that
Airflow never sees, so its lines are searched for what credentials look like.
"""

import copy
import re
from collections.abc import Collection, Mapping
from typing import Any

MASK = "***"

_NAMES = (
    r"aws_?secret_?access_?key|aws_?session_?token|secret_?access_?key|session_?token|"
    r"aws_?access_?key_?id|x-amz-(?:security-token|signature|credential)|"
    r"password|passwd|secret_?key|api_?key|access_?token|client_?secret|private_?key|"
    r"mlflow_tracking_(?:token|password)|token"
)
_PATTERNS = (
    # a URL's user and password, which may hold what it ought to have quoted
    (re.compile(r"(?<=://)[^/\s:@'\"]*:[^\s@'\"]+(?=@)"), MASK),
    # ids of AWS access keys
    (re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    # name=value, name: value, "name": "value", &name=value
    (
        re.compile(rf"(?i)((?<![A-Za-z])(?:{_NAMES})['\"]?\s*[=:]\s*['\"]?)([^\s'\"&,;}})]+)"),
        rf"\1{MASK}",
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.S), MASK),
)


def scrub(text: str) -> str:
    """Return a text with what looks like credentials masked.

    Parameters
    ----------
    text : str
        A log line, or several.
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def scrub_pod(document: dict[str, Any], *, known: Collection[str]) -> dict[str, Any]:
    """Return a pod as it may be logged: without the values of variables that are not ours.

    A template file may hold credentials, and a name and its value are lines of their own in YAML.

    Parameters
    ----------
    document : dict
        As the API server has it.
    known : collection of str
        Names of the variables whose values are no secrets.
    """
    told = copy.deepcopy(document)
    told["metadata"].pop("managedFields", None)
    for kind in ("initContainers", "containers"):
        for container in told["spec"].get(kind) or ():
            for variable in container.get("env") or ():
                if "value" in variable and variable["name"] not in known:
                    variable["value"] = MASK
    return told


class ScrubbedLog:
    """A logger that masks what looks like credentials in all that passes through it.

    Parameters
    ----------
    log : object
        The logger that writes the lines.
    """

    _METHODS = ("debug", "info", "warning", "error", "critical", "exception", "log")

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._log, name)
        if name not in self._METHODS:
            return method
        first = 1 if name == "log" else 0

        def write(*arguments: Any, **more: Any) -> Any:
            level, rest = arguments[:first], arguments[first:]
            text = (scrub(_formatted(*rest)).rstrip("\n"),) if rest else ()
            return method(*level, *text, **more)

        return write


def _formatted(message: Any, *values: Any) -> str:
    """Put the values into a line before it is searched: name and value may come apart in it."""
    if not values:
        return str(message)
    try:
        named = len(values) == 1 and isinstance(values[0], Mapping)
        return str(message) % (values[0] if named else values)
    except (TypeError, ValueError, KeyError):
        # a line that was put together wrongly is better than none
        return " ".join(str(each) for each in (message, *values))
