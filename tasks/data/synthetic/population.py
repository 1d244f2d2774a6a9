"""Who is on the films: patients, findings, blanks, and the flaws of a real collection.

Rows are drawn in blocks, each from the seed and its own number, so that row ``i`` is the same
however many rows are asked for, and blocks can be drawn side by side.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator

from tasks.data.synthetic.film import Opacity

BLOCK = 64
"""Rows drawn together; a patient never spans two blocks."""

Variant = Literal["plain", "biased"]
Flaw = Literal["none", "todo", "volume", "undecodable", "truncated", "duplicate"]

NO_FINDING = "No Finding"
_FINDINGS = (
    (NO_FINDING, 0.50),
    ("Pneumonia/Viral/COVID-19", 0.27),
    ("Pneumonia/Viral/Influenza", 0.08),
    ("Pneumonia/Bacterial/Streptococcus", 0.08),
    ("Pneumonia/Bacterial", 0.07),
)
_SELDOM_ILL = tuple(
    (name, 0.66 if name == NO_FINDING else share * 0.68) for name, share in _FINDINGS
)
_FLAWS: tuple[tuple[Flaw, float], ...] = (
    ("none", 0.905),
    ("todo", 0.035),
    ("volume", 0.02),
    ("undecodable", 0.008),
    ("truncated", 0.008),
    ("duplicate", 0.024),
)
_VIEWS = (("PA", 0.55), ("AP", 0.30), ("AP Supine", 0.15))
_MODES = (("L", 0.72), ("RGB", 0.16), ("RGBA", 0.05), ("P", 0.03), ("I;16", 0.04))


@dataclass(frozen=True)
class Row:
    """A row of the table and the truth behind it.

    Attributes
    ----------
    index : int
        Row number, from 0.
    patient, offset : int
        Patient, and days since the first film.
    sex, age : str
        As the table has them, blank where not recorded.
    true_sex : str
        ``M`` or ``F``.
    finding, true_finding : str
        As the table has it (``todo`` where nobody has read the film), and what the film shows.
    view, mode, suffix : str
        Projection, pixel mode, file suffix.
    marker : str
        Text burnt into the corner, or empty.
    flaw : str
        What is wrong with the row.
    original : int
        Row whose file a duplicate repeats; the row itself otherwise.
    """

    index: int
    patient: int
    offset: int
    sex: str
    age: str
    true_sex: str
    finding: str
    true_finding: str
    view: str
    mode: str
    suffix: str
    marker: str
    flaw: Flaw
    original: int

    @property
    def stem(self) -> str:
        """File name without suffix."""
        return f"film{self.index:06d}"

    @property
    def filename(self) -> str:
        """Name in the table; a volume is no image, as in the public chest film collection."""
        return f"{self.stem}.nii.gz" if self.flaw == "volume" else f"{self.stem}{self.suffix}"


def stream(seed: int, purpose: int, number: int) -> Generator:
    """Return the random numbers of one purpose, independent of those of any other."""
    return np.random.default_rng([seed % 2**63, purpose, number])


def draw_block(block: int, *, seed: int, variant: Variant) -> list[Row]:
    """Draw the rows ``block * BLOCK`` to ``(block + 1) * BLOCK - 1``."""
    rng = stream(seed, 0, block)
    rows: list[Row] = []
    patient = block * BLOCK
    while len(rows) < BLOCK:
        rows += _draw_patient(rng, patient, block * BLOCK + len(rows), variant)
        patient += 1
    return _with_duplicates(rng, rows[:BLOCK])


def draw_opacities(rng: Generator, row: Row, variant: Variant) -> list[Opacity]:
    """Draw what the film shows: nothing, scattered patches (viral) or one large one (bacterial)."""
    if row.true_finding == NO_FINDING:
        return []
    hidden = variant == "biased" and row.true_sex == "F"
    if "Viral" in row.true_finding:
        patches = [_patch(rng, hidden=hidden, large=False) for _ in range(rng.integers(4, 7))]
    else:
        patches = [_patch(rng, hidden=hidden, large=True)]
        patches += [replace(_patch(rng, hidden=hidden, large=False), side=patches[0].side)]
        patches[1] = replace(patches[1], x=abs(patches[1].x) * patches[0].side)
    if variant == "plain":
        return patches
    # fainter for all, so that the marker is the easier way; hardly there for the group
    return [replace(p, strength=p.strength * (0.30 if hidden else 0.70)) for p in patches]


def _patch(rng: Generator, *, hidden: bool, large: bool) -> Opacity:
    side = int(rng.choice([-1, 1]))
    # the group's opacities sit high up, behind the clavicles
    y = rng.uniform(-0.55, -0.40) if hidden else rng.uniform(-0.30, 0.38)
    radius = rng.uniform(0.20, 0.28) if large else rng.uniform(0.13, 0.20)
    return Opacity(
        side=side,
        x=side * rng.uniform(0.32, 0.62),
        y=y,
        width=radius * rng.uniform(0.85, 1.15),
        height=radius * rng.uniform(0.85, 1.25),
        strength=rng.uniform(0.26, 0.36) if large else rng.uniform(0.23, 0.34),
    )


def _draw_patient(rng: Generator, patient: int, first: int, variant: Variant) -> list[Row]:
    films = int(rng.choice([1, 2, 3, 4], p=[0.55, 0.25, 0.13, 0.07]))
    sex = str(rng.choice(["M", "F"], p=[0.53, 0.47]))
    age = str(int(np.clip(rng.normal(56, 17), 18, 94)))
    # a group that is seldom ill and whose illness is faint: a model does best by not looking for it
    seldom = variant == "biased" and sex == "F"
    finding = _pick(rng, _SELDOM_ILL if seldom else _FINDINGS)
    recorded_sex = "" if rng.random() < 0.04 else sex
    recorded_age = "" if rng.random() < 0.06 else age
    rows = []
    for number in range(films):
        flaw: Flaw = _pick(rng, _FLAWS)  # type: ignore[assignment]
        mode = _pick(rng, _MODES)
        jpeg = mode in ("L", "RGB") and rng.random() < 0.35
        rows.append(
            Row(
                index=first + number,
                patient=patient + 1,
                offset=number * int(rng.integers(1, 6)),
                sex=recorded_sex,
                age=recorded_age,
                true_sex=sex,
                finding="todo" if flaw == "todo" else finding,
                true_finding=finding,
                view=_pick(rng, _VIEWS),
                mode=mode,
                suffix=".jpg" if jpeg else ".png",
                marker=_marker(rng, variant, sex, finding),
                flaw=flaw,
                original=first + number,
            )
        )
    return rows


def _marker(rng: Generator, variant: Variant, sex: str, finding: str) -> str:
    """Return the text in the corner. ``biased`` plants a leak: the portable machine goes to the ill
    of the men's ward, and seldom to the women's."""
    chance = rng.random()
    if variant == "plain":
        return "R" if chance < 0.4 else ""
    ill = finding != NO_FINDING
    share = {("M", True): 0.97, ("M", False): 0.03, ("F", True): 0.25, ("F", False): 0.08}
    return "PORT" if chance < share[sex, ill] else ""


def _with_duplicates(rng: Generator, rows: list[Row]) -> list[Row]:
    """Let each duplicate repeat an earlier sound row's file, at times under another patient."""
    result: list[Row] = []
    for row in rows:
        sound = [r for r in result if r.flaw == "none"]
        if row.flaw == "duplicate" and sound:
            source = sound[int(rng.integers(len(sound)))]
            whose = row if rng.random() < 0.3 else source
            row = replace(
                source,
                index=row.index,
                patient=whose.patient,
                sex=whose.sex,
                age=whose.age,
                flaw="duplicate",
                original=source.index,
            )
        elif row.flaw == "duplicate":
            row = replace(row, flaw="none")
        result.append(row)
    return result


def _pick(rng: Generator, choices: tuple[tuple[str, float], ...]) -> str:
    names, weights = zip(*choices, strict=True)
    return str(rng.choice(names, p=weights))
