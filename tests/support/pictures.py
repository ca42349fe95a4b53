"""Pictures of digits as people have them, made by code from 28x28 digits: a kind, a function.

``make(kind, digits, seed)`` draws the circumstances (light, paper, lines, neighbours, noise) anew
for each digit, and is deterministic. `benchmarks/pictures.py` scores :func:`fastdigit.normalize`
on them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tests.support import need

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Draw = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[Any]]

__all__ = ["KINDS", "make"]

KINDS: Final[dict[str, Draw]] = {}


def _kind(function: Draw) -> Draw:
    KINDS[function.__name__.removeprefix("_").replace("_", "-")] = function
    return function


def make(kind: str, digits: NDArray[np.uint8], seed: int = 0) -> Iterator[NDArray[Any]]:
    """A picture of each digit; ``kind`` is one of KINDS."""
    for number, digit in enumerate(digits):
        rng = np.random.default_rng([seed, number, *kind.encode()])
        yield KINDS[kind](digit, rng)


# ---- Parts ----


def _ink(digit: NDArray[np.uint8], side: int, *, pen: bool = True) -> Floats:
    """The digit at another size, 0 to 1; a pen's strokes have edges, enlarged pixels do not."""
    Image = need("PIL.Image")
    big = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.asarray(big) / 255
    return np.clip((ink - 0.5) * 2 + 0.5, 0, 1) if pen and side > 40 else ink


def _boxed(ink: Floats) -> Floats:
    """Cropped to what is inked."""
    rows, columns = np.flatnonzero((ink > 0.3).any(1)), np.flatnonzero((ink > 0.3).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _scene(
    digit: NDArray[np.uint8], rng: np.random.Generator, side: int = 120, fill: float = 0.75
) -> Floats:
    """Ink of a digit that fills so much of a square picture, not quite in its middle."""
    glyph = _boxed(_ink(digit, round(side * fill * 1.4)))
    scale = side * fill / max(glyph.shape)
    if scale < 1:
        glyph = _boxed(_ink(digit, round(side * fill * 1.4 * scale)))
    height, width = glyph.shape
    ink = np.zeros((max(side, height), max(side, width)))
    room = [n - m for n, m in zip(ink.shape, glyph.shape, strict=True)]
    top, left = (round(r / 2 + rng.uniform(-0.15, 0.15) * r) for r in room)
    ink[top : top + height, left : left + width] = glyph
    return ink


def _grey(ink: Floats, rng: np.random.Generator, light: Any = 1.0, noise: float = 2) -> Any:
    """Dark ink on paper in that light, with the camera's noise."""
    black, white = rng.uniform(15, 60), rng.uniform(200, 235)
    reflected = white + (black - white) * ink
    return _bytes(reflected * light + rng.normal(0, noise, ink.shape))


def _bytes(values: Any) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _grid(ink: Floats) -> tuple[Floats, Floats]:
    """x and y of each pixel, 0 to 1."""
    y, x = np.indices(ink.shape)
    return x / ink.shape[1], y / ink.shape[0]


def _side(rng: np.random.Generator) -> int:
    return int(rng.choice([60, 100, 150, 240]))


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    Image = need("PIL.Image")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _line(
    lines: Floats, where: float, width: int, upright: bool, strength: float, slope: float = 0.0
) -> None:
    """Draw a line across the picture, in place."""
    view = lines.T if upright else lines
    for x in range(view.shape[1]):
        y = round(where + slope * (x - view.shape[1] / 2))
        top, end = max(0, y), max(0, min(len(view), y + width))
        view[top:end, x] = np.maximum(view[top:end, x], strength)


# ---- Nothing special ----


@_kind
def _as_mnist(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    return digit


@_kind
def _black_on_white(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    return 255 - digit


@_kind
def _scan(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    return _grey(_scene(digit, rng, _side(rng), rng.uniform(0.4, 0.85)), rng)


@_kind
def _tight(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """Nothing but the digit's box."""
    return _grey(_boxed(_ink(digit, int(rng.choice([28, 40, 80, 150])))), rng)


@_kind
def _tight_binary_16(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """As old scans of envelopes: stretched to 16x16, black and white."""
    Image = need("PIL.Image")
    glyph = Image.fromarray(_bytes(255 * _boxed(_ink(digit, 112))))
    small = np.asarray(glyph.resize((16, 16), Image.Resampling.BOX)) > 127
    return _bytes(255 * small)


@_kind
def _tight_grey_16(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """In a box of 16x16, as high as it or as wide."""
    Image = need("PIL.Image")
    glyph = Image.fromarray(_bytes(255 * _boxed(_ink(digit, 112))))
    scale = 16 / max(glyph.size)
    size = tuple(max(1, round(n * scale)) for n in glyph.size)
    small = np.asarray(glyph.resize(size, Image.Resampling.BOX))
    out = np.zeros((16, 16), np.uint8)
    top, left = (16 - small.shape[0]) // 2, (16 - small.shape[1]) // 2
    out[top : top + small.shape[0], left : left + small.shape[1]] = small
    return out


@_kind
def _jpeg_of_little_quality(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    return _jpeg(_grey(_scene(digit, rng, _side(rng)), rng, noise=4), int(rng.integers(10, 40)))


@_kind
def _noisy(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    return _grey(_scene(digit, rng, _side(rng)), rng, noise=rng.uniform(10, 35))


@_kind
def _chalk(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """White on black."""
    return 255 - _grey(_scene(digit, rng, _side(rng)), rng, noise=6)


@_kind
def _dirt(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    ink = _scene(digit, rng, _side(rng), 0.6)
    x, y = _grid(ink)
    for _ in range(int(rng.integers(3, 15))):
        cx, cy, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.005, 0.02)
        ink = np.maximum(ink, (np.hypot(x - cx, y - cy) < r) * rng.uniform(0.5, 1))
    return _grey(ink, rng)


@_kind
def _stain(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """Coffee: a soft spot that is paler than ink, somewhere."""
    ink = _scene(digit, rng, _side(rng), 0.6)
    x, y = _grid(ink)
    r = np.hypot(x - rng.uniform(0, 1), y - rng.uniform(0, 1))
    radius = rng.uniform(0.1, 0.3)
    spot = 1 / (1 + np.exp((r - radius) / 0.01))
    return _grey(ink, rng, 1 - rng.uniform(0.1, 0.4) * spot)


# ---- Strokes ----


@_kind
def _bold(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    return _grey(_thicker(_scene(digit, rng, 140, 0.6), int(rng.integers(4, 11))), rng)


@_kind
def _hairline(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    ink = _scene(digit, rng, 140, 0.7)
    thin = 1 - _thicker(1 - ink, int(rng.integers(1, 5)))
    # What would vanish stays as it was.
    return _grey(np.where(thin.sum() > 0.15 * ink.sum(), thin, ink), rng)


def _thicker(ink: Floats, times: int) -> Floats:
    for step in range(times):
        padded = np.pad(ink, 1)
        height, width = ink.shape
        around = [(0, 1), (1, 0), (1, 2), (2, 1), (1, 1)]
        if step % 2:
            around += [(0, 0), (0, 2), (2, 0), (2, 2)]
        ink = np.max([padded[y : y + height, x : x + width] for y, x in around], axis=0)
    return ink


@_kind
def _broken(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """A pen that failed: gaps across the strokes."""
    ink = _scene(digit, rng, 120, 0.7)
    x, y = _grid(ink)
    for _ in range(2):
        angle, shift = rng.uniform(0, np.pi), rng.uniform(-0.2, 0.2)
        away = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) - shift
        ink = ink * (np.abs(away) > 0.012)
    return _grey(ink, rng)


# ---- Lines ----


def _with(digit: NDArray[np.uint8], rng: np.random.Generator, fill: float) -> tuple[Any, ...]:
    ink = _scene(digit, rng, _side(rng), fill)
    width = max(1, round(ink.shape[0] * rng.uniform(0.008, 0.03)))
    return ink, np.zeros_like(ink), width, rng.uniform(0.4, 1)


@_kind
def _frame(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """A whole box around the digit, inside the picture."""
    ink, lines, width, strength = _with(digit, rng, rng.uniform(0.45, 0.75))
    n = len(ink)
    inset = round(n * rng.uniform(0.0, 0.08))
    lines[inset : n - inset, inset : n - inset] = strength
    lines[inset + width : n - inset - width, inset + width : n - inset - width] = 0
    return _grey(np.maximum(ink, lines), rng)


@_kind
def _cell(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """Cut from a table, a little askew: lines go through the picture, near one to four edges."""
    ink, lines, width, strength = _with(digit, rng, rng.uniform(0.5, 0.8))
    n = len(ink)
    for edge in rng.permutation(4)[: rng.integers(1, 5)]:
        near = n * rng.uniform(-0.01, 0.07)
        where = near if edge < 2 else n - width - near
        _line(lines, where, width, bool(edge % 2), strength, rng.uniform(-0.04, 0.04))
    return _grey(np.maximum(ink, lines), rng)


@_kind
def _ruled(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    ink, lines, width, strength = _with(digit, rng, rng.uniform(0.4, 0.7))
    pitch = len(ink) * rng.uniform(0.3, 0.6)
    slope = rng.uniform(-0.03, 0.03)
    for k in range(4):
        where = len(ink) * rng.uniform(0.05, 0.1) + k * pitch
        _line(lines, where, min(width, 3), False, 0.7 * strength, slope)
    return _grey(np.maximum(ink, lines), rng)


@_kind
def _squared(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    ink, lines, _, strength = _with(digit, rng, rng.uniform(0.5, 0.75))
    pitch = len(ink) * rng.uniform(0.2, 0.4)
    for upright in (False, True):
        start = rng.uniform(0, pitch)
        for k in range(6):
            _line(lines, start + k * pitch, 1, upright, 0.6 * strength)
    return _grey(np.maximum(ink, lines), rng)


@_kind
def _underlined(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """Below the digit, touching it or not, from border to border or shorter."""
    ink, lines, width, strength = _with(digit, rng, rng.uniform(0.5, 0.75))
    bottom = np.flatnonzero((ink > 0.3).any(1))[-1]
    where = min(len(ink) - width, bottom + round(len(ink) * rng.uniform(-0.03, 0.08)))
    _line(lines, where, width, False, max(0.6, strength), rng.uniform(-0.02, 0.02))
    if rng.random() < 0.5:
        short = round(len(ink) * 0.1)
        lines[:, :short] = lines[:, -short:] = 0
    return _grey(np.maximum(ink, lines), rng)


@_kind
def _comb(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """A line below, and short ones on both sides."""
    ink, lines, width, strength = _with(digit, rng, rng.uniform(0.5, 0.75))
    n = len(ink)
    low = round(n * rng.uniform(0.9, 0.97)) - width
    lines[low : low + width] = strength
    edge = round(n * rng.uniform(0, 0.06))
    lines[round(n * 0.65) : low, edge : edge + width] = strength
    lines[round(n * 0.65) : low, n - edge - width : n - edge] = strength
    return _grey(np.maximum(ink, lines), rng)


@_kind
def _form_photograph(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """A table's cell in bad light, blurred and noisy."""
    ink, lines, width, strength = _with(digit, rng, rng.uniform(0.45, 0.7))
    n = len(ink)
    for edge in range(4):
        near = n * rng.uniform(0.0, 0.08)
        where = near if edge < 2 else n - width - near
        _line(lines, where, width, bool(edge % 2), strength, rng.uniform(-0.03, 0.03))
    x, y = _grid(ink)
    light = 1 - rng.uniform(0.1, 0.5) * (x if rng.random() < 0.5 else y)
    return _jpeg(_grey(np.maximum(ink, lines), rng, light, noise=6), 60)


def _drawn(ink: Floats, lines: list[list[tuple[float, float]]], width: float) -> Floats:
    """With lines through these points (x, y), with soft edges."""
    Image, ImageDraw = need("PIL.Image"), need("PIL.ImageDraw")
    fine = 4
    sheet = Image.new("L", (fine * ink.shape[1], fine * ink.shape[0]))
    draw = ImageDraw.Draw(sheet)
    for line in lines:
        points = [(fine * x, fine * y) for x, y in line]
        draw.line(points, 255, round(fine * width), joint="curve")
    small = sheet.resize(ink.shape[::-1], Image.Resampling.BOX)
    return np.maximum(ink, np.asarray(small) / 255)


def _extent(ink: Floats) -> tuple[int, int, int, int]:
    """First row, end of rows, first column, end of columns of what is inked."""
    rows, columns = np.flatnonzero((ink > 0.3).any(1)), np.flatnonzero((ink > 0.3).any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


@_kind
def _ringed(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """A ring around it, drawn by hand; a third are not quite closed, and some are cut off."""
    ink = _scene(digit, rng, _side(rng), rng.uniform(0.35, 0.5))
    top, end, left, stop = _extent(ink)
    width = 0.1 * max(end - top, stop - left) * rng.uniform(0.4, 1.3)
    radius = np.hypot(end - top, stop - left) / 2 * rng.uniform(1.1, 1.5) + width
    turns = np.linspace(0, 2 * np.pi * (1 - max(0, rng.uniform(-0.12, 0.06))), 200)
    phases, wobble = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0, 0.03, 2)
    away = 1 + wobble @ np.sin(np.outer((2, 3), turns) + phases[:2, None])
    x = (left + stop) / 2 + radius * rng.uniform(1, 1.2) * away * np.cos(turns + phases[2])
    y = (top + end) / 2 + radius * rng.uniform(1, 1.2) * away * np.sin(turns + phases[2])
    return _grey(_drawn(ink, [list(zip(x, y, strict=True))], width), rng)


@_kind
def _short_underline(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """About as wide as the digit, below it and apart; a third are double."""
    ink = _scene(digit, rng, _side(rng), rng.uniform(0.3, 0.5))
    top, end, left, stop = _extent(ink)
    size = max(end - top, stop - left)
    width = 0.1 * size * rng.uniform(0.5, 1.2)
    half = max((stop - left) * rng.uniform(0.9, 1.6), 0.5 * size) / 2
    middle = (left + stop) / 2 + rng.uniform(-0.2, 0.2) * half
    rise = half * rng.uniform(-0.06, 0.06)
    lines = []
    for number in range(2 if rng.random() < 1 / 3 else 1):
        y = end + abs(rise) + width * (0.5 + 2.5 * number) + size * rng.uniform(0.1, 0.3)
        lines.append([(middle - half, y - rise), (middle + half, y + rise)])
    return _grey(_drawn(ink, lines, width), rng)


@_kind
def _broken_frame(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """Two to four sides of a box, of which some are not whole; thinner than the digit's strokes."""
    ink = _scene(digit, rng, _side(rng), rng.uniform(0.4, 0.55))
    side = len(ink)
    near, far = side * rng.uniform(0.08, 0.12), side * rng.uniform(0.88, 0.92)
    corners = [(near, near), (far, near), (far, far), (near, far)]
    lines = []
    for number in rng.permutation(4)[: rng.integers(2, 5)]:
        (x, y), (u, v) = corners[number], corners[(number + 1) % 4]
        start, stop = (0, 1) if rng.random() < 0.5 else rng.choice([(0, 0.5), (0.4, 1)])
        ends = [(x + part * (u - x), y + part * (v - y)) for part in (start, stop)]
        lines.append(ends)
    return _grey(_drawn(ink, lines, max(1.0, 0.03 * side * rng.uniform(0.4, 1))), rng)


@_kind
def _neighbour(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """A part of what stands beside, at the left or right edge."""
    ink = _scene(digit, rng, _side(rng), rng.uniform(0.6, 0.8))
    other = _boxed(_ink(digit if rng.random() < 0.3 else digit[:, ::-1], round(len(ink) * 0.9)))
    reach = round(len(ink) * rng.uniform(0.03, 0.1))
    top = (len(ink) - len(other)) // 2
    free = np.flatnonzero((ink > 0.3).any(0))
    room = min(reach, max(1, free[0] - 3))
    ink[top : top + len(other), :room] = other[:, -room:][:, : ink.shape[1]]
    return _grey(ink if rng.random() < 0.5 else ink[:, :], rng)


# ---- Light ----


@_kind
def _vignette(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    ink = _scene(digit, rng, _side(rng), rng.uniform(0.4, 0.8))
    x, y = _grid(ink)
    light = 1 - rng.uniform(0.1, 0.7) * ((x - 0.5) ** 2 + (y - 0.5) ** 2) * 2
    return _grey(ink, rng, light, noise=5)


@_kind
def _lamp(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """A bright spot, whose middle is somewhere near the digit."""
    ink = _scene(digit, rng, _side(rng), rng.uniform(0.4, 0.75))
    x, y = _grid(ink)
    r = np.hypot(x - rng.uniform(0.35, 0.65), y - rng.uniform(0.35, 0.65))
    low = rng.uniform(0.2, 0.6)
    return _grey(ink, rng, low + (1 - low) * np.exp(-((r / rng.uniform(0.25, 0.5)) ** 2)), 4)


@_kind
def _hard_shadow(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    ink = _scene(digit, rng, _side(rng), rng.uniform(0.4, 0.8))
    x, y = _grid(ink)
    angle, shift = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
    away = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) - shift
    soft = rng.choice([0.0005, 0.01, 0.03])
    light = 1 - rng.uniform(0.15, 0.6) / (1 + np.exp(-np.clip(away / soft, -50, 50)))
    return _grey(ink, rng, light, noise=3)


@_kind
def _band_of_shadow(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """A finger's or a pen's shadow, a third of the picture wide."""
    ink = _scene(digit, rng, _side(rng), rng.uniform(0.5, 0.75))
    x, y = _grid(ink)
    angle, shift = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
    away = np.abs((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) - shift)
    inside = 1 / (1 + np.exp(np.clip((away - rng.uniform(0.12, 0.25)) / 0.01, -50, 50)))
    return _grey(ink, rng, 1 - rng.uniform(0.15, 0.45) * inside, noise=3)


@_kind
def _dark_table(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """The paper ends within the picture, on one to four sides."""
    ink = _scene(digit, rng, _side(rng), rng.uniform(0.35, 0.55))
    x, y = _grid(ink)
    light = np.ones_like(ink)
    tilt = rng.uniform(-0.1, 0.1)
    u, v = x + tilt * (y - 0.5), y - tilt * (x - 0.5)
    for edge in rng.permutation(4)[: rng.integers(1, 5)]:
        beyond = (u, v, 1 - u, 1 - v)[edge] < rng.uniform(0.04, 0.18)
        light = np.where(beyond, rng.uniform(0.1, 0.5), light)
        ink = np.where(beyond, 0, ink)
    return _grey(ink, rng, light, noise=4)


@_kind
def _inverted_stripe(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """28x28, the left and the right quarter as a negative."""
    out = digit.copy()
    edge = int(rng.integers(5, 9))
    out[:, :edge], out[:, -edge:] = 255 - out[:, :edge], 255 - out[:, -edge:]
    return out


@_kind
def _fog(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """Smooth brightness that is no plane, and little contrast."""
    ink = _scene(digit, rng, 100, 0.75)
    x, y = _grid(ink)
    field = np.zeros_like(ink)
    for _ in range(4):
        a, b, phase = rng.uniform(-4, 4), rng.uniform(-4, 4), rng.uniform(0, 6.3)
        field += np.cos(a * x * 2 + b * y * 2 + phase) / 4
    return _bytes(120 + 60 * field + 60 * ink + rng.normal(0, 3, ink.shape))


# ---- Colours ----


@_kind
def _colours(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    ink = _scene(digit, rng, _side(rng), 0.7)[..., None]
    paper, pen = rng.uniform(150, 255, 3), rng.uniform(0, 120, 3)
    return _bytes(paper + (pen - paper) * ink + rng.normal(0, 4, (*ink.shape[:2], 3)))


@_kind
def _colours_of_equal_luma(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    ink = _scene(digit, rng, _side(rng), 0.7)[..., None]
    luma = np.array([0.299, 0.587, 0.114])
    while True:
        paper, pen = rng.uniform(20, 235, 3), rng.uniform(20, 235, 3)
        paper += (pen - paper) @ luma
        if paper.min() >= 0 and paper.max() <= 255 and np.linalg.norm(paper - pen) > 90:
            break
    return _bytes(paper + (pen - paper) * ink + rng.normal(0, 3, (*ink.shape[:2], 3)))


@_kind
def _photograph(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[Any]:
    """A digit far from filling a large picture; light from one side, texture, noise, JPEG."""
    ink = _scene(digit, rng, 800, rng.uniform(0.12, 0.3))
    x, y = _grid(ink)
    light = 1 - rng.uniform(0, 0.4) * x - rng.uniform(0, 0.3) * y
    texture = rng.normal(0, 8, (100, 100)).repeat(8, 0).repeat(8, 1)
    grey = (220 - 170 * ink) * light + 0.5 * texture + rng.normal(0, 7, ink.shape)
    return _jpeg(_bytes(grey[..., None] * [1, 0.96, 0.88]), 70)
