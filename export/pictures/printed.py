"""Characters as they are printed and displayed: fonts of Debian, and faces with segments.

Families of fonts are split between training and validation by name: a family has all its weights
and slants on one side. The segments of training are drawn here; those of validation are a font's.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.errors import FastDigitError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import ImageFont

    Floats = NDArray[np.float64]

__all__ = ["HELD_OUT", "PACKAGES", "TRAINING", "character", "find_fonts", "segments"]

#: Beginnings of the names of font files, a family each; all are freely licensed.
TRAINING: Final = (
    "3270", "Anonymous Pro", "B612", "BebasNeue", "Breip", "C059", "Cabin-", "Cantarell",
    "Carlito", "Comfortaa", "Courier Prime", "DejaVu", "Dosis", "Ecolier-court", "FiraCode",
    "FreeSerif", "Gentium", "Hack-", "Humor-Sans", "Jura", "Kristi", "Lato", "LeagueSpartan",
    "LiberationMono", "LiberationSans", "LinLibertine_R", "LinBiolinum_R", "NimbusMono", "OCRA",
    "OSP-DIN", "OpenSans", "Play-", "Quicksand", "Rufscript", "URWBookman", "Vollkorn",
    "cmunrm", "cmunbx", "cmunti", "cmunss", "cmuntt", "femkeklaver", "lobster",
)  # fmt: skip
HELD_OUT: Final = (
    "Beteckna", "Caladea", "DancingScript", "EBGaramond", "Inconsolata", "JunicodeTwoBeta",
    "OCRB", "OldStandard", "Oxygen", "P052", "Roboto", "TomsonTalks", "URWGothic",
    "YanoneKaffeesatz", "mononoki", "DSEG7Classic", "DSEG14Modern",
)  # fmt: skip

#: Debian's packages with all of these.
PACKAGES: Final = (
    "fonts-3270 fonts-anonymous-pro fonts-b612 fonts-bebas-neue fonts-beteckna fonts-breip "
    "fonts-cabin fonts-cantarell fonts-cmu fonts-comfortaa fonts-courier-prime "
    "fonts-crosextra-caladea fonts-crosextra-carlito fonts-dancingscript fonts-dejavu-core "
    "fonts-dejavu-extra fonts-dosis fonts-dseg fonts-ebgaramond fonts-ecolier-court "
    "fonts-femkeklaver fonts-firacode fonts-freefont-ttf fonts-hack fonts-humor-sans "
    "fonts-inconsolata fonts-junicode fonts-jura fonts-kristi fonts-lato fonts-league-spartan "
    "fonts-liberation fonts-linuxlibertine fonts-lobster fonts-mononoki fonts-ocr-a fonts-ocr-b "
    "fonts-oldstandard fonts-open-sans fonts-opendin fonts-oxygen fonts-play fonts-quicksand "
    "fonts-roboto-unhinted fonts-rufscript fonts-sil-gentium fonts-tomsontalks fonts-urw-base35 "
    "fonts-vollkorn fonts-yanone-kaffeesatz"
)

SIZE: Final = 64

#: Which of the seven segments each digit has: top, left and right above, middle, left and right
#: below, bottom. A 6, a 7 and a 9 have two forms each.
SEGMENTS: Final = (
    ("1110111",), ("0010010",), ("1011101",), ("1011011",), ("0111010",),
    ("1101011",), ("1101111", "0101111"), ("1010010", "1110010"), ("1111111",),
    ("1111011", "1111010"),
)  # fmt: skip


def find_fonts(directory: Path, families: tuple[str, ...]) -> list[list[Path]]:
    """The files of each family, sorted by name.

    Raises
    ------
    FastDigitError
        A family is missing.
    """
    files = sorted(
        (path for path in directory.rglob("*") if path.suffix in (".ttf", ".otf")),
        key=lambda path: path.name,
    )
    found = [[path for path in files if path.name.startswith(family)] for family in families]
    missing = [family for family, own in zip(families, found, strict=True) if not own]
    if missing:
        raise FastDigitError(
            f"{directory} lacks the fonts {', '.join(missing)}; on Debian: apt-get install "
            f"{PACKAGES}"
        )
    return found


@functools.lru_cache(maxsize=600)
def _font(path: Path) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(path), SIZE)


def character(path: Path, text: str) -> Floats | None:
    """Ink of a character, 0 to 1, in its box with a margin; None if the font has no such one."""
    from PIL import Image, ImageDraw

    font = _font(path)
    left, top, right, bottom = font.getbbox(text)
    if right - left < 2 or bottom - top < 2:
        return None
    page = Image.new("L", (round(right - left) + 16, round(bottom - top) + 16))
    ImageDraw.Draw(page).text((8 - left, 8 - top), text, 255, font=font)
    return np.asarray(page) / 255.0


def segments(digit: int, random: np.random.Generator) -> Floats:
    """A digit of seven segments: widths, gaps, ends, slant and unlit segments vary."""
    from PIL import Image, ImageDraw

    forms = SEGMENTS[digit]
    form = forms[int(random.integers(len(forms)))]
    height = 80
    width = random.uniform(0.38, 0.68) * height
    thick = random.uniform(0.05, 0.2) * height
    gap = random.uniform(0, 0.035) * height
    point = random.uniform(0, 1)  # of the ends: blunt to sharp
    slant = random.uniform(0, 0.2)
    unlit = round(255 * random.uniform(0, 0.18)) if random.random() < 0.3 else 0
    left, right = (96 - width) / 2, (96 + width) / 2
    top, middle, bottom = 8.0, 48.0, 88.0
    page = Image.new("L", (112, 96))
    pencil = ImageDraw.Draw(page)
    ends = (
        (left, top, right, top), (left, top, left, middle), (right, top, right, middle),
        (left, middle, right, middle), (left, middle, left, bottom),
        (right, middle, right, bottom), (left, bottom, right, bottom),
    )  # fmt: skip
    for lit, (x, y, to_x, to_y) in sorted(zip(form, ends, strict=True)):
        length = np.hypot(to_x - x, to_y - y)
        along = np.array([to_x - x, to_y - y]) / length
        across = np.array([-along[1], along[0]]) * thick / 2
        start = np.array([x, y]) + along * (gap - (1 - point) * thick / 2)
        end = np.array([to_x, to_y]) - along * (gap - (1 - point) * thick / 2)
        inset = along * point * thick / 2
        outline = [start, start + inset + across, end - inset + across, end]
        outline += [end - inset - across, start + inset - across]
        shape = [(px + slant * (48 - py) + 8, py) for px, py in outline]
        pencil.polygon(shape, fill=255 if lit == "1" else unlit)
    return np.asarray(page) / 255.0
