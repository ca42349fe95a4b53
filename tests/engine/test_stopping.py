"""Calls that end before they are done: by a timeout, by Ctrl-C; and what they leave."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit import Model
from fastdigit.errors import FastDigitError, InputError, RunTimeoutError
from tests.support.networks import chain, conv, packed, seed_network, two_headed

FEW = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
#: Seconds of work, which no test waits for.
MANY = np.zeros((600_000, 28, 28), np.uint8)


@pytest.fixture(scope="module", params=[1, 3])
def model(request: pytest.FixtureRequest) -> Model:
    return fastdigit.load(threads=request.param)


def test_a_timeout_that_suffices_changes_nothing(model: Model) -> None:
    assert model.predict(FEW, timeout=600).tobytes() == model.predict(FEW).tobytes()
    for name in ("predict_proba", "logits", "run"):
        call: Any = getattr(model, name)
        assert call(FEW, timeout=600).tobytes() == call(FEW).tobytes()
    assert model.predict(FEW, timeout=1e300).tobytes() == model.predict(FEW).tobytes()


@pytest.mark.parametrize("name", ["predict", "predict_proba", "logits", "run"])
def test_a_timeout_ends_a_call(model: Model, name: str) -> None:
    want = model.logits(FEW)
    call: Any = getattr(model, name)
    with pytest.raises(RunTimeoutError, match=r"longer than its timeout of 0\.02 seconds") as got:
        call(MANY, timeout=0.02)
    assert isinstance(got.value, TimeoutError) and isinstance(got.value, FastDigitError)
    assert model.logits(FEW).tobytes() == want.tobytes()  # without one, and as before


def test_a_timeout_ends_a_single_image_of_a_large_network() -> None:
    rng = np.random.default_rng(0)
    layers = [conv(rng, (3, 3), 16, 16, pad=(1, 1, 1, 1)) for _ in range(4)]
    data = packed(chain((128, 128, 16), layers))
    for threads in (1, 2):
        large = Model(data, threads=threads)
        with pytest.raises(RunTimeoutError):
            large.run(np.zeros((1, 128, 128, 16), np.float32), timeout=1e-6)


def test_a_timeout_of_several_outputs() -> None:
    several = Model(packed(two_headed()))
    x = {
        "image": np.zeros((400_000, 8, 8, 1), np.float32),
        "meta": np.zeros((400_000, 4), np.float32),
    }
    with pytest.raises(RunTimeoutError):
        several.run(x, timeout=1e-6)
    with pytest.raises(RunTimeoutError):
        several.logits(x, output="scores", timeout=1e-6)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), True, "1"])
def test_wrong_timeouts(model: Model, timeout: Any) -> None:
    with pytest.raises(InputError, match="timeout is"):
        model.predict(FEW, timeout=timeout)


class Alarm(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_a_signal_ends_a_call(model: Model) -> None:
    """As Ctrl-C does: what its handler raises."""
    want = model.logits(FEW)

    def ring(*_: Any) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm):
            model.predict(MANY)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert model.logits(FEW).tobytes() == want.tobytes()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_a_handler_that_returns_ends_nothing(model: Model) -> None:
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(threading.current_thread()))
    batch = MANY[:20_000]
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        got = model.predict(batch)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == [threading.main_thread()]
    assert (got == model.predict(MANY[:1])[0]).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_signal_ends_a_call_of_a_child_that_another_thread_forked(model: Model) -> None:
    """There the thread that forked is the main one."""

    def forked() -> int:
        child = os.fork()
        if child:
            return os.waitpid(child, 0)[1]
        status = 1
        try:
            signal.alarm(600)
            signal.signal(signal.SIGVTALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.05)
            model.predict(MANY)
        except KeyboardInterrupt:
            status = 0
        finally:
            os._exit(status)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(forked).result() == 0


def test_idle_contexts_are_bounded() -> None:
    """Calls at the same time need a context each; those of a large network are not all kept."""
    small, large = Model(packed(seed_network())), large_model()
    for model, most in ((small, 64), (large, 3)):
        x = np.zeros((1, *model.input_shape), np.float32)
        start = threading.Barrier(8)

        def call(model: Model = model, x: Any = x, start: Any = start) -> None:
            start.wait()
            model.run(x)

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(call) for _ in range(8)]:
                done.result()
        assert 1 <= model._core.idle_contexts() <= most


def large_model() -> Model:
    model = Model(packed(chain((512, 512, 4), [conv(np.random.default_rng(0), (1, 1), 4, 20)])))
    assert model.info()["context_bytes"] > 20 << 20
    return model


@pytest.mark.parametrize("shift", [0, 1, 39 * 784])
def test_an_output_over_its_input_is_refused(shift: int) -> None:
    model = fastdigit.load()
    memory = np.zeros(40 * 784 + 400, np.float32)
    batch, out = memory[: 40 * 784].reshape(40, 28, 28), memory[shift : shift + 400].reshape(40, 10)
    with pytest.raises(InputError, match="output 0 overlaps input 0"):
        model.logits(batch, out=out)
    beside = memory[40 * 784 :].reshape(40, 10)
    assert model.logits(batch, out=beside) is beside
