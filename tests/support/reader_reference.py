"""What :mod:`fastdigit.reader` has from csrc/image once more, in NumPy: written for reading."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from tests.support import image_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastdigit.reader.candidates import Candidate

    Floats = NDArray[np.float64]
    Way = tuple[float, str, tuple[int, ...]]


def page_ink(grey: Floats, dark: bool, block: int) -> tuple[Floats, float, float]:
    """The ink, its contrast, and the paper's noise."""
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
        return np.zeros_like(grey), 0.0, noise
    start = middle + min(3 * noise, (top - middle) / 2)
    return np.clip((away - start) / (top - start), 0, 1), top - middle, noise


def _between(pixels: int, blocks: int, block: int) -> Floats:
    """Weights (pixels, blocks) of linear interpolation between the middles of blocks."""
    at = ((np.arange(pixels) + 0.5) / block - 0.5).clip(0, blocks - 1)
    low = np.floor(at).astype(np.intp)
    weights = np.zeros((pixels, blocks))
    weights[np.arange(pixels), low] = 1 - (at - low)
    weights[np.arange(pixels), np.minimum(low + 1, blocks - 1)] += at - low
    return weights


def search(
    candidates: Sequence[Candidate],
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
