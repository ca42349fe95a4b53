"""Adapters for networks of 8 bits: each runtime with its own tools' quantisation.

They differ from those of :mod:`fastdigit.bench.runtimes` in the file that they open. Input and
output are float32 as there.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from typing import ClassVar

from fastdigit.bench import convert
from fastdigit.bench.adapter import ModelFiles, Runtime, Variant, onnx_variants
from fastdigit.bench.runtimes import FastDigit, LiteRT, OnnxRuntime, OpenVino

__all__ = ["EIGHT_BIT_RUNTIMES", "REDUCED"]


class _Quantized(Runtime):
    """What a runtime's tools make of the network.

    Attributes
    ----------
    schemes
        Those of :mod:`fastdigit.bench.quantize` to try; the fastest that is right counts.
    tools
        Distributions that the tools are in, beside the runtime itself.
    suffix
        Of the files that the schemes make.
    """

    schemes: ClassVar[tuple[str, ...]]
    tools: ClassVar[tuple[str, ...]]
    suffix: ClassVar[str]

    @classmethod
    def version(cls) -> str | None:
        """Return the runtime's version, None if it or a tool is not installed."""
        try:
            versions = [importlib.metadata.version(d) for d in (cls.distribution, *cls.tools)]
        except importlib.metadata.PackageNotFoundError:
            return None
        return versions[0]

    @classmethod
    def sources(cls, files: ModelFiles) -> list[Variant]:
        """List what can be quantised."""
        return onnx_variants(files)

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        assert files.calibration is not None
        tool = (cls.distribution, *cls.tools)[-1]
        return [
            replace(
                source,
                label=f"{source.label}, {scheme.partition(' ')[2]}",
                path=convert.quantize(source.path, scheme, files.calibration, tool, cls.suffix),
            )
            for source in cls.sources(files)
            for scheme in cls.schemes
        ]


class OnnxRuntimeDynamic(_Quantized, OnnxRuntime):
    """ONNX Runtime, weights in 8 bits, of the dense layers or of all; activations as they come."""

    name = "onnxruntime-dynamic"
    schemes = ("onnxruntime dense dynamic", "onnxruntime all dynamic")
    tools = ("onnx",)
    suffix = ".onnx"


class OnnxRuntimeQdq(_Quantized, OnnxRuntime):
    """ONNX Runtime, weights and activations in 8 bits, by static QDQ quantisation."""

    name = "onnxruntime-qdq"
    schemes = ("onnxruntime u8s8", "onnxruntime s8s8")
    tools = ("onnx",)
    suffix = ".onnx"


class _LiteRTQuantized(_Quantized, LiteRT):
    tools = ("tensorflow",)
    suffix = ".tflite"

    @classmethod
    def lacks(cls, files: ModelFiles) -> str | None:
        return None if files.keras else "the network as --keras FILE"

    @classmethod
    def sources(cls, files: ModelFiles) -> list[Variant]:
        assert files.keras is not None
        return [Variant(files.keras.name, files.keras)]


class LiteRTDynamic(_LiteRTQuantized):
    """LiteRT, weights in 8 bits, activations as they come ("dynamic range")."""

    name = "litert-dynamic"
    schemes = ("litert dynamic",)


class LiteRTInt8(_LiteRTQuantized):
    """LiteRT, weights and activations in 8 bits ("full integer")."""

    name = "litert-int8"
    schemes = ("litert int8",)


class OpenVinoNncf(_Quantized, OpenVino):
    """OpenVINO, quantised by NNCF: weights and activations, or weights alone."""

    name = "openvino-nncf"
    schemes = ("openvino int8", "openvino weights")
    tools = ("nncf",)
    suffix = ".xml"


class _Reduced(FastDigit):
    """fastdigit with reduced precision of the dense layers' weights."""

    precision: ClassVar[str]

    @classmethod
    def lacks(cls, files: ModelFiles) -> str | None:
        if cls.precision in files.reduced:
            return None
        return f"the network compiled with precision {cls.precision!r}"

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        path = files.reduced[cls.precision]
        return [Variant(path.name, path)]


class FastDigitInt8Dynamic(_Reduced):
    """fastdigit, weights and inputs of the wide dense layers in 8 bits, the inputs as they come."""

    name = "fastdigit-int8-dynamic"
    precision = "int8-dynamic"


class FastDigitInt8(_Reduced):
    """fastdigit, weights of the dense layers in 8 bits, arithmetic in float32."""

    name = "fastdigit-int8"
    precision = "int8"


class FastDigitFp16(_Reduced):
    """fastdigit, weights of the dense layers in 16 bits, arithmetic in float32."""

    name = "fastdigit-fp16"
    precision = "fp16"


#: By name, what the others are compared with first; the float32 ones are there to see what 8 bits
#: change.
EIGHT_BIT_RUNTIMES: dict[str, type[Runtime]] = {
    runtime.name: runtime
    for runtime in (
        FastDigitInt8Dynamic,
        FastDigitInt8,
        FastDigitFp16,
        FastDigit,
        OnnxRuntime,
        OnnxRuntimeDynamic,
        OnnxRuntimeQdq,
        LiteRTDynamic,
        LiteRTInt8,
        OpenVinoNncf,
    )
}

#: Precisions that fastdigit's models are compiled with for these adapters.
REDUCED = tuple(r.precision for r in (FastDigitInt8Dynamic, FastDigitInt8, FastDigitFp16))
