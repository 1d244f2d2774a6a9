"""The look that every plot shares."""

import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tasks.figures import new_figure, save_figure


def test_titles_and_legends_added_later_have_the_style_too() -> None:
    _, axes = new_figure()
    axes.plot([0, 1], label="line")
    axes.set_title("Loss")
    assert axes.get_title(loc="left") == "Loss"
    assert axes.title.get_text() == ""
    assert axes._left_title.get_fontweight() == "bold"
    assert not axes.legend().get_frame_on()


def test_the_same_picture_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "other.png"):
        figure, axes = new_figure(2, 2)
        axes.plot([0, 1, 3])
        save_figure(figure, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def _drawn(text: str, path: Path) -> NDArray[np.uint8]:
    figure, axes = new_figure(4, 1)
    axes.set_axis_off()
    axes.text(0.1, 0.5, text)
    save_figure(figure, path)
    return np.asarray(Image.open(path))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("健康", "肺炎"),
        ("翘头剪", "止血钳"),
        ("はい", "いや"),
        ("폐렴", "정상"),
        ("निमोनिया", "सामान्य"),
        ("ปอดบวม", "ปกติดี"),
        ("سليم", "ذات"),
        ("שבר", "תקין"),
        ("நுரை", "இயல்"),
        ("న్యుమో", "సాధార"),
        ("រលាក", "ធម្មតា"),
        ("নিউমো", "স্বাভা"),
        ("Łódź", "Größe"),
        ("\u03c0\u03bd\u03b5", "\u03cd\u03bc\u03b1"),
        ("\u0414\u0430", "\u041d\u0435"),
    ],
)
def test_names_in_any_script_can_be_read(
    one: str, other: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        pictures = [_drawn(text, tmp_path / "a.png") for text in (one, other)]
    assert caplog.messages == []
    assert (pictures[0] != pictures[1]).any()


def test_letters_that_join_are_joined(tmp_path: Path) -> None:
    joined, apart = (
        _drawn(text, tmp_path / "a.png") for text in ("سليم", "س\u200cل\u200cي\u200cم")
    )
    assert (joined != apart).any()


def test_a_script_that_no_font_has_is_named_once_and_drawn_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _drawn("ગગજ", tmp_path / "a.png")
    assert caplog.messages == [
        "a.png: no font has ગ જ, shown as boxes; install a font for them from the packages called "
        "fontpkg-..."
    ]
