"""The loops of csrc/image once more, in NumPy: written for reading, and slow."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

INK = 0.202
SPECK = 0.03


def sliding_max(values: NDArray[Any], window: int, axis: int) -> NDArray[Any]:
    """The greatest of each ``window`` neighbours; the axis gets shorter by ``window`` - 1.

    By doubling: the time is that of log2(window) passes.
    """
    before = (slice(None),) * axis
    length, span = values.shape[axis] - window + 1, 1
    while 2 * span <= window:
        values = np.maximum(values[(*before, slice(-span))], values[(*before, slice(span, None))])
        span *= 2
    rest = slice(window - span, window - span + length)
    greatest: NDArray[Any] = np.maximum(values[(*before, slice(length))], values[(*before, rest)])
    return greatest


def quantile(values: Floats, part: float) -> float:
    """As np.quantile, which takes longer of few values."""
    place = part * (values.size - 1)
    below = int(place)
    above = min(below + 1, values.size - 1)
    low, high = np.partition(values.ravel(), (below, above))[[below, above]].tolist()
    return float(low + (high - low) * (place - below))


def closing(values: NDArray[Any], window: int) -> NDArray[Any]:
    """Fill what is dark and narrower than ``window``; sides get shorter by 2 ``window`` - 2."""
    for axis in range(values.ndim):
        values = sliding_max(values, window, axis)
    for axis in range(values.ndim):
        values = -sliding_max(-values, window, axis)
    return values


def box_mean(values: Floats, window: int) -> Floats:
    """The mean of the ``window`` x ``window`` pixels around each, with the edges repeated."""
    before = window // 2
    sums = np.pad(values, (before + 1, window - before - 1), "edge").cumsum(0).cumsum(1)
    size, other = values.shape
    total = sums[window:, window:] - sums[:-window, window:]
    total -= sums[window:, :-window] - sums[:-window, :-window]
    mean: Floats = total[:size, :other] / window**2
    return mean


def resampling(n: int, m: int) -> Floats:
    """Weights (m, n) that make m samples of n: a triangle as wide as the coarser of both grids,
    which interpolates linearly when enlarging and averages when reducing."""
    step = n / m
    centres = (np.arange(m) + 0.5) * step - 0.5
    distance = np.abs(centres[:, None] - np.arange(n))
    weights = np.clip(1 - distance / max(step, 1.0), 0, None)
    weighted: Floats = weights / weights.sum(1, keepdims=True)
    return weighted


def run_lengths(mask: NDArray[Any]) -> NDArray[np.intp]:
    """Of each pixel in the mask, how long the column of such pixels is in which it lies."""
    height, width = mask.shape
    padded = np.zeros((width, height + 2), np.int8)
    padded[:, 1:-1] = mask.T
    steps = np.diff(padded, axis=1).ravel()
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    marks = np.zeros(width * (height + 1), np.intp)
    marks[starts] = ends - starts
    marks[ends] -= ends - starts
    return marks.cumsum().reshape(width, height + 1)[:, :-1].T


def flat_paper(grey: Floats) -> float | None:
    """The brightness of the border, if it is the same everywhere, and nothing in the picture is
    both brighter and darker: drawings, and digits that were prepared already."""
    paper = float(grey[0, 0])
    if any((side != paper).any() for side in _border(grey)):
        return None
    return paper if paper in (float(grey.min()), float(grey.max())) else None


def structure_of(grey: Floats, window: int, every: int) -> tuple[float, float]:
    """How far the picture is from smooth light on empty paper, and which noise that is averaged in.

    Smooth light is a polynomial of second degree. Noise is what neighbouring pixels differ by,
    mostly; it is 0 in a picture too small to tell.
    """
    rows, columns = (polynomials(n) for n in grey.shape)
    light = rows @ grey @ columns.T
    light[1, 2] = light[2, 1] = light[2, 2] = 0
    away = box_mean(grey - rows.T @ light @ columns, window)
    edge = window // 2  # beyond it, pixels would count several times
    away = away[edge:-edge, edge:-edge]
    steps = np.diff(grey[:, ::every], axis=0), np.diff(grey[::every], axis=1)
    return float(np.abs(away).max()), max(_typical(np.abs(step)) for step in steps)


def _typical(sizes: Floats) -> float:
    """The mean of the lower four fifths."""
    count = int(0.8 * sizes.size)
    return float(np.partition(sizes.ravel(), count)[:count].mean())


@lru_cache(maxsize=512)
def polynomials(count: int) -> Floats:
    """Three orthonormal ones, of degrees 0 to 2, at evenly spaced places."""
    places = np.linspace(-1, 1, count)
    return np.linalg.qr(np.stack([np.ones(count), places, places**2], axis=1))[0].T


def skew(grey: Floats, windows: tuple[int, ...]) -> float:
    away = [grey - box_mean(grey, window) for window in windows]
    cubes = np.stack([values * values * values for values in away])
    return float(cubes.sum() / max(np.abs(cubes).sum(), 1e-30))


def border_vote(grey: Floats, middle: float) -> float:
    return float(np.sign(np.concatenate(_border(grey)) - middle).mean())


def opposites(grey: Floats, low: float, high: float) -> list[Floats]:
    found = []
    for axis in (0, 1):
        values = (np.moveaxis(grey, axis, 0) - low) / (high - low)
        opposite = np.abs(values[:-1] + values[1:] - 1) < 0.35
        opposite &= np.abs(np.diff(values, axis=0)) > 0.1
        found.append(opposite.mean(1))
    return found


def paper_of_dark_ink(grey: Floats, window: int) -> Floats:
    """The brightness of the paper at each pixel, without the strokes on it.

    A morphological closing: what is dark and narrower than ``window`` pixels is filled with what is
    around it, while edges of shadows stay where they are. Beyond its border the picture goes on
    as the border does, without the strokes that touch it.
    """
    height, width = grey.shape
    around = _paper_of_border(grey)
    top, right, bottom, left = np.split(around, np.cumsum([width, height, width]))
    edged = grey.copy()
    edged[:, 0], edged[:, -1] = left[::-1], right
    edged[0], edged[-1] = top, bottom[::-1]
    pad = window - 1
    padded = np.pad(edged, pad, "edge")
    padded[pad : pad + height, pad : pad + width] = grey
    return closing(padded, window)


def _paper_of_border(grey: Floats) -> Floats:
    """The border's pixels, clockwise, without what touches it."""
    sides = _border(grey)
    ring = np.concatenate(sides)
    count = len(ring)
    window = max(3, round(0.4 * count))
    first = count - (window - 1)
    filled = closing(np.tile(ring, 3), window)[first : first + count]
    filled = np.maximum(filled, ring)
    touched = filled - ring > 0.25 * (grey.max() - grey.min())
    filled = np.where(touched, filled, ring)  # light that falls off to one side stays as it is
    corners = np.cumsum([0, *map(len, sides)])
    if not touched.any() or all(touched[a:b].any() for a, b in itertools.pairwise(corners)):
        return filled  # nothing touches it, or a digit all around
    # From a place that nothing touches, if there is one.
    start = int(np.argmin(touched))
    turned = np.roll(touched, -start)
    steps = np.diff(np.concatenate([[0], turned.astype(np.int8), [0]]))
    for begin, end in zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True):
        goes_around = any(begin < (c - start) % count < end for c in corners[:-1])
        if goes_around and end - begin > 0.1 * count:
            at = np.arange(begin + start, end + start) % count
            filled[at] = ring[at]
    return filled


def _border(grey: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The outermost pixels, clockwise from the upper left corner."""
    return grey[0], grey[:, -1], grey[-1, ::-1], grey[::-1, 0]


def squares(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Which squares of so many pixels a side lie in the mask, by their first corners."""
    if side > min(mask.shape):
        return np.zeros((0, 0), bool)
    return ~sliding_max(sliding_max(~mask, side, 0), side, 1)


def stroke_width(ink: Floats, threshold: float = INK) -> float:
    """In pixels: the median of the shorter of the runs of ink, level and upright, through each."""
    mask = ink > threshold
    shorter = np.minimum(run_lengths(mask), run_lengths(mask.T).T)[mask]
    return float(np.median(shorter)) if len(shorter) else 0.0


def stretched(away: Floats) -> tuple[Floats, float, float, float]:
    """The ink of differences from the paper, the noise of these, their range, and the other's."""
    low, quarter = quantile(away, 0.1), quantile(away, 0.25)
    # Paper is at least half of the picture: the lower half of the noise's bell curve is all its.
    noise = (quarter - low) / 0.607
    paper = quarter + 0.674 * noise
    top = float(away.max())
    much = away[away > paper + (top - paper) / 2]
    top = quantile(much, 0.75) if len(much) else top
    if top <= paper:
        return np.zeros_like(away), noise, 0.0, 0.0
    start = paper + min(3 * noise, (top - paper) / 2)
    other = other_range(away, paper) if top - paper < 0.25 else 0.0
    return np.clip((away - start) / (top - start), 0, 1), noise, top - paper, other


def other_range(away: Floats, paper: float) -> float:
    """How far most of what is below the paper is from it, of where nothing is far above."""
    least = float(away.min())
    much = away[away < paper - (paper - least) / 2]
    if least >= paper:
        return 0.0
    return paper - (quantile(much, 0.25) if len(much) else least)


def kept_marks(boxes: NDArray[Any], ink: Floats, height: int, width: int) -> NDArray[np.bool_]:
    """Which marks belong to a digit."""
    top, bottom, left, right = boxes.T
    at_border = (top == 0) | (left == 0) | (bottom == height) | (right == width)
    middle = np.hypot((top + bottom) / height - 1, (left + right) / width - 1)
    main = int(np.argmax(ink * (1.5 - middle) * np.where(at_border, 0.5, 1)))
    kept: NDArray[np.bool_] = ink >= SPECK * ink[main]
    if not at_border[main]:
        # What the border cuts off is not this digit's, unless it reaches into its box.
        inside = (bottom > top[main]) & (top < bottom[main])
        inside &= (right > left[main]) & (left < right[main])
        kept &= ~at_border | inside
    return kept


def level_lines(mask: NDArray[np.bool_], kind: dict[str, Any]) -> list[Any]:
    """As fd_image_level_lines of csrc/image/image.h says."""
    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    runs = run_lengths(mask)
    thin = runs[ys, xs] <= kind["thickest"]
    ys, xs = ys[thin], xs[thin]
    steps = max(1, round(kind["slope"] * width / 2))
    slopes = np.arange(-steps, steps + 1) * 2 / width
    margin = int(kind["slope"] * width) + 2
    lines: list[Any] = []
    for _ in range(kind["tries"]):
        if len(lines) == kind["most"] or len(ys) < kind["fewest"] * width:
            break
        # Hough: the best of all slopes and heights.
        drops = np.rint(slopes[:, None] * (xs - width / 2)).astype(np.intp)
        places = ys - drops + margin
        size = height + 2 * margin
        places += np.arange(len(slopes))[:, None] * size
        counts = np.bincount(places.ravel(), minlength=size * len(slopes))
        # The more level of equals.
        best = int(np.argmax(counts.reshape(-1, size).max(1) - kind["level"] * np.abs(slopes)))
        row = int(counts[best * size : (best + 1) * size].argmax()) - margin
        if counts[best * size + row + margin] < kind["votes"] * width:
            break
        centre = row + np.rint(slopes[best] * (np.arange(width) - width / 2)).astype(np.intp)
        line = _followed(mask, runs, centre, kind)
        if line is not None:
            lines.append(line)
        reach = 2 if line is None else kind["beyond"] + line[2]
        away = np.abs(ys - centre[xs]) > reach
        if away.all():
            break
        ys, xs = ys[away], xs[away]
    return lines


def _followed(
    mask: NDArray[np.bool_],
    runs: NDArray[np.intp],
    centre: NDArray[np.intp],
    kind: dict[str, Any],
) -> Any:
    """The line along those rows, one a column."""
    height, width = mask.shape
    columns = np.arange(width)
    lengths, rows = np.zeros(width, np.intp), centre.copy()
    for offset in sorted(range(-kind["aside"], kind["aside"] + 1), key=lambda k: (abs(k), -k)):
        at = centre + offset
        free = (lengths == 0) & (at >= 0) & (at < height)
        at = at.clip(0, height - 1)
        found = free & mask[at, columns]
        lengths[found] = runs[at, columns][found]
        rows[found] = at[found]
    covered = lengths > 0
    if not covered.any():
        return None
    start, end = _longest(covered, kind["gap"])
    if end - start < kind["length"] * width or covered[start:end].mean() < kind["covered"]:
        return None
    inside = lengths[start:end][covered[start:end]]
    thickness = float(np.quantile(inside, kind["quantile"]))
    if thickness > kind["thickest"]:
        return None
    # A longer run is a stroke that crosses the line, or ends at it.
    alone = covered & (lengths <= 1.5 * thickness + 1)
    if alone[start:end].mean() < kind["alone"]:
        return None
    # In a small picture any stroke looks straight: only a line goes through all of it.
    ends = kind["ends"]
    through = start < ends and end > width - ends and alone.mean() > kind["all"]
    if ends and not through:
        return None
    padded = np.zeros((height + 2, width), bool)
    padded[1:-1] = mask
    top = rows.copy()
    for _ in range(int(2 * thickness) + 2):
        top = np.where(alone & padded[top.clip(0, height - 1), columns], top - 1, top)
    top = np.maximum(top, 0)
    bottom = np.where(alone, np.minimum(top + lengths + 1, height), top)
    # Where a soft edge was below the threshold.
    top = np.where(alone, np.maximum(top - 1, 0), top)
    return start, end, thickness, top, bottom


def _longest(covered: NDArray[np.bool_], gap: int) -> tuple[int, int]:
    """The longest stretch that has no gap longer than that."""
    at = np.flatnonzero(covered)
    breaks = np.flatnonzero(np.diff(at) > gap + 1)
    starts, ends = np.append(at[0], at[breaks + 1]), np.append(at[breaks], at[-1]) + 1
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest])


def mean_width(small: Floats) -> float:
    """In pixels: twice the ink over the length of its outline.

    The outline's length is the sum of the gradient, which holds for soft edges too.
    """
    padded = np.pad(small, 1)
    across, down = np.diff(padded, axis=1)[:-1], np.diff(padded, axis=0)[:, :-1]
    return 2 * float(small.sum()) / max(float(np.hypot(across, down).sum()), 1e-12)


def fitted(digit: Floats, side: int) -> Floats:
    height, width = digit.shape
    scale = side / max(height, width)
    rows, columns = (max(1, round(n * scale)) for n in (height, width))
    small = resampling(height, rows) @ digit @ resampling(width, columns).T
    fitted: Floats = small / small.max()
    return fitted


def placed(small: Floats, side: int) -> NDArray[np.uint8]:
    total = small.sum()
    out = np.zeros((side, side), np.uint8)
    starts = []
    for axis, n in ((1, small.shape[0]), (0, small.shape[1])):
        centre = float(small.sum(axis) @ np.arange(n)) / total
        starts.append(min(max(round(side / 2 - centre), 0), side - n))
    top, left = starts
    values = np.rint(255 * np.clip(small / small.max(), 0, 1))
    out[top : top + small.shape[0], left : left + small.shape[1]] = values
    return out


def kept_ink(ink: Floats, labels: NDArray[Any], cell: int, kept: NDArray[np.bool_]) -> Floats:
    mask = np.pad(np.append(kept, False)[labels], 1)
    mask = mask[:-2] | mask[1:-1] | mask[2:]
    mask = mask[:, :-2] | mask[:, 1:-1] | mask[:, 2:]
    mask &= ~np.append(~kept, False)[labels]
    height, width = ink.shape
    return np.where(mask.repeat(cell, 0).repeat(cell, 1)[:height, :width], ink, 0)
