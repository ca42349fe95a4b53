"""Check digits."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from fastdigit.errors import InputError

__all__ = ["CHECKS", "check_of", "luhn", "mod11"]


def luhn(text: str) -> bool:
    """Whether the last digit is right by ISO/IEC 7812-1, annex B: that of payment cards."""
    total = 0
    for place, digit in enumerate(reversed(text)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return len(text) > 1 and total % 10 == 0


def mod11(text: str) -> bool:
    """Whether the last digit is 11 less the rest of the weighted sum by 11, with weights 2 to 7
    again and again from the right; a number whose check digit would be 10 is not valid."""
    if len(text) < 2:
        return False
    total = sum(int(digit) * (2 + place % 6) for place, digit in enumerate(reversed(text[:-1])))
    return (11 - total % 11) % 11 == int(text[-1])


#: Those that have a name.
CHECKS: Final = MappingProxyType({"luhn": luhn, "mod11": mod11})


def check_of(check: str | Callable[[str], bool] | None) -> Callable[[str], bool] | None:
    """The function of a name; a function itself."""
    if check is None or callable(check):
        return check
    if not isinstance(check, str) or check not in CHECKS:
        raise InputError(f"check={check!r}, expected {', '.join(map(repr, CHECKS))} or a function")
    return CHECKS[check]
