"""Networks of several inputs and outputs, from a source to a file that is held against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit.compiler import frontends, unpack
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.driver import compile_model, verify_model
from fastdigit.compiler.frontends import FrontEnd, Imported, ImportOptions, Port
from fastdigit.compiler.frontends.common import GraphBuilder
from fastdigit.compiler.ir import Activation, Graph, Node
from fastdigit.compiler.ops import Concat, Dense, Eltwise, Reshape, Softmax, Transpose, make_graph
from fastdigit.compiler.passes import optimize
from fastdigit.compiler.spec import verify
from fastdigit.errors import InputError, UnsupportedError, VerificationError
from tests.support import reference
from tests.support.compiler_cases import engine
from tests.support.networks import RELU, conv, dense, two_headed


class Source:
    """A network that is its own source."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph


def import_source(source: Source, options: ImportOptions) -> Imported:
    builder = GraphBuilder()
    for value in source.graph.inputs:
        builder.input(value, source.graph.shapes[value])
    known = {value: value for value in source.graph.inputs}
    for node in source.graph.nodes:
        known[node.output] = builder.add(node.name, node.op, *(known[v] for v in node.inputs))
    names = options.choose(source.graph.outputs)
    graph = builder.build(*(known[name] for name in names))
    inputs = tuple(Port(value, graph.shapes[value]) for value in graph.inputs)
    outputs = tuple(Port(name, source.graph.shapes[name]) for name in names)
    return Imported(graph, "own", "heads", inputs, outputs)


def runner(source: Source, imported: Imported) -> tuple[str, Any]:
    return "float64", lambda inputs: reference.run_outputs(imported.graph, inputs)


@pytest.fixture(autouse=True)
def own_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    own = FrontEnd(
        name="own",
        title="",
        model="a graph",
        suffixes=(),
        marker=None,
        extra="",
        verified_by="",
        summary="",
        read=lambda path: None,
        owns=lambda model: isinstance(model, Source),
        import_model=import_source,
        runner=runner,
    )
    monkeypatch.setattr(frontends, "FRONT_ENDS", (*frontends.FRONT_ENDS, own))


SOURCE = Source(two_headed())
RANGES = {"meta": (-5.0, 5.0)}


def test_all_of_it() -> None:
    result = compile_model(SOURCE, None, engine=engine, input_range=RANGES)
    program = unpack(result.data)
    assert [port.name for port in program.inputs] == ["image", "meta"]
    assert [port.range for port in program.inputs] == [(0.0, 1.0), (-5.0, 5.0)]
    assert [port.u8_divisor for port in program.inputs] == [255, 0]
    assert program.outputs == SOURCE.graph.outputs
    assert result.verification.max_error < 1e-5
    described = program.meta["outputs"]
    assert [entry["name"] for entry in described] == list(SOURCE.graph.outputs)
    assert described[1]["classes"] == ["0", "1"]
    assert [entry["name"] for entry in program.meta["inputs"]] == ["image", "meta"]
    assert verify_model(result.data, SOURCE, engine=engine).max_error < 1e-5


def test_an_output_is_chosen() -> None:
    """What the others need is gone, and so is an input that only they read."""
    whole = compile_model(SOURCE, None, engine=engine, input_range=RANGES)
    mask = compile_model(SOURCE, None, engine=engine, outputs=["mask"])
    program = unpack(mask.data)
    assert ([port.name for port in program.inputs], program.outputs) == (["image"], ("mask",))
    assert len(program.graph.nodes) == 3
    assert len(mask.data) < len(whole.data)
    assert verify_model(mask.data, SOURCE, engine=engine).max_error < 1e-5
    both = unpack(compile_model(SOURCE, None, engine=engine, outputs=["flag", "digit"]).data)
    assert both.outputs == ("flag", "digit")
    for wrong, said in (
        (["age"], "there is no output 'age'; the model has 'digit', 'flag'"),
        ([], "expected one or more"),
        (["flag", "flag"], "each once"),
    ):
        with pytest.raises(InputError, match=said):
            compile_model(SOURCE, None, engine=engine, outputs=wrong)


def test_each_output_is_held_against_its_source() -> None:
    for index, name in enumerate(SOURCE.graph.outputs):

        def wrong(
            data: bytes, inputs: Sequence[np.ndarray], index: int = index
        ) -> list[np.ndarray]:
            outputs = engine(data, inputs)
            outputs[index][7] += 0.01
            return outputs

        with pytest.raises(VerificationError, match=f"output '{name}': "):
            compile_model(SOURCE, None, engine=wrong)


def test_arguments_by_name() -> None:
    letters = [*"abcdefghij"]
    result = compile_model(
        SOURCE, None, engine=engine, classes={"digit": letters, "flag": ["no", "yes"]}
    )
    assert [entry["classes"] for entry in result.meta["outputs"]][:2] == [letters, ["no", "yes"]]
    assert compile_model(SOURCE, None, engine=engine, classes=letters).meta["classes"] == letters
    rng = np.random.default_rng(0)
    samples = {"meta": rng.random((9, 4)), "image": rng.random((9, 8, 8))}
    seen: list[np.ndarray] = []

    def watching(data: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        seen[:] = inputs
        return engine(data, inputs)

    result = compile_model(SOURCE, None, engine=watching, samples=samples, labels=[1] * 9)
    assert result.verification.samples == 9 and result.verification.accuracy is not None
    np.testing.assert_array_equal(seen[1], samples["meta"].astype(np.float32))
    for options, said in (
        ({"classes": {"age": ["a"]}}, "classes given for \\['age'\\]"),
        ({"classes": {"flag": ["a"]}}, "1 classes given, expected 2"),
        ({"input_range": {"age": (0, 1)}}, "input_range is for \\['age'\\]"),
        ({"samples": samples["image"]}, "expected samples by name, or in order"),
        ({"samples": {"image": samples["image"]}}, "expected them for"),
        ({"samples": (samples["image"], samples["meta"][:3])}, "not as many of each"),
    ):
        with pytest.raises(InputError, match=said):
            compile_model(SOURCE, None, engine=engine, **options)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="temperature is for networks of one"):
        compile_model(SOURCE, None, engine=engine, temperature=2.0)
    with pytest.raises(UnsupportedError, match="mean, std and scale are for networks of one input"):
        compile_model(SOURCE, None, engine=engine, mean=0.5)


def test_a_shape_that_the_network_does_not_take() -> None:
    for wrong in ((9, 8, 1), {"image": (9, 8, 1)}, {"photo": (8, 8, 1)}):
        with pytest.raises(InputError, match=r"but the model takes 'image' of \(8, 8, 1\), 'meta'"):
            compile_model(SOURCE, None, engine=engine, input_shape=wrong)
    right = compile_model(SOURCE, None, engine=engine, input_shape=(8, 8, 1))
    assert right.meta["input_shape"] == [8, 8, 1]
    assert verify_model(right.data, SOURCE, engine=engine).max_error < 1e-5


def test_in_the_engine(tmp_path: Path) -> None:
    path = tmp_path / "heads.fdm"
    fastdigit.compile(SOURCE, path, input_range=RANGES, precision="fp32")
    model = fastdigit.load(path, output="flag")
    rng = np.random.default_rng(0)
    given = (rng.random((5, 8, 8, 1), np.float32), rng.random((5, 4), np.float32))
    for result, want in zip(
        model.run(given).values(), reference.run_outputs(SOURCE.graph, given), strict=True
    ):
        np.testing.assert_allclose(result, want, atol=1e-5)
    assert model.classes == ("0", "1")
    assert fastdigit.verify(path, SOURCE).max_error < 1e-5


# ---- Passes ----


def heads() -> Iterator[tuple[str, Graph]]:
    """Graphs whose outputs are in the way of passes."""
    rng = np.random.default_rng(3)
    relu = Eltwise(RELU)

    def graph(
        nodes: Sequence[tuple[Any, str, str]], outputs: Sequence[str], **inputs: Any
    ) -> Graph:
        return make_graph(
            inputs or {"x": (6, 5, 4)},
            [Node(out, op, tuple(source.split()), out) for op, source, out in nodes],
            outputs,
        )

    layer = conv(rng, (3, 3), 4, 6, pad=(1, 1, 1, 1))
    yield "before its activation", graph([(layer, "x", "a"), (relu, "a", "b")], ["a", "b"])
    yield (
        "before its softmax",
        graph([(dense(rng, 120, 7), "x", "a"), (Softmax(), "a", "b")], ["b", "a"]),
    )
    yield (
        "a transpose that others read",
        graph(
            [
                (layer, "x", "a"),
                (Transpose((2, 0, 1)), "a", "b"),
                (Transpose((1, 2, 0)), "b", "c"),
                (relu, "c", "d"),
            ],
            ["b", "d"],
        ),
    )
    yield (
        "a reshape twice",
        graph(
            [(layer, "x", "a"), (Reshape((180,)), "a", "b"), (dense(rng, 180, 3), "b", "c")],
            ["b", "c", "b"],
        ),
    )
    yield "an identity", graph([(layer, "x", "a"), (Eltwise(), "a", "b")], ["b", "a"])
    yield (
        "a vector, then an image",
        graph(
            [(layer, "x", "a"), (dense(rng, 180, 3), "a", "b"), (layer_of(rng), "a", "c")],
            ["b", "c"],
        ),
    )
    yield (
        "two inputs",
        graph(
            [(dense(rng, 120, 7), "x", "a"), (Concat(0), "a y", "b"), (dense(rng, 9, 2), "b", "c")],
            ["c", "a"],
            x=(6, 5, 4),
            y=(2,),
        ),
    )
    dead = Dense(np.zeros((9, 3)), np.ones(3), Activation("relu"))
    yield (
        "an input without weight",
        graph(
            [(dense(rng, 120, 7), "x", "a"), (Concat(0), "a y", "b"), (dead, "b", "c")],
            ["c", "a"],
            x=(6, 5, 4),
            y=(2,),
        ),
    )
    yield (
        "inputs of two axes",
        graph(
            [(Reshape((3, 2, 1)), "x", "a"), (conv(rng, (2, 2), 1, 3), "a", "b"), (relu, "y", "c")],
            ["b", "c"],
            x=(3, 2),
            y=(4, 3),
        ),
    )


def layer_of(rng: np.random.Generator) -> Any:
    return conv(rng, (3, 3), 6, 2, activation=RELU)


@pytest.mark.parametrize(("name", "before"), list(heads()), ids=lambda value: str(value)[:30])
def test_passes_keep_all_outputs(name: str, before: Graph) -> None:
    after = optimize(before)
    verify(after)
    rng = np.random.default_rng(1)
    given = [rng.normal(size=(3, *before.shapes[value])) for value in before.inputs]
    taken = [x.reshape(3, *after.shapes[v]) for x, v in zip(given, after.inputs, strict=True)]
    want, got = reference.run_outputs(before, given), reference.run_outputs(after, taken)
    for expected, result in zip(want, got, strict=True):
        np.testing.assert_allclose(result.reshape(expected.shape), expected, atol=1e-12)
    names = tuple(after.inputs), tuple(f"output {i}" for i in range(len(after.outputs)))
    read = unpack(pack(after, {}, names=names))
    assert (tuple(port.name for port in read.inputs), read.outputs) == names
    for expected, result in zip(want, reference.run_outputs(read.graph, taken), strict=True):
        np.testing.assert_allclose(result.reshape(expected.shape), expected, atol=1e-5)


def test_vectors_come_last() -> None:
    graph = optimize(dict(heads())["a vector, then an image"])
    assert [len(graph.shapes[node.output]) for node in graph.nodes] == [3, 3, 1]


def test_an_output_that_is_an_input_is_refused() -> None:
    graph = make_graph({"x": (4,)}, [Node("a", Eltwise(RELU), ("x",), "a")], ["a", "x"])
    with pytest.raises(UnsupportedError, match="an output of the network is an input as it is"):
        optimize(graph)


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_cannot_be_stored(name: str) -> None:
    with pytest.raises(UnsupportedError, match="an output is named"):
        pack(two_headed(), {}, names=(["a", "b"], ["c", "d", "e", "f", name]))


def test_long_names_are_cut() -> None:
    names = [f"{index}{'ä' * 200}" for index in range(5)]
    read = unpack(pack(two_headed(), {}, names=(["a", "b"], names)))
    assert read.outputs == tuple(f"{index}{'ä' * 123}" for index in range(5))
    with pytest.raises(UnsupportedError, match="that is no other's in its first 247 bytes"):
        pack(two_headed(), {}, names=(["a", "b"], [name[1:] + name[0] for name in names]))
