"""Image files: :func:`decode` for what finds the digit, :func:`prepare` for other networks."""

from __future__ import annotations

import importlib
import importlib.util
import io
import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from fastdigit.errors import InputError, MissingExtraError, pip_install

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "FITTINGS",
    "FORMATS",
    "MAX_PIXELS",
    "MODES",
    "Fitting",
    "bytes_of",
    "check_no_page",
    "check_page",
    "check_size",
    "decode",
    "errors_of_pillow",
    "frames_of",
    "open_picture",
    "pixels_of",
    "prepare",
    "whole_number",
]

MAX_PIXELS: Final = 50_000_000
"""Pixels that :func:`decode` accepts in a file, unless told otherwise."""

# Large JPEG files are decoded at a fraction of their size, but not below this.
JPEG_SIDE: Final = 1024

FORMATS: Final = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "AVIF", "HEIF")
"""Formats of files, in Pillow's words; the last two if Pillow was built with it, and if pi-heif or
pillow-heif is installed."""

# Those that may hold several pictures, of which none is the picture. PNG, JPEG (MPO) and HEIF files
# say which it is, and the others are variants of it: depths, previews, what moves.
SERIES: Final = ("TIFF", "GIF", "WEBP", "AVIF")

Fitting: TypeAlias = Literal["stretch", "fit", "crop"]
FITTINGS: Final[tuple[Fitting, ...]] = ("stretch", "fit", "crop")
"""What :func:`prepare` does with a picture of another size."""

# By the number of channels, in Pillow's words.
MODES: Final = MappingProxyType({1: "L", 3: "RGB", 4: "RGBA"})

# Scans of a JPEG file that are read: each goes over the whole picture, and may be a few bytes long.
# Encoders make up to ten.
MAX_SCANS: Final = 64
START_OF_SCAN: Final = b"\xff\xda"  # ITU-T T.81, table B.1; no coded data has these bytes
# Greys of 12 bits are below.
TWELVE_BITS: Final = 1 << 12
# Rows of 16-bit pixels that are converted at a time.
BAND: Final = 256


def decode(
    source: bytes | str | os.PathLike[str],
    *,
    page: int | None = None,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] = FORMATS,
    reduce: bool = True,
) -> NDArray[np.uint8]:
    """Read an image file.

    Parameters
    ----------
    source
        The bytes of a file, or its path.
    page
        Of a TIFF file of several pages, or an animation (GIF, WebP, AVIF), from 1. None: there is
        one; of several, none is chosen in silence.
    max_pixels
        Width times height that is accepted. It is checked before anything is decoded.
    formats
        Those that are accepted, of FORMATS.
    reduce
        Whether large JPEG files may be decoded at a fraction of their size, as far as they stay
        larger than what :func:`normalize` works on.

    Returns
    -------
    ndarray
        uint8 of shape (height, width) if it is grey, (height, width, 3), or (height, width, 4) if
        there is transparency; upright, as EXIF says. Of 16 bits, 12 count if no value needs more;
        floats are in 0..1 or 0..255.

    Raises
    ------
    InputError
        It is no such file, is damaged, or has too many pixels or scans; or has no such page, or
        several and none is chosen.
    MissingExtraError
        Pillow is not installed.
    OSError
        The file cannot be read.
    """
    with _opened(source, page, max_pixels, formats) as opened:
        if reduce and opened.mode in ("L", "RGB"):
            opened.draft(opened.mode, (JPEG_SIDE, JPEG_SIDE))
        return pixels_of(opened)


def pixels_of(picture: Any) -> NDArray[np.uint8]:
    """The pixels of a picture that Pillow has opened, as :func:`decode` returns them."""
    from PIL import ImageOps

    ImageOps.exif_transpose(picture, in_place=True)  # a copy would be as large again
    if picture.mode == "F":
        return _bytes_of_floats(np.asarray(picture))
    if picture.mode.startswith("I"):
        words = np.asarray(picture)
        return _bytes_of_words(words, 16 if words.max() < TWELVE_BITS else 1)
    mode = "RGBA" if _is_transparent(picture) else "L" if picture.mode in ("1", "L") else "RGB"
    return np.asarray(picture if picture.mode == mode else picture.convert(mode))


def prepare(
    source: bytes | str | os.PathLike[str],
    shape: tuple[int, int, int],
    *,
    resize: Fitting = "stretch",
    page: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Read an image file as a network takes it: in its size, grey or in colour.

    Parameters
    ----------
    source
        The bytes of a file, or its path, in one of FORMATS.
    shape
        (height, width, channels) of the result; 1 channel is grey, 3 are RGB, 4 RGBA.
    resize
        What becomes of a picture of another size. "stretch": it is stretched to the size, as Keras'
        ``image_dataset_from_directory`` does. "fit": all of it is shown, as large as it fits, with
        black beside it. "crop": its middle is cut out, as much of it as has the proportions.
    page
        Of a file of several, as for :func:`decode`.
    max_pixels
        Width times height that is accepted. It is checked before anything is decoded.

    Returns
    -------
    ndarray
        uint8 of ``shape``, upright, as EXIF says. Bilinear; made smaller, pixels are averaged
        (antialias). What is transparent is white, unless there are 4 channels.

    Raises
    ------
    InputError
        It is no such file, is damaged, or has too many pixels or scans; it has no such page, or
        several and none is chosen; or there is no such ``resize`` or number of channels.
    MissingExtraError
        Pillow is not installed.
    OSError
        The file cannot be read.
    """
    height, width, channels = shape
    if channels not in MODES:
        raise InputError(f"pictures of {channels} channels; there are such of 1 (grey), 3 or 4")
    if resize not in FITTINGS:
        raise InputError(f"resize is {resize!r}, expected one of {', '.join(FITTINGS)}")
    with _opened(source, page, max_pixels, FORMATS) as opened:
        from PIL import Image, ImageOps

        picture = ImageOps.exif_transpose(opened)
        if picture.mode == "F":
            picture = Image.fromarray(_bytes_of_floats(np.asarray(picture)))
        if picture.mode.startswith("I"):
            picture = Image.fromarray(_bytes_of_words(np.asarray(picture)))
        if channels < 4 and _is_transparent(picture):
            picture = picture.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
        picture = picture.convert(MODES[channels])
        size, bilinear = (width, height), Image.Resampling.BILINEAR
        if resize == "fit":
            picture = ImageOps.pad(picture, size, bilinear, color=None)
        elif resize == "crop":
            picture = ImageOps.fit(picture, size, bilinear)
        else:
            picture = picture.resize(size, bilinear)
        return np.asarray(picture).reshape(shape)


def bytes_of(source: Any) -> bytes:
    """The bytes of a file: themselves, or those at a path."""
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"the image is a {type(source).__name__}, expected a NumPy array of pixels, the bytes "
            "of an image file, or its path"
        )
    with open(source, "rb") as file:
        return file.read()


@contextmanager
def _opened(
    source: Any, page: int | None, max_pixels: int, formats: tuple[str, ...]
) -> Iterator[Any]:
    data = bytes_of(source)  # errors of the operating system are its own
    with errors_of_pillow(formats, max_pixels), open_picture(data, max_pixels, formats) as opened:
        place = check_page(page, frames_of(opened)[0]) - 1
        if place:
            opened.seek(place)
            check_size(opened.size, max_pixels)
        yield opened


def open_picture(data: bytes, max_pixels: int, formats: tuple[str, ...]) -> Any:
    """Open an image file with Pillow; within :func:`errors_of_pillow`, as all that is done to it
    then."""
    from PIL import Image

    opened = Image.open(io.BytesIO(data), formats=_readable(formats))
    check_size(opened.size, max_pixels)
    if opened.format == "JPEG" and data.count(START_OF_SCAN) > MAX_SCANS:
        raise InputError(
            f"the JPEG file has {data.count(START_OF_SCAN)} scans, at most {MAX_SCANS} "
            "are read: save it anew"
        )
    return opened


def frames_of(opened: Any) -> tuple[int, dict[int, Exception]]:
    """How many pictures an open file has, none of which is the picture; and by the place of one,
    what is wrong with its head."""
    if opened.format not in SERIES:
        return 1, {}
    if opened.format != "TIFF":
        return int(getattr(opened, "n_frames", 1)), {}
    errors: dict[int, Exception] = {}
    place = 1
    # Up to the end, or to where one leads nowhere: a damaged page hides no other.
    while True:
        try:
            opened.seek(place)
        except EOFError:
            break
        # Its decoders raise what they like on damaged files.
        except Exception as error:
            if place - 1 in errors:
                break
            errors[place] = error
        place += 1
    opened.seek(0)
    return place, errors


def whole_number(name: str, value: Any, what: str) -> int:
    """A number from 1."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or number < 1:
        raise InputError(f"{name}={value!r}, expected a {what} of at least 1")
    return number


def check_no_page(image: Any, page: int | None) -> None:
    """Raise :class:`InputError` if a page of an array is chosen, or it is no number of a page."""
    if page is None:
        return
    whole_number("page", page, "number of a page")
    if isinstance(image, np.ndarray):
        raise InputError(f"page={page} is for files, and the image is an array")


def check_page(page: int | None, count: int) -> int:
    """The page of a file that is meant; InputError if none is, or there is no such page."""
    if page is None:
        if count > 1:
            raise InputError(
                f"the file has {count} pages: choose one, page=1 to page={count}, or with --page "
                "of fastdigit predict; fastdigit.images.pages and fastdigit read take all of them"
            )
        return 1
    number = whole_number("page", page, "number of a page")
    if number > count:
        raise InputError(f"page={page}, and the file has {count}")
    return number


@contextmanager
def errors_of_pillow(
    formats: tuple[str, ...], max_pixels: int, others: tuple[str, ...] = ()
) -> Iterator[None]:
    """What its decoders raise becomes an InputError; MissingExtraError without it. ``others`` are
    formats that are read without it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            f"reading image files needs Pillow: {pip_install('images')}"
        ) from error
    try:
        yield
    except InputError:
        raise
    # Pillow's decoders raise what they like on damaged files.
    except Image.UnidentifiedImageError as error:
        raise InputError(f"this is no {_listed((*_readable(formats), *others))} file") from error
    except Image.DecompressionBombError as error:
        # It has a limit of its own, which may be the lower one.
        most = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise InputError(
            f"the image has too many pixels, at most {most} are accepted: make it smaller"
        ) from error
    except MemoryError as error:
        raise InputError("the image takes more memory than there is: make it smaller") from error
    except Exception as error:
        raise InputError(f"the image file is damaged: {error}") from error


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise :class:`InputError` if a picture of that width and height has too many pixels."""
    width, height = size
    if width * height > max_pixels:
        raise InputError(
            f"the image has {width}x{height} pixels, at most {max_pixels} are accepted: "
            "make it smaller"
        )


def _readable(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are read here, with what is installed."""
    from PIL import Image

    # One decoder, in two packages: the extra takes the one that has no encoder under the GPL.
    for package in ("pi_heif", "pillow_heif"):
        if "HEIF" in formats and importlib.util.find_spec(package):
            importlib.import_module(package).register_heif_opener()
            break
    Image.preinit()
    if not set(formats) <= set(Image.OPEN):
        Image.init()
    return tuple(name for name in formats if name in Image.OPEN)


def _listed(formats: tuple[str, ...]) -> str:
    return f"{', '.join(formats[:-1])} or {formats[-1]}"


def _is_transparent(picture: Any) -> bool:
    return "A" in picture.getbands() or "transparency" in picture.info


def _bytes_of_floats(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values in 0..1, or in 0..255, as bytes."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 255):  # `not` also finds NaN
        raise InputError(
            f"the image file has floats from {low:g} to {high:g}, expected 0..1 or 0..255: save it "
            "with 8 or 16 bits a pixel"
        )
    return _bytes_of_words(pixels, 257 * 255 if high <= 1 else 257)


def _bytes_of_words(pixels: NDArray[Any], times: int = 1) -> NDArray[np.uint8]:
    """Grey values of 16 bits, multiplied, as 8; in bands, so that memory stays small."""
    values = np.empty(pixels.shape, np.uint8)
    for y in range(0, len(pixels), BAND):
        band = np.rint(pixels[y : y + BAND].astype(np.float32) * times / 257)
        values[y : y + BAND] = np.clip(band, 0, 255)
    return values
