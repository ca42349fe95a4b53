"""How the planner chooses an algorithm for a convolution: by shape, from a written cost model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import native

HALVE = {"pool_mode": 1, "pool": (2, 2), "pool_stride": (2, 2)}
AVERAGE = {**HALVE, "pool_mode": 2}
OVERLAP = {**HALVE, "pool": (3, 3)}


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [
        ((32, 12, 12, 48), {"kernel": (3, 3), **HALVE}, "winograd_4x4_3x3"),  # the seed's second
        ((48, 6, 6, 64), {"kernel": (2, 2), **HALVE}, "winograd_2x2_2x2"),  # and third
        ((1, 26, 26, 32), {"kernel": (3, 3), **HALVE}, "conv2d"),  # and first: nothing to sum over
        ((32, 12, 12, 48), {"kernel": (5, 5)}, "winograd_2x2_5x5"),
        ((16, 14, 14, 16), {"kernel": (5, 5), **HALVE}, "winograd_2x2_5x5"),
        ((6, 10, 10, 16), {"kernel": (5, 5), **HALVE}, "conv2d"),  # LeNet-5's second, and colours:
        ((3, 26, 26, 32), {"kernel": (5, 5)}, "conv2d"),  # transforms would take too much
        ((3, 32, 32, 32), {"kernel": (3, 3)}, "conv2d"),
        ((8, 60, 60, 8), {"kernel": (3, 3)}, "winograd_4x4_3x3"),
        ((32, 12, 12, 48), {"kernel": (7, 7)}, "conv2d"),
        ((32, 12, 12, 48), {"kernel": (3, 2)}, "conv2d"),
        ((32, 12, 12, 48), {"kernel": (3, 3), "stride": (1, 2)}, "conv2d"),
        ((32, 12, 12, 48), {"kernel": (3, 3), "dilation": (2, 1)}, "conv2d"),
        ((32, 12, 12, 48), {"kernel": (3, 3), "activation": 6}, "winograd_4x4_3x3"),
        ((32, 12, 12, 48), {"kernel": (3, 3), **AVERAGE}, "winograd_4x4_3x3"),
        ((32, 12, 12, 48), {"kernel": (3, 3), **OVERLAP}, "winograd_4x4_3x3"),
        ((32, 11, 12, 48), {"kernel": (3, 3), **HALVE}, "winograd_4x4_3x3"),
        ((32, 1, 1, 48), {"kernel": (3, 3)}, "conv2d"),
        ((128, 16, 16, 128), {"kernel": (3, 3)}, "winograd_4x4_3x3"),  # 2.3 MiB of weights
        ((128, 6, 6, 128), {"kernel": (3, 3)}, "conv2d"),  # are too many for so few patches
        ((32, 1, 96, 32), {"kernel": (1, 3)}, "winograd_1x4_1x3"),
        ((32, 96, 1, 32), {"kernel": (3, 1)}, "winograd_4x1_3x1"),
        ((64, 16, 16, 64), {"kernel": (1, 5)}, "winograd_1x4_1x5"),
        ((64, 16, 16, 64), {"kernel": (5, 1), **HALVE}, "winograd_4x1_5x1"),
        ((128, 17, 17, 128), {"kernel": (1, 7)}, "winograd_1x2_1x7"),
        ((128, 17, 17, 128), {"kernel": (7, 1)}, "winograd_2x1_7x1"),
        ((8, 16, 16, 8), {"kernel": (7, 1)}, "conv2d"),  # transforms would take too much
        ((3, 1, 96, 32), {"kernel": (1, 5)}, "conv2d"),
        ((64, 1, 96, 4), {"kernel": (1, 5)}, "conv2d"),  # columns abreast
        ((32, 1, 96, 32), {"kernel": (1, 3), "stride": (1, 2)}, "conv2d"),
        ((32, 1, 96, 32), {"kernel": (1, 3), "dilation": (1, 2)}, "conv2d"),
        ((32, 1, 96, 32), {"kernel": (1, 9)}, "conv2d"),
        ((32, 16, 16, 64), {"kernel": (3, 3), "stride": (2, 2)}, "winograd_2x2_3x3_stride2"),
        ((16, 16, 16, 16), {"kernel": (3, 3), "stride": (2, 2)}, "conv2d"),
        ((256, 14, 14, 512), {"kernel": (3, 3)}, "winograd_4x4_3x3"),  # 18 MiB of them,
        ((256, 7, 7, 512), {"kernel": (3, 3)}, "conv2d"),  # too many for so few patches
        ((320, 14, 14, 512), {"kernel": (3, 3)}, "conv2d"),  # and more is too much for any
    ],
)
def test_choice(sizes, options, expected: str) -> None:
    chosen, costs = native.algorithm_costs(sizes, **options)
    assert chosen == expected, costs


@given(
    st.tuples(*[st.integers(1, 200)] * 4),
    st.sampled_from([(2, 2), (3, 3), (5, 5), (1, 1), (3, 1), (1, 5), (1, 7)]),
)
def test_the_chosen_algorithm_is_the_cheapest_possible(sizes, kernel) -> None:
    """Of all widths of vectors together, so that every ISA has the same one."""
    chosen, costs = native.algorithm_costs(sizes, kernel=kernel)
    possible = {name: cost for name, cost in costs.items() if cost}
    assert chosen in possible and costs[chosen] == min(possible.values())
    lanes = sum(-(-sizes[3] // width) * width for width in (4, 8, 16))
    assert costs["conv2d"] == kernel[0] * kernel[1] * sizes[0] * sizes[1] * sizes[2] * lanes


@pytest.mark.parametrize("name", [name for name in native.ALGORITHMS if name != "conv2d"])
def test_filters_are_transformed_exactly(name: str) -> None:
    """G g G' of a filter that is 1 at one tap is the outer product of two columns of G."""
    m, r, positions, stride = native.winograd_sizes(name)
    sides = [(m[d] - 1) * stride + r[d] for d in range(2)]
    taps = r[0] * r[1]
    assert positions == sides[0] * sides[1]
    eye = np.eye(taps, 32, dtype=np.float32)  # channel t has a 1 at tap t
    out = np.empty(positions * 32, np.float32)
    native.winograd_transform(name, eye.ravel(), (1, 4, 4, 32), out)
    u = out.reshape(*sides, 32)[..., :taps]
    # The value at infinity is the last tap; at the point 0 it is the first, up to its scale.
    assert u[-1, -1].tolist() == [0.0] * (taps - 1) + [1.0]
    assert u[0, 0].tolist() == [1.0] + [0.0] * (taps - 1)
    # All of them are outer products: of rank 1.
    for tap in range(taps):
        assert np.linalg.matrix_rank(u[..., tap].astype(np.float64), tol=1e-6) == 1
