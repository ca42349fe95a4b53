from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastdigit.reader.cuts import Piece

Floats = NDArray[np.float64]

def page_ink(grey: Floats, dark: bool, block: int) -> tuple[Floats, float, float, float]: ...
def runs(ink: Floats, step: int, threshold: float) -> tuple[NDArray[np.int64], Floats, Floats]: ...
def points(ink: Floats, threshold: float, most: int) -> tuple[Floats, Floats, int, int] | None: ...
def sharpness(down: Floats, across: Floats, slopes: Floats, low: float) -> NDArray[np.int64]: ...
def sheared(values: Floats, moved: Floats) -> Floats: ...
def cheapest_paths(
    ink: Floats, upwards: bool, paper: float, sideways: float
) -> tuple[Floats, NDArray[np.int8]]: ...
def cut(
    ink: Floats, kind: tuple[float, ...], threshold: float, least: float
) -> list[tuple[int, int, Floats]] | None: ...
def height_of_most(
    boxes: NDArray[np.int64],
    areas: NDArray[np.int64],
    chosen: NDArray[np.int64] | None,
    lowest: int,
) -> int: ...
def closed_marks(
    labels: NDArray[np.int32],
    boxes: NDArray[np.int64],
    areas: NDArray[np.int64],
    smallest: int,
    fullest: float,
    near: float,
    whole: float,
) -> list[int]: ...
def ink_of_marks(
    ink: Floats,
    labels: NDArray[np.int32],
    numbers: Sequence[int],
    boxes: Sequence[Sequence[int]],
) -> list[Floats]: ...
def candidates(
    pieces: Sequence[Piece], most: int, widest: float, smallest: float
) -> NDArray[np.int32]: ...
def drawn(
    pieces: Sequence[Piece], table: NDArray[np.int32], box: int, side: int
) -> NDArray[np.uint8]: ...
def search(
    table: NDArray[np.int32],
    gains: Floats,
    losses: Floats,
    alone: float,
    most: int,
    length: int | None,
) -> list[tuple[float, str, tuple[int, ...]]]: ...
def likely_texts(steps: Floats, least: float, most: int) -> list[str]: ...
def text_logs(steps: Floats, texts: Sequence[str], least: float) -> Floats: ...
def places(steps: Floats, text: str, least: float) -> NDArray[np.int32]: ...
