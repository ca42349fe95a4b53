"""Networks in ONNX that several tests write, and what compiling them gives."""

import numpy as np
from hypothesis import strategies as st

from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.passes import optimize
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, engine, run_onnx

need("onnx")
need("onnxruntime")


def compiled(net_or_model, **options):
    """Compile and verify; return the program."""
    model = net_or_model.model() if isinstance(net_or_model, OnnxNet) else net_or_model
    return unpack(compile_model(model, None, engine=engine, **options).data)


def ops(program):
    return [record.opcode for record in program.records[1:]]


def same(net, expect, shape=None, **options):
    """Compile, compare with ONNX Runtime (as compiling does), and expect these operators."""
    program = compiled(net, **options)
    assert ops(program) == expect.split()
    if shape is not None:
        assert program.records[0].output_shape == shape
    return program


SIZE = st.integers(1, 3)
PADS = st.lists(st.integers(0, 2), min_size=4, max_size=4)


@st.composite
def windows(draw):
    """(height, width, attributes) of a convolution or pooling."""
    attributes = {
        "kernel_shape": [draw(SIZE), draw(SIZE)],
        "strides": [draw(SIZE), draw(SIZE)],
    }
    auto = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto != "NOTSET":
        attributes["auto_pad"] = auto
    else:
        attributes["pads"] = draw(PADS)
    return draw(st.integers(5, 9)), draw(st.integers(5, 9)), attributes


def imported_agrees(net):
    model = net.model()
    graph = optimize(import_model(model).graph)
    batch = np.random.default_rng(0).normal(size=(2, *net.shape[1:])).astype(np.float32)
    got = reference.run_graph(graph, batch.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(got, run_onnx(model, batch), atol=1e-5)


def image_net(channels=2):
    return OnnxNet(("N", channels, 6, 6))
