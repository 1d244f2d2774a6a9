"""The look that every plot shares."""

from pathlib import Path

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
