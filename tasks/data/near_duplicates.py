"""Finds the same picture in several files: scaled, compressed anew, cut by a hair.

Candidates are images whose perceptual hashes differ in a few bits; they are near duplicates when
their thumbnails correlate as well. The hash alone takes pictures of one layout for the same one.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.spec.data import Split

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

RADIUS, CORRELATION = 4, 0.99
"""Bits in which two hashes may differ, and the least correlation of two thumbnails."""

SMALLEST_SIDE = 64
"""Pixels below which different objects look alike, so that nothing is joined unless asked for."""

SHARE, LEAST = 0.01, 10
"""A family larger than this share of the images, and than this number, is not joined: it is rather
a kind of picture than one picture."""

MOST_CANDIDATES = 20_000_000
"""Pairs that are compared; more means that the images hardly differ at all."""

_BYTES = 8
_CHUNK = 8_192


@dataclass(frozen=True, kw_only=True)
class Families:
    """Images that show the same picture.

    Attributes
    ----------
    of : list of int or None
        Family of each image, numbered in the order of their first images; None for most.
    too_large : frozenset of int
        Families that are reported but not joined.
    looked_at : int
        Images that have been compared with all others.
    problem : str
        Why nothing could be said, empty when it could.
    """

    of: list[int | None]
    too_large: frozenset[int] = frozenset()
    looked_at: int = 0
    problem: str = ""

    @cached_property
    def sizes(self) -> Counter[int]:
        """Return the number of rows of each family."""
        return Counter(family for family in self.of if family is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return what was found, without the images, as JSON-able data."""
        return {
            "looked_at": self.looked_at,
            "images": sum(self.sizes.values()),
            "families": len(self.sizes),
            "too_large": {str(family): self.sizes[family] for family in sorted(self.too_large)},
            "problem": self.problem,
        }

    @property
    def joined(self) -> list[str | None]:
        """Return what the images of a family have in common; None where nothing is joined."""
        return [
            None if family is None or family in self.too_large else f"family {family}"
            for family in self.of
        ]


def find_families(
    hashes: Sequence[str | None], thumbnail_of: Callable[[int], bytes], *, images: int
) -> Families:
    """Find the images that are near duplicates of another.

    Parameters
    ----------
    hashes : sequence of str or None
        Perceptual hash of each image, all of different content; None leaves an image out.
    thumbnail_of : callable
        Returns the thumbnail of an image by its position; called for candidates only, by threads.
    images : int
        Images in all, of which a family may be a small share.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    known = np.array([i for i, phash in enumerate(hashes) if phash is not None], np.int64)
    codes = np.array([int(phash, 16) for phash in hashes if phash is not None], np.uint64)
    pairs = _candidates(codes)
    if pairs is None:
        problem = (
            f"more than {MOST_CANDIDATES:,} pairs of images have nearly the same perceptual hash, "
            "so near duplicates could not be told from images that merely look alike"
        )
        return Families(of=[None] * len(hashes), problem=problem)
    pairs = known[pairs]
    same = pairs[_correlations(pairs, thumbnail_of) >= CORRELATION]
    links = coo_array((np.ones(len(same), bool), tuple(same.T)), shape=(len(hashes),) * 2)
    _, found = connected_components(links, directed=False)
    sizes = Counter(found.tolist())
    numbers: dict[int, int] = {}
    of = [
        numbers.setdefault(family, len(numbers)) if sizes[family] > 1 else None
        for family in found.tolist()
    ]
    most = max(LEAST, SHARE * images)
    too_large = frozenset(numbers[family] for family in numbers if sizes[family] > most)
    return Families(of=of, too_large=too_large, looked_at=len(known))


def comparable(table: "pd.DataFrame", split: Split) -> "pd.Series":
    """Return which images have a hash and are large enough for it to mean something.

    Parameters
    ----------
    table : DataFrame
        Columns ``image_phash``, ``image_width``, ``image_height``.
    split : Split
        Says from which size on.
    """
    smallest = {"auto": SMALLEST_SIDE, "on": 1, "off": math.inf}[split.near_duplicates]
    big = table[["image_width", "image_height"]].min(axis=1) >= smallest
    return big & table["image_phash"].notna()


def near_codes(hashes: set[str], others: set[str]) -> set[str]:
    """Return the hashes that differ from one of the others in a few bits at most.

    The hash alone decides: there are no images any more to look at.
    """
    import numpy as np

    if not hashes or not others:
        return set()
    names = sorted(hashes | others)
    pairs = hash_pairs(np.array([int(name, 16) for name in names], np.uint64))
    found = hashes & others
    for one, other in [] if pairs is None else pairs.tolist():
        for here, there in ((names[one], names[other]), (names[other], names[one])):
            if here in hashes and there in others:
                found.add(here)
    return found


def look_for_families(table: "pd.DataFrame", images: Path, split: Split) -> Families:
    """Find the near duplicates among the images of a table.

    Parameters
    ----------
    table : DataFrame
        Columns ``image_id``, ``image_sha256``, ``image_phash``, ``image_width``, ``image_height``.
    images : Path
        Folder that ``image_id`` is a path in.
    split : Split
        Says from which size on images are compared.

    Returns
    -------
    Families
        Of the table's rows.
    """
    from PIL import Image

    from tasks.data.exif import orientation
    from tasks.data.perceptual import thumbnail

    # a file that is there twice is looked at once
    contents = table.drop_duplicates("image_sha256")
    known = comparable(contents, split)
    hashes = [h if fit else None for h, fit in zip(contents["image_phash"], known, strict=True)]
    names = contents["image_id"].tolist()

    def thumbnail_of(position: int) -> bytes:
        content = (images / names[position]).read_bytes()
        with Image.open(BytesIO(content)) as image:
            image.load()
            return thumbnail(image, orientation(content))

    found = find_families(hashes, thumbnail_of, images=len(contents))
    of = dict(zip(contents["image_sha256"], found.of, strict=True))
    return replace(found, of=[of[digest] for digest in table["image_sha256"]])


def hash_pairs(codes: "NDArray[np.uint64]", *, radius: int = RADIUS) -> "NDArray[np.int64] | None":
    """Return every pair of different codes of 64 bits that differ in at most ``radius`` bits.

    Of eight bytes at least ``8 - radius`` are then equal; so every choice of that many bytes is
    sorted by, and neighbours with equal ones compared. Time and memory grow with what is alike, not
    with the square of the images.

    Parameters
    ----------
    codes : ndarray of uint64
        All different.
    radius : int
        0 to 7.

    Returns
    -------
    ndarray of int, shape (pairs, 2), or None
        Positions, the lower first, in order; None when there are far too many.
    """
    import numpy as np

    octets = codes.view(np.uint8).reshape(-1, _BYTES)
    found: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    compared = 0
    for chosen in combinations(range(_BYTES), _BYTES - radius):
        key = np.zeros(len(codes), np.uint64)
        for octet in chosen:
            key = key << np.uint64(8) | octets[:, octet]
        order = np.argsort(key, kind="stable")
        key = key[order]
        start, step = np.arange(len(key)), 1
        while True:
            start = start[start + step < len(key)]
            start = start[key[start] == key[start + step]]
            compared += len(start)
            if compared > 50 * MOST_CANDIDATES:
                return None
            if not len(start):
                break
            one, other = order[start], order[start + step]
            near = np.bitwise_count(codes[one] ^ codes[other]) <= radius
            low, high = np.minimum(one, other)[near], np.maximum(one, other)[near]
            found.append(low.astype(np.int64) * len(codes) + high)
            step += 1
        found = [np.unique(np.concatenate(found))]
        if len(found[0]) > MOST_CANDIDATES:
            return None
    pairs = found[0]
    return np.stack(np.divmod(pairs, max(1, len(codes))), axis=1)


def _candidates(codes: "NDArray[np.uint64]") -> "NDArray[np.int64] | None":
    """Return the pairs of images whose codes are equal or nearly so."""
    import numpy as np

    different, number, count = np.unique(codes, return_inverse=True, return_counts=True)
    pairs = hash_pairs(different)
    if pairs is None:
        return None
    equal = np.flatnonzero(count > 1)
    pairs = np.concatenate([pairs, np.stack([equal, equal], axis=1)])
    sizes = count[pairs[:, 0]] * count[pairs[:, 1]]
    if sizes.sum() > MOST_CANDIDATES:
        return None
    # every image of one code with every image of the other
    members, first = np.argsort(number, kind="stable"), np.cumsum(count) - count
    of = np.repeat(np.arange(len(pairs)), sizes)
    place = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row, column = np.divmod(place, count[pairs[of, 1]])
    one, other = members[first[pairs[of, 0]] + row], members[first[pairs[of, 1]] + column]
    twice = (pairs[of, 0] == pairs[of, 1]) & (one >= other)
    return np.asarray(np.stack([one, other], axis=1)[~twice], np.int64)


def _correlations(
    pairs: "NDArray[np.int64]", thumbnail_of: Callable[[int], bytes]
) -> "NDArray[np.float64]":
    """Return Pearson's correlation of the thumbnails of each pair."""
    import numpy as np

    from tasks.data.perceptual import as_array

    wanted, at = np.unique(pairs, return_inverse=True)
    at = at.reshape(-1, 2)
    if not len(wanted):
        return np.empty(0)
    with ThreadPoolExecutor(2 * len(os.sched_getaffinity(0))) as pool:
        pixels = as_array(list(pool.map(thumbnail_of, wanted.tolist(), chunksize=64)))
    pixels = pixels.reshape(len(pixels), -1)

    def centred(rows: "NDArray[np.int64]") -> "NDArray[np.float64]":
        values = pixels[rows].astype(float)
        values -= values.mean(axis=1, keepdims=True)
        # another decoder than the hash was made with may see no structure at all
        lengths = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        return np.asarray(values / lengths)

    def each() -> Iterator["NDArray[np.float64]"]:
        for start in range(0, len(at), _CHUNK):
            part = at[start : start + _CHUNK]
            yield np.einsum("ij,ij->i", centred(part[:, 0]), centred(part[:, 1]))

    return np.concatenate(list(each()))
