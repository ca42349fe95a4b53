"""Convert the network into the formats that only one runtime reads.

Converters are heavy and may clash with the runtime that is to be measured, so each runs in a
process of its own. Results are kept in the user's cache, under the SHA-256 of their source and
the converter's version.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fastdigit.compiler.backends.onnx import write
from fastdigit.datasets import cache_directory
from fastdigit.errors import FastDigitError, MissingExtraError

__all__ = ["fdm_to_onnx", "keras_to_tflite", "onnx_to_mnn", "onnx_to_ncnn", "quantize"]

TIMEOUT = 300.0  # seconds
PROGRAM = Path(__file__).with_name("quantize.py")

# Places in a command line.
SOURCE = "{source}"
TARGET = "{target}"
TARGET_STEM = "{stem}"

_KERAS_TO_TFLITE = """
import sys
import tensorflow as tf

source, target = sys.argv[1:]
model = tf.keras.models.load_model(source, compile=False)
with open(target, "wb") as file:
    file.write(tf.lite.TFLiteConverter.from_keras_model(model).convert())
"""


def fdm_to_onnx(source: Path) -> Path:
    """Write the network of a ``.fdm`` file as ONNX, images channels last; return the .onnx file."""
    data = write(source.read_bytes(), channels_last=True)
    # In a directory of its own, for reports show the name of the file.
    target = cache_directory() / "converted" / _digest([data], "") / f"{source.stem}.onnx"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            unfinished = Path(scratch) / target.name
            unfinished.write_bytes(data)
            os.replace(unfinished, target)
    return target


def keras_to_tflite(source: Path) -> Path:
    """Convert a Keras file (.keras or .h5) with TensorFlow's converter; return the .tflite."""
    arguments = ["-c", _KERAS_TO_TFLITE, SOURCE, TARGET]
    return _convert(source, ".tflite", "tensorflow", [sys.executable, *arguments])


def onnx_to_mnn(source: Path) -> Path:
    """Convert an ONNX file with MNN's converter; return the .mnn file."""
    arguments = [
        "-f",
        "ONNX",
        "--modelFile",
        SOURCE,
        "--MNNModel",
        TARGET,
        "--bizCode",
        "fastdigit",
    ]
    return _convert(
        source, ".mnn", "MNN", [sys.executable, "-m", "MNN.tools.mnnconvert", *arguments]
    )


def onnx_to_ncnn(source: Path, shape: Sequence[int]) -> Path:
    """Convert an ONNX file with pnnx, for one input shape; return the .param file.

    The weights are beside it, in a file with the suffix .bin. The pnnx package wants PyTorch,
    but only for what is not used here: ``pip install --no-deps pnnx`` is enough.
    """
    spec = importlib.util.find_spec("pnnx")
    program = Path(spec.origin).parent / "pnnx" if spec and spec.origin else Path("pnnx")
    arguments = [
        f"inputshape=[{','.join(map(str, shape))}]",
        "fp16=0",
        f"ncnnparam={TARGET}",
        f"ncnnbin={TARGET_STEM}.bin",
        *(f"{by_product}={os.devnull}" for by_product in ("pnnxparam", "pnnxbin", "pnnxpy")),
        *(f"{by_product}={os.devnull}" for by_product in ("pnnxonnx", "ncnnpy")),
    ]
    return _convert(source, ".param", "pnnx", [str(program), SOURCE, *arguments], also=".bin")


def quantize(source: Path, scheme: str, calibration: Path, distribution: str, suffix: str) -> Path:
    """Quantise a network by a scheme of :mod:`fastdigit.bench.quantize`; return the result.

    `distribution` is what the scheme uses, and `suffix` that of its result.
    """
    # -P: the modules beside the program are not for the tools to import.
    arguments = ["-P", str(PROGRAM), scheme, SOURCE, TARGET, str(calibration)]
    return _convert(
        source,
        suffix,
        distribution,
        [sys.executable, *arguments],
        also=".bin" if suffix == ".xml" else None,
        inputs=(PROGRAM, calibration),
    )


def _convert(
    source: Path,
    suffix: str,
    distribution: str,
    command: list[str],
    also: str | None = None,
    inputs: Sequence[Path] = (),
) -> Path:
    """Run `command` unless its result is in the cache; `distribution` must be installed.

    `also` is the suffix of a second file that the command writes. `inputs` are other files in the
    command that its result depends on: on what is in them, not on where they are.
    """
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtraError(
            f"converting {source.name} to {suffix} needs {distribution}, which is not installed; "
            f"pip install {distribution}"
        ) from None
    places = {str(path) for path in inputs}
    arguments = [argument for argument in command[1:] if argument not in places]
    recipe = [f"{distribution} {version} {arguments} ".encode()]
    recipe += [path.read_bytes() for path in (*inputs, source)]
    target = cache_directory() / "converted" / _digest(recipe, suffix)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        # Some converters write more files beside their source.
        copy = Path(scratch) / f"model{source.suffix}"
        shutil.copyfile(source, copy)
        unfinished = Path(scratch) / f"converted{suffix}"
        files = {SOURCE: str(copy), TARGET: str(unfinished), TARGET_STEM: str(unfinished.stem)}
        for place, path in files.items():
            command = [argument.replace(place, path) for argument in command]
        process = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            cwd=scratch,
            check=False,
        )
        if process.returncode or not unfinished.exists():
            tail = "\n".join(process.stdout.splitlines()[-20:])
            raise FastDigitError(
                f"{distribution} could not convert {source} to {suffix} "
                f"(exit status {process.returncode}):\n{tail}"
            )
        if also is not None:  # first: `target` says that the conversion is complete
            os.replace(unfinished.with_suffix(also), target.with_suffix(also))
        os.replace(unfinished, target)
    return target


def _digest(parts: Sequence[bytes], suffix: str) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest() + suffix
