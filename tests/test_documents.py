"""Commands in README and docs are there as they are written, and links lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

from tasks.cli import _parser

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *REPOSITORY.glob("docs/**/*.md")]
TARGETS = set(re.findall(r"^([a-z0-9]+):", (REPOSITORY / "Makefile").read_text(), flags=re.M))
COMMANDS = set(_parser()._subparsers._group_actions[0].choices)


def code(page: Path) -> str:
    """Return what a page shows as code, in blocks and in lines."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"```.*?\n(.*?)```|`([^`\n]+)`", text, flags=re.S)
    return "\n".join(block or line for block, line in found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_can_be_typed_as_it_is_written(page: Path) -> None:
    shown = code(page)
    # in the shell's own Python nothing of ours is installed
    assert not re.findall(r"(?m)(?:^|[\s|(])(python3? -m (?:tasks|benchmarks|trusted)\S*)", shown)
    assert set(re.findall(r"(?m)(?:^|\s)make ([a-z0-9]+)", shown)) <= TARGETS
    named = set(re.findall(r"\.venv/bin/python -m tasks ([a-z_-]+)", shown))
    assert named <= COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_to_a_file_leads_to_it(page: Path) -> None:
    # outside of code, where brackets are those of patterns
    prose = re.sub(r"`[^`]*`", "", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose)
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_make_help_lists_every_target_that_is_not_a_file() -> None:
    shown = subprocess.run(
        ["make", "--silent", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    listed = set(re.findall(r"^make ([a-z0-9]+)", shown, flags=re.M))
    assert listed == TARGETS


def test_the_help_of_the_stages_lists_each_with_a_line() -> None:
    text = _parser().format_help()
    for name in COMMANDS:
        assert re.search(rf"^ +{name} +\S|^ +{name}\n +\S", text, flags=re.M), name
