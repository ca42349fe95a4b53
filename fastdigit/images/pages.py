"""Files of several pages, TIFF and PDF: :func:`pages`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastdigit.errors import InputError, MissingExtraError, pip_install
from fastdigit.images.reading import FORMATS, MAX_PIXELS, check_size, opened_file, pixels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PDF_DPI", "PDF_SIDE", "Page", "pages"]

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
        The bytes of a file, or its path. TIFF and PDF files have pages; of several pictures in
        another file, the first is read.
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
        It is no such file, is damaged, has a password, or a page has too many pixels.
    MissingExtraError
        Pillow or, for a PDF file, pypdfium2 is not installed.
    OSError
        The file cannot be read.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if PDF_MARK in data[:PDF_HEAD]:
        yield from _pages_of_pdf(data)
        return
    with opened_file(data, max_pixels, FORMATS) as opened:
        count = opened.n_frames if opened.format == "TIFF" else 1
        for number in range(1, count + 1):
            if number > 1:
                opened.seek(number - 1)
                check_size(opened.size, max_pixels)
            yield Page(number, count, pixels_of(opened))


def _pages_of_pdf(data: bytes) -> Iterator[Page]:
    try:
        import pypdfium2 as pdfium
    except ImportError as error:
        raise MissingExtraError(
            f"reading PDF files needs pypdfium2: {pip_install('pdf')}"
        ) from error
    document = None
    try:
        with _pdfium:
            document = pdfium.PdfDocument(data)
            document.init_forms()  # what is filled in is drawn, too
            count = len(document)
        for number in range(1, count + 1):
            with _pdfium:
                pixels = _drawn(document[number - 1])
            yield Page(number, count, pixels)
    except pdfium.PdfiumError as error:
        raise InputError(f"the PDF file is damaged or has a password: {error}") from error
    finally:
        if document is not None:
            with _pdfium:
                document.close()


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
