"""From pixels to ink: one grey value a pixel, and how far it is from the paper."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastdigit.errors import InputError, NotOneDigitError
from fastdigit.images import _pixels
from fastdigit.images.arrays import averaged, box_mean, plane, quantile
from fastdigit.images.background import SMALL, ink_is_dark, structure_of, widest_stroke

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats

__all__ = [
    "ABOVE_NOISE",
    "INK",
    "LITTLE_LIGHT",
    "MIN_CONTRAST",
    "MOST_BEYOND",
    "checked",
    "contrast_of_difference",
    "grey_of",
    "ink_of",
    "reduced",
    "stroke_width",
]

# Of the way from paper to ink; a pixel above is part of the digit's box. No byte divided by another
# is just that, so rounding of grey values does not decide.
INK: Final = 0.202
# Less contrast than this, of the full range, is paper.
MIN_CONTRAST: Final = 0.05
# Where there is little contrast: of the range as it is, whatever the light; more if ink is bright,
# for on white paper hardly any is.
LITTLE_CONTRAST: Final = 0.25
MIN_DIFFERENCE: Final = 0.04
MIN_DIFFERENCE_OF_BRIGHT: Final = 0.08
# Of the contrast: what stands out as much to the other side of the paper is noise, and so is that.
MOST_BEYOND: Final = 0.4
# What stands for 1, by the dtype.
FULL: Final = MappingProxyType({"B": 255.0, "H": 65535.0})
# The greatest value of 8 bits.
EIGHT_BITS: Final = 255
# Grey of red, green and blue: ITU-R BT.601.
LUMA: Final = np.array([0.299, 0.587, 0.114])
# So many standard deviations of noise do not make ink.
ABOVE_NOISE: Final = 5
# Ink whose brightness differs from the paper's by less than this part of its colour is told by
# colour.
LITTLE_LUMA: Final = 0.6
# Of the picture: ink covers so much hardly ever, and of a small one only in a tight crop.
MUCH_COVERED: Final = 0.4
MOST_COVERED: Final = 0.55
# What is wider than so many strokes is none, if that is so many pixels, and so much less than what
# was allowed before the strokes were known.
STROKES: Final = 3.0
WIDER: Final = 7
NARROWER: Final = 0.7
# Of white paper's; where there is so little, differences count for less.
LITTLE_LIGHT: Final = 0.15
# Ink below is pale; and what is so much wider than strokes is none.
PALE: Final = 0.6
LESS_THAN_PALE: Final = math.nextafter(PALE, 0)
WIDER_THAN_STROKES: Final = 1.4
# Of the pixels along the edge of a negative; and of the side, how narrow it may be.
OPPOSITE: Final = 0.8
NARROWEST_STRIPE: Final = 0.15
# Of a picture of flat paper: what ink covers of it there for sure.
LITTLE_COVERED: Final = 0.25
# Noise beyond this part of the contrast is averaged away first.
MUCH_NOISE: Final = 0.07


def checked(pixels: NDArray[Any]) -> NDArray[Any]:
    """The pixels as (height, width, channels)."""
    shape = pixels.shape
    if np.ma.is_masked(pixels):
        raise InputError(
            "the image is an array with a mask, which hides some of its pixels: fill these first, "
            "with paper for instance, as image.filled(255) does"
        )
    if 0 in shape:
        raise InputError(f"the image has no pixels: its shape is {shape}")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4):
        raise InputError(
            f"the image has shape {shape}, expected (height, width), or (height, width, channels) "
            "with 1 to 4 channels: grey, grey and alpha, RGB, RGBA"
        )
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        if math.isnan(low):
            raise InputError("the image has NaN among its floats, expected 0..1")
        if not (low >= 0 and high <= 1):
            hint = "; divide by 255 first?" if low >= 0 and high <= 255 else ""
            raise InputError(f"the image has floats from {low:g} to {high:g}, expected 0..1{hint}")
    elif pixels.dtype.char not in "BH?" or not pixels.dtype.isnative:
        raise InputError(
            f"the image has dtype {pixels.dtype}, expected uint8, uint16, bool, or floats in 0..1"
        )
    elif pixels.dtype.char == "H" and 0 < (most := int(pixels.max())) <= EIGHT_BITS:
        raise InputError(
            f"the image is uint16, of which 65535 is white, but has no value above {most}: if 255 "
            "is white, convert it to uint8"
        )
    return pixels


def reduced(pixels: NDArray[Any], side: int) -> Floats:
    """Values in 0..1, (height, width, 1 or 3), averaged over square blocks until neither side is
    longer; in bands, so that memory stays small."""
    height, width, channels = pixels.shape
    block = -(-max(height, width) // side)
    if channels in (1, 3):
        return averaged(pixels, block, FULL.get(pixels.dtype.char, 1.0))
    band = block * max(1, side // block)
    rows = [_composites(pixels[y : y + band]) for y in range(0, height, band)]
    planes = [
        np.concatenate([averaged(row[i], block) for row in rows]) for i in range(len(rows[0]))
    ]
    # Transparent pixels show what lies behind: white paper, unless the ink is white.
    return max(planes, key=lambda plane: float(np.ptp(plane)))


def _composites(pixels: NDArray[Any]) -> tuple[Floats, Floats]:
    """Colours on white and on black."""
    values = pixels.astype(np.float64) / FULL.get(pixels.dtype.char, 1.0)
    alpha = values[..., -1:]
    ink = values[..., :-1] * alpha
    return ink + (1 - alpha), ink


def grey_of(colours: Floats) -> Floats:
    """One value a pixel: the brightness, or, where ink has the paper's, what tells them apart.

    That is the direction in which colours differ most from those around them.
    """
    if colours.shape[2] == 1:
        return plane(colours[..., 0])
    luma: Floats = colours @ LUMA
    step = max(1, max(luma.shape) // 96)
    small = averaged(colours, step)
    window = max(3, max(small.shape) // 4 | 1)
    away = small - np.stack([box_mean(small[..., i], window) for i in range(3)], axis=-1)
    away = away.reshape(-1, 3)
    variances, axes = np.linalg.eigh(away.T @ away)
    axis = axes[:, -1]
    seen = float((away @ LUMA).std()) / max(float(np.sqrt(variances[-1] / len(away))), 1e-12)
    if seen >= LITTLE_LUMA * float(np.linalg.norm(LUMA)):
        return luma
    values = colours @ axis
    values = values - values.min()
    span: Floats = np.clip(values, 0, 1)
    return span


def without_negatives(grey: Floats) -> Floats:
    """The picture with those of its stripes inverted that are shown as a negative.

    At their edges, straight through the picture, each pixel is the negative of its neighbour.
    """
    low, high = _pixels.extremes(grey)
    if high - low < MIN_CONTRAST:
        return grey
    inverted: Any = False
    for axis, opposite in enumerate(_pixels.opposites(grey, low, high)):
        if not len(opposite) or opposite.max() < OPPOSITE:
            continue
        edges = np.flatnonzero(opposite >= OPPOSITE) + 1
        bounds = np.concatenate([[0], edges, [grey.shape[axis]]])
        if np.diff(bounds).min() >= NARROWEST_STRIPE * grey.shape[axis]:
            odd = np.searchsorted(edges, np.arange(grey.shape[axis]), "right") % 2 == 1
            inverted = inverted ^ (odd[:, None] if axis == 0 else odd)
    if inverted is False:
        return grey
    mended = np.where(inverted, low + high - grey, grey)
    # A stroke as wide as that would be lost.
    some = np.abs(mended - np.median(mended)) > (high - low) / 2
    return mended if some.mean() > 0.02 else grey


def ink_of(grey: Floats) -> Floats:
    """How much ink there is in each pixel: 0 for paper, 1 for much."""
    plain = _ink_on_flat_paper(grey)
    if plain is not None:
        return plain
    structure, noise = structure_of(grey)
    if structure < ABOVE_NOISE * noise:
        raise _no_digit(structure)
    grey = without_negatives(grey)
    sides = (grey, 1 - grey) if ink_is_dark(grey) else (1 - grey, grey)
    window = widest_stroke(grey)
    away = _away(sides[0], window)
    covered = _pixels.coverage(away)
    # Ink that covers the picture is its paper: there is a frame or a dark table around it.
    if covered > (MUCH_COVERED if max(grey.shape) > SMALL else MOST_COVERED):
        other = _away(sides[1], window)
        if _pixels.coverage(other) < covered - 0.1:
            sides, away = sides[::-1], other
    # What is much wider than the strokes is none: a narrow shadow, a stain.
    narrow = _narrow(away)
    if WIDER <= narrow < NARROWER * window:
        away = _away(sides[0], narrow)
    ink, noise, top, beyond = _pixels.stretched(away)
    if noise > MUCH_NOISE * top and min(grey.shape) >= 40:
        window = 3 if noise < 2 * MUCH_NOISE * top or min(grey.shape) < 80 else 5
        ink, noise, top, beyond = _pixels.stretched(box_mean(away, window))
    least = max(MIN_CONTRAST, ABOVE_NOISE * noise)
    if top < LITTLE_CONTRAST:  # ink is on one side of the paper, noise on both
        light = float(np.median(sides[0]))
        least = max(least, contrast_of_difference(light, dark=sides[0] is grey))
        if min(grey.shape) > SMALL and beyond > MOST_BEYOND * top:
            raise _no_digit(top)
    if top < least:
        raise _no_digit(top)
    return _without_plateaus(ink)


def _ink_on_flat_paper(grey: Floats) -> Floats | None:
    """What the steps for any light come to if the paper is of one brightness; None if it is not,
    or if what is on it may not be ink."""
    flat = _pixels.flat_paper(grey)
    window = widest_stroke(grey)
    if flat is None or window < WIDER:
        return None
    paper, least, _ = flat
    everywhere = _pixels.away_from(grey, paper, paper > least, LITTLE_LIGHT)
    # All that is not paper is looked at, and no more; of flat paper there is nothing else to know.
    within = _pixels.box(everywhere, 0)
    if within is None:
        raise _no_digit(0.0)
    top, bottom, left, right = within
    away = plane(everywhere[top:bottom, left:right])
    half = _pixels.extremes(away)[1] / 2
    if _pixels.count_above(away, half) > LITTLE_COVERED * grey.size:
        return None
    if away.size > grey.size / 2 and _pixels.count_above(away, 0) > grey.size / 2:
        return None
    if _pixels.count_squares(away, 0, math.inf, WIDER):
        narrow = _narrow(away)
        side = narrow if WIDER <= narrow < NARROWER * window else window
        if _pixels.count_squares(away, 0, math.inf, side):
            return None
    ink, _, contrast, _ = _pixels.stretched(away, True)
    if contrast < MIN_CONTRAST:
        raise _no_digit(contrast)
    everywhere.fill(0)
    everywhere[top:bottom, left:right] = _without_plateaus(ink)
    return everywhere


def _narrow(away: Floats) -> int:
    """How wide what is wider than strokes is at least, in pixels; an odd number."""
    greatest = max(_pixels.extremes(away)[1], 1e-12)
    return round(STROKES * stroke_width(away, greatest / 2)) | 1


def contrast_of_difference(light: float, *, dark: bool) -> float:
    """The contrast of ink that differs from its paper by the least of the range.

    Parameters
    ----------
    light
        Of the paper, 0 to 1, or what it lacks if ink is bright.
    dark
        Whether ink is darker than paper.
    """
    return (MIN_DIFFERENCE if dark else MIN_DIFFERENCE_OF_BRIGHT) / (light + LITTLE_LIGHT)


def _no_digit(contrast: float) -> NotOneDigitError:
    return NotOneDigitError(
        f"the image shows no digit: nothing stands out from the paper by more than {contrast:.1%} "
        "of the range from black to white"
    )


def _without_plateaus(ink: Floats) -> Floats:
    """Less, by what is wider than strokes and paler: what a shadow or a stain has left."""
    few = 0.02 * _pixels.count_above(ink, LESS_THAN_PALE)
    if _pixels.count_squares(ink, INK, PALE, 3) <= few:
        return ink
    wide = round(WIDER_THAN_STROKES * stroke_width(ink, PALE)) | 1
    if not 3 <= wide <= min(ink.shape):
        return ink
    core = _pixels.squares(ink, INK, PALE, wide)
    if np.count_nonzero(core) <= few:
        return ink
    before = wide // 2
    values = ink[before : before + core.shape[0], before : before + core.shape[1]][core]
    floor = min(quantile(values, 0.95), PALE)
    return np.clip((ink - floor) / (1 - floor), 0, 1)


def _away(grey: Floats, window: int) -> Floats:
    """The part of the paper's light that a pixel lacks; where there is little, less than that."""
    return _pixels.away(grey, window, LITTLE_LIGHT)


def stroke_width(ink: Floats, threshold: float = INK) -> float:
    """In pixels: the median of the shorter of the runs of ink, level and upright, through each."""
    return _pixels.stroke_width(plane(ink), threshold)
