"""A pipeline file is read in bounded time, and each text in it is one that a field may hold."""

import json
from pathlib import Path

import pytest

from tasks.spec import Pipeline, SpecError, apply_overrides, load_pipeline, parse_overrides
from tasks.spec.document import MAX_CHARACTERS, MAX_VALUES, parsed

HEAD = "name: films\nsource: {kind: synthetic}\nlabel: {column: finding}\n"

LEVELS = "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)
TOO_MUCH = {
    "aliases of aliases": f"a0: &a0 [{', '.join(['lol'] * 9)}]\n{LEVELS}",
    "merged aliases": "a0: &a0 {x: 1, y: 2}\n"
    + "".join(f"a{n}: &a{n} {{b: *a{n - 1}, c: *a{n - 1}, <<: *a{n - 1}}}\n" for n in range(1, 30)),
    "a long text repeated": f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 20)}]\n",
    "a long text": f"description: {'x' * MAX_CHARACTERS}\n",
    "many values": "tags: [" + "a," * MAX_VALUES + "]\n",
}


@pytest.mark.parametrize("text", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_would_take_too_long_is_refused_by_the_file_s_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "films.yaml"
    path.write_text(HEAD + text)
    # what was read to its end would run into the time limit of a test
    with pytest.raises(SpecError, match=r"films\.yaml: holds more than 1,000,000 characters"):
        load_pipeline(path)


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(SpecError, match=r"/dev/zero: holds more than 1,000,000 characters"):
        load_pipeline("/dev/zero")


def test_an_alias_of_what_it_stands_in_is_refused(tmp_path: Path) -> None:
    (tmp_path / "films.yaml").write_text(f"{HEAD}tags: &a [*a]\n")
    with pytest.raises(SpecError, match=r"films\.yaml: \*a stands for nothing, or for what it is"):
        load_pipeline(tmp_path / "films.yaml")


def test_a_few_aliases_are_taken_as_before(tmp_path: Path) -> None:
    (tmp_path / "films.yaml").write_text(
        HEAD
        + "description: &what for the lungs\nowner: *what\n"
        + "resources: {stages: {explain: &big {cpu: '2', gpu: 0}, evaluate: {<<: *big, gpu: 1}}}\n"
    )
    pipeline = load_pipeline(tmp_path / "films.yaml")
    assert pipeline.owner == pipeline.description == "for the lungs"
    assert pipeline.resources.stage("evaluate").cpu == "2"
    assert pipeline.resources.stage("evaluate").gpu == 1


def test_a_value_of_the_command_line_is_bounded_as_well() -> None:
    with pytest.raises(SpecError, match="is not a YAML value"):
        parse_overrides([f"tags=[&a [{'x,' * 300}], &b [{'*a,' * 300}], {'*b,' * 300}]"])


@pytest.mark.parametrize("text", ["010", "-010", "00", "01.5", "0_7"])
def test_a_number_that_yaml_would_read_as_another_one_is_none(text: str) -> None:
    # a bound of 010 was 8
    assert parsed(f"min: {text}", "films") == {"min": text}
    with pytest.raises(SpecError, match="min: Input should be a valid number, got"):
        load_pipeline_with(f"blessing: {{rules: [{{metric: evaluate.accuracy, min: {text}}}]}}")


def load_pipeline_with(text: str) -> Pipeline:
    document = parsed(HEAD + text, "films")
    return load_pipeline(json.dumps(document))


@pytest.mark.parametrize("text", ["1:" * 200_000 + "1", "1:" * 300 + "1.0", "12:30"])
def test_numbers_of_base_60_are_words(text: str) -> None:
    assert parsed(f"a: {text}", "text") == {"a": text}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'description: "a\0b"', r"description: holds the control character '\x00'"),
        (r'tags: ["fine", "t\0"]', r"tags.1: holds the control character '\x00'"),
        (r'owner: "o\e[2J"', r"owner: holds the control character '\x1b'"),
        (r'owner: "o\x9b2J"', r"owner: holds the control character '\x9b'"),
        (
            r'transform: [{map: {"a\0": b}}]',
            r"transform.0.map: a name holds the control character '\x00'",
        ),
        (
            r'parameters: {"a\rb": train.epochs}',
            r"parameters: a name holds the control character '\r'",
        ),
        (
            r'no_such_field: {deep: "\x7f"}',
            r"no_such_field.deep: holds the control character '\x7f'",
        ),
    ],
)
def test_a_control_character_is_refused_by_the_field_s_name(
    tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "films.yaml").write_text(f"{HEAD}{text}\n")
    with pytest.raises(SpecError) as caught:
        load_pipeline(tmp_path / "films.yaml")
    said = str(caught.value)
    assert f"films.yaml: {expected}" in said
    assert said.isprintable()


def test_a_control_character_of_a_trigger_is_refused() -> None:
    pipeline = Pipeline.model_validate(parsed(HEAD, "text"))
    with pytest.raises(SpecError, match=r"description: holds the control character '\\x00'"):
        apply_overrides(pipeline, {"description": "a\0b"})


def test_line_breaks_and_tabs_are_taken(tmp_path: Path) -> None:
    (tmp_path / "films.yaml").write_text(f'{HEAD}description: "a\\n\\tb"\n')
    assert load_pipeline(tmp_path / "films.yaml").description == "a\n\tb"


def test_bytes_are_no_text(tmp_path: Path) -> None:
    """They would carry an address past the search for credentials."""
    (tmp_path / "films.yaml").write_text(f"{HEAD}description: !!binary aGVsbG8=\n")
    with pytest.raises(SpecError, match=r"films\.yaml: description: is binary"):
        load_pipeline(tmp_path / "films.yaml")
