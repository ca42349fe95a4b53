import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

def page_ink(grey: Floats, dark: bool, block: int) -> tuple[Floats, float, float]: ...
