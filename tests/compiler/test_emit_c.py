"""Networks as C source: compiled by real compilers, run, and held against the engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import fastdigit
from fastdigit import cli
from fastdigit.compiler.backends.c import emit_c, plan_scratch
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.ir import Activation, Graph, Pool
from fastdigit.compiler.ops import (
    Conv2D,
    Dense,
    Eltwise,
    LayerNorm,
    Pad,
    Reshape,
    Softmax,
    Transpose,
)
from fastdigit.compiler.passes import optimize
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import InputError, UnsupportedError
from tests.support import EXPORTED, need
from tests.support.networks import (
    affine,
    chain,
    conv,
    dense,
    packed,
    small_networks,
    two_headed,
)

MODELS = Path(fastdigit.__file__).parent / "models"

MAIN = """
#include "net.h"
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    static const char *const classes[] = NET_CLASSES;
    float *input = malloc(sizeof(float) * NET_INPUTS);
    float *output = malloc(sizeof(float) * NET_OUTPUTS);
    float *scratch = malloc(sizeof(float) * NET_SCRATCH);
    while (fread(input, sizeof(float), NET_INPUTS, stdin) == NET_INPUTS) {
        net_run(input, output, scratch);
        fwrite(output, sizeof(float), NET_OUTPUTS, stdout);
        fprintf(stderr, "%s\\n", classes[net_label(output)]);
    }
    free(input);
    free(output);
    free(scratch);
    return 0;
}
"""
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")


@dataclass(frozen=True)
class Build:
    compiler: str
    flags: tuple[str, ...] = ("-O2",)
    run_by: tuple[str, ...] = ()

    def run(
        self, folder: Path, images: np.ndarray, main: str = MAIN
    ) -> tuple[np.ndarray, list[str]]:
        for tool in (self.compiler, *self.run_by[:1]):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is not installed")
        (folder / "main.c").write_text(main)
        program = folder / "program"
        command = [
            self.compiler,
            *STRICT,
            *self.flags,
            "net.c",
            "main.c",
            "-o",
            str(program),
            "-lm",
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        data = np.ascontiguousarray(images, np.float32).tobytes()
        ran = subprocess.run([*self.run_by, program], input=data, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr.decode()
        values = np.frombuffer(ran.stdout, np.float32).reshape(len(images), -1)
        return values, ran.stderr.decode().splitlines()


GCC = Build("gcc")
BUILDS = {
    "gcc": GCC,
    "clang": Build("clang"),
    "sanitized": Build(
        "gcc", ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    ),
    "aarch64": Build("aarch64-linux-gnu-gcc", ("-O2", "-static"), ("qemu-aarch64-static",)),
}


def write(folder: Path, data: bytes) -> None:
    emitted = emit_c(unpack(data), "net")
    (folder / "net.c").write_text(emitted.source, encoding="ascii")
    (folder / "net.h").write_text(emitted.header, encoding="ascii")


def wanted(data: bytes, images: np.ndarray) -> np.ndarray:
    return fastdigit.Model(data).run(images)


MAIN_OF_SEVERAL = """
#include "net.h"
#include <stdio.h>

int main(void)
{
    static const char *const digits[] = NET_CLASSES_DIGIT;
    static const char *const flags[] = NET_CLASSES_FLAG_0;
    static float image[NET_INPUT_IMAGE], meta[NET_INPUT_META], scratch[NET_SCRATCH];
    static float digit[NET_OUTPUT_DIGIT], flag[NET_OUTPUT_FLAG_0], mask[NET_OUTPUT_MASK];
    static float features[NET_OUTPUT_FLAG_0_2], scores[NET_OUTPUT_VALUE], again[NET_OUTPUT_MASK_2];
    while (fread(image, sizeof image, 1, stdin) == 1 && fread(meta, sizeof meta, 1, stdin) == 1) {
        net_run(image, meta, digit, flag, mask, features, scores, again, scratch);
        fwrite(digit, sizeof digit, 1, stdout);
        fwrite(flag, sizeof flag, 1, stdout);
        fwrite(mask, sizeof mask, 1, stdout);
        fwrite(features, sizeof features, 1, stdout);
        fwrite(scores, sizeof scores, 1, stdout);
        fwrite(again, sizeof again, 1, stdout);
        fprintf(stderr, "%s %s\\n", digits[net_label_digit(digit)], flags[net_label_flag_0(flag)]);
    }
    return 0;
}
"""


def images_of(graph: Graph, count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.uniform(size=(count, *graph.shapes[graph.input])).astype(np.float32)


def close(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)


def more_networks() -> dict[str, Graph]:
    rng = np.random.default_rng(7)
    activations = ("leaky_relu", "elu", "selu", "sigmoid", "tanh")
    parameters = {"leaky_relu": 0.3, "elu": 1.5}
    networks = {
        name: chain(
            (5, 6, 3),
            [
                conv(rng, (3, 2), 3, 5, activation=Activation(name, parameters.get(name, 0.0))),
                Eltwise(Activation("relu"), affine(rng, 1, 5)),
                dense(rng, 3 * 5 * 5, 4),
                Softmax(),
            ],
        )
        for name in activations
    }
    pools = {
        "overlapping": Pool("max", (3, 3), (2, 2), (1, 1, 1, 1)),
        "average": Pool("average", (2, 3), (2, 3), (1, 1, 0, 1)),
        "gaps": Pool("max", (2, 2), (3, 3)),
    }
    for name, pool in pools.items():
        networks[name] = chain(
            (11, 9, 2),
            [
                conv(
                    rng, (3, 3), 2, 6, stride=(1, 2), pad=(1, 0, 2, 1),
                    activation=Activation("relu"), affine=affine(rng, 2, 6), pool=pool,
                )
            ],
        )  # fmt: skip
    networks["temperature"] = chain((9,), [dense(rng, 9, 4), Softmax(1.7)])
    networks["sequence"] = optimize(
        chain(
            (10, 6),
            [
                LayerNorm(0.1, rng.normal(size=6)),
                Pad(((2, 0), (0, 0)), 0.5),
                Transpose((1, 0)),
                Eltwise(Activation("elu", 0.5), affine(rng, 0, 6)),
                Transpose((1, 0)),
                Reshape((1, 12, 6)),
                conv(rng, (1, 3), 6, 8, activation=Activation("tanh")),
                Reshape((10, 2, 2, 2)),
                Transpose((2, 0, 3, 1)),
                Softmax(),
            ],
        )
    )
    networks["two slopes"] = chain(
        (4, 4, 1),
        [Eltwise(Activation("leaky_relu", 0.1)), Eltwise(Activation("leaky_relu", 0.2))],
    )
    return networks


NETWORKS = {**small_networks(), **more_networks()}


@pytest.mark.parametrize("name", NETWORKS)
def test_computes_what_the_engine_does(tmp_path: Path, name: str) -> None:
    graph = NETWORKS[name]
    data = packed(graph)
    images = images_of(graph, 5)
    write(tmp_path, data)
    got, labels = GCC.run(tmp_path, images)
    want = wanted(data, images).reshape(5, -1)
    close(got, want)
    assert labels == [str(label) for label in got.argmax(axis=1)]


@pytest.mark.parametrize(
    "activation", [Activation("sigmoid"), Activation("hard_sigmoid", 0.2)], ids=lambda a: a.name
)
def test_one_sigmoid_has_two_classes(tmp_path: Path, activation: Activation) -> None:
    weights = np.arange(-2.5, 3).reshape(6, 1)
    graph = chain((6,), [Dense(weights, np.zeros(1), activation=activation)])
    data = packed(graph)
    images = images_of(graph, 9)
    write(tmp_path, data)
    got, labels = GCC.run(tmp_path, images)
    close(got, wanted(data, images))
    assert labels == [str(label) for label in fastdigit.Model(data).predict(images)]
    assert set(labels) == {"0", "1"}


@pytest.mark.slow
@pytest.mark.parametrize("build", [name for name in BUILDS if name != "gcc"])
@pytest.mark.parametrize("name", ["overlapping", "average", "elu", next(iter(small_networks()))])
def test_other_compilers_sanitizers_and_cpus(tmp_path: Path, name: str, build: str) -> None:
    graph = NETWORKS[name]
    data = packed(graph)
    images = images_of(graph, 3)
    write(tmp_path, data)
    got, _ = BUILDS[build].run(tmp_path, images)
    close(got, wanted(data, images).reshape(3, -1))


@pytest.mark.slow
def test_the_shipped_network(tmp_path: Path) -> None:
    data = (MODELS / "seed.fdm").read_bytes()
    images, _ = load_mnist_test()
    x = images[:200, ..., None] / np.float32(255)
    write(tmp_path, data)
    got, labels = GCC.run(tmp_path, x)
    np.testing.assert_allclose(got, fastdigit.load("seed").predict_proba(x), atol=1e-5)
    assert labels == [str(label) for label in fastdigit.load("seed").predict(x)]


def test_int8_weights_stay_bytes(tmp_path: Path) -> None:
    need("onnxruntime")
    rng = np.random.default_rng(3)
    graph = chain((40,), [dense(rng, 40, 50, activation=Activation("relu")), dense(rng, 50, 3)])
    from fastdigit.compiler.passes.quantize_weights import quantize_weights

    data = packed(quantize_weights(graph, "int8"))
    images = images_of(graph, 4)
    write(tmp_path, data)
    assert "static const signed char net_op1_weights[40][50]" in (tmp_path / "net.c").read_text()
    got, _ = GCC.run(tmp_path, images)
    close(got, wanted(data, images))


def test_dynamic_quantisation_is_refused() -> None:
    from fastdigit.compiler.passes.quantize_weights import quantize_weights

    rng = np.random.default_rng(3)
    graph = quantize_weights(chain((40,), [dense(rng, 40, 50)]), "int8-dynamic")
    with pytest.raises(UnsupportedError, match="use int8"):
        emit_c(unpack(packed(graph)), "net")


def test_the_command_writes_both_files(tmp_path: Path) -> None:
    need("onnxruntime")
    source = EXPORTED / "seed.onnx"
    assert cli.main(["compile", str(source), "--emit", "c", "-o", str(tmp_path / "net.c")]) == 0
    text = (tmp_path / "net.c").read_text()
    assert "net_op1_weights[3][3][1][32]" in text
    assert "#define NET_INPUTS 784" in (tmp_path / "net.h").read_text()
    assert not list(tmp_path.glob("*.fdm"))


def test_uses_nothing_but_math(tmp_path: Path) -> None:
    text = emit_c(unpack((MODELS / "seed.fdm").read_bytes()), "net").source
    assert re.findall(r"#include (.*)", text) == ['"net.h"', "<math.h>"]
    assert not re.search(r"\b(malloc|static (?!const|void|float))", text)


def test_scratch_is_used_again() -> None:
    rng = np.random.default_rng(0)
    graph = chain((9, 9, 2), [conv(rng, (1, 1), 2, 2) for _ in range(6)])
    offsets, total = plan_scratch(graph)
    assert total == 2 * 162
    assert sorted(set(offsets.values())) == [0, 162]


@pytest.mark.parametrize("name", ["", "1net", "a-b", "a b", "é"])
def test_names_must_be_identifiers(name: str) -> None:
    program = unpack(packed(chain((4,), [Eltwise(Activation("relu"))])))
    with pytest.raises(InputError, match="not a C identifier"):
        emit_c(program, name)


@pytest.mark.parametrize(
    "build", ["gcc", *(pytest.param(b, marks=pytest.mark.slow) for b in BUILDS if b != "gcc")]
)
def test_several_inputs_and_outputs(tmp_path: Path, build: str) -> None:
    graph = two_headed()
    # The last output is one that there is already; the names are no identifiers, or like another.
    graph = replace(graph, outputs=(*graph.outputs, "mask"))
    outputs = ["digit", "flag:0", "mask", "Flag/0", "*/", "MASK"]
    letters = [*"abcdefghij"]
    described = [{"classes": classes} for classes in (letters, ["no", "yes"], [], [], [], [])]
    data = pack(
        graph,
        {"name": "heads", "classes": letters, "outputs": described},
        names=(["image", "meta"], outputs),
        input_range=[(0.0, 1.0), (-5.0, 5.0)],
        u8_divisor=[255, 0],
    )
    write(tmp_path, data)
    header = (tmp_path / "net.h").read_text()
    assert "input_meta ('meta'): 4 floats from -5 to 5, rows first;" in header
    assert "output_flag_0 ('flag?0'): 1 probabilities;" in header
    assert "label_mask" not in header
    rng = np.random.default_rng(2)
    images = rng.random((5, 8, 8, 1), np.float32)
    vectors = rng.uniform(-5, 5, (5, 4)).astype(np.float32)
    given = np.concatenate([images.reshape(5, -1), vectors], axis=1)
    got, labels = BUILDS[build].run(tmp_path, given, MAIN_OF_SEVERAL)
    model = fastdigit.Model(data)
    results = model.run((images, vectors))
    close(got, np.concatenate([result.reshape(5, -1) for result in results.values()], axis=1))
    digit = results["digit"].argmax(axis=1)
    flag = results["flag:0"][:, 0] > 0.5
    words = [("no", "yes")[yes] for yes in flag.tolist()]
    assert labels == [f"{letters[d]} {word}" for d, word in zip(digit, words, strict=True)]


def test_class_names_are_quoted(tmp_path: Path) -> None:
    names = ['"', "a\\b", "??/", "é", "\n*/"]
    graph = chain((5,), [Eltwise(Activation("relu"))])
    data = pack(graph, {"name": "*/ x", "classes": names}, input_range=(0.0, 1.0), u8_divisor=255)
    write(tmp_path, data)
    _, labels = GCC.run(tmp_path, np.eye(5, dtype=np.float32))
    assert "\n".join(labels).split("\n") == "\n".join(names).split("\n")


def test_conv_without_bias_is_covered() -> None:
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(2, 2, 1, 2)).astype(np.float32)
    text = emit_c(unpack(packed(chain((3, 3, 1), [Conv2D(weights)]))), "net").source
    assert "acc[o] = 0.0f" in text
