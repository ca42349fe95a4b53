"""What :mod:`fastdigit.reader` has from csrc/image once more, in NumPy: written for reading."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from fastdigit.reader.candidates import MOST_PIECES, SMALLEST, WIDEST, Candidate
from tests.support import image_reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from fastdigit.reader.cuts import Piece

    Floats = NDArray[np.float64]
    Way = tuple[float, str, tuple[int, ...]]


def page_ink(grey: Floats, dark: bool, block: int) -> tuple[Floats, float, float, float]:
    """The ink, its contrast, the paper's noise, and the contrast on the other side of it."""
    if not dark:
        grey = 1 - grey
    height, width = grey.shape
    padded = np.pad(grey, ((0, -height % block), (0, -width % block)), "reflect")
    rows, columns = padded.shape[0] // block, padded.shape[1] // block
    blocks = padded.reshape(rows, block, columns, block).swapaxes(1, 2).reshape(rows, columns, -1)
    rank = int(0.8 * block * block)
    coarse = np.sort(blocks, axis=2)[..., rank]
    coarse = image_reference.closing(np.pad(coarse, 4, "edge"), 5)
    coarse = image_reference.box_mean(coarse, 3)
    paper = _between(height, rows, block) @ coarse @ _between(width, columns, block).T

    away = (paper - grey) / (paper + 0.15)
    seen = away[::2, ::3].ravel()
    tenth, quarter = np.quantile(seen, 0.1), np.quantile(seen, 0.25)
    noise = float(quarter - tenth) / 0.607
    middle = float(quarter) + 0.674 * noise
    top = float(away.max())
    much = seen[seen > middle + (top - middle) / 2]
    top = float(np.quantile(much, 0.75)) if len(much) else top
    if top <= middle:
        return np.zeros_like(grey), 0.0, noise, 0.0
    start = middle + min(3 * noise, (top - middle) / 2)
    other = image_reference.other_range(seen, middle) if top - middle < 0.25 else 0.0
    return np.clip((away - start) / (top - start), 0, 1), top - middle, noise, other


def _between(pixels: int, blocks: int, block: int) -> Floats:
    """Weights (pixels, blocks) of linear interpolation between the middles of blocks."""
    at = ((np.arange(pixels) + 0.5) / block - 0.5).clip(0, blocks - 1)
    low = np.floor(at).astype(np.intp)
    weights = np.zeros((pixels, blocks))
    weights[np.arange(pixels), low] = 1 - (at - low)
    weights[np.arange(pixels), np.minimum(low + 1, blocks - 1)] += at - low
    return weights


def runs(ink: Floats, step: int, threshold: float) -> list[tuple[int, float, float]]:
    """Of each run in rows, then in columns, its length, how steep its steeper end is, and its
    middle; not of those from edge to edge."""
    found = []
    for line in [*ink[::step], *ink[:, ::step].T]:
        inked = np.concatenate([[False], line > threshold, [False]])
        starts = np.flatnonzero(inked[1:] & ~inked[:-1]).tolist()
        ends = np.flatnonzero(inked[:-1] & ~inked[1:]).tolist()
        for start, end in zip(starts, ends, strict=True):
            rises = []
            if start > 0:
                rises.append(line[min(start + 1, len(line) - 1)] - line[max(start - 2, 0)])
            if end < len(line):
                rises.append(line[max(end - 2, 0)] - line[min(end + 1, len(line) - 1)])
            if rises:
                found.append((end - start, max(rises), line[(start + end) // 2]))
    return found


def sharpness(down: Floats, across: Floats, slopes: Floats, low: float) -> list[int]:
    """Of each slope, the sum of the squares of how many pixels each row has."""
    found = []
    for slope in slopes:
        rows = (down - slope * across + low).astype(np.intp)
        found.append(int((np.bincount(rows) ** 2).sum()))
    return found


def cheapest_paths(ink: Floats, paper: float, sideways: float) -> tuple[Floats, NDArray[np.int8]]:
    """From the first row to each pixel, and the step back from it."""
    cost = ink + paper
    totals, steps = cost.copy(), np.zeros(cost.shape, np.int8)
    for row in range(1, len(cost)):
        around = np.pad(totals[row - 1], 1, constant_values=np.inf)
        choices = np.stack([around[1:-1], around[:-2] + sideways, around[2:] + sideways])
        best = choices.argmin(0)  # the first of equals
        totals[row] = choices.min(0) + cost[row]
        steps[row] = np.array([0, -1, 1])[best]
    return totals, steps


def cut(
    ink: Floats, kind: tuple[float, ...], threshold: float, least: float
) -> list[tuple[int, int, Floats]] | None:
    """Top, left and ink of each part that has so many pixels above the threshold."""
    paper, sideways, *shares, most, margin, apart, window, paths = kind
    down, steps_up = cheapest_paths(ink, paper, sideways)
    up, steps_down = (values[::-1] for values in cheapest_paths(ink[::-1], paper, sideways))
    high, wide = ink.shape
    places: list[tuple[float, int, int]] = []
    for share in shares:
        row = min(high - 1, int(share * high))
        total = down[row] + up[row] - (ink[row] + paper)
        last = -window
        for x in range(wide):
            least_around = total[max(0, x - int(window)) : x + int(window) + 1].min()
            inside = margin < x < wide - margin
            if inside and total[x] <= min(least_around, most) and x - last >= window:
                places.append((float(total[x]), row, x))
                last = x
    kept: list[NDArray[np.intp]] = []
    for _, row, column in sorted(places):
        path = np.empty(high, np.intp)
        for steps, rows in ((steps_up, range(row, -1, -1)), (steps_down, range(row, high))):
            x = column
            for y in rows:
                path[y] = x
                x += int(steps[y, x])
        if len(kept) < paths and all(np.abs(path - other).mean() > apart for other in kept):
            kept.append(path)
    if not kept:
        return None
    owners = sum((np.arange(wide) > path[:, None]).astype(np.intp) for path in kept)
    parts = []
    for number in range(len(kept) + 1):
        part = np.where(owners == number, ink, 0)
        ys, xs = np.nonzero(part > threshold)
        if len(ys) and len(ys) >= least:
            inner = part[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            parts.append((int(ys.min()), int(xs.min()), inner))
    return parts


def candidates_of(pieces: Sequence[Piece], height: float) -> list[Candidate]:
    """All runs of pieces that have the size of a digit; sorted by their ends."""
    found = []
    for end in range(1, len(pieces) + 1):
        for start in range(end - 1, max(-1, end - 1 - MOST_PIECES), -1):
            own = pieces[start:end]
            top, bottom = min(one.top for one in own), max(one.bottom for one in own)
            left, right = min(one.left for one in own), max(one.right for one in own)
            high, wide = bottom - top, right - left
            if len(own) > 1 and wide > WIDEST * height:
                break
            if high < SMALLEST * height and wide < SMALLEST * height:
                continue
            marks = {one.mark for one in own}
            before = any(one.mark in marks for one in pieces[:start])
            behind = any(one.mark in marks for one in pieces[end:])
            cut = before + behind
            is_mark = len(marks) == 1 and not cut
            box = top, bottom, left, right
            found.append(Candidate(start, end, box, own, cut, is_mark))
    return found


def search(
    candidates: Iterable[Candidate],
    gains: Floats,
    losses: Floats,
    alone: float,
    most: int,
    length: int | None,
) -> list[Way]:
    """The best ways through a field."""
    best: list[list[Way]] = [[(0.0, "", ())]]
    for end, loss in enumerate(losses.tolist(), 1):
        ways = [(score - loss, text, chosen) for score, text, chosen in best[-1]]
        for number, candidate in enumerate(candidates):
            if candidate.end != end:
                continue
            before = best[candidate.start]
            if not candidate.cut:
                ways += [(score - alone, text, chosen) for score, text, chosen in before]
            for label, gain in enumerate(gains[number].tolist()):
                if not np.isnan(gain):
                    ways += [
                        (score + gain, text + str(label), (*chosen, number))
                        for score, text, chosen in before
                        if length is None or len(text) < length
                    ]
        kept: dict[str, Way] = {}
        counts: Counter[int] = Counter()
        for way in sorted(ways, reverse=True):
            size = len(way[1]) if length is not None else 0
            if way[1] not in kept and counts[size] < most:
                kept[way[1]] = way
                counts[size] += 1
        best.append(list(kept.values()))
    return [way for way in best[-1] if length is None or len(way[1]) == length]


def likely_texts(steps: Floats, least: float, most: int) -> list[str]:
    """The most probable texts, by a beam of their beginnings."""
    beam = {"": (1.0, 0.0)}
    for row in steps.tolist():
        after: dict[str, list[float]] = {}
        for prefix, (blank, label) in beam.items():
            own = after.setdefault(prefix, [0.0, 0.0])
            own[0] += (blank + label) * row[0]
            own[1] += label * row[int(prefix[-1]) + 1] if prefix else 0
            for digit, chance in zip("0123456789", row[1:], strict=True):
                gain = (blank if digit == prefix[-1:] else blank + label) * chance
                if chance >= least and gain > 0:
                    after.setdefault(prefix + digit, [0.0, 0.0])[1] += gain
        ranked = sorted((-sum(ends), text, *ends) for text, ends in after.items())[:most]
        top = -ranked[0][0]
        beam = {text: (blank / top, label / top) for _, text, blank, label in ranked}
    return list(beam)
