"""Reads Dockerfiles as far as the tests ask about them."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ("airflow", "tasks", "serving", "machine")


@dataclass(kw_only=True)
class Stage:
    """What follows a FROM.

    Attributes
    ----------
    name : str
        After AS.
    base : str
        An image, a build argument or a stage before.
    steps : list of tuple of str
        Instruction and the rest of it, its lines joined.
    """

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """Return what follows an instruction, each time that it occurs."""
        return [rest for name, rest in self.steps if name == instruction]


def stages_of(image: str) -> dict[str, Stage]:
    """Return the stages of an image's Dockerfile by name."""
    text = (ROOT / "docker" / image / "Dockerfile").read_text()
    text = re.sub(r"(?m)^\s*#.*\n", "", text)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    found: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, lines)):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.split()
            found[name] = Stage(name=name, base=base)
        elif found:
            next(reversed(found.values())).steps.append((instruction, rest.strip()))
    return found


def chain(image: str, target: str) -> list[Stage]:
    """Return a target and the stages that it is built on, the target last."""
    stages = stages_of(image)
    row = [stages[target]]
    while row[0].base in stages:
        row.insert(0, stages[row[0].base])
    return row


def last(image: str, target: str, instruction: str) -> str:
    """Return what an instruction says in the end."""
    return [rest for stage in chain(image, target) for rest in stage.all(instruction)][-1]


def pairs(image: str, target: str, instruction: str) -> dict[str, str]:
    """Return the names and values of ENV or LABEL."""
    told = [rest for stage in chain(image, target) for rest in stage.all(instruction)]
    words = [word for rest in told for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


def sources(stage: Stage) -> list[tuple[list[str], str]]:
    """Return what a stage copies from the build context, and where to."""
    copies = [rest.split() for rest in stage.all("COPY") if not rest.startswith("--from")]
    return [(words[:-1], words[-1]) for words in copies]


def command(text: str) -> list[str]:
    """Return the words of ENTRYPOINT or CMD in exec form; the other has a shell as process 1."""
    words = json.loads(text)
    assert isinstance(words, list)
    return words
