"""The ways to read a field: what its cuts say, and what a network reads that does not cut it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fastdigit.reader.joined import boxes_of, likely_texts, log_probabilities, steps_of
from fastdigit.reader.judge import NOT_A_DIGIT
from fastdigit.reader.search import best_paths
from fastdigit.reader.strips import strip_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastdigit.images.arrays import Floats
    from fastdigit.reader.proposals import Proposals
    from fastdigit.reader.search import Path
    from fastdigit.reader.strips import Strip

__all__ = ["Way", "Ways", "ways_of"]

# Ways that the probability of a field is shared among; and that are looked at for a text that fits
# a pattern.
WAYS: Final = 8
MOST_WAYS: Final = 256
# Texts that are looked at uncut.
TEXTS: Final = 16
# Of the log-odds of cuts alone, so that probabilities of fields come true; fitted, as the weights
# below, by benchmarks/read_probabilities.py to fields of seeds 31 and 32.
TEMPERATURE: Final = 1.25
# Digits of cuts are sure if so probable together, and no mark was cut, and none is wider, in
# heights of a digit.
SURE: Final = 0.55
WIDEST_SURE: Final = 1.05
# Weights of the logarithms of both probabilities, of what is cut and what is not, fitted to fields
# of held-out writers: where marks are cut in the middle, that says less.
OF_WHOLE: Final = (0.7, 0.56)
OF_CUT: Final = (0.17, 0.92)


class Way(NamedTuple):
    """A text that a field may have.

    Attributes
    ----------
    share
        Its probability, among all that were found.
    text
        Its digits.
    path
        The pieces that they are; None if the cuts have no way for it.
    """

    share: float
    text: str
    path: Path | None


class Ways(NamedTuple):
    """How a field may be read.

    Attributes
    ----------
    found
        The most probable first.
    strip, steps
        The field as it was read without cutting, and what was seen in it; None if cuts are sure.
    cut
        Whether the most probable of its cuts is in the middle of a mark.
    """

    found: list[Way]
    strip: Strip | None
    steps: Floats | None
    cut: bool

    def boxes(self, text: str) -> list[tuple[int, int, int, int]]:
        """Where each digit of a text is that cuts have no way for."""
        if self.strip is None or self.steps is None:
            raise AssertionError("cuts have a way for each text that they found")
        return boxes_of(self.strip, self.steps, text)

    def labels(self, text: str) -> Floats:
        """(digits, 10): of each digit of a text, the probability of each label: of all ways that
        have it there.

        Of ways that are as long, at its place; of others, where they begin or end like the text.
        """
        # A list, for a few numbers of an array, one by one, take longer.
        own = [[0.0] * NOT_A_DIGIT for _ in text]
        every = list(range(len(text)))
        for way in self.found:
            other, places = way.text, every
            if len(other) != len(text):
                before = _alike(text, other)
                most = min(len(text), len(other)) - before
                behind = _alike(text[::-1], other[::-1])
                end = len(text) - min(behind, most)
                other, places = text, [*range(before), *range(end, len(text))]
            for place in places:
                own[place][int(other[place])] += way.share
        return np.minimum(own, 1).reshape(len(text), NOT_A_DIGIT)


def ways_of(
    proposals: Proposals,
    probabilities: Floats,
    fits: Callable[[str], bool] | None = None,
    length: int | None = None,
) -> Ways:
    """The ways to read a field.

    Parameters
    ----------
    proposals
        What might be its digits.
    probabilities
        (candidates, 11): of each digit, and of what is none.
    fits
        What is wanted of a text. More ways are looked at if none of the first is wanted.
    length
        How many digits a text that is wanted has; None: any number.

    Notes
    -----
    Where digits stand apart, cuts are right, and fast. Where a mark had to be cut or is as wide as
    two digits, or where cuts are not sure, a network reads the field as a whole as well. Both give
    each text a probability, and the product of their powers counts.
    """
    candidates, lengths = proposals.candidates, proposals.lengths
    paths = best_paths(candidates, probabilities, lengths, WAYS)
    cut = candidates.are_cut(paths[0].chosen)
    # That there is no digit at all is never sure: digits that overlap look like none of them.
    certain = bool(paths[0].text) and not cut and _sure(paths, proposals)
    sure = not proposals.pieces or certain
    strip = None if sure else strip_of(proposals.pieces, proposals.height)
    steps = None if strip is None else steps_of(strip)
    ways = _together(paths, steps, cut, TEXTS)
    if fits is not None and not any(fits(way.text) for way in ways):
        # The others count as well: what fits may not be what is written.
        paths += best_paths(candidates, probabilities, lengths, MOST_WAYS, length)
        paths = sorted({path.text: path for path in paths}.values(), reverse=True)
        ways = _together(paths, steps, cut, MOST_WAYS)
    return Ways(ways, strip, steps, cut)


def _sure(paths: list[Path], proposals: Proposals) -> bool:
    """Whether pieces that nothing was cut for are to be believed."""
    scores = np.array([path.score for path in paths]) / TEMPERATURE
    if 1 / np.exp(scores - scores[0]).sum() < SURE:
        return False
    widest = WIDEST_SURE * proposals.height
    boxes = map(proposals.candidates.box, paths[0].chosen)
    return all(right - left <= widest for _, _, left, right in boxes)


def _together(paths: list[Path], steps: Floats | None, cut: bool, most: int) -> list[Way]:
    scores = np.array([path.score for path in paths])
    of_text: dict[str, Path | None] = {path.text: path for path in paths}
    if steps is None:
        odds = scores / TEMPERATURE
    else:
        of_text.update((text, None) for text in likely_texts(steps, most) if text not in of_text)
        uncut = log_probabilities(steps, list(of_text))
        logs = scores - scores.max()
        logs -= np.log(np.exp(logs).sum())
        # Texts that the pieces have no way for are as good as the worst that they have.
        pieces = np.full(len(of_text), logs.min())
        pieces[: len(logs)] = logs
        of_pieces, of_uncut = OF_CUT if cut else OF_WHOLE
        odds = of_pieces * pieces + of_uncut * uncut
    shares = np.exp(odds - odds.max())
    shares /= shares.sum()
    ways = [
        Way(float(share), text, path)
        for share, (text, path) in zip(shares, of_text.items(), strict=True)
    ]
    return sorted(ways, key=lambda way: (-way.share, way.text))


def _alike(first: str, second: str) -> int:
    """Letters that both begin with."""
    count = 0
    while first[count : count + 1] == second[count : count + 1] != "":
        count += 1
    return count
