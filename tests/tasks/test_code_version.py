"""The code version follows the modules that a stage uses."""

import subprocess
import sys
from pathlib import Path

import pytest

from tasks import code_version as module
from tasks.code_version import code_version, installed_version, library_versions


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some modules below ``tasks`` that a test may change."""
    import tasks

    (tmp_path / "leaf.py").write_text("VALUE = 1\n")
    (tmp_path / "stranger.py").write_text("VALUE = 1\n")
    (tmp_path / "top.py").write_text("def work():\n    from tasks.leaf import VALUE\n")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    yield tmp_path
    for name in ("leaf", "stranger", "top"):
        sys.modules.pop(f"tasks.{name}", None)


def test_a_changed_late_import_changes_the_version(package: Path) -> None:
    before = code_version("tasks.top")
    (package / "leaf.py").write_text("VALUE = 2\n")
    assert code_version("tasks.top") != before


def test_a_module_that_is_not_imported_does_not(package: Path) -> None:
    before = code_version("tasks.top")
    (package / "stranger.py").write_text("VALUE = 2\n")
    assert code_version("tasks.top") == before


def test_a_library_update_changes_the_version(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code_version("tasks.top")
    monkeypatch.setattr(module, "library_versions", lambda: {"numpy": "0"})
    assert code_version("tasks.top") != before


def test_versions_name_every_library_that_makes_results() -> None:
    assert library_versions()["numpy"].count(".") == 2


def test_a_build_under_another_name_has_the_version_of_the_one_it_stands_in_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "library_cpu-2.21.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: library-cpu\nVersion: 2.21.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "_STANDS_IN", {"library": "library-cpu"})
    assert installed_version("library") == "2.21.0"
    assert installed_version("neither") is None


def test_the_version_is_found_without_importing_what_it_covers() -> None:
    script = (
        "import sys; from tasks.code_version import code_version; "
        "code_version('tasks.stages.train'); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
