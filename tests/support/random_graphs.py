"""Random graphs, as Hypothesis draws them: for the passes, the packer and the reader."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from fastdigit.compiler.ir import Activation, Affine, Graph, Op
from fastdigit.compiler.ops import Crop, Eltwise, Pad, Pool2D, Reshape, Softmax, Transpose
from tests.support.compiler_cases import affine, average_pool, chain, conv, dense, max_pool

TO_NHWC, TO_NCHW = Transpose((1, 2, 0)), Transpose((2, 0, 1))

SIDES = st.tuples(*(st.integers(0, 2),) * 4)
PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))
ACTIVATION = st.sampled_from(
    [
        Activation("relu"),
        Activation("leaky_relu", 0.3),
        Activation("elu", 1.0),
        Activation("selu"),
        Activation("sigmoid"),
        Activation("tanh"),
        Activation("clipped_relu", 0.5),
        Activation("hard_sigmoid", 0.2),
        Activation("hard_swish"),
        Activation("silu"),
        Activation("softplus"),
        Activation("gelu"),
        Activation("gelu_tanh"),
        Activation("softsign"),
        Activation("mish"),
        Activation("abs"),
    ]
)


@st.composite
def networks(draw: Any) -> Graph:
    """A random network: image operators, here and there in NCHW; then, perhaps, vectors."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = start = draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)))
    ops = []

    def add(op: Op) -> None:
        nonlocal shape
        ops.append(op)
        shape = chain(shape, op).shapes["v1"]

    def add_affine(axis: int) -> None:
        op = affine(generator, axis, shape[axis])
        if draw(st.booleans()):
            op = Eltwise(affine=Affine(axis, abs(op.affine.scale), op.affine.shift))
        add(op)

    def window(bound: tuple[int, ...]) -> tuple[int, int]:
        sizes = draw(PAIR)
        return min(sizes[0], bound[0]), min(sizes[1], bound[1])

    for kind in draw(st.lists(st.sampled_from("caaeeppzk"), min_size=1, max_size=8)):
        nchw = kind in "aezk" and draw(st.booleans())
        if nchw:
            add(TO_NCHW)
        if kind == "c":
            pad = draw(SIDES)
            kernel = window((shape[0] + pad[0] + pad[2], shape[1] + pad[1] + pad[3]))
            stride = draw(PAIR)
            add(conv(generator, kernel, shape[2], draw(st.integers(1, 4)), pad=pad, stride=stride))
        elif kind == "a":
            add_affine(draw(st.integers(0, 2)))
        elif kind == "e":
            add(Eltwise(draw(ACTIVATION)))
        elif kind == "p":
            size, mode = window(shape), draw(st.sampled_from([max_pool, average_pool]))
            pad = tuple(min(p, size[i % 2] - 1) for i, p in enumerate(draw(SIDES)))
            pool = mode(1)
            add(Pool2D(type(pool)(pool.mode, size, draw(PAIR), pad)))
        elif kind == "k":
            axis = draw(st.integers(0, 2))
            before = draw(st.integers(0, shape[axis] - 1))
            cut = (before, draw(st.integers(0, shape[axis] - 1 - before)))
            add(Crop(tuple(cut if other == axis else (0, 0) for other in range(3))))
        else:
            widths = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
            spatial = (1, 2) if nchw else (0, 1)
            add(Pad(tuple(widths if axis in spatial else (0, 0) for axis in range(3))))
        if nchw:
            add(TO_NHWC)
    if draw(st.booleans()):
        if draw(st.booleans()):
            add(TO_NCHW)
        add(Reshape((int(np.prod(shape)),)))
        for kind in draw(st.lists(st.sampled_from("aed"), max_size=5)):
            if kind == "a":
                add_affine(0)
            elif kind == "e":
                add(Eltwise(draw(ACTIVATION)))
            else:
                add(dense(generator, shape[0], draw(st.integers(1, 5))))
    add(Eltwise(draw(ACTIVATION)))  # so that there is at least one operator
    if len(shape) == 1 and draw(st.booleans()):
        add(Softmax())
    return chain(start, *ops)
