"""What the benchmark uses; the tests use more."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

def algorithm_costs(
    sizes: Sequence[int],
    vector: int,
    kernel: Sequence[int],
    stride: Sequence[int] = ...,
    dilation: Sequence[int] = ...,
    activation: int = ...,
    pool_mode: int = ...,
    pool: Sequence[int] = ...,
    pool_stride: Sequence[int] = ...,
) -> tuple[str, dict[str, int]]: ...
def winograd_sizes(name: str) -> tuple[int, int, int]: ...

class Kernels:
    def __init__(self, isa: str) -> None: ...
    @property
    def vector_floats(self) -> int: ...
    def probe_fma(self, rounds: int) -> tuple[int, float]: ...
    def probe_dot(self, rounds: int) -> tuple[int, int]: ...
    def probe_read(self, x: npt.NDArray[np.float32], passes: int) -> float: ...
