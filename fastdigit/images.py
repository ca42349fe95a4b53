"""Pictures as networks take them: :func:`normalize` for digits, :func:`prepare` for all others.

The network for digits was trained on MNIST, whose images were all prepared the same way: "The
original black and white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box
while preserving their aspect ratio. The resulting images contain grey levels as a result of the
anti-aliasing technique used by the normalization algorithm. The images were centered in a 28x28
image by computing the center of mass of the pixels, and translating the image so as to position
this point at the center of the 28x28 field" (Y. LeCun, C. Cortes, C. J. C. Burges, the MNIST
database; the same in LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to
Document Recognition", Proceedings of the IEEE 86(11), 1998, section III.A). :func:`normalize` does
that to a picture, after finding out which of its pixels are ink.
"""

from __future__ import annotations

import io
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

__all__ = ["FITTINGS", "MAX_PIXELS", "Fitting", "decode", "normalize", "prepare"]

SIDE: Final = 28
BOX: Final = 20

MAX_PIXELS: Final = 50_000_000
"""Pixels that :func:`decode` accepts in a file, unless told otherwise."""

# A picture is averaged down until neither side is longer: what is left of a digit that fills a
# twentieth of it is still larger than the box.
WORKING_SIDE: Final = 512
# Where separate marks are told apart, on a coarser grid yet.
LABEL_SIDE: Final = 128

# Of the way from paper to ink; a pixel above is part of the digit's box. No byte divided by another
# is just that, so rounding of grey values does not decide.
INK: Final = 0.202
# Marks of less ink than this part of the largest are dirt.
SPECK: Final = 0.03
# Less contrast than this, of the full range, is paper.
MIN_CONTRAST: Final = 0.05
# Grey of red, green and blue: ITU-R BT.601.
LUMA: Final = (0.299, 0.587, 0.114)

FORMATS: Final = ("PNG", "JPEG")
# What :func:`prepare` reads too.
MORE_FORMATS: Final = ("BMP", "GIF", "PPM", "TIFF", "WEBP")

Fitting: TypeAlias = Literal["stretch", "fit", "crop"]
FITTINGS: Final[tuple[Fitting, ...]] = ("stretch", "fit", "crop")
"""What :func:`prepare` does with a picture of another size."""

# By the number of channels, in Pillow's words.
MODES: Final = MappingProxyType({1: "L", 3: "RGB", 4: "RGBA"})

# Scans of a JPEG file that are read: each goes over the whole picture, and may be a few bytes long.
# Encoders make up to ten.
MAX_SCANS: Final = 64
START_OF_SCAN: Final = b"\xff\xda"  # ITU-T T.81, table B.1; no coded data has these bytes
# Rows of 16-bit pixels that are converted at a time.
BAND: Final = 256


def normalize(image: NDArray[Any] | bytes | str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Make a picture of one digit look like those of MNIST.

    Parameters
    ----------
    image
        Pixels as an array: (height, width), or with a last axis of 1 (grey), 2 (grey, alpha),
        3 (RGB) or 4 (RGBA); uint8, uint16, bool, or floats in 0..1. Or a PNG or JPEG file: its
        bytes, or its path; see :func:`decode`.

    Returns
    -------
    ndarray
        uint8 of shape (28, 28): the digit white on black, in a box of 20x20, with its centre of
        mass in the middle.

    Raises
    ------
    InputError
        The array has another shape, dtype or range; the file is not a picture; or there is no
        digit: nothing stands out from the paper.
    MissingExtraError
        A file is to be read and Pillow is not installed.
    OSError
        The file cannot be read.

    Notes
    -----
    The paper is what the border of the picture shows: a plane fitted to its grey values, so that
    a shadow across the page does no harm. Ink is what differs from it, on the darker or the
    brighter side, whichever has more. It is stretched from 0 (paper, and its noise) to 1 (the
    darkest ink); marks much smaller than the largest are taken for dirt. Strokes are neither
    thickened nor thinned: a digit of hairlines remains one, which MNIST has few of.
    """
    pixels = image if isinstance(image, np.ndarray) else decode(image)
    ink = _ink(_reduced(_checked(pixels)))
    return _placed(_cropped(ink))


def decode(
    source: bytes | str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Read a PNG or JPEG file.

    Parameters
    ----------
    source
        The bytes of a file, or its path.
    max_pixels
        Width times height that is accepted. It is checked before anything is decoded.

    Returns
    -------
    ndarray
        uint8 of shape (height, width), or (height, width, 4) if there is transparency; upright,
        as EXIF says. Large JPEG files are decoded at a fraction of their size, as far as they stay
        larger than what :func:`normalize` works on.

    Raises
    ------
    InputError
        It is no PNG or JPEG file, is damaged, or has too many pixels or scans.
    MissingExtraError
        Pillow is not installed.
    OSError
        The file cannot be read.
    """
    with _opened(source, max_pixels, FORMATS) as opened:
        from PIL import ImageOps

        opened.draft("L", (2 * WORKING_SIDE, 2 * WORKING_SIDE))
        upright = ImageOps.exif_transpose(opened)
        if upright.mode.startswith("I"):
            return _bytes_of_words(np.asarray(upright))
        return np.asarray(upright.convert("RGBA" if _is_transparent(upright) else "L"))


def prepare(
    source: bytes | str | os.PathLike[str],
    shape: tuple[int, int, int],
    *,
    resize: Fitting = "stretch",
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Read an image file as a network takes it: in its size, grey or in colour.

    Parameters
    ----------
    source
        The bytes of a file, or its path: PNG, JPEG, BMP, GIF (its first frame), PPM, TIFF, WebP.
    shape
        (height, width, channels) of the result; 1 channel is grey, 3 are RGB, 4 RGBA.
    resize
        What becomes of a picture of another size. "stretch": it is stretched to the size, as Keras'
        ``image_dataset_from_directory`` does. "fit": all of it is shown, as large as it fits, with
        black beside it. "crop": its middle is cut out, as much of it as has the proportions.
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
        It is no such file, is damaged, or has too many pixels or scans; or there is no such
        ``resize`` or number of channels.
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
    with _opened(source, max_pixels, (*FORMATS, *MORE_FORMATS)) as opened:
        from PIL import Image, ImageOps

        picture = ImageOps.exif_transpose(opened)
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


@contextmanager
def _opened(source: Any, max_pixels: int, formats: tuple[str, ...]) -> Iterator[Any]:
    """Open an image file with Pillow; what its decoders raise becomes an InputError."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            f"reading image files needs Pillow: {pip_install('images')}"
        ) from error
    if not isinstance(source, bytes | str | os.PathLike):
        raise InputError(
            f"the image is a {type(source).__name__}, expected a NumPy array of pixels, the bytes "
            "of an image file, or its path"
        )
    if not isinstance(source, bytes):
        with open(source, "rb") as file:
            source = file.read()
    try:
        with Image.open(io.BytesIO(source), formats=formats) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise InputError(
                    f"the image has {width}x{height} pixels, at most {max_pixels} are accepted: "
                    "make it smaller"
                )
            if opened.format == "JPEG" and source.count(START_OF_SCAN) > MAX_SCANS:
                raise InputError(
                    f"the JPEG file has {source.count(START_OF_SCAN)} scans, at most {MAX_SCANS} "
                    "are read: save it anew"
                )
            yield opened
    except InputError:
        raise
    # Pillow's decoders raise what they like on damaged files.
    except Image.UnidentifiedImageError as error:
        raise InputError(f"this is no {_listed(formats)} file") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"the image has too many pixels: {error}") from error
    except Exception as error:
        raise InputError(f"the image file is damaged: {error}") from error


def _listed(formats: tuple[str, ...]) -> str:
    return f"{', '.join(formats[:-1])} or {formats[-1]}"


def _is_transparent(picture: Any) -> bool:
    return "A" in picture.getbands() or "transparency" in picture.info


def _bytes_of_words(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values of 16 bits as 8; in bands, so that memory stays small."""
    values = np.empty(pixels.shape, np.uint8)
    for y in range(0, len(pixels), BAND):
        band = np.rint(pixels[y : y + BAND].astype(np.float32) / 257)
        values[y : y + BAND] = np.clip(band, 0, 255)
    return values


# ---- From pixels to grey, no larger than needed ----


def _checked(pixels: NDArray[Any]) -> NDArray[Any]:
    """The pixels as (height, width, channels)."""
    shape = pixels.shape
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or 0 in pixels.shape:
        raise InputError(
            f"the image has shape {shape}, expected (height, width), or (height, width, channels) "
            "with 1 to 4 channels: grey, grey and alpha, RGB, RGBA"
        )
    if pixels.dtype.kind == "f":
        # `not` also finds NaN.
        if not (float(pixels.min()) >= 0 and float(pixels.max()) <= 1):
            raise InputError("the image has floats that are not in 0..1; divide by 255 first?")
    elif pixels.dtype not in (np.uint8, np.uint16, np.bool_):
        raise InputError(
            f"the image has dtype {pixels.dtype}, expected uint8, uint16, bool, or floats in 0..1"
        )
    return pixels


def _reduced(pixels: NDArray[Any]) -> Floats:
    """Grey values in 0..1, averaged over square blocks; in bands, so that memory stays small."""
    height, width, _ = pixels.shape
    block = -(-max(height, width) // WORKING_SIDE)
    band = block * max(1, WORKING_SIDE // block)
    rows = [_composites(pixels[y : y + band]) for y in range(0, height, band)]
    planes = [np.concatenate([_averaged(row[i], block) for row in rows]) for i in range(2)]
    # Transparent pixels show what lies behind: white paper, unless the ink is white.
    return max(planes, key=lambda plane: float(np.ptp(plane)))


def _composites(pixels: NDArray[Any]) -> tuple[Floats, Floats]:
    """Grey on white and on black; the same if nothing is transparent."""
    scale = {"u": np.iinfo, "b": None}.get(pixels.dtype.kind)
    full = float(scale(pixels.dtype).max) if scale else 1.0
    values = pixels.astype(np.float64) / full
    channels = values.shape[2]
    colour = values[..., :3] @ np.array(LUMA) if channels >= 3 else values[..., 0]
    if channels in (1, 3):
        return colour, colour
    alpha = values[..., -1]
    ink = colour * alpha
    return ink + (1 - alpha), ink


def _averaged(grey: Floats, block: int) -> Floats:
    if block == 1:
        return grey
    ys, xs = (np.arange(0, n, block) for n in grey.shape)
    sums = np.add.reduceat(np.add.reduceat(grey, ys, axis=0), xs, axis=1)
    counts = [np.diff(np.append(starts, n)) for starts, n in zip((ys, xs), grey.shape, strict=True)]
    averages: Floats = sums / np.outer(*counts)
    return averages


# ---- From grey to ink ----


def _ink(grey: Floats) -> Floats:
    """How much ink there is in each pixel: 0 for paper, 1 for the most of it."""
    paper, noise = _paper(grey)
    above = grey - paper
    # The border decides: ink lies on that side of the paper where there is more to see.
    bright, dark = (float(np.clip(side, 0, None).max()) for side in (above, -above))
    ink = np.clip(above if bright >= dark else -above, 0, None)
    top = max(bright, dark)
    if top < max(MIN_CONTRAST, 2 * noise):
        raise InputError(
            f"the image shows no digit: nothing stands out from its border by more than "
            f"{top:.1%} of the range from black to white"
        )
    return np.clip((ink - noise) / (top - noise), 0, 1)


def _paper(grey: Floats) -> tuple[Floats, float]:
    """The paper's grey everywhere, as a plane through the border, and the noise around it."""
    height, width = grey.shape
    edge = max(1, min(height, width) // 28)
    border = np.ones(grey.shape, bool)
    border[edge:-edge, edge:-edge] = False
    y, x = np.nonzero(border)
    values = grey[border]
    columns = np.stack([np.ones(len(y)), y / height, x / width], axis=1)
    plane = np.array([np.median(values), 0, 0])
    spread = 0.0
    # Ink may touch the border, so what is far from the plane has no say in where it lies.
    for _ in range(5):
        away = np.abs(values - columns @ plane)
        spread = 1.4826 * float(np.median(away))
        near = away <= 2.5 * spread + 1e-9
        plane = np.linalg.lstsq(columns[near], values[near], rcond=None)[0]
    ys, xs = np.arange(height)[:, None] / height, np.arange(width) / width
    return plane[0] + plane[1] * ys + plane[2] * xs, 3 * spread


# ---- From ink to a box of 20x20 in 28x28 ----


def _cropped(ink: Floats) -> Floats:
    """The digit alone: its box, without dirt around and in it."""
    ink = np.where(_marks(ink), ink, 0)
    inside = ink > INK
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _marks(ink: Floats) -> NDArray[np.bool_]:
    """Which pixels belong to marks that are large enough to be part of a digit.

    Marks are runs of inked cells that touch in neighbouring rows, corners included, joined by
    union-find; on cells of several pixels, so that the time is bounded.
    """
    height, width = ink.shape
    cell = -(-max(height, width) // LABEL_SIDE)
    padded = np.zeros((-(-height // cell) * cell, -(-width // cell) * cell))
    padded[:height, :width] = ink
    blocks = padded.reshape(padded.shape[0] // cell, cell, -1, cell)
    inked = blocks.max((1, 3)) > INK
    amounts = blocks.sum((1, 3)) * inked

    edges = np.diff(np.pad(inked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    ys, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    runs = list(zip(ys.tolist(), starts.tolist(), ends.tolist(), strict=True))
    parent = list(range(len(runs)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    above = 0
    for i, (y, start, end) in enumerate(runs):
        while runs[above][0] < y - 1 or (runs[above][0] == y - 1 and runs[above][2] < start):
            above += 1
        other = above
        while other < i and runs[other][0] == y - 1 and runs[other][1] <= end:
            parent[root(other)] = root(i)
            other += 1

    labels = np.array([root(i) for i in range(len(runs))])
    totals = np.zeros(len(runs))
    sums = [float(amounts[y, start:end].sum()) for y, start, end in runs]
    np.add.at(totals, labels, sums)
    kept = totals[labels] >= SPECK * totals.max()
    # A cell of faint pixels beside a mark is the mark's soft edge.
    mask = np.zeros(inked.shape, bool)
    for (y, start, end), keep in zip(runs, kept.tolist(), strict=True):
        if keep:
            mask[max(0, y - 1) : y + 2, max(0, start - 1) : end + 1] = True
    return mask.repeat(cell, 0).repeat(cell, 1)[:height, :width]


def _placed(digit: Floats) -> NDArray[np.uint8]:
    height, width = digit.shape
    scale = BOX / max(height, width)
    rows, columns = (max(1, round(n * scale)) for n in (height, width))
    small = _resampling(height, rows) @ digit @ _resampling(width, columns).T
    small /= small.max()
    total = small.sum()
    centres = [
        float(small.sum(axis) @ np.arange(n)) / total for axis, n in ((1, rows), (0, columns))
    ]
    # By whole pixels, so that nothing is blurred again; and all of the box stays inside.
    top, left = (
        min(max(round(SIDE / 2 - centre), 0), SIDE - n)
        for centre, n in zip(centres, (rows, columns), strict=True)
    )
    out = np.zeros((SIDE, SIDE), np.uint8)
    out[top : top + rows, left : left + columns] = np.rint(255 * np.clip(small, 0, 1))
    return out


def _resampling(n: int, m: int) -> Floats:
    """Weights (m, n) that make m samples of n: a triangle as wide as the coarser of both grids,
    which interpolates linearly when enlarging and averages when reducing."""
    step = n / m
    centres = (np.arange(m) + 0.5) * step - 0.5
    distance = np.abs(centres[:, None] - np.arange(n))
    weights = np.clip(1 - distance / max(step, 1.0), 0, None)
    weighted: Floats = weights / weights.sum(1, keepdims=True)
    return weighted
