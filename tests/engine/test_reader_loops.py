"""The reader's loops in C, held to the same in NumPy (tests/support/reader_reference.py)."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.reader import _loops
from tests.support import reader_reference as reference
from tests.support.planes import planes


@settings(deadline=None, max_examples=60)
@given(planes(), st.booleans(), st.integers(1, 17))
def test_page_ink(grey: np.ndarray, dark: bool, block: int) -> None:
    ink, contrast, noise = _loops.page_ink(grey, dark, block)
    want, contrast_wanted, noise_wanted = reference.page_ink(grey, dark, block)
    np.testing.assert_allclose([contrast, noise], [contrast_wanted, noise_wanted], atol=1e-12)
    # Where there is next to nothing, rounding decides between paper and ink.
    if contrast > 1e-9:
        np.testing.assert_allclose(ink, want, rtol=1e-6, atol=1e-6)
