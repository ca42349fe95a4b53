"""Planes of pixels for Hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

__all__ = ["planes", "seeds", "sizes"]

sides = st.one_of(st.integers(1, 12), st.integers(1, 60))
sizes = st.tuples(sides, sides)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def planes(draw: st.DrawFn) -> np.ndarray:
    """Noise, light with strokes on it, few different values, or one."""
    height, width = draw(sizes)
    rng = np.random.default_rng(draw(seeds))
    kind = draw(st.sampled_from(["noise", "strokes", "few", "one", "blank"]))
    values = rng.random((height, width))
    if kind == "strokes":
        y, x = np.indices(values.shape)
        light = 0.9 - 0.2 * x / width - 0.1 * y / height + 0.02 * values
        inked = (np.abs(y - height / 2) < 1.5) | (np.abs(x - width / 3) < height / 8)
        values = np.where(inked, 0.3 * light, light)
    elif kind == "few":
        values = np.rint(3 * values) / 3
    elif kind in ("one", "blank"):
        values = np.full(values.shape, 0.0 if kind == "blank" else 0.7)
        if kind == "one":
            values[rng.integers(height), rng.integers(width)] = rng.random()
    return values
