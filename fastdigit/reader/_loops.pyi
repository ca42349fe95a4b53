from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastdigit.reader.candidates import Candidate

Floats = NDArray[np.float64]

def page_ink(grey: Floats, dark: bool, block: int) -> tuple[Floats, float, float]: ...
def sharpness(down: Floats, across: Floats, slopes: Floats, low: float) -> NDArray[np.int64]: ...
def cheapest_paths(
    ink: Floats, upwards: bool, paper: float, sideways: float
) -> tuple[Floats, NDArray[np.int8]]: ...
def cut(
    ink: Floats, kind: tuple[float, ...], threshold: float, least: float
) -> list[tuple[int, int, Floats]] | None: ...
def ink_of_marks(
    ink: Floats,
    labels: NDArray[np.int32],
    numbers: Sequence[int],
    boxes: Sequence[Sequence[int]],
) -> list[Floats]: ...
def drawn(candidates: Sequence[Candidate], box: int, side: int) -> NDArray[np.uint8]: ...
def search(
    candidates: Sequence[Candidate],
    gains: Floats,
    losses: Floats,
    alone: float,
    most: int,
    length: int | None,
) -> list[tuple[float, str, tuple[int, ...]]]: ...
def likely_texts(steps: Floats, least: float, most: int) -> list[str]: ...
def text_logs(steps: Floats, texts: Sequence[str], least: float) -> Floats: ...
def places(steps: Floats, text: str, least: float) -> NDArray[np.int32]: ...
