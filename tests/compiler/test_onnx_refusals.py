"""What the ONNX front end refuses, by name, and files that are damaged."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.compiler.frontends import import_model, open_source
from fastdigit.compiler.passes import optimize
from fastdigit.errors import ModelFormatError, UnsupportedError
from tests.support import need
from tests.support.compiler_cases import OnnxNet
from tests.support.onnx_nets import image_net

onnx = need("onnx")
need("onnxruntime")


def test_refuses_operators_that_the_exporter_left():
    net = OnnxNet(("N", 5)).add("Erfc")
    with pytest.raises(UnsupportedError, match=r"'erfc0' \(Erfc\): ONNX has no such operator"):
        import_model(net.model(check=False))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (image_net().add("Sin"), r"node 'sin0' \(Sin\) is not supported$"),
        (image_net().conv(1, 3, (3, 3), group=2), "2 groups for 3 outputs"),
        (image_net().add("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), "dilations=.2, 2."),
        (image_net().add("Softmax", axis=0), "axis=0; supported is an axis behind the batch"),
        (image_net().add("Concat", None, "input", axis=0), "axis=0 of rank 4"),
        (image_net().add("LayerNormalization", None, np.ones(6), axis=0), "axis=0; supported"),
        (image_net().add("Clip", None, np.float32(np.nan)), "'clip0'"),
        (image_net().add("Pow", None, np.float32(5)), "exponent 5.0; supported is 1, 2, 3, 4 or"),
        (image_net().add("Celu", alpha=0.0), "alpha=0.0; supported is finite and > 0"),
        (image_net().add("LRN", size=0), "a size of at least 1"),
        (image_net().add("LRN", size=3, bias=0.0), "bias > 0"),
        (image_net().add("PRelu", None, np.ones((3, 1, 1))), "enlarges an image"),
        (OnnxNet(("N", 6), opset=24).add("Swish", alpha=0.0), "alpha=0.0"),
        (image_net().add("HardSigmoid", beta=float("inf")), "beta=inf"),
        (OnnxNet(("N", 6), opset=20).add("Gelu", approximate="sine"), "approximate=sine"),
        (image_net().add("Flatten", axis=2), "axis=2; supported is 1"),
        (
            image_net().add("Transpose", perm=[1, 0, 2, 3]).add("Softmax", axis=1),
            "an axis behind the batch",
        ),
        (
            image_net().add("Transpose", perm=[1, 0, 2, 3]).add("Flatten"),
            "a value with its batch as axis 1; supported is one with its batch first",
        ),
        (
            image_net().add("Transpose", perm=[1, 0, 2, 3]).add("Add", None, "input"),
            r"values with their batches as axes \[0, 1\]; supported is one axis for all",
        ),
        (image_net().add("Reshape", None, np.array([3, -1])), "keeps the batch an axis"),
        (
            image_net().add("Reshape", None, np.array([-1, 36])),
            "has several rows for an image",
        ),
        (image_net().add("Pad", None, np.array([0, 0, -6, 0] + [0] * 4)), "that leave something"),
        (image_net().add("Mul", None, np.ones((2, 2, 6, 6))), "the same for each image"),
        (image_net().add("Mul", None, np.ones((1, 1, 1, 1, 1))), "of at most its rank"),
        (image_net(1).add("Mul", None, np.ones((3, 1, 1))), "enlarges an image"),
        (image_net().add("Div", None, np.float32(0)), "a division by zero"),
        (image_net().add("LeakyRelu", alpha=-0.5), "alpha=-0.5"),
        (image_net().add("Mul", None, np.float32(np.nan)), "not finite"),
        (image_net().add("ReduceMean", None, np.array([0, 1])), r"axes \[0, 1\] of rank 4"),
        (
            image_net().add("ReduceMean", None, np.array([1, 2, 3]), keepdims=0),
            "a single number as the result",
        ),
        (
            OnnxNet(("N", 2, 6, 6), 21).add(
                "GroupNormalization", None, np.ones(2), np.ones(2), num_groups=3
            ),
            "3 groups of 2 channels",
        ),
        (OnnxNet(("N", 6)).add("GlobalMaxPool"), "an input of 0 spatial dimensions"),
        (OnnxNet(("N", 2, 1)).add("Reshape", None, np.array([0])).add("Neg"), "shape"),
        (OnnxNet(("N", 6)).add("Gemm", None, np.ones((6, 2)), transA=1), "transA=1"),
        (OnnxNet(("N", 6)).add("MatMul", np.ones((6, 6)), "input"), "input 0 is a constant"),
        (OnnxNet(("N", 6)).add("MatMul", "input", "input"), "input 1 depends on the image"),
        (OnnxNet(("N", "M")).add("Relu"), r"has shape \['\?', '\?'\]"),
        (OnnxNet(("N", 1, 1, 1, 1)).add("Relu"), "1 to 3 dimensions behind it"),
        (OnnxNet(("N", 1 << 13, 1 << 13)).add("Relu"), "more than 16777216 elements"),
        (image_net().add("Relu").add("Shape"), "does not depend on the input"),
        (image_net().add("Dropout", None, None, np.array(True)), "training_mode is true"),
        (
            image_net().add("BatchNormalization", None, *[np.ones(2)] * 4, training_mode=1),
            "training_mode=1",
        ),
        (
            OnnxNet(("N", 4)).add("QuantizeLinear", None, np.float32(1), np.uint8(0)),
            r"node 'quantizelinear0' \(QuantizeLinear\) is not supported: the model is quantized",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.nodes[-1].op_type,
)
def test_refuses(net, message):
    with pytest.raises(UnsupportedError, match=message):
        optimize(import_model(net.model(check=False)).graph)


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
def test_refuses_quantized_models(form, tmp_path):
    """As ONNX Runtime's own tools quantize them."""
    from onnxruntime import quantization

    net = OnnxNet(("N", 1, 8, 8)).conv(1, 8, (3, 3)).add("Relu").add("MaxPool", kernel_shape=[2, 2])
    source, path = tmp_path / "source.onnx", tmp_path / "quantized.onnx"
    onnx.save(net.add("Flatten").gemm(200, 8).add("Relu").gemm(8, 3).model(), source)

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.left = iter([{"input": np.random.default_rng(0).random((4, 1, 8, 8), np.float32)}])

        def get_next(self):
            return next(self.left, None)

    if form == "dynamic":
        quantization.quantize_dynamic(source, path)
    else:
        kind = quantization.QuantFormat[form]
        quantization.quantize_static(source, path, Reader(), quant_format=kind)
    with pytest.raises(
        UnsupportedError, match="the model is quantized; compile the model in float32"
    ):
        import_model(open_source(path))


@pytest.mark.parametrize(
    ("op_type", "domain"),
    [
        *[(op, "") for op in ("DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger")],
        *[(op, "") for op in ("DynamicQuantizeLinear", "MatMulInteger", "QuantizeLinear")],
        *[(op, "com.microsoft") for op in ("QLinearAdd", "QGemm", "DynamicQuantizeMatMul")],
    ],
)
def test_refuses_each_quantized_operator_by_name(op_type, domain):
    net = OnnxNet(("N", 4))
    net.nodes.append(onnx.helper.make_node("Relu", ["input"], ["x"]))
    net.nodes.append(onnx.helper.make_node(op_type, ["x"], ["y"], "q", domain=domain))
    net.last = "y"
    model = net.model(check=False, infer=False)
    with pytest.raises(
        UnsupportedError, match=rf"'q' \({op_type}\) is not supported: the model is q"
    ):
        import_model(model)


def test_refuses_another_domain():
    net = OnnxNet(("N", 4))
    net.nodes.append(onnx.helper.make_node("Gelu", ["input"], ["y"], "g"))
    net.last = "y"
    model = net.model(check=False)
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedError, match=r"'g' \(Gelu\): domain 'com.microsoft'"):
        import_model(model)


def test_refuses_a_second_output_of_a_node():
    net = image_net().add("MaxPool", kernel_shape=[2, 2])
    net.nodes[-1].output.append("indices")
    net.add("Cast", "indices", to=1)
    with pytest.raises(UnsupportedError, match="output 'indices' is used"):
        import_model(net.model())


def test_refuses_an_input_of_other_integers():
    model = OnnxNet(("N", 4)).add("Cast", to=1).model()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(UnsupportedError, match="has type INT64; supported are FLOAT, FLOAT16"):
        import_model(model)


def test_refuses_weights_in_another_file():
    model = OnnxNet(("N", 4)).gemm(4, 2).model()
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(UnsupportedError, match="are in another file, and a model in memory"):
        import_model(model)


def test_refuses_weights_of_wrong_length():
    model = OnnxNet(("N", 4)).gemm(4, 2).model()
    model.graph.initializer[0].raw_data = b"\0" * 12
    with pytest.raises(ModelFormatError):
        import_model(model)


def test_refuses_invalid_models(tmp_path):
    model = image_net().add("Relu").model()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ModelFormatError, match="not a valid ONNX model"):
        import_model(model)
    path = tmp_path / "noise.onnx"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(
        ModelFormatError, match=r"noise\.onnx: no ONNX model, or one that is .* damaged"
    ):
        open_source(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_else(data):
    """Flip bytes of a valid file: it compiles, or one of the two errors says why not."""
    original = image_net().conv(2, 3, (3, 3)).add("Relu").add("Flatten").gemm(48, 3).model()
    damaged = bytearray(original.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        # The structure is at the beginning and the end; the middle is weights.
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    try:
        model = onnx.load_model_from_string(bytes(damaged))
    except Exception:
        return
    with np.errstate(all="ignore"), contextlib.suppress(UnsupportedError, ModelFormatError):
        optimize(import_model(model).graph)


def test_weights_without_elements():
    net = OnnxNet(("N", 4)).add("MatMul", None, np.zeros((4, 0), np.float32))
    with pytest.raises(UnsupportedError, match=r"'matmul0' .*has no elements"):
        import_model(net.model(check=False))
