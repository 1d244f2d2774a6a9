"""Stage names, exit codes, and the errors that carry them."""

from tasks.spec.foreign_text import visible

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

STAGE_TEXTS = {
    "ingest": "fetch metadata and images, verify every image, set aside what is broken",
    "transform": "column functions on the metadata",
    "filter": "keep the rows for which every predicate holds",
    "arrange": "folders per class, split by hash of the group",
    "validate": "schema, counts, duplicates, leakage across the split",
    "train": "fit the model",
    "evaluate": "challenger and champion on the same test rows",
    "fairness": "group metrics per protected attribute",
    "explain": "where the model looks",
    "robustness": "accuracy under attack",
    "bless": "the rules; also runs after a crash, and then refuses",
    "publish": "the judged model to where the cluster's model servers read it",
    "deploy": "known answers first, then the alias champion",
    "reject": "the champion stays, and why",
    "publish_data": "the arranged data set, with its card and fingerprint",
    "report": "one page for people",
}
"""What each of them does, in a line."""

CHECKS = ("fairness", "explain", "robustness")
"""Stages that examine the evaluated model, side by side."""

EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_CONFIG = 64, 65, 66, 78
"""Exit codes (BSD sysexits) of a stage that no retry can help."""


def is_bad_input(exit_code: int) -> bool:
    """Tell whether a stage's exit code means bad input or configuration, not worth a retry."""
    return 64 <= exit_code <= 78


class StageError(Exception):
    """A stage cannot go on; the text is one line for a person. Worth a retry unless a subclass.

    Parameters
    ----------
    text : str
        Whatever it quotes of others, it stays one line.
    """

    exit_code = 1

    def __init__(self, text: str = "") -> None:
        super().__init__(visible(text))


class BadInput(StageError):
    """The data are wrong; names file, row, field, value and the way out."""

    exit_code = EX_DATAERR


class Altered(BadInput):
    """What is stored is not what was committed.

    Attributes
    ----------
    stage : str
        Who committed it; empty when no stage of this run did.
    """

    stage: str = ""


class NoInput(StageError):
    """An input does not exist or cannot be read."""

    exit_code = EX_NOINPUT


class BadConfig(StageError):
    """The configuration is wrong; names field, value and what is allowed."""

    exit_code = EX_CONFIG
