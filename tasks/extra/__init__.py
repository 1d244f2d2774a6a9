"""What passes between a night and a stage that somebody else wrote: folders, variables, exit code.

No code of ours is inside: it finds its inputs in a folder and leaves its outputs in another.
"""

from tasks.extra.command import CommandFailed, run_command
from tasks.extra.exchange import Exchange, give_inputs
from tasks.extra.outputs import read_metrics, take_outputs

__all__ = [
    "CommandFailed",
    "Exchange",
    "give_inputs",
    "read_metrics",
    "run_command",
    "take_outputs",
]
