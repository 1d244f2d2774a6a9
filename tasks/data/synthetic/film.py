"""Draws one chest film. Coordinates run from -1 to 1, x to the right and y down; white is dense."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Field = NDArray[np.float32]
"""A size x size picture, float32."""


@dataclass(frozen=True)
class Opacity:
    """A dense patch within a lung.

    Attributes
    ----------
    side : int
        -1 for the lung on the left of the film, 1 for the one on its right.
    x, y : float
        Centre, -1 to 1.
    width, height : float
        Radii.
    strength : float
        Added brightness at the centre, as a fraction of the pixel range.
    """

    side: int
    x: float
    y: float
    width: float
    height: float
    strength: float


@dataclass(frozen=True)
class Anatomy:
    """What all films of a patient have in common; each is drawn from the patient's own seed."""

    heart: float
    chest_width: float
    apex: float
    diaphragm: tuple[float, float]
    rib_phase: float
    rib_strength: float
    bone: float
    breast: float
    vessels: float

    @classmethod
    def draw(cls, rng: Generator, sex: str) -> "Anatomy":
        """Draw a patient; women have breast shadows over the lower lungs."""
        return cls(
            heart=rng.uniform(0.75, 1.3),
            chest_width=rng.uniform(0.92, 1.06),
            apex=rng.uniform(-0.78, -0.68),
            diaphragm=(rng.uniform(0.40, 0.54), rng.uniform(0.46, 0.60)),
            rib_phase=rng.uniform(0, 0.16),
            rib_strength=rng.uniform(0.035, 0.075),
            bone=rng.uniform(0.8, 1.2),
            breast=rng.uniform(0.03, 0.07) if sex == "F" else 0.0,
            vessels=rng.uniform(0.6, 1.2),
        )


@dataclass
class Film:
    """A drawn film.

    Attributes
    ----------
    pixels : uint8 array, size x size
    lungs : bool array, size x size
        The lung fields, as projected.
    opacities : bool array, size x size
        Where the finding adds visible brightness.
    """

    pixels: NDArray[np.uint8]
    lungs: NDArray[np.bool_]
    opacities: NDArray[np.bool_]
    marker: tuple[int, int, int, int] | None = field(default=None)


def draw_film(
    rng: Generator,
    *,
    size: int,
    anatomy: Anatomy,
    opacities: list[Opacity],
    marker: str = "",
    marker_height: float = 0.09,
) -> Film:
    """Draw a film.

    Parameters
    ----------
    rng : Generator
        Pose, exposure, noise and vessels of this film.
    size : int
        Side in pixels.
    anatomy : Anatomy
        The patient.
    opacities : list of Opacity
        The finding.
    marker : str
        Text burnt into the upper left corner; none when empty.
    marker_height : float
        Its height as a fraction of the side.
    """
    x, y = _posed_grid(rng, size)
    x = x / anatomy.chest_width
    lungs = [_lung(x, y, side, anatomy) for side in (-1, 1)]
    lung = np.maximum(lungs[0], lungs[1])
    tissue = _torso(rng, x, y, size) + _mediastinum(x, y, anatomy) + _bones(x, y, anatomy)
    if anatomy.breast:
        tissue += anatomy.breast * _breasts(x, y)
    air = 0.43 + 0.05 * smooth_noise(rng, size, 3)
    vessels = anatomy.vessels * _vessels(rng, x, y, size)
    shadow = _shadow(rng, x, y, lungs, opacities, size)
    film = tissue - lung * (air - vessels) + lung * _ribs(x, y, anatomy) + shadow
    pixels = _expose(rng, film, size)
    place = _stamp(pixels, marker, marker_height) if marker else None
    return Film(
        pixels=np.asarray(np.clip(pixels * 255 + 0.5, 0, 255), np.uint8),
        lungs=lung > 0.5,
        opacities=shadow > 0.04,
        marker=place,
    )


def smooth_noise(rng: Generator, size: int, cells: int) -> Field:
    """Return noise of unit variance at its nodes, ``cells`` of them a side, smooth in between."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _posed_grid(rng: Generator, size: int) -> tuple[Field, Field]:
    """Return each pixel's coordinates in the patient: turned, shifted, scaled, a little bent."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size) * 2 - 1
    x, y = np.meshgrid(axis, axis)
    angle = rng.normal(0, 0.035)
    scale_x, scale_y = rng.uniform(0.84, 0.96, 2)
    shift_x, shift_y = rng.normal(0, 0.035, 2)
    bend = 0.012
    turned_x = (x * np.cos(angle) + y * np.sin(angle)) * scale_x + shift_x
    turned_y = (y * np.cos(angle) - x * np.sin(angle)) * scale_y + shift_y
    turned_x = turned_x + bend * smooth_noise(rng, size, 5)
    turned_y = turned_y + bend * smooth_noise(rng, size, 5)
    return turned_x.astype(np.float32), turned_y.astype(np.float32)


def _step(distance: Any, softness: float) -> Any:
    return 0.5 * (1 + np.tanh(distance / softness))


def _bell(distance: Any, width: float) -> Any:
    return np.exp(-((distance / width) ** 2))


def _band(distance: Any, width: float) -> Any:
    """Return 1 along a line and 0 beside it, flatter than a bell."""
    square = (distance / width) ** 2
    return np.exp(-square * square)


def _lung(x: Field, y: Field, side: int, anatomy: Anatomy) -> Field:
    """Return 1 within one lung field and 0 outside, with a soft edge."""
    across = x * side
    base = anatomy.diaphragm[0 if side < 0 else 1]
    down = np.clip((y - anatomy.apex) / (0.86 - anatomy.apex), 0, 1)
    outer = 0.30 + 0.50 * np.sqrt(np.clip(1 - (1 - np.clip(down / 0.75, 0, 1)) ** 2, 0, 1))
    inner = 0.11 + 0.03 * _bell(y + 0.05, 0.12)
    if side > 0:
        inner = inner + 0.27 * anatomy.heart * _bell(y - 0.42, 0.30)
    else:
        inner = inner + 0.07 * anatomy.heart * _bell(y - 0.36, 0.22)
    # the dome of the diaphragm, with the costophrenic angle reaching lower at the side
    floor = base + 0.75 * (across - 0.40) ** 2 + 0.25 * np.clip(across - 0.6, 0, 1)
    roof = anatomy.apex + 0.9 * np.clip(np.abs(across - 0.33) - 0.04, 0, 1) ** 2
    inside = _step(outer - across, 0.022) * _step(across - inner, 0.03)
    return np.asarray(inside * _step(floor - y, 0.022) * _step(y - roof, 0.03), np.float32)


def _torso(rng: Generator, x: Field, y: Field, size: int) -> Field:
    """Return the soft tissue: neck, shoulders, chest wall and the denser belly."""
    half_width = 0.26 + 0.78 * _step(y + 0.78 + 0.12 * np.abs(x), 0.13)
    body = _step(half_width - np.abs(x), 0.04)
    density = 0.60 + 0.12 * _step(y - 0.55, 0.15) - 0.06 * np.abs(x)
    density = density + 0.025 * smooth_noise(rng, size, 4)
    if rng.random() < 0.6:
        gas_x, gas_y = rng.normal(0.38, 0.06), rng.normal(0.80, 0.04)
        gas = _bell(np.hypot((x - gas_x) / 1.5, y - gas_y), 0.10)
        density = density - rng.uniform(0.08, 0.2) * gas
    return np.asarray(0.04 + body * (density - 0.04), np.float32)


def _mediastinum(x: Field, y: Field, anatomy: Anatomy) -> Field:
    """Return spine, heart, aortic knob, hila and the dark windpipe."""
    spine = 0.14 * _bell(x, 0.12) + 0.018 * np.sin(y * 26) * _bell(x, 0.08)
    heart_x, heart_y = (x - 0.12) * 0.94 + (y - 0.33) * 0.34, (y - 0.33) * 0.94 - (x - 0.12) * 0.34
    heart = 1 - np.hypot(heart_x / (0.36 * anatomy.heart), heart_y / (0.26 * anatomy.heart))
    knob = _bell(np.hypot(x - 0.14, y + 0.30), 0.10)
    hila = _bell(np.hypot((np.abs(x) - 0.20) / 0.8, y + 0.03), 0.11)
    windpipe = _bell(x + 0.01, 0.045) * _step(-0.28 - y, 0.06)
    shadow = spine + 0.13 * _step(heart, 0.10) + 0.07 * knob + 0.09 * hila - 0.10 * windpipe
    return np.asarray(shadow * _step(y + 1.1, 0.1), np.float32)


def _bones(x: Field, y: Field, anatomy: Anatomy) -> Field:
    """Return clavicles, shoulder heads and shoulder blades."""
    across = np.abs(x)
    collar = y - (-0.60 - 0.20 * (across - 0.1) + 0.10 * np.sin(across * 5))
    clavicle = _band(collar, 0.035) * _step(across - 0.10, 0.03) * _step(0.85 - across, 0.05)
    head = _bell(np.hypot(across - 0.93, (y + 0.55) * 0.9), 0.14)
    blade = _bell(across - 0.80 + 0.12 * y, 0.07) * _step(0.15 - y, 0.1) * _step(y + 0.6, 0.1)
    return np.asarray(anatomy.bone * (0.09 * clavicle + 0.10 * head + 0.05 * blade), np.float32)


def _ribs(x: Field, y: Field, anatomy: Anatomy) -> Field:
    """Return posterior ribs, sloping down to the side, and the fainter anterior ones."""
    across = np.abs(x)
    back = y - (0.55 * (across - 0.22) ** 2) - anatomy.rib_phase
    front = y + 0.42 * across - anatomy.rib_phase - 0.05
    posterior = _band(np.mod(back, 0.16) - 0.08, 0.030)
    anterior = _band(np.mod(front, 0.20) - 0.10, 0.030) * _step(across - 0.3, 0.08)
    return np.asarray(anatomy.rib_strength * (posterior + 0.5 * anterior), np.float32)


def _vessels(rng: Generator, x: Field, y: Field, size: int) -> Field:
    """Return vessels that fan out from the hila and fade towards the chest wall."""
    across = np.abs(x) - 0.16
    radius = np.hypot(across, y + 0.02)
    direction = np.arctan2(y + 0.02, across + 1e-3)
    wander = 0.35 * smooth_noise(rng, size, 6)
    strands = 0.5 + 0.5 * np.sin(direction * 17 + wander * 6 + np.sign(x) * 1.3)
    fade = np.exp(-radius / 0.30)
    texture = 0.016 * smooth_noise(rng, size, max(4, size // 6))
    return np.asarray(0.13 * strands**3 * fade + texture, np.float32)


def _breasts(x: Field, y: Field) -> Field:
    round_part = np.hypot((np.abs(x) - 0.47) / 1.15, y - 0.30)
    return np.asarray(_step(0.31 - round_part, 0.07), np.float32)


def _shadow(
    rng: Generator,
    x: Field,
    y: Field,
    lungs: list[Field],
    opacities: list[Opacity],
    size: int,
) -> Field:
    """Return what the opacities add: patchy, soft-edged, cut off at the border of their lung."""
    total = np.zeros((size, size), np.float32)
    for opacity in opacities:
        rough = 0.22 * smooth_noise(rng, size, 12)
        distance = np.hypot((x - opacity.x) / opacity.width, (y - opacity.y) / opacity.height)
        patch = _step(1 + rough - distance, 0.38)
        total = np.maximum(total, opacity.strength * patch * lungs[0 if opacity.side < 0 else 1])
    return total


def _expose(rng: Generator, film: Field, size: int) -> Field:
    """Turn densities into grey values: exposure, contrast, fall-off, collimator, grain."""
    gain, gamma = rng.uniform(0.92, 1.10), rng.uniform(0.82, 1.22)
    offset = rng.uniform(-0.03, 0.04)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    fall_off = 1 - rng.uniform(0, 0.10) * (axis[None, :] ** 2 + axis[:, None] ** 2)
    grey = np.clip(film * gain * fall_off + offset, 0, 1) ** gamma
    grain = rng.uniform(0.008, 0.022)
    grey = grey + grain * rng.standard_normal((size, size)).astype(np.float32)
    grey += 0.5 * grain * smooth_noise(rng, size, max(4, size // 2))
    if rng.random() < 0.25:
        edge = int(size * rng.uniform(0.01, 0.05))
        grey[:, :edge] = grey[:, size - edge :] = 0.01
    return np.asarray(np.clip(grey, 0, 1), np.float32)


def _stamp(pixels: Field, text: str, height: float) -> tuple[int, int, int, int]:
    """Burn a text into the upper left corner; return its box (top, left, bottom, right)."""
    size = pixels.shape[0]
    font = ImageFont.load_default(size=max(8, round(size * height)))
    left, top, right, bottom = font.getbbox(text)
    label = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(label).text((1 - left, 1 - top), text, fill=255, font=font)
    ink = np.asarray(label, np.float32)[: size - 2, : size - 2] / 255
    y, x = max(1, round(size * 0.03)), max(1, round(size * 0.03))
    ink = ink[: size - y, : size - x]
    box = pixels[y : y + ink.shape[0], x : x + ink.shape[1]]
    np.maximum(box, ink * 0.97, out=box)
    return (y, x, y + ink.shape[0], x + ink.shape[1])
