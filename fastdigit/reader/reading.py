"""Every digit of a field, a line or a page."""

from __future__ import annotations

import copy
import numbers
import operator
import os
import re
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from fastdigit.errors import InputError
from fastdigit.images.ink import checked, grey_of, reduced
from fastdigit.images.pages import page_of
from fastdigit.images.reading import check_no_page, whole_number
from fastdigit.reader.checks import check_of
from fastdigit.reader.judge import judged
from fastdigit.reader.layout import BESIDE, BESIDE_ON_ROLLERS
from fastdigit.reader.paper import ink_of_page
from fastdigit.reader.proposals import propose
from fastdigit.reader.single import single
from fastdigit.reader.ways import ways_of
from fastdigit.reader.windows import window_of
from fastdigit.threads import resolve_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.reader.proposals import Proposals
    from fastdigit.reader.ways import Ways
    from fastdigit.threads import Threads

__all__ = ["Digit", "Field", "Reading", "read", "read_many"]

# A page is averaged down until neither side is longer.
PAGE_SIDE: Final = 2048
# Of a page that was averaged down, fields of lower digits are read as they were given: in
# pixels after it. And how much around them, in heights of a digit.
SMALL_DIGIT: Final = 18
AROUND: Final = 0.6
# Images that networks look at, before what is left of a page is left out: some seconds. What else
# is done for a field takes as much time as so many of them; if it is read uncut, as much again, and
# an image for so many of its steps.
MOST_LOOKS: Final = 60_000
STEPS_A_LOOK: Final = 2
LOOKS_A_FIELD: Final = 20
# And the search for a text that fits, for each piece and each length up to the one that is wanted.
LOOKS_A_PIECE: Final = 2
# Of a window's height: how high digits in it are; in bold strokes, there are smaller spots.
LEAST_OF_WINDOW: Final = 0.25
# Pixels a side of a picture that is no tight crop of one digit, or whose noise can be told.
LARGE: Final = 100
# Texts of a field that are told.
MOST_TOLD: Final = 8

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Digit:
    """One digit of a field.

    Attributes
    ----------
    label
        0 to 9.
    probability
        That there is a digit here, and it is this one: of all ways to read the field, those that
        have it here. So it is at least the field's.
    box
        (top, bottom, left, right), in pixels of the image; bottom and right are exclusive.
    alternatives
        Other labels and their probabilities, the most probable first; those that some way to read
        the field has.
    """

    label: int
    probability: float
    box: Box
    alternatives: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Field:
    """Digits that stand together in one line.

    Attributes
    ----------
    text
        Their labels.
    probability
        That all of it is right: its share among all ways to read these strokes, in which what is
        read as no digit has to be explained as well. No product of those of the digits, for what
        is wrong with one may be wrong with the next.
    box
        (top, bottom, left, right), in pixels of the image.
    digits
        From left to right.
    alternatives
        Other texts and their probabilities, the most probable first.
    """

    text: str
    probability: float
    box: Box
    digits: tuple[Digit, ...]
    alternatives: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Reading:
    """What :func:`read` found.

    Attributes
    ----------
    lines
        From top to bottom, of each its fields from left to right.
    left_out
        Boxes of what was not looked at, from top to bottom: of a page with very much that may be
        digits, such as hatching or print of several thousand letters, the longest fields. Each can
        be read by itself, as ``region``.
    """

    lines: tuple[tuple[Field, ...], ...]
    left_out: tuple[Box, ...] = ()

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields, in reading order."""
        return tuple(field for line in self.lines for field in line)

    @property
    def text(self) -> str:
        """All digits: fields separated by spaces, lines by newlines."""
        return "\n".join(" ".join(field.text for field in line) for line in self.lines)


def read(
    image: NDArray[Any] | bytes | str | os.PathLike[str],
    *,
    length: int | None = None,
    pattern: str | re.Pattern[str] | None = None,
    check: Literal["luhn", "mod11"] | Callable[[str], bool] | None = None,
    region: Box | None = None,
    reject_below: float | None = None,
    page: int | None = None,
) -> Reading:
    r"""Read all digits of a picture: a field, a line, or a page of fields.

    Parameters
    ----------
    image
        Pixels as an array, as for :func:`fastdigit.normalize`; or an image or PDF file: its bytes,
        or its path.
    length
        How many digits each field has.
    pattern
        A regular expression that each whole field matches, such as ``r"\d{5}"``.
    check
        What each field has to pass: "luhn" (ISO/IEC 7812-1) or "mod11" (weights 2 to 7 from the
        right, the last digit is the check digit), or a function of the text.
    region
        (top, bottom, left, right): the part of the image to look at, in pixels.
    reject_below
        Fields whose probability is less are left out, words most of all. None: none are.
    page
        Of a TIFF or PDF file, or an animation (GIF, WebP, AVIF), from 1. None: the file has one; of
        several, none is chosen in silence. :func:`fastdigit.images.pages` has all.

    Returns
    -------
    Reading
        Its ``text``; its lines, fields and digits, each with a box and a probability. Boxes are
        in pixels of the whole image. Without any digit, ``text`` is empty. What of a very full page
        is not looked at, its ``left_out`` tells. Of a field without a
        reading that fits ``length``, ``pattern`` and ``check``, there is none; so if no text fits
        all three, nothing is read.

    Raises
    ------
    InputError
        The array has another shape, dtype or range; the file is not a picture, or has several
        pages and none is chosen; the region is not inside; or an option means nothing.
    MissingExtraError
        A file is to be read and Pillow, or for PDF files pypdfium2, is not installed.
    OSError
        The file cannot be read.

    Notes
    -----
    Lines of forms are taken out, marks are cut wherever a digit might end, a network says of each
    run of pieces whether it is a digit and which, and the search finds the most probable way
    through them (over-segmentation, as in LeCun et al., "Gradient-Based Learning Applied to
    Document Recognition", 1998, section IV). Where that is in doubt, as where digits touch, another
    network reads the field uncut, and the probabilities of both decide. What is no digit, such as
    letters and dashes, is left out, as far as the networks know it for what it is. The result
    depends on nothing but the image and the options.
    """
    wanted = _Wanted(length, pattern, check, reject_below)
    check_no_page(image, page)
    pixels = checked(image if isinstance(image, np.ndarray) else page_of(image, page))
    top, bottom, left, right = _inside(region, *pixels.shape[:2])
    return _Reader(pixels[top:bottom, left:right], (top, left), wanted).reading()


def read_many(
    images: Iterable[NDArray[Any] | bytes | str | os.PathLike[str]],
    *,
    threads: Threads | None = None,
    **options: Any,
) -> list[Reading]:
    """Read many pictures.

    Parameters
    ----------
    images
        As for :func:`read`; they are taken one by one, so they may come from a generator, such as
        ``(page.pixels for page in fastdigit.images.pages("scan.pdf"))``.
    threads
        How many are read at the same time: 1 to 256, or "auto" for as many CPUs as this process may
        have. None: ``FASTDIGIT_NUM_THREADS``, or 1. Readings do not depend on it.
    **options
        Those of :func:`read`, the same for all.

    Returns
    -------
    list of Reading
        In the order of the images.

    Raises
    ------
    InputError
        As :func:`read` does; of the first image, in their order, that cannot be read. Or this is
        one image, and not many.
    """
    one_file = isinstance(images, str | bytes | bytearray | os.PathLike)
    # The last axis of a batch of grey images is their width, and no picture of digits is so narrow.
    one_array = isinstance(images, np.ndarray) and (
        images.ndim < 3 or (images.ndim == 3 and images.shape[2] <= 4)
    )
    if one_file or one_array:
        raise InputError("this is one image: read_many takes a list of them, fastdigit.read one")
    if not isinstance(images, Iterable):
        raise InputError(f"the images are {type(images).__name__}, expected a list of them")
    count = resolve_threads(threads)

    def one(image: NDArray[Any] | bytes | str | os.PathLike[str]) -> Reading:
        return read(image, **options)

    if count == 1:
        return [one(image) for image in images]
    readings: list[Reading] = []
    with ThreadPoolExecutor(count) as pool:
        waiting: deque[Future[Reading]] = deque()
        for image in images:
            waiting.append(pool.submit(one, image))
            if len(waiting) > 2 * count:  # no more images are held than that
                readings.append(waiting.popleft().result())
        readings += [job.result() for job in waiting]
    return readings


def _inside(region: Box | None, height: int, width: int) -> Box:
    """The region of an image, or the whole image."""
    if region is None:
        return 0, height, 0, width
    try:
        top, bottom, left, right = (operator.index(edge) for edge in region)
    except (TypeError, ValueError):
        raise InputError(
            f"region={region!r}, expected four integers: (top, bottom, left, right)"
        ) from None
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise InputError(
            f"the region {(top, bottom, left, right)} is not inside an image of {height} x {width} "
            "pixels; it is (top, bottom, left, right)"
        )
    return top, bottom, left, right


def _is_centred(box: Box, other: Box) -> bool:
    """Whether the middle of a box lies in the other."""
    return (
        2 * other[0] <= box[0] + box[1] < 2 * other[1]
        and 2 * other[2] <= box[2] + box[3] < 2 * other[3]
    )


def _area(box: Box) -> int:
    top, bottom, left, right = box
    return (bottom - top) * (right - left)


class _Wanted:
    """What a field has to be."""

    def __init__(
        self,
        length: int | None,
        pattern: str | re.Pattern[str] | None,
        check: Literal["luhn", "mod11"] | Callable[[str], bool] | None,
        reject_below: float | None,
    ) -> None:
        self.length = None if length is None else whole_number("length", length, "number of digits")
        try:
            self.pattern = None if pattern is None else re.compile(pattern)
            if self.pattern is not None and not isinstance(self.pattern.pattern, str):
                raise TypeError("it is for bytes")
        except (re.error, TypeError, RecursionError, OverflowError) as error:
            raise InputError(f"pattern={pattern!r} is no regular expression: {error}") from None
        if self.pattern is not None and not self.pattern.pattern:
            raise InputError("the pattern is empty, which no field matches: leave it out")
        if reject_below is not None and (
            isinstance(reject_below, bool)
            or not isinstance(reject_below, numbers.Real)
            or not 0 <= reject_below <= 1  # `not` also finds NaN
        ):
            raise InputError(f"reject_below={reject_below!r}, expected a number in 0..1")
        self.check = check_of(check)
        self.least = reject_below or 0.0

    @property
    def anything(self) -> bool:
        return self.length is None and self.pattern is None and self.check is None

    def fits(self, text: str) -> bool:
        return (
            (self.length is None or len(text) == self.length)
            and (self.pattern is None or self.pattern.fullmatch(text) is not None)
            and (self.check is None or self.check(text))
        )


class _Reader:
    """One reading of one image."""

    def __init__(
        self, pixels: NDArray[Any], at: tuple[int, int], wanted: _Wanted, side: int = PAGE_SIDE
    ) -> None:
        self.at = at
        self.pixels = pixels
        self.shape = pixels.shape[:2]
        self.wanted = wanted
        self.looks = 0
        self.ringed = False
        self.block = -(-max(self.shape) // side)
        self.grey = grey_of(reduced(pixels, side))

    def reading(self) -> Reading:
        reading = self._lines()
        if reading.left_out or sum(len(field.digits) for field in reading.fields) > 1:
            return reading
        if self.ringed and reading.fields:  # alone, the ring would be taken for a digit
            return reading
        if not reading.fields and self._is_blank():
            return reading
        return self._in_windows() or self._alone(reading)

    def _is_blank(self) -> bool:
        """Whether there is a fold alone, which looks like a one, or noise of empty paper."""
        page = ink_of_page(self.grey)
        return page.fold or (page.is_noise and min(self.grey.shape) >= LARGE)

    def _in_windows(self) -> Reading | None:
        """Of bright digits in dark windows, as a meter has them; None without two in a line."""
        found = window_of(self.grey)
        if found is None:
            return None
        part, (top, bottom, left, right) = found
        inside = copy.copy(self)
        inside.grey = part
        rows = slice(top * self.block, bottom * self.block)
        inside.pixels = self.pixels[rows, left * self.block : right * self.block]
        inside.shape = inside.pixels.shape[:2]
        inside.at = self.at[0] + top * self.block, self.at[1] + left * self.block
        reading = inside._lines(BESIDE_ON_ROLLERS)
        least = LEAST_OF_WINDOW * inside.shape[0]
        for line in reading.lines:
            heights = [digit.box[1] - digit.box[0] for field in line for digit in field.digits]
            if len(heights) > 1 and min(heights) >= least:
                return reading
        return None

    def _alone(self, reading: Reading) -> Reading:
        """Of at most one digit: the picture may show no more, and be cut close to it."""
        proposals = single(self.pixels)
        if proposals is None:
            return reading
        self.block = 1
        field = self._field(proposals)
        if field is None or any(_area(field.box) < _area(other.box) for other in reading.fields):
            return reading
        return Reading(((field,),))

    def _lines(self, beside: float = BESIDE) -> Reading:
        proposed = propose(self.grey, beside)
        read: list[list[list[Field]]] = [[[] for _ in line] for line in proposed]
        places = [(row, place) for row, line in enumerate(proposed) for place in range(len(line))]
        # Short fields first: what is left out of a page of print is its print.
        places.sort(key=lambda at: len(proposed[at[0]][at[1]].pieces))
        left_out: list[Box] = []
        for row, place in places:
            proposals = proposed[row][place]
            self.ringed |= proposals.ringed
            if self.looks >= MOST_LOOKS:
                left_out.append(self._box(proposals.on_page(proposals.box)))
            elif (closer := self._closer(proposals)) is not None:
                reading = closer._lines()
                self.looks = closer.looks
                # What else is there stands in other fields of the page.
                box = self._box(proposals.on_page(proposals.box))
                read[row][place] = [one for one in reading.fields if _is_centred(one.box, box)]
            elif (field := self._field(proposals)) is not None:
                read[row][place] = [field]
        lines = [tuple(field for place in line for field in place) for line in read]
        return Reading(tuple(line for line in lines if line), tuple(sorted(left_out)))

    def _closer(self, proposals: Proposals) -> _Reader | None:
        """Of the pixels that were given, if they were averaged down until digits are small."""
        if self.block == 1 or proposals.height >= SMALL_DIGIT:
            return None
        box = self._box(proposals.on_page(proposals.box))
        around = round(AROUND * proposals.height * self.block)
        top, left = max(box[0] - self.at[0] - around, 0), max(box[2] - self.at[1] - around, 0)
        bottom, right = box[1] - self.at[0] + around, box[3] - self.at[1] + around
        part = self.pixels[top:bottom, left:right]
        if part.shape[0] * part.shape[1] > PAGE_SIDE**2:
            return None
        at = self.at[0] + top, self.at[1] + left
        closer = _Reader(part, at, self.wanted, max(part.shape))
        closer.looks = self.looks + LOOKS_A_FIELD
        return closer

    def _field(self, proposals: Proposals) -> Field | None:
        candidates, wanted = proposals.candidates, self.wanted
        if not len(candidates):
            return None
        ways = self._ways(proposals)
        if not wanted.anything and not any(wanted.fits(way.text) for way in ways.found):
            # What is wanted may be made of parts of what is a digit.
            ways = self._ways(proposals, every=True)
        fitting = [way for way in ways.found if way.text and wanted.fits(way.text)]
        # That there is no digit may be the most probable.
        if not fitting or (wanted.anything and not ways.found[0].text):
            return None
        way = fitting[0]
        if way.share < wanted.least:
            return None
        path = way.path
        if path is not None:
            found = [candidates.box(number) for number in path.chosen]
        else:
            found = ways.boxes(way.text)
        labels = ways.labels(way.text)
        digits = tuple(
            self._digit(proposals.on_page(box), own, int(label))
            for box, own, label in zip(found, labels.tolist(), way.text, strict=True)
        )
        tops, bottoms, lefts, rights = zip(*(digit.box for digit in digits), strict=True)
        box = min(tops), max(bottoms), min(lefts), max(rights)
        others = tuple((other.text, other.share) for other in fitting[1:MOST_TOLD])
        return Field(way.text, way.share, box, digits, others)

    def _ways(self, proposals: Proposals, *, every: bool = False) -> Ways:
        """How a field may be read; every: with all that might make what is wanted."""
        probabilities, looks = judged(proposals.candidates, proposals.height, every=every)
        fits, length = (self.wanted.fits, self.wanted.length) if every else (None, None)
        ways = ways_of(proposals, probabilities, fits, length)
        self.looks += LOOKS_A_FIELD + looks
        if every:
            self.looks += LOOKS_A_PIECE * len(proposals.pieces) * (length or 1)
        if ways.steps is not None:
            self.looks += LOOKS_A_FIELD + len(ways.steps) // STEPS_A_LOOK
        return ways

    def _box(self, found: Box) -> Box:
        """In pixels of the image."""
        top, bottom, left, right = found
        return (
            self.at[0] + top * self.block,
            self.at[0] + min(bottom * self.block, self.shape[0]),
            self.at[1] + left * self.block,
            self.at[1] + min(right * self.block, self.shape[1]),
        )

    def _digit(self, found: Box, own: list[float], label: int) -> Digit:
        others = [(n, chance) for n, chance in enumerate(own) if n != label and chance > 0]
        others.sort(key=lambda other: -other[1])
        return Digit(label, own[label], self._box(found), tuple(others[:3]))
