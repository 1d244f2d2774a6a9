"""The split depends on the group alone, and no image is ever on both sides."""

import numpy as np

from tasks.data.split import hash_sides, in_test, join_groups


def test_a_group_keeps_its_side_as_the_data_grow() -> None:
    groups = [f"patient {number}" for number in range(500)]
    contents = [f"image {number}" for number in range(500)]
    few = hash_sides(join_groups(groups[:100], contents[:100]), test=0.2)
    many = hash_sides(join_groups(groups, contents), test=0.2)
    assert many[:100] == few


def test_the_side_is_the_same_on_every_machine() -> None:
    sides = "".join("x" if in_test(str(number), test=0.5) else "." for number in range(32))
    assert sides == ".x..xxxxx.xxx.x.xx.x..x.x..x...x"


def test_the_share_held_out_is_the_share_asked_for() -> None:
    held_out = [in_test(f"p{number}", test=0.2) for number in range(20_000)]
    assert abs(np.mean(held_out) - 0.2) < 0.01


def test_a_larger_share_keeps_those_held_out_and_a_salt_changes_them() -> None:
    names = [f"p{number}" for number in range(1000)]
    small = {name for name in names if in_test(name, test=0.1)}
    large = {name for name in names if in_test(name, test=0.3)}
    salted = {name for name in names if in_test(name, test=0.1, salt="other")}
    assert small < large
    assert small != salted


def test_groups_that_share_an_image_are_on_one_side() -> None:
    groups = [f"p{number}" for number in range(200)] * 2
    contents = [f"i{number}" for number in range(200)] + [
        f"i{number // 2}" for number in range(200)
    ]
    grouping = join_groups(groups, contents)
    sides = hash_sides(grouping, test=0.3)
    for keys in (groups, contents):
        seen: dict[str, str] = {}
        for key, side in zip(keys, sides, strict=True):
            assert seen.setdefault(key, side) == side


def test_a_group_that_has_trained_never_moves_into_the_test_set() -> None:
    training = next(f"p{n}" for n in range(100) if not in_test(f"p{n}", test=0.5))
    testing = next(f"p{n}" for n in range(100) if in_test(f"p{n}", test=0.5))
    for groups in ([training, testing], [testing, training]):
        grouping = join_groups(groups, ["same", "same"])
        assert grouping.joined == 1
        assert hash_sides(grouping, test=0.5) == ["train", "train"]
