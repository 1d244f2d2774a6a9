"""What perceptual hashes cost on top of decoding, and what it takes to find near duplicates.

Hashes: thumbnails one by one and their hashes in slices, as ``ingest`` makes them, against a plain
call of ``imagehash.phash`` for each image; the same images, already decoded, and the same hashes.
Pairs: a million hashes with planted neighbours, against comparing each with all others, which is
timed on a part of them.

    python benchmarks/near_duplicates.py --out near_duplicates.json
"""

import argparse
import resource
import sys
from pathlib import Path

# the repository instead of this folder, in which this very file would hide other modules
sys.path[0] = str(Path(__file__).resolve().parents[1])

import imagehash  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.rows import Row, arguments, clocked, compare, finish, row  # noqa: E402
from tasks.data.ingest import SLICE  # noqa: E402
from tasks.data.near_duplicates import RADIUS, hash_pairs  # noqa: E402
from tasks.data.perceptual import perceptual_hashes, thumbnail  # noqa: E402

MOST = {96: 0.1}
"""Milliseconds that an image of so many pixels a side may cost."""


def main() -> int:
    """Measure both; exit code 1 when a target is missed."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    options = parser.parse_args()
    rows = [hashes(side, options) for side in (28, 96, 256)]
    return finish([*rows, pairs(options)], options.out)


def hashes(side: int, options: argparse.Namespace) -> Row:
    """Return milliseconds an image."""
    random = np.random.default_rng(side)
    images = []
    for _ in range(options.images):
        blocks = random.integers(0, 256, (7, 7, 3), np.uint8)
        images.append(Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC))
    found: dict[str, list[str | None]] = {}

    def ours() -> None:
        found["ours"] = []
        for start in range(0, len(images), SLICE):
            part = [thumbnail(image) for image in images[start : start + SLICE]]
            found["ours"] += perceptual_hashes(part)

    def plain() -> None:
        found["plain"] = [str(imagehash.phash(image)) for image in images]

    (mine, theirs), detail = compare(ours, plain, turns=9)
    each, alone = (1000 * seconds / len(images) for seconds in (mine, theirs))
    most = MOST.get(side)
    same = found["ours"] == found["plain"]
    return row(
        f"perceptual hash, {side} px, decoded already",
        each,
        alone,
        "ms",
        target=None if most is None else f"<= {most} ms",
        passed=same and (most is None or each <= most),
        detail={**detail, "images": len(images), "same_hashes": same},
    )


def pairs(options: argparse.Namespace) -> Row:
    """Return seconds to find all pairs within the radius, and what comparing all would take."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 2**64, options.hashes, np.uint64)
    planted = options.hashes // 100
    bits = np.stack([random.permutation(64)[:RADIUS] for _ in range(planted)]).astype(np.uint64)
    codes[planted : 2 * planted] = codes[:planted] ^ (np.uint64(1) << bits).sum(
        axis=1, dtype=np.uint64
    )
    codes = np.unique(codes)
    seconds, found = clocked(lambda: hash_pairs(codes))
    sample = 20
    part, _ = clocked(lambda: [np.bitwise_count(codes ^ code) <= RADIUS for code in codes[:sample]])
    complete = found is not None and len(found) >= planted
    return row(
        f"near pairs among {len(codes):,} hashes",
        seconds,
        part / sample * len(codes) / 2,
        "s",
        target="all planted",
        passed=complete,
        detail={
            "pairs": None if found is None else len(found),
            "planted": planted,
            "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
