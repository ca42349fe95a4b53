"""Networks on disk for the drivers of tests/csrc/drivers, and what must come out of them."""

from __future__ import annotations

import functools
import zlib
from pathlib import Path

import numpy as np

from fastdigit.compiler.ir import Activation, Graph, Pool
from fastdigit.compiler.limits import NARROW
from fastdigit.compiler.ops import Softmax
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from tests.support import reference
from tests.support.c_build import run_checked
from tests.support.cases import CONVS, DENSES, Conv, Dense
from tests.support.networks import affine, chain, conv, dense, packed, seed_network, small_networks


def _conv_network(case: Conv) -> Graph:
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    shape = (case.height, case.width, case.in_channels)
    sizes = [
        (shape[d] + case.pad[d] + case.pad[d + 2] - case.dilation[d] * (case.kernel[d] - 1) - 1)
        // case.stride[d]
        + 1
        for d in (0, 1)
    ]
    options: dict[str, object] = {
        "stride": case.stride,
        "dilation": case.dilation,
        "pad": case.pad,
        "activation": Activation(case.activation, case.alpha),  # type: ignore[arg-type]
    }
    if case.axis:
        axis = ("height", "width", "channel").index(case.axis)
        options["affine"] = affine(rng, axis, (*sizes, case.channels)[axis])
    if case.pool_mode:
        options["pool"] = Pool(case.pool_mode, case.pool, case.pool_stride, case.pool_pad)  # type: ignore[arg-type]
    return chain(shape, [conv(rng, case.kernel, case.in_channels, case.channels, **options)])


def _dense_network(case: Dense) -> Graph:
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    activation = Activation(case.activation, case.alpha)  # type: ignore[arg-type]
    return chain((case.depth,), [dense(rng, case.depth, case.channels, activation=activation)])


@functools.cache
def networks() -> dict[str, Graph]:
    """Small networks of every kind, and the cases of the kernel tests as networks of one layer."""
    one_layer = {str(case): _conv_network(case) for case in CONVS}
    for case in DENSES:
        if case.depth * case.channels < 50_000:
            one_layer[f"{case.depth}x{case.channels}-{case.activation}"] = _dense_network(case)
    small = small_networks()
    for precision in ("fp16", "int8", "int8-dynamic"):
        for name in ("perceptron", "lenet"):
            small[f"{name} in {precision}"] = quantize_weights(small[name], precision)
    for case in DENSES:
        if case.depth * case.channels < 50_000 and case.channels > NARROW:
            name = f"{case.depth}x{case.channels}-{case.activation} in int8-dynamic"
            one_layer[name] = quantize_weights(_dense_network(case), "int8-dynamic")
    return {**small, **one_layer}


@functools.cache
def seed() -> dict[str, Graph]:
    return {"seed": seed_network()}


def images(graph: Graph, n: int) -> np.ndarray:
    """Half of the pixels zero; the first image blank, the last one full."""
    rng = np.random.default_rng(n)
    x = rng.random((n, *graph.shapes[graph.input]), np.float32)
    x[rng.random(x.shape) < 0.5] = 0.0
    x[:1], x[1:][-1:] = 0.0, 1.0
    return x


def write(folder: Path, graphs: dict[str, Graph], n: int) -> list[Path]:
    """Write each network and `n` images for it; returns the stems that run_model takes."""
    stems = []
    for i, graph in enumerate(graphs.values()):
        stem = folder / f"{i}"
        Path(f"{stem}.fdm").write_bytes(packed(graph))
        images(graph, n).tofile(f"{stem}.in")
        stems.append(stem)
    return stems


@functools.cache
def _wanted(name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    graph = (networks() | seed())[name]
    values = reference.run_graph(graph, images(graph, n)).reshape(n, -1)
    if not isinstance(graph.nodes[-1].op, Softmax):
        return values, values
    head = Graph(graph.inputs, graph.nodes[-1].inputs, graph.nodes[:-1], graph.shapes)
    return values, reference.run_graph(head, images(graph, n)).reshape(n, -1)


def check(
    command: list[str | Path],
    folder: Path,
    graphs: dict[str, Graph],
    n: int,
    isa: str,
    threads: int = 1,
    **environment: str,
) -> None:
    """Run `command` (run_model, perhaps under an emulator) on `n` images for each network.

    The driver itself checks that the size of a batch changes no bit. Here its results meet the
    float64 reference, and the ISA it chose the one expected.
    """
    stems = write(folder, graphs, n)
    assert run_checked([*command, str(threads), *stems], **environment).strip() == isa
    for name, stem in zip(graphs, stems, strict=True):
        got = np.fromfile(f"{stem}.out", np.float32).reshape(2, n, -1)
        for kind, out, want in zip(("values", "logits"), got, _wanted(name, n), strict=True):
            # Where other layers come before quantised inputs, their last bit may matter; alone,
            # such a layer has the reference's bits (but for activations that are not exact).
            atol = 1e-5 * max(1.0, float(np.abs(want).max()))
            if name == "lenet in int8-dynamic":
                atol = 1e-2
            elif name.endswith(("linear in int8-dynamic", "relu in int8-dynamic")):
                atol = 0.0
            what = f"{kind} of {name} on {isa}"
            np.testing.assert_allclose(out, want, rtol=0, atol=atol, err_msg=what)
