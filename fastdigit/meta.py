"""META of a model file: JSON for people and tools, which may come from anywhere."""

from __future__ import annotations

import json
from typing import Any, Final

from fastdigit.errors import ModelFormatError

__all__ = ["parse_meta"]

#: Arrays and objects within one another: those of the compiler are five deep.
MAX_DEPTH: Final = 32


def parse_meta(text: str) -> dict[str, Any]:
    """Return what META says.

    Raises
    ------
    ModelFormatError
        It is no JSON object, is nested more than 32 deep, has a number that JSON has not (NaN), or
        text that UTF-8 has not (half of a surrogate pair).
    """
    _check_depth(text)
    try:
        meta = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise ModelFormatError(f"META is not JSON: {str(error)[:200]}") from None
    if not isinstance(meta, dict):
        raise ModelFormatError(f"META is a {type(meta).__name__}, expected a JSON object")
    try:
        json.dumps(meta, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # UnicodeEncodeError, or a number that is infinite
        raise ModelFormatError("META has text or a number that cannot be written") from None
    return meta


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth, in_string, escaped = 0, False, False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ModelFormatError(f"META is nested more than {MAX_DEPTH} deep")
        elif character in "]}":
            depth -= 1
