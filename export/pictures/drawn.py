"""Digits and letters as strokes of a pen, in the styles in which people write them.

A style is some strokes; a stroke is a row of points in a box of 100 x 100, x to the right and y
down, joined by straight lines (``-``) or a smooth curve (``~``). Proportions, slant, waviness and
the pen are drawn anew each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["DIGITS", "LETTERS", "SIDE", "draw"]

#: Rows and columns of what is drawn.
SIDE: Final = 96

#: Of each digit its styles. The last one of each is kept for validation.
DIGITS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "~50,0 12,20 3,50 12,82 50,100 88,82 97,50 88,20 50,0",
        "~60,3 20,15 4,50 20,88 55,98 90,75 95,40 75,8 45,4",
        "~50,0 12,20 3,50 12,82 50,100 88,82 97,50 88,20 50,0 -12,92 88,8",
        "~55,2 18,15 5,52 22,92 60,97 94,60 90,20 60,0 30,10",
        "~70,8 30,2 4,40 15,85 60,100 95,60 80,15 70,8 55,20",
        "~30,6 8,40 15,85 55,100 92,70 90,25 60,3 35,8",
    ),
    (
        "-50,0 50,100",
        "-65,0 40,100",
        "-15,30 55,0 55,100",
        "-5,48 60,0 58,100",
        "-10,40 65,0 40,100",
        "-20,25 55,0 55,100 -15,100 95,100",
        "-5,42 55,0 55,100 -10,100 90,100",
        "~10,40 35,25 58,0 -58,0 55,100",
        "-38,12 55,0 52,100",
        "-0,60 60,0 52,100",
        "-12,35 58,0 50,100",
    ),
    (
        "~8,25 20,5 50,0 85,12 88,35 60,65 10,98 -10,98 95,98",
        "~8,25 25,4 60,0 88,20 75,50 30,88 8,92 10,75 35,82 65,98 98,90",
        "-5,5 90,5 5,97 95,97",
        "~10,30 15,8 50,0 85,15 80,45 45,75 8,98 ~8,98 40,88 70,100 98,90",
        "~5,15 50,0 95,25 60,60 5,100 -5,100 100,100",
        "~20,32 5,20 30,0 75,5 80,40 40,75 5,98 -5,98 90,95",
        "~5,20 45,0 90,20 70,55 20,92 5,95 12,82 50,92 98,97",
    ),
    (
        "~8,15 40,0 85,12 80,38 40,48 ~40,48 85,55 92,80 60,100 5,88",
        "-8,3 88,3 40,42 ~40,42 85,50 95,75 60,100 5,88",
        "~5,12 50,0 88,20 45,48 90,72 50,100 5,85",
        "~8,12 50,0 85,20 50,48 38,50 50,44 90,68 55,100 5,90",
        "~10,22 30,0 80,5 85,35 45,47 ~45,47 95,60 85,95 30,100 5,80",
        "-5,5 90,0 45,38 ~45,38 90,45 90,85 40,100 0,92",
        "~0,8 50,2 80,22 35,45 ~35,45 95,62 75,100 10,95",
    ),
    (
        "-65,100 65,0 0,65 100,65",
        "-10,0 5,58 95,58 -75,10 70,100",
        "~15,0 8,35 15,55 50,58 95,50 -80,5 70,100",
        "-25,0 10,60 100,60 -65,25 60,100",
        "-45,0 5,60 95,60 -65,35 55,100",
        "-80,0 10,55 80,55 -80,0 75,100",
        "~5,5 10,45 50,55 88,40 -92,0 88,100",
        "-55,0 0,70 100,65 -70,40 68,100",
        "~20,0 5,45 40,52 90,42 -85,8 75,100",
        "-5,8 8,52 92,48 -72,0 72,100",
    ),
    (
        "-88,2 20,2 15,42 ~15,42 50,35 92,55 85,88 45,100 5,90",
        "~22,8 15,45 60,38 95,65 70,97 5,92 -22,5 95,0",
        "~90,5 40,2 15,22 30,45 75,55 90,78 55,100 8,92",
        "-95,0 25,5 10,45 ~10,45 60,42 90,68 60,97 0,100",
        "~15,5 12,40 55,38 90,60 75,95 20,100 2,85 -12,5 98,5",
        "-85,0 30,0 ~30,0 18,30 22,45 70,42 92,70 50,100 5,95",
        "~95,8 30,5 12,45 70,45 90,75 40,100 0,88",
    ),
    (
        "~75,0 30,25 5,65 20,95 60,100 92,78 75,52 35,52 8,75",
        "~90,15 65,0 25,20 5,60 20,95 60,100 92,75 65,52 25,58 8,78",
        "-60,0 12,65 ~12,65 20,95 60,100 90,78 65,55 15,68",
        "~60,0 20,40 5,78 25,100 60,95 62,75 35,65 10,80",
        "~95,22 75,2 40,5 10,45 8,80 45,100 88,85 85,58 50,48 12,68",
        "-15,0 10,70 ~10,70 25,100 85,95 90,65 55,52 12,72",
        "~85,5 30,15 5,55 10,88 45,100 85,90 90,65 60,55 30,62 15,80",
        "~98,12 60,0 15,30 5,75 35,100 80,95 92,72 60,58 15,72",
    ),
    (
        "-5,3 95,3 35,100",
        "-5,3 95,3 35,100 -20,50 85,50",
        "-5,22 8,3 95,3 40,100",
        "-5,20 8,2 95,2 40,100 -25,52 90,48",
        "~5,10 50,5 95,3 60,50 40,100",
        "~2,15 15,0 50,12 95,0 ~95,0 55,45 35,100",
        "~2,15 15,0 50,12 95,0 ~95,0 55,45 35,100 -22,55 88,50",
        "-0,5 90,5 70,100",
        "-0,8 92,0 50,100 -30,45 95,55",
        "-2,25 5,5 98,5 ~98,5 60,50 50,100 -30,58 95,58",
    ),
    (
        "~80,12 45,0 15,18 35,42 75,60 88,82 50,100 12,82 30,58 70,40 85,18 78,8",
        "~50,0 20,10 20,38 50,48 80,38 80,10 50,0 ~50,48 10,62 10,90 50,100 90,90 90,62 50,48",
        "~85,5 40,2 15,20 50,48 85,75 50,100 12,80 45,50 90,10",
        "~60,0 15,15 40,42 85,70 60,100 20,90 35,60 80,20 60,0",
        "~88,18 55,0 15,15 25,40 75,55 92,80 55,100 10,88 22,60 85,25",
        "~40,48 12,25 45,0 85,20 55,48 15,75 45,100 90,80 60,52 35,45",
    ),
    (
        "~85,20 50,0 12,18 20,48 60,50 88,22 -88,15 85,100",
        "~88,15 50,0 10,22 25,50 70,48 90,20 88,60 65,95 20,95",
        "~80,25 45,0 8,25 30,52 80,30 -85,10 45,100",
        "~88,20 50,0 10,20 25,48 85,35 ~88,15 85,70 60,100 15,88",
        "~85,20 50,0 10,25 35,50 85,28 ~88,12 85,75 55,100 12,95 18,82",
        "~70,5 25,2 8,28 40,50 85,28 -88,2 80,100",
        "~90,10 40,0 5,25 35,45 90,15 -90,10 90,65 60,100",
        "~82,22 50,2 12,25 35,50 80,25 ~84,18 80,70 40,100 5,90",
    ),
)

#: Letters and signs that nobody takes for a digit.
LETTERS: Final[dict[str, str]] = {
    "A": "-0,100 50,0 100,100 -20,62 80,62",
    "C": "~90,15 50,0 5,40 20,90 60,100 95,85",
    "E": "-90,0 10,0 10,100 90,100 -10,50 75,50",
    "F": "-90,0 12,0 10,100 -12,48 75,48",
    "H": "-8,0 8,100 -92,0 92,100 -8,50 92,50",
    "K": "-10,0 10,100 -90,0 10,55 90,100",
    "L": "-12,0 10,100 95,100",
    "M": "-0,100 10,0 50,65 90,0 100,100",
    "N": "-8,100 10,0 90,100 92,0",
    "P": "-12,100 12,0 ~12,0 75,2 92,25 70,48 12,52",
    "R": "-12,100 12,0 ~12,0 75,2 90,25 70,46 12,50 -45,50 95,100",
    "T": "-0,2 100,2 -50,2 50,100",
    "U": "~8,0 8,60 30,98 70,98 92,60 92,0",
    "V": "-0,0 50,100 100,0",
    "W": "-0,0 25,100 50,35 75,100 100,0",
    "X": "-5,0 95,100 -95,0 5,100",
    "c": "~85,22 50,5 8,45 30,95 65,98 92,80",
    "d": "~80,60 45,40 10,65 30,98 75,85 -85,0 85,100",
    "e": "~10,55 85,50 70,15 30,12 5,55 35,95 90,85",
    "f": "~90,8 60,0 45,30 45,100 -10,45 85,45",
    "h": "-12,0 10,100 ~10,65 50,42 85,60 88,100",
    "k": "-12,0 12,100 -80,40 12,70 85,100",
    "m": "-5,30 5,100 ~5,55 30,30 48,55 48,100 ~48,55 75,30 95,55 95,100",
    "n": "-10,20 10,100 ~10,50 50,18 88,45 90,100",
    "p": "-12,20 10,100 ~12,30 60,15 90,40 60,65 12,62",
    "r": "-15,10 15,100 ~15,50 45,15 90,15",
    "t": "~45,0 45,80 60,100 90,92 -5,32 90,32",
    "u": "~8,10 10,75 40,98 85,70 -88,10 92,100",
    "w": "~0,10 20,95 50,45 75,95 100,10",
    "x": "~5,10 40,45 90,95 -92,10 8,95",
    "+": "-50,5 50,95 -5,50 95,50",
    "=": "-5,30 95,30 -5,70 95,70",
    "#": "-35,0 25,100 -75,0 65,100 -5,35 95,35 -5,65 95,65",
    "*": "-50,5 50,95 -10,25 90,75 -90,25 10,75",
    "alpha": "~95,10 60,70 25,95 5,60 25,25 60,45 95,95",
    "check": "-0,60 35,100 100,0",
}

#: Limits of what is drawn anew: width by height, slant (columns a row), radians, and of a point.
ASPECT, SLANT, TURN, JITTER = (0.42, 0.95), (-0.25, 0.45), 0.14, 5.0
#: Width by height of a 1 without a foot, and of letters.
NARROW, WIDE = (0.1, 0.55), (0.6, 1.2)
#: Width of the pen, in heights of the digit: thin to bold.
PEN = (0.035, 0.22)
#: Points of a curve between two given ones.
FINE: Final = 8


def draw(style: str, random: np.random.Generator, aspect: tuple[float, float] = ASPECT) -> Floats:
    """Draw a style of a character, as ink from 0 to 1 of shape (SIDE, SIDE).

    Parameters
    ----------
    style
        Strokes, as in :data:`DIGITS`.
    random
        Where the randomness comes from; the result is a function of its state.
    aspect
        Least and greatest width by height.
    """
    from PIL import Image, ImageDraw

    strokes = [np.array(points) for points in _parsed(style, random)]
    scale = np.array([random.uniform(*aspect), 1.0])
    slant, turn = random.uniform(*SLANT), random.uniform(-TURN, TURN)
    wave, phase = random.uniform(-4, 4, 2), random.uniform(0, 2 * np.pi, 2)
    cosine, sine = np.cos(turn), np.sin(turn)
    for k, stroke in enumerate(strokes):
        moved = stroke + wave * np.sin(stroke[:, ::-1] / 100 * np.pi + phase)
        moved = (moved - 50) * scale
        moved[:, 0] -= slant * moved[:, 1]
        strokes[k] = moved @ np.array([[cosine, sine], [-sine, cosine]])
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    pen = float(np.exp(random.uniform(*np.log(PEN))))
    unit = 0.74 * SIDE / max(float((high - low).max()), 1.0)
    width = max(2.0, pen * 0.74 * SIDE)
    page = Image.new("L", (SIDE, SIDE))
    pencil = ImageDraw.Draw(page)
    for stroke in strokes:
        placed = (stroke - (low + high) / 2) * unit + SIDE / 2
        # A pen is pressed more or less along its way.
        pressed = width * (1 + random.uniform(0, 0.25) * np.sin(np.linspace(0, 4, len(placed))))
        for (x, y), (to_x, to_y), w in zip(placed, placed[1:], pressed, strict=False):
            pencil.line((x, y, to_x, to_y), fill=255, width=max(1, round(w)))
        for (x, y), w in zip(placed, pressed, strict=True):
            pencil.ellipse((x - w / 2, y - w / 2, x + w / 2, y + w / 2), fill=255)
    return np.asarray(page) / 255.0


def _parsed(style: str, random: np.random.Generator) -> list[Floats]:
    """The strokes of a style, their points moved a little, curves made of many points."""
    strokes: list[tuple[bool, list[tuple[float, ...]]]] = []
    for word in style.split():
        if word[0] in "~-":
            strokes.append((word[0] == "~", []))
        strokes[-1][1].append(tuple(map(float, word.lstrip("~-").split(","))))
    result = []
    for smooth, points in strokes:
        moved = np.array(points) + random.uniform(-JITTER, JITTER, (len(points), 2))
        result.append(_curve(moved) if smooth else moved)
    return result


def _curve(points: Floats) -> Floats:
    """Through all points, with the slope at each that of its neighbours (Catmull and Rom)."""
    before, after = 2 * points[0] - points[1], 2 * points[-1] - points[-2]
    if np.hypot(*(points[0] - points[-1])) < 15:  # a closed curve
        before, after = points[-2], points[1]
    p = np.concatenate([[before], points, [after]])
    t = (np.arange(FINE) / FINE)[None, :, None]
    a, b, c, d = p[:-3, None], p[1:-2, None], p[2:-1, None], p[3:, None]
    curve = b + 0.5 * t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a)))
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])
