"""Every exception that fastdigit raises on purpose.

All derive from :class:`FastDigitError`, so a service can catch one class; those that
correspond to a built-in category derive from it too, so idiomatic ``except ValueError``
keeps working.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "DatasetError",
    "FastDigitError",
    "InputError",
    "IsaError",
    "LimitError",
    "MissingExtraError",
    "ModelFormatError",
    "NotOneDigitError",
    "RunCancelledError",
    "RunTimeoutError",
    "UnsupportedError",
    "VerificationError",
    "in_words",
    "pip_install",
    "printable",
]


class FastDigitError(Exception):
    """Base class of all errors raised by fastdigit."""


class ModelFormatError(FastDigitError, ValueError):
    """A model file is damaged, truncated, hostile or of another version."""


class UnsupportedError(FastDigitError, NotImplementedError):
    """A network uses layers, operators or options that the compiler does not support.

    Parameters
    ----------
    reasons
        A sentence for each of them. As text the error is the first, and says how many more there
        are.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        first, *others = self.reasons or ("",)
        if not others:
            return first
        return f"{first} (and {len(others)} more; `fastdigit check FILE` lists all of them)"


class LimitError(UnsupportedError):
    """A model asks for more than a limit allows; ``fastdigit.Limits`` sets others."""


class RunCancelledError(FastDigitError):
    """A run was cancelled before it was done."""


class RunTimeoutError(FastDigitError, TimeoutError):
    """A run took longer than its ``timeout``."""


class InputError(FastDigitError, ValueError):
    """A batch has the wrong type, shape or values; the message says what is expected."""


class NotOneDigitError(InputError):
    """A picture shows no digit, or several.

    Attributes
    ----------
    grey
        One value a pixel, 0 to 1, of the part of the picture that was looked at, reduced.
    ink
        How much ink was found in each pixel, 0 to 1; None if nothing stands out from the paper.
    """

    grey: NDArray[np.float64] | None = None
    ink: NDArray[np.float64] | None = None


class VerificationError(FastDigitError):
    """A compiled model does not reproduce its source within tolerance."""


class DatasetError(FastDigitError):
    """A data set could not be found, downloaded or verified."""


class IsaError(FastDigitError, RuntimeError):
    """``FASTDIGIT_ISA`` names an ISA that is unknown or that this CPU lacks."""


class MissingExtraError(FastDigitError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""


def in_words(error: OSError) -> str:
    """What an error of the operating system says, without its number."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def printable(text: str) -> str:
    """For a terminal: names of files may hold what moves its cursor, or is no character at all."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def pip_install(*extras: str) -> str:
    """The command that installs extras, for messages: quoted so that every shell takes it.

    Brackets mean something to zsh and fish, and single quotes mean nothing to cmd.exe.
    """
    return f'pip install "fastdigit[{",".join(extras)}]"'
