"""What a model file may ask for before it is refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Final

from fastdigit._core import default_limits
from fastdigit.errors import InputError

__all__ = ["Limits"]

_DEFAULT: Final = default_limits()
_NONE: Final = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a model file may ask for; one that asks for more is refused by a :class:`LimitError`.

    It is refused before anything of that size is allocated, in time that grows with the file. The
    defaults are for files from anywhere: a few times what the largest networks take that this
    package is for. ``Model.info()["usage"]`` tells what a model asks for.

    Parameters
    ----------
    file_bytes
        Size of the file.
    meta_bytes, tensors, ops
        Bytes of META, records of tensors and of operators. The format has at most 1 MiB and 4,096.
    operations
        For one image: multiply-adds, and whatever else takes time (pooling, resizing, activations,
        copying, steps of recurrent layers), in units of what a multiply-add takes.
    plan_bytes
        Memory beside the file, for what is derived from weights.
    context_bytes
        Scratch memory of a call, for each of its threads.

    Raises
    ------
    InputError
        One is not a whole number from 1 to 2**64 - 1.
    """

    file_bytes: int = _DEFAULT["file_bytes"]
    meta_bytes: int = _DEFAULT["meta_bytes"]
    tensors: int = _DEFAULT["tensors"]
    ops: int = _DEFAULT["ops"]
    operations: int = _DEFAULT["operations"]
    plan_bytes: int = _DEFAULT["plan_bytes"]
    context_bytes: int = _DEFAULT["context_bytes"]

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not int or not 1 <= value <= _NONE:
                raise InputError(
                    f"{name} is {value!r}, expected a whole number from 1 to 2**64 - 1"
                )

    @classmethod
    def none(cls) -> Limits:
        """No limits but those of the format and of memory: for files that one trusts."""
        return cls(**dict.fromkeys((field.name for field in fields(cls)), _NONE))

    @classmethod
    def parsed(cls, texts: list[str]) -> Limits:
        """The defaults, but for what ``NAME=NUMBER`` says, such as ``operations=1e11``.

        Raises
        ------
        InputError
            There is no such limit, or it is no whole number.
        """
        given: dict[str, int] = {}
        names = [field.name for field in fields(cls)]
        for text in texts:
            name, _, number = text.partition("=")
            if name not in names:
                raise InputError(
                    f"there is no limit {name!r}; expected NAME=NUMBER with one of "
                    f"{', '.join(names)}"
                )
            try:
                value = float(number)
                given[name] = int(number) if number.strip().isdecimal() else int(value)
            except (ValueError, OverflowError):
                raise InputError(f"{text!r}: {number!r} is not a whole number") from None
        return cls(**given)
