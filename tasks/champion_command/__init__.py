"""``python -m tasks champion``: the records of who serves side by side, and putting one right.

A person may know better than a record; who it was and why is recorded with the version, with the
registered model, and in ``champions.jsonl`` beside what serves.
"""

from tasks.champion_command.corrections import Correction, correct_champion
from tasks.champion_command.shown import show_champion

__all__ = ["Correction", "correct_champion", "show_champion"]
