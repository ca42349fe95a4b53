"""Creases of paper and thin lines that go straight from one edge of a picture to the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.components import marks_of
from fastdigit.images.ink import INK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats

__all__ = ["without_creases"]

# Rows at each end of the picture in which a crease is seen: of its length, and at least.
END: Final = 0.02
FEWEST_ROWS: Final = 2
# In a picture with more marks at one end, no crease is looked for.
MOST_SPANS: Final = 16
# The steepest crease: columns a row.
SLOPE: Final = 0.07
# Of its length, and in pixels: how wide it is at most. And how much of it is inked.
WIDEST: Final = 0.4
WIDEST_OF_ALL: Final = 100
COVERED: Final = 0.95
# Of a row around it: how many pixels are darker than paper. Of a crease's rows: how many are
# darker than it is on bare paper.
PAPER: Final = 0.75
BARE: Final = 0.7
# A crease is darker than paper by this part of its light at least, and ends where it is by less.
DEPTH: Final = 0.05
NO_DEPTH: Final = 0.01
# Of the light that a crease takes: where it takes less there is none, in so many rows at most. And
# what it takes at its ends.
LEAST_DEPTH: Final = 0.4
MISSING: Final = 0.06
DEPTH_AT_ENDS: Final = 0.75
# What leaves less of the light is black.
LITTLE: Final = 0.05
# Of the writing's pixels, those that have less ink than it has as a rule. A crease that has less
# than this part of that is none of its strokes.
WRITING: Final = 0.75
PALER: Final = 0.7
# What is as dark is longer than all other marks by this factor, and there are no more of it.
LONGER: Final = 1.6
MOST_DARK: Final = 2
# Marks that are more than what is left of one stroke beside a crease.
SEVERAL: Final = 3
# Pixels a side of a picture in which there may be a crease and nothing else; lower marks are none.
LARGE: Final = 100
LOWEST: Final = 6
# Pixels that a line is wide at most, with its soft edges, if writing goes on behind it.
THIN: Final = 8
# Of what a line takes of the light, so much is left beside it, and in so many of its rows, if it is
# drawn in steps.
LEFT: Final = 0.35
STEPS: Final = 0.1
# Pixels that a crease is off a straight line at most; and rows on each side of one that tell where
# it is.
ASIDE: Final = 2
AROUND: Final = 3
# Pixels that a line is wide at most, with its soft edges, if it is looked for between pixels. And
# how far a pixel is off at most, of the paper's light, for what is further off is a digit's.
FINE: Final = 12
FAR: Final = 0.15
# Of the paper's light: strokes leave less beside a line that hides them, and more is seen in it.
INKED: Final = 0.7
SEEN: Final = 0.85


# The column of its first and last row, and how wide it is there: the smaller first.
_Line = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class _Crease:
    """What goes from the first row to the last.

    Attributes
    ----------
    columns
        Of each row, those around it: (rows, columns).
    light
        What it leaves of the paper's light in these pixels; 1 where there is nothing of it.
    paper
        Of each row.
    ink
        How much there is in its middle, where nothing crosses it.
    hides
        Whether writing is not seen through it.
    bare
        Pixels in which nothing else is seen.
    """

    columns: NDArray[np.intp]
    light: Floats
    paper: Floats
    ink: float
    hides: bool
    bare: NDArray[np.bool_]

    @property
    def rows(self) -> NDArray[np.intp]:
        """Of the same pixels."""
        return np.broadcast_to(np.arange(len(self.columns))[:, None], self.columns.shape)

    def take_out(self, bright: Floats) -> None:
        """As if there were none, in place."""
        own = self.light < 1
        here = bright[self.rows, self.columns]
        # Of light that is next to none, none can be given back.
        given = np.where(self.light > LITTLE, here / np.maximum(self.light, LITTLE), np.inf)
        made = np.maximum(here, np.minimum(given, self.paper))
        if self.hides:  # writing goes on behind it
            made = np.minimum(made, _across(here, own)[:, None])
        bright[self.rows[own], self.columns[own]] = made[own]

    def take_ink(self, ink: Floats) -> None:
        """Leave only what else is seen in its pixels, in place."""
        ink[self.rows[self.bare], self.columns[self.bare]] = 0


def _across(values: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Of each row, the brighter of the pixels on both sides of what is inside."""
    rows, last = np.arange(len(values)), values.shape[1] - 1
    before = np.maximum(inside.argmax(1) - 1, 0)
    behind = np.minimum(last + 1 - inside[:, ::-1].argmax(1), last)
    across: Floats = np.maximum(values[rows, before], values[rows, behind])
    return across


def without_creases(grey: Floats, ink: Floats, dark: bool) -> tuple[Floats | None, bool]:
    """Give back the light that creases take from a page.

    What goes straight from edge to edge, evenly dark, and is much paler than the writing or much
    longer, is a crease. It takes the same part of the light from paper and from ink, so both are
    divided by what it leaves.

    Parameters
    ----------
    grey
        The page, 0 to 1.
    ink
        How much there is in each pixel, 0 to 1.
    dark
        Whether ink is darker than paper.

    Returns
    -------
    ndarray or None
        The page as if it had none; None if it has none.
    bool
        Whether there is nothing else on the page.
    """
    bright = None
    creases: list[list[_Crease]] = [[], []]
    others = ink
    for axis in (0, 1):
        here = ink.T if axis else ink
        if not (lines := _lines(here)):
            continue
        if bright is None:
            bright = grey.copy() if dark else 1 - grey
        found = [_crease(bright.T if axis else bright, here, line) for line in lines]
        # Thin level lines are those of forms, which are taken out as such.
        creases[axis] = [one for one in found if one is not None and not (axis and one.hides)]
        for crease in creases[axis]:
            others = others.copy() if others is ink else others
            crease.take_ink(others.T if axis else others)
    if bright is None or others is ink:
        return None, False
    boxes = marks_of(others, cell=1).boxes
    if min(ink.shape) >= LARGE and (boxes[:, 1::2] - boxes[:, ::2]).max(initial=0) < LOWEST:
        return None, True
    for axis in (0, 1):
        turned = boxes[:, [2, 3, 0, 1]] if axis else boxes
        for crease in _chosen(creases[axis], others.T if axis else others, turned):
            crease.take_out(bright.T if axis else bright)
    return bright if dark else 1 - bright, False


def _lines(ink: Floats) -> list[_Line]:
    """What is inked from the first row to the last."""
    height, width = ink.shape
    rows = min(height, max(FEWEST_ROWS, round(END * height)))
    firsts = _spans(ink[:rows], WIDEST * height)
    lasts = _spans(ink[-rows:], WIDEST * height) if 0 < len(firsts) <= MOST_SPANS else []
    if len(lasts) > MOST_SPANS:
        return []
    row = np.arange(height)
    found: list[_Line] = []
    for first, wide in firsts:
        best, most = None, COVERED * height
        for number, (last, wide_too) in enumerate(lasts):
            widths = wide, wide_too
            if abs(last - first) > SLOPE * height or max(widths) > 2 * min(widths) + 3:
                continue
            columns = np.rint(np.linspace(first, last, height)).astype(np.intp)
            inked = np.zeros(height, np.bool_)
            for by in (-1, 0, 1):
                inked |= ink[row, np.clip(columns + by, 0, width - 1)] > INK
            if np.count_nonzero(inked) >= most:
                best, most = number, np.count_nonzero(inked)
        if best is not None:
            last, wide_too = lasts.pop(best)
            found.append((first, last, min(wide, wide_too), max(wide, wide_too)))
    return found


def _spans(rows: Floats, widest: float) -> list[tuple[float, float]]:
    """Middles and widths of what is inked in these rows."""
    inked = rows.mean(0) > INK
    changes = np.flatnonzero(inked[1:] != inked[:-1]).tolist()
    if not changes:
        return []
    if inked[0]:
        del changes[0]
    widest = min(widest, WIDEST_OF_ALL)
    # What ends with the picture lies beside the page.
    ends = zip(changes[::2], changes[1::2], strict=False)
    return [((first + end + 1) / 2, end - first) for first, end in ends if end - first <= widest]


def _crease(bright: Floats, ink: Floats, line: _Line) -> _Crease | None:
    """Along a line, if it is evenly dark."""
    height, width = bright.shape
    first, last, narrow, wide = line
    half = round(2 * wide) + 8
    middles = _middles(ink, first, last, max(1, round(narrow)))
    columns = middles[:, None] + np.arange(-half, half + 1)
    inside = np.clip(columns, 0, width - 1)
    rows = np.arange(height)[:, None]
    around = bright[rows, inside]
    paper = np.quantile(around, PAPER, axis=1)[:, None]
    part = around / np.maximum(paper, 1e-6)
    left = np.quantile(part, BARE, axis=0)
    outer = np.concatenate([left[: half // 3], left[-(half // 3) :]])
    beside = float(np.median(outer))
    if beside < INKED:
        return None
    left = np.minimum(left / beside, 1)
    # From its middle to where it ends on both sides.
    deep = left < 1 - NO_DEPTH
    near = slice(max(0, half - round(wide / 2) - 1), half + round(wide / 2) + 2)
    middle = near.start + int(left[near].argmin())
    depth = 1 - left[middle]
    if depth < DEPTH:
        return None
    start = middle - int((~deep[middle::-1]).argmax()) if not deep[: middle + 1].all() else -1
    end = middle + int((~deep[middle:]).argmax()) if not deep[middle:].all() else len(deep)
    left[: start + 1] = 1
    left[end:] = 1
    seen = 1 - part[:, max(0, middle - 1) : middle + 2].min(1)
    if np.count_nonzero(seen < LEAST_DEPTH * depth) > MISSING * height:
        return None
    ends = seen[:FEWEST_ROWS].mean(), seen[-FEWEST_ROWS:].mean()
    if min(ends) < DEPTH_AT_ENDS * depth:  # those of a stroke are round
        return None
    light = _shifted(left, part) if end - start <= FINE else np.broadcast_to(left, part.shape)
    light = np.where(columns == inside, light, 1)
    amount = float(np.median(ink[np.arange(height), inside[:, middle]]))
    hides = False
    bare = light < 1
    if end - start > THIN:
        bare = bare & (part > INKED * light)
    else:
        crossed = _across(part, light < 1) < INKED
        shown = part[crossed, middle] / np.maximum(light[crossed, middle], LITTLE)
        hides = not len(shown) or float(np.median(shown)) > SEEN
        if hides and _leaves_steps(part, light, depth):
            light[:, 1:-1] = np.minimum(np.minimum(light[:, :-2], light[:, 2:]), light[:, 1:-1])
            light[columns != inside] = 1
    return _Crease(inside, light, paper, amount, hides, bare)


def _leaves_steps(part: Floats, light: Floats, depth: float) -> bool:
    """Whether beside a line much is left of it, since it is drawn in steps."""
    rest = -_across(-part, light < 1) < 1 - LEFT * depth
    return bool(np.count_nonzero(rest) > STEPS * len(rest))


def _shifted(left: Floats, part: Floats) -> Floats:
    """What a fine line leaves of the light, row by row: it is drawn between pixels, or in steps."""
    places = np.arange(len(left))
    shifts = np.linspace(-0.75, 0.75, 7)
    all_ = np.stack([np.interp(places - shift, places, left) for shift in shifts])
    own = np.flatnonzero((all_ < 1).any(0))
    off = np.minimum(np.abs(part[:, None, own] - all_[:, own]), FAR).sum(2)
    shifted: Floats = all_[_summed(off).argmin(1)]
    return shifted


def _summed(values: Floats) -> Floats:
    """Over the rows around each."""
    padded = np.pad(values, ((AROUND + 1, AROUND), (0, 0)), mode="edge")
    sums = np.cumsum(padded, axis=0)
    summed: Floats = sums[2 * AROUND + 1 :] - sums[: -2 * AROUND - 1]
    return summed


def _middles(ink: Floats, first: float, last: float, wide: int) -> NDArray[np.intp]:
    """Of each row, the column in whose neighbourhood it is darkest, near a straight line."""
    height, width = ink.shape
    straight = np.rint(np.linspace(first, last, height)).astype(np.intp)
    reach = ASIDE + wide // 2
    columns = np.clip(straight[:, None] + np.arange(-reach, reach + 1), 0, width - 1)
    near = np.minimum(ink[np.arange(height)[:, None], columns], 1)
    sums = np.cumsum(np.pad(near, ((0, 0), (1, 0))), axis=1)
    near = _summed(sums[:, wide:] - sums[:, :-wide])
    shifts = np.arange(near.shape[1]) + wide // 2 - reach
    near -= 1e-6 * np.abs(shifts)
    found: NDArray[np.intp] = straight + shifts[near.argmax(1)]
    return found


def _chosen(creases: list[_Crease], others: Floats, boxes: NDArray[np.int64]) -> list[_Crease]:
    """Those that are no strokes of the writing, which is the other ink, in these boxes."""
    inked = others[others > INK]
    if not len(inked):
        return []
    writing = float(np.quantile(inked, WRITING))
    dark = [crease for crease in creases if crease.ink > PALER * writing]
    heights = boxes[:, 1] - boxes[:, 0]
    if len(dark) <= MOST_DARK and heights.max() * LONGER <= len(others):
        high = boxes[heights >= max(LOWEST, heights.max() / 2)]
        if len(high) >= SEVERAL:
            dark = []
        dark = [crease for crease in dark if not _is_apart(crease, high).any()]
    return [crease for crease in creases if crease not in dark]


def _is_apart(crease: _Crease, boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which boxes lie beside a crease and not at it, as what is left of a stroke would."""
    own = crease.light < 1
    firsts = np.where(own, crease.columns, np.iinfo(np.intp).max).min(1)
    ends = np.where(own, crease.columns, -1).max(1) + 1
    top, bottom, left, right = boxes.T
    first = np.minimum(firsts[top], firsts[bottom - 1])
    end = np.maximum(ends[top], ends[bottom - 1])
    apart: NDArray[np.bool_] = (right + ASIDE < first) | (left - ASIDE > end)
    return apart
