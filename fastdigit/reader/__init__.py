"""All digits of a picture: :func:`read`."""

from __future__ import annotations

from fastdigit.reader.reading import Digit, Field, Reading, read

__all__ = ["Digit", "Field", "Reading", "read"]
