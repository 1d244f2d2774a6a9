"""What others wrote is shown and never obeyed."""

from typing import Any

import pytest

from tasks.spec import Pipeline, SpecError, apply_overrides
from tasks.spec.foreign_text import shown, visible


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\n::error::pwned\x1b[2J", r"a\n::error::pwned\x1b[2J"),
        ("a\r\tb\x00", r"a\r\tb\x00"),
        ("a\x9b31m\x85b\x7f", r"a\x9b31m\x85b\x7f"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("a\u2066b\u2069", r"a\u2066b\u2069"),
        ("a\u2028b", r"a\u2028b"),
        ("a\ud800b", r"a\ud800b"),
        ("a\U000e0041", r"a\U000e0041"),
    ],
)
def test_control_characters_are_written_out(text: str, told: str) -> None:
    assert visible(text) == told
    assert visible(told) == told


@pytest.mark.parametrize(
    "name", ["肺炎", "نی‌نی", "Lungenentzündung", "👩‍⚕️", "a\\nb", "שלום", "한국"]
)
def test_names_in_any_script_stay_as_they_are(name: str) -> None:
    assert visible(name) == name


def test_what_is_meant_is_kept() -> None:
    assert visible("<p>\n\x1b</p>\n", keep="\n") == "<p>\n\\x1b</p>\n"


def test_a_long_name_is_cut() -> None:
    assert shown("x" * 5_000_000) == "x" * 117 + "..."
    assert shown("\n" * 60, 20) == r"\n\n\n\n\n\n\n\n\..."
    assert shown(7) == "7"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"label.column": "\ud800"}, "label.column: holds"),
        ({"label.classes": ["a", "b\udfff"]}, "label.classes.1: holds"),
        ({"description": "\ud800"}, "description: holds"),
        ({"source": {"kind": "csv_images", "uri": "/a\udcff"}}, "source.uri: holds"),
        (
            {"source": {"kind": "custom", "reader": "a:B", "options": {"\ud800": 1}}},
            "source.options: a name holds",
        ),
    ],
)
def test_half_a_surrogate_pair_of_a_trigger_is_refused(
    overrides: dict[str, Any], expected: str
) -> None:
    document = {"name": "x", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
    with pytest.raises(SpecError) as error:
        apply_overrides(Pipeline.model_validate(document), overrides)
    assert f"{expected} half of a surrogate pair and no character" in str(error.value)
    assert str(error.value).isascii()
