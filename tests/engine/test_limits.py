"""What a model file may ask for: each limit, its sentence, and how it is raised."""

from __future__ import annotations

import pickle
import struct
from dataclasses import fields

import numpy as np
import pytest

import fastdigit
from fastdigit import Limits, Model
from fastdigit.cli import main
from fastdigit.compiler.ir import Activation, Graph, Pool
from fastdigit.compiler.ops import (
    Binary,
    Eltwise,
    LayerNorm,
    Pool2D,
    Resize,
    Softmax,
    Transpose,
)
from fastdigit.errors import InputError, LimitError, ModelFormatError, UnsupportedError
from tests.support.model_files import sealed
from tests.support.networks import Net, cell, chain, conv, packed, seed_network

NAMES = [field.name for field in fields(Limits)]
SMALL = packed(seed_network())


def usage(data: bytes) -> dict[str, int]:
    found: dict[str, int] = Model(data, limits=Limits.none()).info()["usage"]
    return found


def test_usage_is_what_a_model_asks_for() -> None:
    found = usage(SMALL)
    info = Model(SMALL).info()
    assert list(found) == NAMES
    assert found["file_bytes"] == len(SMALL) == info["file_bytes"]
    assert found["context_bytes"] == info["context_bytes"]
    assert found["operations"] > info["multiply_adds"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_opens_with_what_it_uses_and_not_with_less(name: str) -> None:
    found = usage(SMALL)
    exact = Limits(**found)
    x = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    assert Model(SMALL, limits=exact).logits(x).tobytes() == Model(SMALL).logits(x).tobytes()
    less = Limits(**{**found, name: found[name] - 1})
    with pytest.raises(LimitError, match=f"more than the limit {name} of {found[name] - 1}") as got:
        Model(SMALL, limits=less)
    assert f" {found[name]} " in str(got.value)
    assert "limits=" in str(got.value) and isinstance(got.value, UnsupportedError)


def test_limits_hold_for_a_path_too(tmp_path) -> None:
    path = tmp_path / "m.fdm"
    path.write_bytes(SMALL)
    fastdigit.load(path, limits=Limits())
    with pytest.raises(LimitError, match="file_bytes"):
        fastdigit.load(path, limits=Limits(file_bytes=len(SMALL) - 1))


def test_limits_travel_with_a_pickle() -> None:
    large = packed(chain((512, 512, 1), [Pool2D(Pool("max", (99, 99), (1, 1)))]))
    with pytest.raises(LimitError):
        Model(large)
    model = Model(large, limits=Limits(operations=10**13))
    assert pickle.loads(pickle.dumps(model)).info() == model.info()


def small_files() -> dict[str, Graph]:
    """Files of a few kilobytes that would take minutes an image, or gigabytes a thread."""
    rng = np.random.default_rng(0)
    size, around = (4096, 4096, 1), (31, 31, 31, 31)
    gelu = Activation("gelu")
    adds = Net(size)
    for _ in range(15):
        adds.add(Eltwise(Activation("relu")))
    for i in range(14, 0, -1):
        adds.add(Binary("add"), adds.last, f"v{i}")
    tall = np.linspace(0, 4095, 4096)
    return {
        "windows": chain(size, [Pool2D(Pool("max", (4096, 4096), (1, 1), around))]),
        "average": chain(size, [Pool2D(Pool("average", (99, 99), (1, 1)))]),
        "activations": chain(size, [Eltwise(gelu)] * 60),
        "values that are kept": adds.graph(),
        "softmax": chain(size, [Softmax()] * 20),
        "layer normalization": chain(size, [LayerNorm(1e-3)] * 20),
        "resize": chain(size, [Resize(tall, tall)] * 20),
        "transpose": chain((4096, 1, 4096), [Transpose((2, 1, 0))] * 20),
        "recurrent": chain((1, 1 << 22, 4), [cell(rng, "lstm", 1), conv(rng, (1, 1), 1, 4)] * 3),
        "convolution": chain(size, [conv(rng, (40, 40), 1, 1)]),
    }  # fmt: skip


FILES = small_files()


@pytest.mark.parametrize("name", FILES)
def test_a_small_file_cannot_ask_for_much(name: str) -> None:
    data = packed(FILES[name])
    assert len(data) < 700_000
    with pytest.raises(LimitError, match=r"the limit (operations|context_bytes) of"):
        Model(data)


def test_shared_weights_are_looked_at_in_bounded_time() -> None:
    """Resizes that share positions, each of which would check all of them: refused by what they
    take, before."""
    tall = np.zeros(1 << 16)
    whole = bytearray(packed(chain((2, 1, 1), [Resize(tall, np.zeros(1))] * 8)))
    tensors, program = (struct.unpack_from("<Q", whole, 64 + 32 * i + 8)[0] for i in (1, 2))
    first = struct.unpack_from("<I", whole, program + 160 + 24)[0]
    for i in range(2, 9):
        struct.pack_into("<I", whole, program + 160 * i + 24, first)
    (offset,) = struct.unpack_from("<Q", whole, tensors + 64 * first + 32)
    (weights,) = struct.unpack_from("<Q", whole, 64 + 32 * 3 + 8)
    struct.pack_into("<f", whole, weights + offset + 4 * 65535, 9.0)  # the first check refuses it
    with pytest.raises(ModelFormatError, match="scale of op 1 has a position 9"):
        Model(sealed(whole))
    with pytest.raises(LimitError, match="operations"):
        Model(sealed(whole), limits=Limits(operations=16 * 65536 - 1))


@pytest.mark.parametrize("value", [0, -1, 2**64, 1.5, True, "1", None])
def test_limits_are_whole_numbers(value: object) -> None:
    with pytest.raises(InputError, match=r"operations is .* expected a whole number"):
        Limits(operations=value)  # type: ignore[arg-type]


def test_limits_as_text() -> None:
    assert Limits.parsed([]) == Limits()
    assert Limits.parsed(["operations=1e11", "tensors=7"]) == Limits(operations=10**11, tensors=7)
    assert Limits.parsed([f"file_bytes={2**64 - 1}"]).file_bytes == 2**64 - 1
    for text in ("operation=1", "operations", "operations=", "operations=x", "operations=inf"):
        with pytest.raises(InputError):
            Limits.parsed([text])
    with pytest.raises(InputError, match=r"expected fastdigit\.Limits"):
        Model(SMALL, limits={"operations": 1})  # type: ignore[arg-type]


def test_the_command_line_raises_limits(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "big.fdm"
    path.write_bytes(packed(chain((512, 512, 1), [Pool2D(Pool("max", (99, 99), (1, 1)))])))
    assert main(["inspect", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--limit" in said
    assert main(["inspect", "--limit", "operations=1e13", str(path)]) == 0
    assert "operations" in capsys.readouterr().out
    assert main(["inspect", "--limit", "no=1", str(path)]) == 2
    assert "there is no limit 'no'" in capsys.readouterr().err
