from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastdigit.reader.candidates import Candidate

Floats = NDArray[np.float64]

def page_ink(grey: Floats, dark: bool, block: int) -> tuple[Floats, float, float]: ...
def drawn(candidates: Sequence[Candidate], box: int, side: int) -> NDArray[np.uint8]: ...
def search(
    candidates: Sequence[Candidate],
    gains: Floats,
    losses: Floats,
    alone: float,
    most: int,
    length: int | None,
) -> list[tuple[float, str, tuple[int, ...]]]: ...
