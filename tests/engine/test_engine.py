"""The engine as a whole: right against the float64 reference, invariant, shared, bounded."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit import Model, _core
from fastdigit.compiler.ir import Activation, Graph, Pool
from fastdigit.compiler.ops import Dense, Softmax
from fastdigit.errors import InputError
from tests.support import reference
from tests.support.networks import (
    HALVE,
    RELU,
    affine,
    chain,
    conv,
    cut_layers,
    dense,
    packed,
    seed_network,
    small_networks,
)

USABLE = [name for name, usable in _core.isas() if usable]
SMALL = small_networks()


@pytest.fixture(params=USABLE)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every ISA of this CPU in turn."""
    monkeypatch.setenv("FASTDIGIT_ISA", request.param)
    return request.param


@pytest.fixture(scope="module")
def seed_bytes() -> bytes:
    return packed(seed_network())


def images(shape: tuple[int, ...], n: int, seed: int = 0) -> np.ndarray:
    """Half of the pixels zero, as in a digit; the first image blank, the last one full."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, *shape), np.float32)
    x[rng.random(x.shape) < 0.5] = 0.0
    x[:1] = 0.0
    x[1:][-1:] = 1.0
    return x


def close(got: np.ndarray, graph: Graph, x: np.ndarray) -> None:
    want = reference.run_graph(graph, x)
    assert got.shape == (len(x), want[0].size)
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want.reshape(got.shape), rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", SMALL)
def test_small_networks(isa: str, name: str) -> None:
    graph = SMALL[name]
    model = Model(packed(graph))
    assert model.info()["isa"] == isa
    x = images(graph.shapes[graph.input], 35)
    ends_in_softmax = isinstance(graph.nodes[-1].op, Softmax)
    assert model.info()["has_softmax"] == ends_in_softmax
    got = model.predict_proba(x) if ends_in_softmax else model.logits(x)
    close(got, graph, x)
    if model.has_labels:
        np.testing.assert_array_equal(model.predict(x), got.argmax(1))


def test_seed_network(isa: str, seed_bytes: bytes) -> None:
    graph = seed_network()
    model = Model(seed_bytes)
    x = images((28, 28, 1), 40)
    probabilities = model.predict_proba(x)
    close(probabilities, graph, x)
    close(
        model.logits(x),
        Graph(graph.inputs, graph.nodes[-1].inputs, graph.nodes[:-1], graph.shapes),
        x,
    )
    np.testing.assert_array_equal(model.predict(x), probabilities.argmax(1))
    # conv2 and conv3 skip the last row and column, which floor pooling never reads.
    assert model.info()["multiply_adds"] == (
        26 * 26 * 9 * 32 + 12 * 12 * 9 * 32 * 48 + 6 * 6 * 4 * 48 * 64 + 576 * 3168 + 3168 * 10
    )


def selector(temperature: float) -> Model:
    """Its three logits are its three inputs."""
    graph = chain((3,), [Dense(np.eye(3, dtype=np.float32)), Softmax(temperature)])
    return Model(packed(graph, input_range=(-np.inf, np.inf), u8_divisor=0))


@pytest.mark.parametrize("temperature", [1e-30, 0.05, 0.7, 1.0, 1.3, 20.0, 1e30])
def test_temperature(isa: str, temperature: float) -> None:
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(500, 3)) * 10.0 ** rng.uniform(-3, 3, (500, 1))).astype(np.float32)
    x[:20] *= np.float32(1e34)  # differences overflow when divided
    model, plain = selector(temperature), selector(1.0)
    with np.errstate(over="ignore"):
        exact = x.astype(np.float64) - x.max(axis=1, keepdims=True)
        want = reference.softmax(exact / float(np.float32(temperature)))
    np.testing.assert_allclose(model.predict_proba(x), want, rtol=0, atol=1e-5)
    assert model.logits(x).tobytes() == plain.logits(x).tobytes() == x.tobytes()
    np.testing.assert_array_equal(model.predict(x), x.argmax(1))
    rows = [model.predict_proba(x[i : i + 1]) for i in range(len(x))]
    assert np.concatenate(rows).tobytes() == model.predict_proba(x).tobytes()


@pytest.mark.parametrize("temperature", [1e-3, 0.3, 1.0, 1.7, 1e3])
def test_a_temperature_never_changes_a_label(isa: str, temperature: float) -> None:
    """Logits a rounding apart, whose quotients and probabilities are equal; and equal ones."""
    x = np.random.default_rng(0).normal(size=300).astype(np.float32)
    above = np.nextafter(x, np.float32(np.inf))
    model = selector(temperature)
    cases = (([x, above, x], 1), ([x - 1, x, above], 2), ([above, x, above], 0), ([x, x, x], 0))
    for columns, label in cases:
        logits = np.stack(columns, axis=1)
        np.testing.assert_array_equal(model.predict(logits), np.full(300, label))
    if temperature == 1e3:
        logits = np.stack([x, above, x], axis=1)
        assert (model.predict_proba(logits).argmax(1) == 0).all(), "labels are not read from these"


@pytest.mark.parametrize("pool", [None, "max", "average"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_few_channels(isa: str, pool: str | None, activation: str, axis: int | None) -> None:
    """Neighbouring outputs side by side in a vector, as many as fit and divide a row."""
    rng = np.random.default_rng(0)
    for channels in range(1, 10):
        for cols, stride, kernel in ((12, 1, 5), (16, 1, 3), (9, 1, 2), (10, 2, 3), (6, 3, 1)):
            shape = (7, (cols - 1) * stride + kernel, 2)
            op = conv(
                rng,
                (3, kernel),
                2,
                channels,
                stride=(1, stride),
                activation=Activation(activation),
                affine=None if axis is None else affine(rng, axis, (5, cols, channels)[axis]),
                pool=pool and Pool(pool, (2, 2), (2, 2)),
            )
            graph = chain(shape, [op])
            x = images(shape, 3, seed=channels)
            close(Model(packed(graph)).run(x).reshape(3, -1), graph, x)


@pytest.mark.parametrize("pool", [None, "max"])
@pytest.mark.parametrize("channels", [1, 5, 8, 16, 20, 32, 48])
def test_one_channel(isa: str, pool: str | None, channels: int) -> None:
    """A first layer as of a digit: 3x3 adjacent pixels have their own tiles, all else has not."""
    rng = np.random.default_rng(channels)
    for kernel in ((3, 3), (1, 9), (9, 1), (3, 4), (2, 3)):
        for stride, dilation in itertools.product(((1, 1), (1, 2), (2, 1)), repeat=2):
            op = conv(
                rng,
                kernel,
                1,
                channels,
                stride=stride,
                dilation=dilation,
                pad=(1, 0, 0, 2),
                activation=Activation("relu"),
                pool=pool and Pool(pool, (2, 2), (2, 2)),
            )
            graph = chain((19, 26, 1), [op])
            x = images((19, 26, 1), 3, seed=channels)
            close(Model(packed(graph)).run(x).reshape(3, -1), graph, x)


@st.composite
def random_networks(draw: st.DrawFn) -> Graph:
    """Chains of convolutions with every option, then dense layers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    small = st.integers(1, 3)
    shape: tuple[int, ...] = (
        draw(st.integers(1, 12)),
        draw(st.integers(1, 12)),
        draw(st.integers(1, 5)),
    )
    first, ops = shape, []
    activations = st.sampled_from(
        [Activation(n) for n in ("linear", "relu", "selu", "sigmoid", "tanh")]
        + [Activation("leaky_relu", 0.2)]
    )
    for _ in range(draw(st.integers(0, 3))):
        kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
        dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        pad = tuple(draw(st.integers(0, 2)) for _ in range(4))
        stride = (draw(small), draw(small))
        rows = (shape[0] + pad[0] + pad[2] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
        cols = (shape[1] + pad[1] + pad[3] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
        if rows < 1 or cols < 1:
            continue
        channels = draw(st.integers(1, 40))
        axis = draw(st.sampled_from([None, 0, 1, 2]))
        pool = None
        size = (draw(small), draw(small))
        if draw(st.booleans()) and size[0] <= rows and size[1] <= cols:
            pool_pad = tuple(draw(st.integers(0, size[side % 2] - 1)) for side in range(4))
            pool = Pool(
                draw(st.sampled_from(["max", "average"])),
                size,
                (draw(small), draw(small)),
                pool_pad,
            )  # type: ignore[arg-type]
        ops.append(
            conv(
                rng,
                kernel,
                shape[2],
                channels,
                stride=stride,
                dilation=dilation,
                pad=pad,
                activation=draw(activations),
                pool=pool,
                affine=None if axis is None else affine(rng, axis, (rows, cols, channels)[axis]),
            )
        )
        shape = chain(first, ops).shapes[f"v{len(ops)}"]
    for _ in range(draw(st.integers(0 if ops else 1, 2))):
        outputs = draw(st.integers(1, 120))
        ops.append(dense(rng, int(np.prod(shape)), outputs, activation=draw(activations)))
        shape = (outputs,)
    if len(shape) == 1 and draw(st.booleans()):
        ops.append(Softmax())
    return chain(first, ops)


@given(graph=random_networks(), n=st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_random_networks(graph: Graph, n: int) -> None:
    x = images(graph.shapes[graph.input], n)
    model = Model(packed(graph))
    got = model.logits(x) if not isinstance(graph.nodes[-1].op, Softmax) else model.predict_proba(x)
    if n:
        close(got, graph, x)
        rows = [model.logits(x[i : i + 1]) for i in range(n)]
        assert np.concatenate(rows).tobytes() == model.logits(x).tobytes()


# ---- A row's result is its own ----


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_batch_invariance(isa: str, seed_bytes: bytes, threads: int) -> None:
    one, model = Model(seed_bytes), Model(seed_bytes, threads=threads)
    x = images((28, 28, 1), 131)
    want = np.concatenate([one.logits(x[i : i + 1]) for i in range(len(x))])
    want_proba = np.concatenate([one.predict_proba(x[i : i + 1]) for i in range(len(x))])
    for n in (1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 64, 65, 131):
        for start in sorted({0, 1, 50, len(x) - n}):
            if start + n <= len(x):
                assert (
                    model.logits(x[start : start + n]).tobytes()
                    == want[start : start + n].tobytes()
                )
    assert model.predict_proba(x).tobytes() == want_proba.tobytes()
    order = np.random.default_rng(0).permutation(len(x))
    assert model.logits(x[order]).tobytes() == want[order].tobytes()


@pytest.mark.parametrize("name", SMALL)
def test_batch_invariance_of_small_networks(isa: str, name: str) -> None:
    model = Model(packed(SMALL[name]), threads=2)
    x = images(SMALL[name].shapes["v0"], 70)
    together = model.logits(x)
    for i in range(len(x)):
        assert model.logits(x[i : i + 1]).tobytes() == together[i : i + 1].tobytes()


def test_threads_share_one_image(isa: str) -> None:
    """Whatever a layer is cut into: its bits are those of one thread, and they are right.

    The first images that are alone are one thread's, and so are some of the others.
    """
    graph = cut_layers()
    one = Model(packed(graph))
    x = images(graph.shapes["v0"], 6)
    close(one.predict_proba(x), graph, x)
    want = [one.logits(x[i : i + 1]).tobytes() for i in range(len(x))]
    for threads in (2, 3, 7):
        model = Model(packed(graph), threads=threads)
        for _ in range(20):  # a thread that comes late does nothing
            assert [model.logits(x[i : i + 1]).tobytes() for i in range(len(x))] == want
        for n in (2, 3):
            for first in (0, 3):
                some = x[first : first + n]
                assert model.logits(some).tobytes() == one.logits(some).tobytes()


def test_a_bad_value_of_a_shared_image_is_refused(isa: str) -> None:
    graph = cut_layers()
    model = Model(packed(graph), threads=2)
    x = images(graph.shapes["v0"], 1)
    for _ in range(3):  # later ones are shared
        want = model.logits(x)
    for index in (0, x.size - 1):
        bad = x.copy()
        bad.flat[index] = np.nan
        with pytest.raises(InputError, match=f"element {index} of image 0 is not finite"):
            model.logits(bad)
    assert model.logits(x).tobytes() == want.tobytes()


def test_bytes_are_the_floats_they_stand_for(isa: str, seed_bytes: bytes) -> None:
    model = Model(seed_bytes)
    x = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    assert (
        model.logits(x).tobytes() == model.logits(x.astype(np.float32) / np.float32(255)).tobytes()
    )


# ---- Shared by threads and processes ----


def test_many_threads_share_a_model(seed_bytes: bytes) -> None:
    model = Model(seed_bytes, threads=2)
    x = images((28, 28, 1), 60)
    want = model.logits(x)
    start = threading.Barrier(8)

    def work(i: int) -> bool:
        start.wait()
        return all(
            model.logits(x[j : j + 9]).tobytes() == want[j : j + 9].tobytes()
            for j in range(i, 50, 3)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_the_gil_is_released(seed_bytes: bytes) -> None:
    """While one thread is inside a long call, this one gets to run Python."""
    model = Model(seed_bytes)
    x = images((28, 28, 1), 20_000)
    ticks, running = 0, threading.Event()

    def work() -> None:
        running.set()
        model.predict(x)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # a thread that keeps the GIL is not interrupted
    try:
        thread = threading.Thread(target=work)
        thread.start()
        running.wait()
        while thread.is_alive():
            ticks += 1
            thread.join(0.001)
    finally:
        sys.setswitchinterval(interval)
    assert ticks > 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_fork_after_use(seed_bytes: bytes) -> None:
    """A child has none of its parent's threads, and starts its own."""
    model = Model(seed_bytes, threads=2)
    x = images((28, 28, 1), 70)
    want = model.logits(x).tobytes()
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        assert pool.map(_logits_bytes, [(model, x)] * 4, chunksize=1) == [want] * 4
    parent, child = context.Pipe()
    process = context.Process(target=lambda: child.send_bytes(model.logits(x).tobytes()))
    process.start()
    assert parent.poll(60), "the child hangs"
    assert parent.recv_bytes() == want
    process.join()
    assert model.logits(x).tobytes() == want


def _logits_bytes(job: tuple[Model, np.ndarray]) -> bytes:
    return job[0].logits(job[1]).tobytes()


def test_no_thread_before_it_is_asked_for() -> None:
    code = (
        "import os, numpy as np, fastdigit\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = count()\n"
        "model = fastdigit.load()\n"
        "model.predict(np.zeros((100, 28, 28), np.uint8))\n"
        "assert count() == before, 'one thread asked for, more running'\n"
        "two = fastdigit.load(threads=2)\n"
        "two.predict(np.zeros((100, 28, 28), np.uint8))\n"
        "assert count() == before + 1\n"
    )
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("no /proc/self/task on this system")
    # OPENBLAS starts its own at import of numpy.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_calls_in_turn_share_one_helper() -> None:
    """On one CPU a call is over before its helper has run: the next one must not start another."""
    code = (
        "import os, numpy as np, fastdigit\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "model, image = fastdigit.load(threads=2), np.zeros((9, 28, 28), np.uint8)\n"
        "for _ in range(2000):\n"
        "    model.predict(image)\n"
        "assert len(os.listdir('/proc/self/task')) == before + 1\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)


def test_memory_does_not_grow_with_the_batch(seed_bytes: bytes) -> None:
    model = Model(seed_bytes)
    assert model.info()["context_bytes"] < 1 << 20
    chunk = model.info()["context_bytes"]
    model.predict(images((28, 28, 1), 3000))
    assert model.info()["context_bytes"] == chunk


def test_images_go_together_through_many_weights(isa: str) -> None:
    """Layers in front of the vectors, too, whatever they are made of: what waits in scratch memory
    is one image's, and a long row of pixels goes on with the next image's."""
    rng = np.random.default_rng(4)
    same, wide = (1, 1, 1, 1), (2, 2, 2, 2)
    tanh = Activation("tanh")
    ops = [
        conv(rng, (3, 3), 2, 64, pad=same, activation=RELU, pool=HALVE),
        conv(rng, (3, 3), 64, 128, pad=same, activation=RELU),
        conv(rng, (1, 1), 128, 256, activation=RELU),
        conv(rng, (1, 1), 256, 96, activation=RELU),
        conv(rng, (3, 3), 96, 192, groups=96, pad=same, activation=RELU),
        conv(rng, (3, 3), 192, 96, groups=2, pad=same, activation=tanh, affine=affine(rng, 0, 5)),
        conv(rng, (3, 3), 96, 96, pad=same, pool=Pool("average", (3, 3), (2, 2), same)),
        conv(rng, (5, 5), 96, 32, pad=wide, activation=RELU),
        conv(rng, (1, 1), 32, 256, activation=tanh, pool=Pool("average", (3, 3), (1, 1))),
        dense(rng, 256, 10),
        Softmax(),
    ]
    graph = chain((10, 10, 2), ops)
    x = images((10, 10, 2), 70)
    one = Model(packed(graph))
    assert one.info()["context_bytes"] > 8 * 4 * 5 * 5 * 256, "the chunk's images are not there"
    alone = np.concatenate([one.logits(x[i : i + 1]) for i in range(len(x))])
    close(one.predict_proba(x), graph, x)
    for threads in (1, 2, 3):
        model = Model(packed(graph), threads=threads)
        for n in (2, 3, 8, 9, 17, 31, 70):
            assert model.logits(x[:n]).tobytes() == alone[:n].tobytes()


def test_chunks_are_shorter_unless_their_weights_are_worth_it() -> None:
    """Of an image, 9,000 values wait for a dense layer: 1 MiB has those of 16 images, half of the
    weights of 128 outputs those of 32."""
    rng = np.random.default_rng(0)
    for outputs, chunk in ((20, 16), (128, 32)):
        ops = [conv(rng, (1, 1), 1, 1), dense(rng, 9000, outputs)]
        model = Model(packed(chain((90, 100, 1), ops)))
        waiting = 4 * 9000 * chunk
        assert waiting <= model.info()["context_bytes"] < 1.5 * waiting + 4 * 96 * 32
        x = images((90, 100, 1), 35)
        together = model.logits(x)
        for i in range(len(x)):
            assert model.logits(x[i : i + 1]).tobytes() == together[i : i + 1].tobytes()


# ---- ISA ----


def test_isa_override_is_obeyed_or_refused() -> None:
    code = "import fastdigit; print(fastdigit.load().info()['isa'], fastdigit.config()['isa'])"
    for name in USABLE:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "FASTDIGIT_ISA": name},
            capture_output=True,
            text=True,
        )
        assert done.stdout.split() == [name, name], done.stderr
    missing = [name for name, usable in _core.isas() if not usable]
    for name in ["mmx", "", "AVX2", *missing]:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "FASTDIGIT_ISA": name},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "IsaError" in done.stderr and f"FASTDIGIT_ISA is '{name}'" in done.stderr


def test_best_isa_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTDIGIT_ISA", raising=False)
    assert _core.selected_isa() == USABLE[0]
    assert _core.isas()[-1] == ("generic", True)
