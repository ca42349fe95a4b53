"""All digits of a picture: :func:`read`; of many pictures: :func:`read_many`."""

from __future__ import annotations

from fastdigit.reader.reading import Digit, Field, Reading, read, read_many

__all__ = ["Digit", "Field", "Reading", "read", "read_many"]
