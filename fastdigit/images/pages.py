"""Files of several pages, such as TIFF and PDF: :func:`pages`, :func:`page_of`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastdigit.errors import InputError, MissingExtraError, pip_install
from fastdigit.images.reading import (
    FORMATS,
    MAX_PIXELS,
    bytes_of,
    check_page,
    check_size,
    errors_of_pillow,
    frames_of,
    open_picture,
    pixels_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PDF_DPI", "PDF_SIDE", "Page", "Pages", "open_pages", "page_of", "pages"]

#: Pixels of the longer side of a PDF's page (of A4: 175 an inch), and the most an inch gets.
PDF_SIDE: Final = 2048
PDF_DPI: Final = 300

#: What a PDF file begins with, somewhere in its first kilobyte.
PDF_MARK: Final = b"%PDF-"
PDF_HEAD: Final = 1024
POINTS: Final = 72  # an inch

# PDFium may be called by one thread at a time.
_pdfium: Final = threading.Lock()


@dataclass(frozen=True)
class Page:
    """A page of a file.

    Attributes
    ----------
    number
        From 1.
    count
        Pages of the file.
    pixels
        uint8, as :func:`fastdigit.images.decode` returns them.
    """

    number: int
    count: int
    pixels: NDArray[np.uint8]


def pages(
    source: bytes | str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS
) -> Iterator[Page]:
    """Read an image file or a PDF file, page by page.

    Parameters
    ----------
    source
        The bytes of a file, or its path. TIFF and PDF files have pages; so have animations (GIF,
        WebP, AVIF). Of several pictures in another file, its main one is read.
    max_pixels
        Width times height of a page that is accepted.

    Yields
    ------
    Page
        Each in its whole size. A page of a PDF file is drawn with PDF_SIDE pixels along its longer
        side, or with PDF_DPI pixels an inch if that is less.

    Raises
    ------
    InputError
        It is no such file, is damaged, has a password, or a page has too many pixels: pages before
        that one are there, and :func:`open_pages` has those behind it.
    MissingExtraError
        Pillow or, for a PDF file, pypdfium2 is not installed.
    OSError
        The file cannot be read.
    """
    with closing(open_pages(source, max_pixels=max_pixels)) as opened:
        for number in range(1, opened.count + 1):
            yield Page(number, opened.count, opened.pixels(number))


def page_of(source: bytes | str | os.PathLike[str], number: int | None = None) -> NDArray[np.uint8]:
    """The pixels of one page of a file; without a number, of the only one.

    Raises
    ------
    InputError, MissingExtraError, OSError
        As of :func:`pages`; and there is no such page, or there are several and none is chosen.
    """
    with closing(open_pages(source)) as opened:
        return opened.pixels(check_page(number, opened.count))


def open_pages(source: bytes | str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Pages:
    """Open a file to take its pages one by one; one that is damaged does not hide the others.

    Parameters and errors are those of :func:`pages`.
    """
    data = bytes_of(source)
    if PDF_MARK in data[:PDF_HEAD]:
        return _PdfPages(data)
    return _PicturePages(data, max_pixels)


class Pages:
    """An open file.

    Attributes
    ----------
    count
        Of its pages, with those that are damaged, as far as they can be found.
    """

    count: int

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """Those of a page, from 1; InputError if it is damaged or has too many pixels."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file."""
        raise NotImplementedError


class _PicturePages(Pages):
    """Of an image file."""

    def __init__(self, data: bytes, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        with self._told():
            self._opened = open_picture(data, max_pixels, FORMATS)
            self.count, self._errors = frames_of(self._opened)

    def pixels(self, number: int) -> NDArray[np.uint8]:
        with self._told():
            place = number - 1
            if place in self._errors:
                raise self._errors[place]
            if self.count > 1:
                self._opened.seek(place)
                check_size(self._opened.size, self._max_pixels)
            return pixels_of(self._opened)

    def close(self) -> None:
        self._opened.close()

    def _told(self) -> AbstractContextManager[None]:
        return errors_of_pillow(FORMATS, self._max_pixels, ("PDF",))


class _PdfPages(Pages):
    def __init__(self, data: bytes) -> None:
        try:
            import pypdfium2 as pdfium
        except ImportError as error:
            raise MissingExtraError(
                f"reading PDF files needs pypdfium2: {pip_install('pdf')}"
            ) from error
        self._error = pdfium.PdfiumError
        self._document: Any = None
        try:
            with _pdfium:
                self._document = pdfium.PdfDocument(data)
                self._document.init_forms()  # what is filled in is drawn, too
                self.count = len(self._document)
        except pdfium.PdfiumError as error:
            self.close()
            raise InputError(f"the PDF file is damaged or has a password: {error}") from error

    def pixels(self, number: int) -> NDArray[np.uint8]:
        try:
            with _pdfium:
                return _drawn(self._document[number - 1])
        except self._error as error:
            raise InputError(f"this page of the PDF file is damaged: {error}") from error

    def close(self) -> None:
        if self._document is not None:
            with _pdfium:
                self._document.close()


def _drawn(page: Any) -> NDArray[np.uint8]:
    try:
        longer = max(page.get_size())
        if not 0 < longer < float("inf"):
            raise InputError(f"a page of the PDF file has a side of {longer} points")
        scale = min(PDF_SIDE / longer, PDF_DPI / POINTS)
        bitmap = page.render(scale=scale, rev_byteorder=True)  # RGB
        try:
            return np.array(bitmap.to_numpy()[..., :3])
        finally:
            bitmap.close()
    finally:
        page.close()
