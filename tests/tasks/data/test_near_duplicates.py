"""The same picture in several files is found, pictures that merely look alike are not."""

from collections.abc import Callable
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter
from PIL.ExifTags import Base

from tasks.data import near_duplicates
from tasks.data.ingest import ingest
from tasks.data.near_duplicates import Families, find_families, hash_pairs, look_for_families
from tasks.data.perceptual import perceptual_hashes, thumbnail
from tasks.data.sources import open_source
from tasks.spec.data import Split
from tasks.spec.sources import ClassFolders

_Turn = Image.Transpose
STORED = {
    **{2: _Turn.FLIP_LEFT_RIGHT, 3: _Turn.ROTATE_180, 4: _Turn.FLIP_TOP_BOTTOM},
    **{5: _Turn.TRANSPOSE, 6: _Turn.ROTATE_90, 7: _Turn.TRANSVERSE, 8: _Turn.ROTATE_270},
}
"""How a picture is stored that each orientation puts upright."""


def scene(seed: int, size: int = 128) -> Image.Image:
    """A smooth picture of its own for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (7, 7), np.uint8)
    return Image.fromarray(blocks).resize((size, size), Image.Resampling.BICUBIC)


def compressed(image: Image.Image, *, quality: int) -> Image.Image:
    """The picture after it has been a JPEG file."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def families(images: list[Image.Image]) -> Families:
    thumbnails = [thumbnail(image) for image in images]
    hashes = perceptual_hashes(thumbnails)
    return find_families(hashes, thumbnails.__getitem__, images=len(images))


@pytest.mark.parametrize("bits", [0, 1, 3, 4, 7])
def test_every_pair_within_the_radius_is_found_and_no_other(bits: int) -> None:
    generator = np.random.default_rng(bits)
    codes = generator.integers(0, 2**64, 300, np.uint64)
    # neighbours of every distance up to 9 around the first hundred
    masks = [sum(1 << int(bit) for bit in generator.choice(64, n % 10, False)) for n in range(100)]
    codes = np.unique(np.concatenate([codes, codes[:100] ^ np.array(masks, np.uint64)]))
    found = hash_pairs(codes, radius=bits)
    assert found is not None
    expected = [
        [one, other]
        for one, other in combinations(range(len(codes)), 2)
        if int(codes[one] ^ codes[other]).bit_count() <= bits
    ]
    assert found.tolist() == expected
    assert len(expected) > 5 or bits == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((90, 90)),
        lambda image: image.convert("RGB"),
        lambda image: image.filter(ImageFilter.GaussianBlur(1)),
        lambda image: image.point(lambda value: value * 0.9 + 10),
        lambda image: compressed(image, quality=40),
    ],
    ids=["scaled", "in colour", "blurred", "brighter", "compressed"],
)
def test_a_changed_copy_is_of_its_family(change: Callable[[Image.Image], Image.Image]) -> None:
    found = families([scene(1), scene(2), scene(3), change(scene(2)), scene(4)])
    assert found.of == [None, 0, None, 0, None]
    assert found.joined == [None, "family 0", None, "family 0", None]


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_copy_that_is_stored_turned_is_of_its_family(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    folder, exif = tmp_path / "source" / "cup", Image.Exif()
    folder.mkdir(parents=True)
    for number in range(3):
        scene(number).save(folder / f"{number}.png")
    exif[Base.Orientation] = orientation
    scene(1).transpose(STORED[orientation]).save(folder / "turned", kind, exif=exif)
    spec = ClassFolders(kind="class_folders", uri=str(tmp_path / "source"))
    ingest(open_source(spec), tmp_path / "out", scratch=tmp_path / "scratch")
    table = pd.read_parquet(tmp_path / "out/metadata.parquet").set_index("image_id", drop=False)
    found = look_for_families(table, tmp_path / "out/images", Split())
    of = dict(zip(table.index, found.of, strict=True))
    assert of == {"cup/0.png": None, "cup/1.png": 0, "cup/2.png": None, "cup/turned": 0}


def test_a_near_hash_alone_makes_no_family() -> None:
    thumbnails = [thumbnail(scene(seed)) for seed in (1, 2, 1)]
    hashes = ["f" * 16, "f" * 15 + "0", "f" * 15 + "1"]
    assert find_families(hashes, thumbnails.__getitem__, images=3).of == [0, None, 0]


def test_blank_images_are_nobodys_family() -> None:
    blank = [Image.new("L", (100, 100), grey) for grey in (0, 0, 255, 128, 128)]
    found = families([*blank, scene(1), scene(1).resize((100, 100))])
    assert found.of == [None] * 5 + [0, 0]
    assert found.looked_at == 2


def test_a_chain_is_one_family() -> None:
    steps = [Image.blend(scene(5), scene(6), 0.06 * n) for n in range(4)]
    ends = [np.frombuffer(thumbnail(steps[n]), np.uint8) for n in (0, 3)]
    assert np.corrcoef(ends)[0, 1] < near_duplicates.CORRELATION
    assert families([*steps, scene(6)]).of == [0, 0, 0, 0, None]


def test_a_family_past_one_in_a_hundred_is_reported_and_not_joined() -> None:
    copies = [scene(0).resize((64 + n, 64 + n)) for n in range(14)]
    few = families([*copies, *(scene(n) for n in range(1, 200))])
    assert few.too_large == {0} and few.sizes == {0: 14}
    assert few.joined == [None] * 213
    assert few.to_dict()["too_large"] == {"0": 14}
    # in a small set a pair is past that share already, and yet the same picture
    small = families([*copies[:3], *(scene(n) for n in range(1, 30))])
    assert small.joined[:4] == ["family 0"] * 3 + [None]


def test_images_that_hardly_differ_are_not_compared_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_CANDIDATES", 50)
    found = families([scene(0).resize((64 + n, 64)) for n in range(20)])
    assert found.of == [None] * 20
    assert "near duplicates could not be told from images that merely look alike" in found.problem


def test_no_images_have_no_families() -> None:
    assert find_families([], lambda _: b"", images=0).of == []
    assert find_families([None, None], lambda _: b"", images=2).of == [None, None]
