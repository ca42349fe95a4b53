"""ONNX values whose batch is fixed, elsewhere, or joined with rows, held against ONNX Runtime."""

import numpy as np
import pytest

from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model
from fastdigit.errors import UnsupportedError, VerificationError
from tests.support import need
from tests.support.compiler_cases import OnnxNet, engine
from tests.support.onnx_nets import compiled, ops, same

need("onnx")
need("onnxruntime")


@pytest.mark.parametrize("batch", ["N", 2])
@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 4)], ids=str)
def test_a_product_of_rows_joined_with_the_batch(batch, shape):
    """As exporters write a dense layer of each step or pixel."""
    net = OnnxNet((batch, *shape)).add("Shape", "input")
    dims = net.last
    net.add("Reshape", "input", np.array([-1, 4])).gemm(4, 5).add("Relu")
    net.add("MatMul", None, net.rng.normal(size=(5, 7))).add("Add", None, net.rng.normal(size=7))
    rows = net.last
    net.add("Slice", dims, np.array([0]), np.array([-1]))
    net.add("Concat", None, np.array([7]), axis=0).add("Reshape", rows, None)
    program = same(net, "CONV2D CONV2D")
    assert program.graph.shapes[program.graph.output][-1] == 7


def test_rows_joined_with_the_batch_are_rows_to_the_end():
    net = OnnxNet(("N", 6, 4)).add("Reshape", None, np.array([-1, 4]))
    with pytest.raises(UnsupportedError, match="output 'x0' has several rows for an image"):
        import_model(net.model())
    net.add("Softmax", axis=0)
    with pytest.raises(UnsupportedError, match=r"\(Softmax\): axis=0 of the rows of an image"):
        import_model(net.model())
    net = OnnxNet(("N", 4, 4)).add("Reshape", None, np.array([-1, 4]))
    with pytest.raises(UnsupportedError, match=r"\(Add\): input 1 with the rows of an image"):
        import_model(net.add("Add", None, "input").model(check=False))


def test_zero_in_a_reshape_copies_the_batch():
    net = OnnxNet(("N", 2, 3, 3)).add("Relu").add("Reshape", None, np.array([0, -1])).gemm(18, 4)
    assert ops(compiled(net))[-1] == "DENSE"


@pytest.mark.parametrize("batch", [1, 5])
def test_a_fixed_batch(batch):
    net = OnnxNet((batch, 2, 3, 3)).conv(2, 3, (2, 2)).add("Reshape", None, np.array([batch, 12]))
    assert ops(compiled(net.gemm(12, 4))) == ["CONV2D", "DENSE"]


def test_rows_read_as_channels():
    net = OnnxNet(("N", 1, 6, 5)).add("Transpose", perm=[0, 3, 1, 2]).conv(5, 2, (1, 2))
    program = compiled(net.add("Flatten").gemm(10, 3))
    assert ops(program) == ["CONV2D", "DENSE"]
    assert program.records[0].output_shape == (1, 6, 5)


@pytest.mark.parametrize("rows", [-1, "computed"])
def test_a_dense_layer_of_pixels_as_rows(rows):
    """As tf2onnx has it: (N, h, w, c) becomes (N h w, c), is multiplied, and becomes an image."""
    net = OnnxNet(("N", 5, 6, 3), 13)
    target = np.array([-1, 3])
    if rows == "computed":
        net.add("Shape", "input").add("Slice", None, *map(np.array, ([0], [3])))
        net.add("ReduceProd", None, axes=[0]).add("Concat", None, np.array([3]), axis=0)
        target = net.last
    net.add("Reshape", "input", target).add("MatMul", None, net.rng.normal(size=(3, 4)))
    net.add("Add", None, net.rng.normal(size=4)).add("Relu").gemm(4, 2)
    net.add("Reshape", None, np.array([-1, 5, 6, 2])).add("Flatten")
    assert ops(compiled(net.gemm(60, 2))) == ["CONV2D", "CONV2D", "DENSE"]


def test_refuses_other_work_on_rows():
    net = OnnxNet(("N", 5, 6, 3), 13).add("Reshape", None, np.array([-1, 3]))
    with pytest.raises(UnsupportedError, match="output 'x0' has several rows for an image"):
        import_model(net.model())
    with pytest.raises(UnsupportedError, match="axis=0 of the rows of an image; supported is 1"):
        import_model(net.add("Softmax", axis=0).model())
    net = OnnxNet(("N", 5, 6, 3), 13).add("Reshape", None, np.array([-1, 3])).add("GlobalMaxPool")
    with pytest.raises(UnsupportedError, match="with the rows of an image"):
        import_model(net.model(check=False, infer=False))


@pytest.mark.parametrize(
    ("batch", "message"),
    [(0, "takes exactly 0 images at once"), (10**9, "takes exactly 1,000,000,000 images at once")],
)
def test_a_batch_that_cannot_be_run(batch, message):
    net = OnnxNet((batch, 2, 6, 6)).add("Relu")
    with pytest.raises(VerificationError, match=message):
        compile_model(net.model(check=False), None, engine=engine)


def steps_first(net, steps, features):
    """A sequence (N, features, steps), as (steps, N, features)."""
    return net.add("Tanh").add("Transpose", perm=[2, 0, 1])


@pytest.mark.parametrize(
    "behind",
    [
        lambda net: net.add("Relu"),
        lambda net: net.add("Add", None, net.rng.normal(size=4)),
        lambda net: net.add("Mul", None, net.rng.normal(size=(5, 1, 4))),
        lambda net: net.add("Sub", net.rng.normal(size=(5, 1, 1)), net.last),
        lambda net: net.add("PRelu", None, net.rng.normal(size=(1, 4))),
        lambda net: net.add("Clip", None, np.float32(-0.5), np.float32(0.5)),
        lambda net: net.add("Softmax", axis=2),
        lambda net: net.add("Softmax", axis=0),
        lambda net: net.add("MatMul", None, net.rng.normal(size=(4, 3))),
        lambda net: net.add("Concat", None, net.last, axis=0),
        lambda net: net.add("Concat", net.last, net.last, axis=-1),
        lambda net: net.add("ReduceMean", None, np.array([0]), keepdims=0).gemm(4, 3),
        lambda net: net.add("ReduceMax", None, np.array([2]), keepdims=1),
        lambda net: net.add("ReduceSum", None, np.array([2, 0]), keepdims=1),
        lambda net: net.add("Unsqueeze", None, np.array([0, 3])).add("Neg"),
        lambda net: net.add("Unsqueeze", None, np.array([1])).add("Squeeze", None, np.array([1])),
        lambda net: net.add("Transpose", perm=[1, 0, 2]).add("Flatten").gemm(20, 3),
        lambda net: net.add("Transpose", perm=[1, 2, 0]).add("Flatten").gemm(20, 3),
        lambda net: net.add("Transpose", perm=[2, 0, 1]).add("Sigmoid"),
        lambda net: net.add("Reshape", None, np.array([5, -1, 2, 2])).add("Neg"),
        lambda net: net.add("Reshape", None, np.array([0, 0, 2, -1])).add("Neg"),
        lambda net: (
            net.add("Reshape", None, np.array([-1, 4]))
            .gemm(4, 6)
            .add("Reshape", None, np.array([5, -1, 6]))
        ),
        lambda net: net.add("Add", None, net.last).add("Max", None, net.last).add("Neg"),
    ],
)
@pytest.mark.parametrize("batch", ["N", 1])
def test_values_with_their_batch_elsewhere(behind, batch):
    """What PyTorch writes of recurrent networks has the steps first."""
    net = behind(steps_first(OnnxNet((batch, 4, 5)), 5, 4))
    compiled(net)


def test_the_shape_of_a_value_with_its_batch_elsewhere():
    net = steps_first(OnnxNet(("N", 4, 5)), 5, 4)
    steps = net.last
    net.add("Shape").add("Gather", None, np.array([0, 1]), axis=0)
    net.add("Concat", None, np.array([2, 2]), axis=0).add("Reshape", steps, None)
    compiled(net.add("Neg"))


def test_several_heads_in_a_stack():
    """Of one image, each head has an axis in front, along which they are joined."""
    net = OnnxNet((1, 6)).add("Tanh")
    hidden, heads = net.last, []
    for _ in range(3):
        net.last = hidden
        heads.append(net.gemm(6, 4).add("Unsqueeze", None, np.array([0])).last)
    program = compiled(net.add("Concat", *heads, axis=0))
    assert program.meta["output"]["shape"] == [3, 4]
