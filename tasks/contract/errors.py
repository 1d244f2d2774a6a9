"""Stage names, exit codes, and the errors that carry them."""

STAGES = (
    "ingest",
    "transform",
    "filter",
    "arrange",
    "validate",
    "train",
    "evaluate",
    "fairness",
    "explain",
    "robustness",
    "bless",
    "publish",
    "deploy",
    "reject",
    "publish_data",
    "report",
)
"""Every stage of our own, in order; ``deploy`` and ``reject`` exclude each other, ``publish`` is
there only where a cluster serves the models, and ``publish_data`` only where the pipeline file asks
for it. A night may hold more: see :func:`tasks.contract.stages_of`."""

CHECKS = ("fairness", "explain", "robustness")
"""Stages that examine the evaluated model, side by side."""

EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_CONFIG = 64, 65, 66, 78
"""Exit codes (BSD sysexits) of a stage that no retry can help."""


def is_bad_input(exit_code: int) -> bool:
    """Tell whether a stage's exit code means bad input or configuration, not worth a retry."""
    return 64 <= exit_code <= 78


class StageError(Exception):
    """A stage cannot go on; the text is one line for a person. Worth a retry unless a subclass."""

    exit_code = 1


class BadInput(StageError):
    """The data are wrong; names file, row, field, value and the way out."""

    exit_code = EX_DATAERR


class Altered(BadInput):
    """What is stored is not what was committed."""


class NoInput(StageError):
    """An input does not exist or cannot be read."""

    exit_code = EX_NOINPUT


class BadConfig(StageError):
    """The configuration is wrong; names field, value and what is allowed."""

    exit_code = EX_CONFIG
