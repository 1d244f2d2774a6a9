"""The reference of the pipeline file says what the models say."""

from pathlib import Path

from tasks.spec import Pipeline
from tasks.spec.reference import reference

PAGE = Path(__file__).parents[3] / "docs/pipeline-file.md"


def test_the_page_in_docs_is_current():
    assert PAGE.read_text(encoding="utf-8").strip() == reference().strip(), (
        "run: python -m tasks reference > docs/pipeline-file.md"
    )


def test_every_section_and_field_is_there_with_its_meaning():
    text = reference()
    for name, field in Pipeline.model_fields.items():
        key = field.alias or name
        assert f"## {key}\n" in text or f"| `{key}` |" in text
    assert "| `epochs` | whole number ≥ 1, ≤ 10000 | `10` |" in text
    assert "### blessing.rules[]" in text and "### kind: idx" in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert not [row for row in rows if row.endswith("|  |")]
