"""What frames a page and is no writing: the scanner's lid, the table, lines from edge to edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats
    from fastdigit.images.components import Marks

__all__ = ["without_borders", "without_marks"]

# Of a side of the page, that a mark spans; and how much longer it is than all others, for in a
# picture that is cut close to its digits each of them may go from edge to edge.
SPANNED: Final = 0.9
LONGER: Final = 1.6
# Of its length: how wide it is at most, unless it goes along an edge, by so much of its length.
THIN: Final = 0.15
ALONG: Final = 0.8
# Of the page's outline: what goes along so much of it lies around the page.
OUTLINE: Final = 0.4


def without_borders(ink: Floats, marks: Marks) -> Floats:
    """Take out marks that lie around a page, or go from one edge to the other beside its writing.

    Parameters
    ----------
    ink
        (height, width), 0 to 1.
    marks
        Of ``ink``, in cells of one pixel.

    Returns
    -------
    ndarray
        ``ink`` itself if there is nothing to take out.
    """
    if len(marks.boxes) < 2 or not _may_frame(marks, *ink.shape):
        return ink
    labels, count = marks.labels, len(marks.boxes)
    edges = [labels[:, 0], labels[:, -1], labels[0], labels[-1]]
    along = [np.bincount(edge[edge >= 0], minlength=count) for edge in edges]
    out = np.sum(along, axis=0) >= OUTLINE * sum(map(len, edges))
    sizes = marks.boxes[:, 1::2] - marks.boxes[:, ::2]
    for axis, side in enumerate(ink.shape):
        lengths, widths = sizes[:, axis], sizes[:, 1 - axis]
        long = (lengths >= SPANNED * side) & ~out
        others = lengths[~long & ~out]
        if not long.any() or not len(others) or others.max() * LONGER > lengths[long].min():
            continue
        beside = np.maximum(*along[2 * axis : 2 * axis + 2]) >= ALONG * lengths
        out |= long & ((widths <= THIN * lengths) | beside)
    if not out.any() or out.all():
        return ink
    return without_marks(ink, marks, out)


def without_marks(ink: Floats, marks: Marks, out: NDArray[np.bool_]) -> Floats:
    """The ink without some of its marks, and without their soft edges."""
    return np.where(_wider(out[marks.labels] & (marks.labels >= 0)), 0.0, ink)


def _may_frame(marks: Marks, height: int, width: int) -> bool:
    """Whether a mark's box is long enough, or goes along enough edges: few do, and all that is to
    be known of the others."""
    outline = OUTLINE * 2 * (height + width)
    for top, bottom, left, right in marks.boxes.tolist():
        high, wide = bottom - top, right - left
        if high >= SPANNED * height or wide >= SPANNED * width:
            return True
        edges = (top == 0) + (bottom == height), (left == 0) + (right == width)
        if edges[0] * wide + edges[1] * high >= outline:
            return True
    return False


def _wider(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With its soft edges: a pixel more on each side."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    return wide
