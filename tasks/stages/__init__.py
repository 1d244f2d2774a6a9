"""The stages, one module each, thin: read inputs, call the library folders, write outputs."""

import importlib

from tasks.contract import STAGES
from tasks.stages.base import Stage


def load_stage(name: str) -> Stage:
    """Return the stage of that name; imports its module only, so that light stages stay light.

    Raises
    ------
    KeyError
        There is no such stage.
    """
    if name not in STAGES:
        raise KeyError(name)
    module = importlib.import_module(f"tasks.stages.{name}")
    stage: Stage = module.STAGE
    return stage
