"""When two models count as the same: the promise of 1e-5, checked wherever one becomes another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastdigit.errors import VerificationError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["TOLERANCE", "compare"]

#: Largest difference of a probability that rounding explains.
TOLERANCE = 1e-5


def compare(
    names: str,
    got: npt.NDArray[np.floating[Any]],
    expected: npt.NDArray[np.floating[Any]],
    tolerance: float = TOLERANCE,
) -> float:
    """Compare probabilities (N, classes) of two models, which the message calls `names`.

    Returns
    -------
    float
        Largest absolute difference of a probability.

    Raises
    ------
    VerificationError
        A label differs, or a probability by more than `tolerance`.
    """
    difference = float(np.abs(got - expected).max())
    labels = int((got.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if labels or not difference <= tolerance:
        raise VerificationError(
            f"{names} differ on {labels} of {len(got)} labels and by up to {difference:.2g} in a "
            f"probability; expected none and at most {tolerance:.0e}"
        )
    return difference
