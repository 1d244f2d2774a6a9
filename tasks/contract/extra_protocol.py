"""What a stage that somebody else wrote is given, wherever it runs: ``docs/extra-stages.md``."""

from tasks.contract.hashing import fingerprint
from tasks.spec import ExtraStage

EXTRA_PROTOCOL = "extra stages 1"
"""Takes the place of the code version in the fingerprint of an extra stage, whose code is its
image's; raised when what we give to it, or make of what it leaves, changes."""


def command_line(extra: ExtraStage, *, inputs: str, outputs: str) -> list[str]:
    """Return program and arguments with the two folders in their places.

    Parameters
    ----------
    extra : ExtraStage
        As in the pipeline file.
    inputs, outputs : str
        Paths of the folders as the program sees them.
    """
    return [
        argument.replace("{inputs}", inputs).replace("{outputs}", outputs)
        for argument in extra.command
    ]


def protocol_variables(
    extra: ExtraStage, *, inputs: str, outputs: str, pipeline: str, run_id: str
) -> dict[str, str]:
    """Return the variables from which a program learns where it is."""
    return {
        "TRUSTED_RETRAINING_INPUTS": inputs,
        "TRUSTED_RETRAINING_OUTPUTS": outputs,
        "TRUSTED_RETRAINING_PIPELINE": pipeline,
        "TRUSTED_RETRAINING_RUN_ID": run_id,
        "TRUSTED_RETRAINING_STAGE": extra.name,
    }


def extra_fingerprint(extra: ExtraStage, inputs: dict[str, str], *, state: str = "") -> str:
    """Hash everything that determines the result of an extra stage.

    Parameters
    ----------
    extra : ExtraStage
        As in the pipeline file.
    inputs : dict of str to str
        Digest of the outputs of each stage that it comes after.
    state : str
        Digest of the files that its command names, where it is run on this machine.
    """
    return fingerprint(
        stage=extra.name,
        config=extra.determinants(),
        inputs=inputs,
        code=EXTRA_PROTOCOL,
        state=state,
    )
