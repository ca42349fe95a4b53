"""Pictures as networks take them: :func:`normalize` for digits, :func:`prepare` for all others."""

from __future__ import annotations

from fastdigit.images.normalize import Steps, explain, normalize
from fastdigit.images.pages import Page, pages
from fastdigit.images.reading import FITTINGS, MAX_PIXELS, MODES, Fitting, decode, prepare

__all__ = [
    "FITTINGS",
    "MAX_PIXELS",
    "MODES",
    "Fitting",
    "Page",
    "Steps",
    "decode",
    "explain",
    "normalize",
    "pages",
    "prepare",
]
