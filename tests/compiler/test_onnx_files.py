"""The envelope that ONNX networks come in: files beside the file, order, functions, types."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model, open_source
from fastdigit.compiler.frontends.onnx.constants import MAX_MADE, Evaluator
from fastdigit.compiler.frontends.onnx.graphs import MAX_NODES
from fastdigit.compiler.passes import optimize
from fastdigit.errors import ModelFormatError, UnsupportedError, VerificationError
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, engine, run_onnx

onnx = need("onnx")
need("onnxruntime")

T, helper = onnx.TensorProto, onnx.helper


def small(shape: tuple[Any, ...] = ("N", 1, 8, 8)) -> Any:
    net = OnnxNet(shape).conv(1, 4, (3, 3)).add("Relu").add("Flatten").gemm(144, 3)
    return net.model()


def computed(model: Any, batch: np.ndarray) -> np.ndarray:
    """What the imported network computes for a batch in the order of the source, in float64."""
    imported = import_model(model)
    graph = optimize(imported.graph)
    if imported.inputs[0].layout == "NCHW":
        batch = batch.transpose(0, 2, 3, 1)
    return reference.run_graph(graph, batch.reshape(len(batch), *graph.shapes[graph.input]))


BATCH = np.random.default_rng(0).random((3, 1, 8, 8))


# ---- weights beside the file -------------------------------------------------------------------


def save(model: Any, path: Path) -> Any:
    """Write a model with all its weights in ``weights.bin``; return what the file has."""
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return onnx.load(path, load_external_data=False)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A model with its weights in another file."""
    save(small(), tmp_path / "model" / "model.onnx")
    return tmp_path / "model" / "model.onnx"


def entries(model: Any, **values: str) -> None:
    """Give the first weights of a model other entries of external data; "" removes one."""
    tensor = model.graph.initializer[0]
    kept = {entry.key: entry.value for entry in tensor.external_data} | values
    del tensor.external_data[:]
    for key, value in kept.items():
        if value:
            tensor.external_data.add(key=key, value=value)


def test_weights_beside_the_file(beside: Path) -> None:
    want = run_onnx(small(), BATCH)
    np.testing.assert_allclose(computed(open_source(beside), BATCH), want, atol=1e-5)
    compile_model(beside, None, engine=engine)


def test_weights_in_a_directory_below(beside: Path) -> None:
    folder = beside.parent / "data"
    folder.mkdir()
    (beside.parent / "weights.bin").rename(folder / "weights.bin")
    model = onnx.load(beside, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "data/weights.bin"
    beside.write_bytes(model.SerializeToString())
    assert len(import_model(open_source(beside)).graph.nodes) > 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"location": "/etc/passwd"}, "from the directory of the model only"),
        ({"location": "../weights.bin"}, "from the directory of the model only"),
        ({"location": "data/../../weights.bin"}, "from the directory of the model only"),
        ({"location": "..\\weights.bin"}, "from the directory of the model only"),
        ({"location": ""}, "from the directory of the model only"),
        ({"location": "link"}, "is a link out of the directory"),
        ({"location": "elsewhere/weights.bin"}, "is a link out of the directory"),
        ({"location": "circle"}, "is no file|which is missing"),
        ({"location": "."}, "is a link out of|which is missing"),
        ({"location": "pipe"}, "which is missing"),
        ({"location": "gone.bin"}, "the file 'gone.bin', which is missing; it belongs beside"),
        ({"offset": "-1"}, "offset '-1' is not a number"),
        ({"offset": "1e3"}, "offset '1e3' is not a number"),
        ({"offset": "99999999"}, "bytes 99999999 to 100000143 of weights.bin, which has"),
        ({"length": "8"}, "8 bytes of weights.bin, expected 144 for shape"),
        ({"length": "9" * 30}, "is not a number"),
    ],
    ids=str,
)
def test_weights_that_are_elsewhere(beside: Path, values: dict[str, str], message: str) -> None:
    folder, outside = beside.parent, beside.parent.parent
    (outside / "weights.bin").write_bytes((folder / "weights.bin").read_bytes())
    (folder / "link").symlink_to(outside / "weights.bin")
    (folder / "elsewhere").symlink_to(outside)
    (folder / "circle").symlink_to(folder / "circle")
    os.mkfifo(folder / "pipe")
    model = onnx.load(beside, load_external_data=False)
    entries(model, **values)
    beside.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFormatError, match=message):
        open_source(beside)


def test_more_weights_than_the_file_has(beside: Path) -> None:
    model = onnx.load(beside, load_external_data=False)
    model.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]
    entries(model, length="")
    beside.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFormatError, match="more than 1073741824 bytes"):
        open_source(beside)


def test_a_constant_does_not_read_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = OnnxNet(("N", 4))
    value = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "secret")
    net.nodes.append(onnx.helper.make_node("Constant", [], ["c"], value=value))
    model = net.add("Add", None, "c").model()
    tensor = model.graph.node[0].attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    elsewhere.mkdir()
    here.mkdir()
    (elsewhere / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    monkeypatch.chdir(elsewhere)
    with pytest.raises(UnsupportedError, match="in another file, and a model in memory"):
        import_model(model)
    path = here / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFormatError, match=r"'secret\.bin', which is missing"):
        open_source(path)
    (here / "secret.bin").write_bytes(np.full(4, 2, dtype=np.float32).tobytes())
    np.testing.assert_array_equal(computed(open_source(path), np.ones((1, 4))), [[3] * 4])


def test_a_model_in_memory_has_no_directory(beside: Path) -> None:
    model = onnx.load(beside, load_external_data=False)
    with pytest.raises(UnsupportedError, match=r"or load it with onnx\.load\(path\)"):
        import_model(model)
    assert import_model(onnx.load(beside)).graph.nodes


# ---- order and functions -----------------------------------------------------------------------


def test_nodes_in_any_order() -> None:
    want = run_onnx(small(), BATCH)
    rng = np.random.default_rng(0)
    for _ in range(5):
        model = small()
        nodes = [model.graph.node[i] for i in rng.permutation(len(model.graph.node))]
        shuffled = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del model.graph.node[:]
        model.graph.node.extend(shuffled)
        before = model.SerializeToString()
        np.testing.assert_allclose(computed(model, BATCH), want, atol=1e-5)
        assert model.SerializeToString() == before


def test_a_node_that_needs_its_own_result() -> None:
    model = small()
    model.graph.node[0].input[0] = model.graph.node[1].output[0]
    with pytest.raises(ModelFormatError, match="needs its own result"):
        import_model(model)


def with_functions(*functions: Any, call: str) -> Any:
    model = OnnxNet(("N", 4)).add("Relu").model()
    node = model.graph.node[0]
    node.domain, node.op_type = "mine", call
    model.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    model.functions.extend(functions)
    return model


def function(name: str, *nodes: tuple[str, str]) -> Any:
    """A function of x that applies (domain, operator), one after the other."""
    made = [
        onnx.helper.make_node(op_type, [f"v{i}"], [f"v{i + 1}"], domain=domain)
        for i, (domain, op_type) in enumerate(nodes)
    ]
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("mine", 1)]
    return onnx.helper.make_function("mine", name, ["v0"], [f"v{len(nodes)}"], made, opsets)


def test_functions_are_inlined() -> None:
    inner = function("Inner", ("", "Neg"), ("", "Relu"))
    outer = function("Outer", ("mine", "Inner"), ("", "Tanh"))
    model = with_functions(inner, outer, call="Outer")
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(computed(model, x), np.tanh(np.maximum(-x, 0)), atol=1e-6)


def test_a_function_that_calls_itself() -> None:
    for called in ("Loop", "Fine"):
        functions = [function("Loop", ("mine", "Loop")), function("Fine", ("", "Relu"))]
        with pytest.raises(ModelFormatError, match="function 'Loop' calls itself"):
            import_model(with_functions(*functions, call=called))


def test_functions_that_double_at_each_call() -> None:
    functions = [function("F0", *[("", "Relu")] * 2)]
    functions += [function(f"F{i}", *[("mine", f"F{i - 1}")] * 2) for i in range(1, 60)]
    with pytest.raises(UnsupportedError, match=f"more than {MAX_NODES} nodes"):
        import_model(with_functions(*functions, call="F59"))


def test_too_many_nodes() -> None:
    net = OnnxNet(("N", 4))
    for _ in range(MAX_NODES + 1):
        net.add("Neg")
    with pytest.raises(UnsupportedError, match=f"more than {MAX_NODES} nodes"):
        import_model(net.model(check=False, infer=False))


def test_a_graph_without_a_name() -> None:
    model = small()
    model.graph.name = ""
    assert import_model(model).graph.nodes


@pytest.mark.parametrize("missing", ["shape", "type"])
def test_outputs_of_which_nothing_is_said(missing: str) -> None:
    """ONNX Runtime runs such files too. The model that is given stays as it is."""
    net = OnnxNet(("N", 4)).gemm(4, 3).add("Softmax")
    model = net.model(infer=False)
    (output,) = model.graph.output
    (output.type.tensor_type if missing == "shape" else output).ClearField(missing)
    before = model.SerializeToString()
    found = compile_model(model, None, engine=engine).verification
    assert found.max_error < 1e-6
    assert model.SerializeToString() == before
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UnsupportedError, match="'input' has no shape: export the model with one"):
        compile_model(model, None, engine=engine)


@pytest.mark.parametrize("shape", [(1,), ("N", 1), (), (2, "M"), None])
def test_inputs_that_no_output_needs(shape: tuple[int | str, ...] | None) -> None:
    model = OnnxNet(("N", 4)).gemm(4, 3).model()
    kind = onnx.TensorProto.FLOAT
    model.graph.input.append(onnx.helper.make_tensor_value_info("unused", kind, shape))
    result = compile_model(model, None, engine=engine)
    assert result.verification.max_error < 1e-6
    assert [port.name for port in import_model(model).inputs] == ["input"]


def test_an_input_with_its_batch_behind_the_steps() -> None:
    with pytest.raises(
        UnsupportedError, match=r"\[7, '\?', 3\], with its batch as axis 1; .*batch_f"
    ):
        import_model(OnnxNet((7, "N", 3)).add("Relu").model())


def test_weights_that_are_inputs_too() -> None:
    for version in (3, 8):
        model = small()
        model.ir_version = version
        for tensor in model.graph.initializer:
            entry = onnx.helper.make_tensor_value_info(tensor.name, T.FLOAT, tensor.dims)
            model.graph.input.append(entry)
        np.testing.assert_allclose(computed(model, BATCH), run_onnx(small(), BATCH), atol=1e-5)
        compile_model(model, None, engine=engine)


# ---- types -------------------------------------------------------------------------------------


def of_type(model: Any, dtype: int) -> Any:
    """A model with all that is FLOAT of another type."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.value_info[:]
    for tensor in model.graph.initializer:
        if tensor.data_type == T.FLOAT:
            array = onnx.numpy_helper.to_array(tensor)
            kind = onnx.helper.tensor_dtype_to_np_dtype(dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(kind), tensor.name))
    for entry in (*model.graph.input, *model.graph.output):
        entry.type.tensor_type.elem_type = dtype
    return model


@pytest.mark.parametrize(
    ("dtype", "name", "error"),
    [(T.FLOAT16, "float16", 1e-2), (T.BFLOAT16, "bfloat16", 1e-1), (T.DOUBLE, "float64", 1e-5)],
)
def test_other_precisions(dtype: int, name: str, error: float) -> None:
    model = of_type(small(), dtype)
    assert import_model(model).inputs[0].dtype == name
    want = run_onnx(small(), BATCH)
    np.testing.assert_allclose(computed(model, BATCH), want, atol=error)
    result = compile_model(model, None, engine=engine).verification
    assert f"a {name} model, computed in float32" in result.reference
    assert result.max_error < 1e-5


def test_weights_of_half_precision_in_a_network_of_float32() -> None:
    net = OnnxNet(("N", 6))
    half = onnx.numpy_helper.from_array(net.rng.normal(size=(6, 3)).astype(np.float16), "half")
    net.weights.append(half)
    net.nodes.append(onnx.helper.make_node("Cast", ["half"], ["whole"], to=T.FLOAT))
    model = net.add("MatMul", None, "whole").model()
    x = np.random.default_rng(0).random((3, 6))
    np.testing.assert_allclose(computed(model, x), run_onnx(model, x), atol=1e-6)
    compile_model(model, None, engine=engine)


def test_a_half_precision_network_that_is_another_in_float32() -> None:
    """What is infinite in float16 is not in float32."""
    net = OnnxNet(("N", 4)).add("Mul", None, np.float32(3e4)).add("Mul", None, np.float32(3e4))
    with pytest.raises(VerificationError, match="float16 model returns something else in float32"):
        compile_model(of_type(net.model(), T.FLOAT16), None, engine=engine)


def test_bytes_that_are_cast() -> None:
    net = OnnxNet(("N", 8, 8, 1)).add("Transpose", perm=[0, 3, 1, 2]).add("Cast", to=T.FLOAT)
    net.add("Div", None, np.float32(255)).conv(1, 4, (3, 3)).add("Flatten").gemm(144, 3)
    model = net.model(check=False, infer=False)
    model.graph.input[0].type.tensor_type.elem_type = T.UINT8
    assert import_model(model).inputs[0].dtype == "uint8"
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    want = session.run(None, {"input": images})[0]
    np.testing.assert_allclose(computed(model, images.astype(np.float64)), want, atol=1e-5)


def test_arithmetic_on_bytes_is_refused() -> None:
    net = OnnxNet(("N", 4)).add("Max", None, np.ones(4, np.uint8)).add("Cast", to=T.FLOAT)
    model = net.model(check=False, infer=False)
    model.graph.input[0].type.tensor_type.elem_type = T.UINT8
    with pytest.raises(UnsupportedError, match="works on integers, which the input is"):
        import_model(model)


# ---- labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [[], ["Cast"], ["Squeeze", "Identity"]], ids=str)
@pytest.mark.parametrize("opset", [11, 18])
def test_labels_are_compiled_as_their_scores(behind: list[str], opset: int) -> None:
    net = OnnxNet(("N", 1, 8, 8), opset).add("Flatten").gemm(64, 5).add("Softmax")
    keep = int("Squeeze" in behind)
    net.add("ArgMax", axis=1, keepdims=keep)
    for op_type in behind:
        if op_type == "Squeeze" and opset < 13:
            net.add("Squeeze", axes=[1])
        else:
            net.add(
                op_type,
                *([None, np.array([1])] if op_type == "Squeeze" else []),
                **({"to": T.INT32} if op_type == "Cast" else {}),
            )
    model = net.model(check=False)
    model.graph.output[0].type.tensor_type.elem_type = T.INT32 if "Cast" in behind else T.INT64
    scores = computed(model, BATCH)
    assert scores.shape == (3, 5)
    np.testing.assert_array_equal(scores.argmax(axis=1), run_onnx(model, BATCH).ravel())
    compile_model(model, None, engine=engine)


def test_labels_of_pixels_are_compiled_as_their_scores() -> None:
    net = OnnxNet(("N", 1, 8, 8)).conv(1, 3, (3, 3)).add("ArgMax", axis=1, keepdims=0)
    model = net.model(check=False)
    model.graph.output[0].type.tensor_type.elem_type = T.INT64
    scores = computed(model, BATCH).reshape(3, 3, 6, 6)
    np.testing.assert_array_equal(scores.argmax(axis=1), run_onnx(model, BATCH))


def test_the_last_of_equal_scores_is_refused() -> None:
    model = OnnxNet(("N", 4)).add("Tanh").add("ArgMax", axis=1, select_last_index=1).model()
    with pytest.raises(UnsupportedError, match="the first of equal scores"):
        import_model(model)


# ---- limits ------------------------------------------------------------------------------------


def test_constants_are_bounded_together() -> None:
    """Each is allowed; all together are not."""
    net = OnnxNet(("N", 4))
    sums = []
    for _ in range(5):
        net.add("ConstantOfShape", np.array([MAX_MADE // 32]))
        sums.append(net.add("ReduceSum", None, np.array([0]), keepdims=1).last)
    net.last = "input"
    for name in sums:
        net.add("Add", None, name)
    with pytest.raises(UnsupportedError, match="makes constants of more than"):
        import_model(net.model(check=False, infer=False))


HUGE = np.array([1 << 40])


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes"),
    [
        ("ConstantOfShape", [HUGE], {}),
        ("Expand", [np.ones(1), HUGE], {}),
        ("Tile", [np.ones(1), HUGE], {}),
        ("Range", [np.int64(0), np.int64(1 << 40), np.int64(1)], {}),
        ("Add", [np.ones((1 << 16, 1)), np.ones((1, 1 << 16))], {}),
        ("Where", [np.ones((1 << 16, 1), bool), np.ones((1, 1 << 16)), np.float32(0)], {}),
        ("Max", [np.ones((1 << 16, 1)), np.ones((1, 1 << 16))], {}),
        ("Gather", [np.ones((1, 1 << 16)), np.zeros(1 << 16, np.int64)], {}),
        ("Concat", [np.ones(1 << 20)] * 99, {"axis": 0}),
    ],
)
def test_a_constant_is_refused_before_it_is_made(
    op_type: str, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    tracemalloc.start()
    evaluator = Evaluator()
    before = tracemalloc.get_traced_memory()[0]
    with pytest.raises(UnsupportedError, match="makes constants of more than 268435456 bytes"):
        evaluator.evaluate(op_type, inputs, attributes)
    with pytest.raises(UnsupportedError):  # as is all that comes behind it
        evaluator.evaluate("Neg", [np.ones(1)], {})
    assert tracemalloc.get_traced_memory()[1] - before < 1 << 16
    tracemalloc.stop()


def test_a_file_may_make_in_proportion_to_what_it_stores() -> None:
    weights = np.broadcast_to(np.float32(0), (1 << 24,))
    assert len(Evaluator(4 << 24).evaluate("Concat", [weights] * 5, {"axis": 0})[0]) == 5 << 24
    with pytest.raises(UnsupportedError, match="makes constants"):
        Evaluator().evaluate("Concat", [weights] * 5, {"axis": 0})


@pytest.mark.parametrize("kind", [T.STRING, T.COMPLEX64, T.COMPLEX128])
def test_constants_are_numbers(kind: int) -> None:
    net = OnnxNet(("N", 4))
    name = net.add("Cast", np.ones(4), to=kind).add("Cast", None, to=T.FLOAT).last
    net.last = "input"
    with pytest.raises(UnsupportedError, match=f"becomes {T.DataType.Name(kind)}, not numbers"):
        import_model(net.add("Add", None, name).model(check=False, infer=False))


@pytest.mark.parametrize("scalar", [False, True])
def test_a_network_holds_numbers_in_proportion_to_its_file(scalar: bool) -> None:
    """300 bytes took gigabytes: one constant in many operators, of a few bytes or expanded."""
    net = OnnxNet(("N", 1 << 23))
    name = net.add("Expand", np.ones((1, 1)), np.array([1, 1 if scalar else 1 << 23])).last
    net.last = "input"
    for _ in range(9):
        net.add("Add", None, name)
    with pytest.raises(UnsupportedError, match=r"holds \d+ numbers, where the source stores"):
        import_model(net.model(check=False, infer=False))


def test_nodes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdigit.compiler.frontends.common.MAX_NODES", 10)
    net = OnnxNet(("N", 4))
    for _ in range(11):
        net.add("Relu")
    with pytest.raises(UnsupportedError, match=r"the network has more than 10 operators$"):
        import_model(net.model())


def test_outputs_are_bounded() -> None:
    net = OnnxNet(("N", 4))
    for _ in range(70):
        net.add("Relu")
    model = net.model()
    model.graph.output.extend(
        helper.make_tensor_value_info(f"x{index}", T.FLOAT, ["N", 4]) for index in range(65)
    )
    with pytest.raises(UnsupportedError, match="66 outputs, at most 64 fit: choose some"):
        import_model(model)


def test_an_attribute_of_a_function_that_is_not_there() -> None:
    """Found by fuzzing: ONNX's own checker lets it pass."""
    net = OnnxNet((None, 6))
    net.gemm(6, 4)
    model = net.model()
    model.graph.node[0].attribute.add(name="transB", ref_attr_name="x", type=2)
    with pytest.raises(ModelFormatError, match=r"'x' of a function, but the node is in none"):
        import_model(model)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    """Found by fuzzing: protobuf decodes text when it is asked for."""
    net = OnnxNet((None, 6))
    net.gemm(6, 4)
    model = net.model()
    model.graph.name = "networks"
    model.graph.output[0].ClearField("type")
    data = model.SerializeToString().replace(b"networks", b"netw\x8crks")
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFormatError, match="text that is not UTF-8"):
        import_model(open_source(path))
