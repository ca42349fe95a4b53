"""The runtimes in float32, an adapter each, with the fastest settings that its documents offer.

To add a runtime: write a subclass of :class:`~fastdigit.bench.adapter.Runtime` and list it in
:data:`RUNTIMES`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fastdigit import __version__
from fastdigit.bench import convert
from fastdigit.bench.adapter import Call, ModelFiles, Runtime, Variant, onnx_variants, require
from fastdigit.bench.arrays import FloatArray, aligned
from fastdigit.errors import FastDigitError, InputError
from fastdigit.model import load

__all__ = [
    "RUNTIMES",
    "FastDigit",
    "LiteRT",
    "Mnn",
    "Ncnn",
    "OnnxRuntime",
    "OpenVino",
    "TensorFlow",
]


class FastDigit(Runtime):
    """fastdigit through its public API, input checks included."""

    name = "fastdigit"
    distribution = "fastdigit"

    @classmethod
    def version(cls) -> str | None:
        return __version__

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        return [Variant(files.fdm.name, files.fdm)]

    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        self._model = load(variant.path, threads=threads)

    def bind(self, images: FloatArray, out: FloatArray) -> Call:
        if not self._model.has_probabilities:
            shape = self._model.output_shape
            return partial(self._model.run, images, out=out.reshape(len(out), *shape))
        return partial(self._model.predict_proba, images, out=out)


class _Peer(Runtime):
    """A runtime that declares the shape of its input, and may read the images where they lie."""

    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        self._kept: list[FloatArray] = []

    def _arranged(self, images: FloatArray, declared: Any) -> FloatArray:
        """Return a batch (N, height, width, channels) in a model's input shape; aligned.

        Channels first is another order of the same values: a copy, but for one channel. It lives as
        long as this runtime, which may read its memory.
        """
        shape = (len(images), *declared[1:])
        if not all(isinstance(size, int) for size in shape) or math.prod(shape) != images.size:
            raise InputError(
                f"the model's input has shape {list(declared)}, expected that of the images, "
                f"{('N', *images.shape[1:])}, with channels last or first"
            )
        if images.ndim == 4 and shape != images.shape and images.shape[-1] > 1:
            channels_first = images.transpose(0, 3, 1, 2)
            if channels_first.shape == shape:
                images = aligned(shape)
                images[:] = channels_first
        images = images.reshape(shape)
        self._kept.append(images)
        return images


class OnnxRuntime(_Peer):
    """ONNX Runtime: all graph optimisations, batch size fixed, input and output bound.

    An `OrtValue` made from a NumPy array on the CPU uses the array's memory.
    https://onnxruntime.ai/docs/api/python/api_summary.html#data-inputs-and-outputs
    """

    name = "onnxruntime"
    distribution = "onnxruntime"
    reads_onnx = True
    extra = "bench"

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        return onnx_variants(files)

    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        super().__init__(variant, batch, threads)
        self._ort = ort = require("onnxruntime", self.extra)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        batch_dimension = self._open(variant, ort.SessionOptions()).get_inputs()[0].shape[0]
        if isinstance(batch_dimension, str):
            options.add_free_dimension_override_by_name(batch_dimension, batch)
        self._session = self._open(variant, options)
        self._input = self._session.get_inputs()[0]
        self._output = self._session.get_outputs()[0]

    def _open(self, variant: Variant, options: Any) -> Any:
        options.log_severity_level = 3
        return self._ort.InferenceSession(
            str(variant.path), options, providers=["CPUExecutionProvider"]
        )

    def bind(self, images: FloatArray, out: FloatArray) -> Call:
        value = self._ort.OrtValue.ortvalue_from_numpy
        binding = self._session.io_binding()
        images = self._arranged(images, self._input.shape)
        binding.bind_ortvalue_input(self._input.name, value(images))
        binding.bind_ortvalue_output(self._output.name, value(out))
        return partial(self._session.run_with_iobinding, binding)


class OpenVino(_Peer):
    """OpenVINO: fixed batch, LATENCY hint, one stream, full float32, memory shared both ways.

    Its own CPU pinning is off because the worker is pinned already.
    https://docs.openvino.ai/2025/openvino-workflow/running-inference/optimize-inference.html
    """

    name = "openvino"
    distribution = "openvino"
    reads_onnx = True

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        return onnx_variants(files)

    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        super().__init__(variant, batch, threads)
        self._ov = ov = require("openvino", self.extra)
        core = ov.Core()
        model = core.read_model(str(variant.path))
        shape = [d.get_length() if d.is_static else batch for d in model.input(0).partial_shape]
        model.reshape([batch, *shape[1:]])
        self._shape = [batch, *shape[1:]]
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "INFERENCE_NUM_THREADS": str(threads),
                "INFERENCE_PRECISION_HINT": "f32",
                "ENABLE_CPU_PINNING": "NO",
            },
        )
        self._request = compiled.create_infer_request()

    def bind(self, images: FloatArray, out: FloatArray) -> Call:
        images = self._arranged(images, self._shape)
        source = self._ov.Tensor(images, shared_memory=True)
        target = self._ov.Tensor(out, shared_memory=True)
        request = self._request
        # Looked up once; the request is shared by all batches, so each call sets both tensors.
        set_input, set_output = request.set_input_tensor, request.set_output_tensor
        start, wait = request.start_async, request.wait

        def call() -> None:
            set_input(source)
            set_output(target)
            start(share_inputs=True)
            wait()

        return call


class LiteRT(_Peer):
    """LiteRT (TensorFlow Lite) with its XNNPACK delegate, which the interpreter applies itself.

    The interpreter owns its tensors: input and output are copied, 3 kB and 40 bytes an image.
    https://ai.google.dev/edge/api/tflite/python/tf/lite/Interpreter
    """

    name = "litert"
    distribution = "ai-edge-litert"

    @classmethod
    def lacks(cls, files: ModelFiles) -> str | None:
        return None if files.tflite or files.keras else "the network as --tflite or --keras FILE"

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        if files.tflite is not None:
            return [Variant(files.tflite.name, files.tflite)]
        assert files.keras is not None
        return [Variant(files.keras.name, convert.keras_to_tflite(files.keras))]

    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        super().__init__(variant, batch, threads)
        litert = require("ai_edge_litert.interpreter", self.extra)
        self._interpreter = litert.Interpreter(str(variant.path), num_threads=threads)
        declared = self._interpreter.get_input_details()[0]
        self._shape = [batch, *(int(size) for size in declared["shape"][1:])]
        self._input = declared["index"]
        self._interpreter.resize_tensor_input(self._input, self._shape, strict=True)
        self._interpreter.allocate_tensors()
        self._output = self._interpreter.get_output_details()[0]["index"]

    def bind(self, images: FloatArray, out: FloatArray) -> Call:
        images = self._arranged(images, self._shape)
        source = self._interpreter.tensor(self._input)
        target = self._interpreter.tensor(self._output)
        invoke = self._interpreter.invoke

        def call() -> None:
            # The views must not outlive the statement: invoke() refuses while one is alive.
            np.copyto(source(), images)
            invoke()
            np.copyto(out, target())

        return call


class Mnn(_Peer):
    """MNN through Interpreter and Session, at high precision; it copies input and output.

    With one thread its Winograd tiles are by default so large that results are off by up to 1e-4;
    the next smaller ones are as fast.
    https://mnn-docs.readthedocs.io/en/latest/pymnn/Interpreter.html
    """

    name = "mnn"
    distribution = "MNN"
    reads_onnx = True
    #: A member of the C++ enum ``Interpreter::HintMode``, which Python gets no names for.
    WINOGRAD_MEMORY_LEVEL = 3

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        return [
            replace(variant, path=convert.onnx_to_mnn(variant.path))
            for variant in onnx_variants(files)
        ]

    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        super().__init__(variant, batch, threads)
        self._mnn = mnn = require("MNN", self.extra)
        self._interpreter = mnn.Interpreter(str(variant.path))
        self._interpreter.setSessionHint(self.WINOGRAD_MEMORY_LEVEL, 2)
        config = {"backend": "CPU", "numThread": threads, "precision": "high"}
        self._session = self._interpreter.createSession(config)
        self._input = self._interpreter.getSessionInput(self._session)
        self._shape = (batch, *self._input.getShape()[1:])
        self._interpreter.resizeTensor(self._input, self._shape)
        self._interpreter.resizeSession(self._session)
        self._output = self._interpreter.getSessionOutput(self._session)

    def bind(self, images: FloatArray, out: FloatArray) -> Call:
        mnn = self._mnn
        layout = self._input.getDimensionType()
        images = self._arranged(images, self._shape)
        source = mnn.Tensor(self._shape, mnn.Halide_Type_Float, images, layout)
        target = mnn.Tensor(out.shape, mnn.Halide_Type_Float, out, mnn.Tensor_DimensionType_Caffe)
        copy_in, copy_out = self._input.copyFrom, self._output.copyToHostTensor
        run = partial(self._interpreter.runSession, self._session)

        def call() -> None:
            copy_in(source)
            run()
            copy_out(target)
            np.copyto(out, target.getNumpyData())

        return call


class Ncnn(_Peer):
    """ncnn in float32; its reduced-precision storage, on by default, is off by up to 1.4e-4.

    A network takes one image; a batch is a loop, as in ncnn's own examples.
    https://github.com/Tencent/ncnn/blob/master/python/README.md
    """

    name = "ncnn"
    distribution = "ncnn"
    reads_onnx = True

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        variants = []
        for variant in onnx_variants(files):
            shape = [1, *_onnx_image_shape(variant.path)]
            path = convert.onnx_to_ncnn(variant.path, shape)
            variants.append(replace(variant, path=path, options={"shape": shape}))
        return variants

    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        super().__init__(variant, batch, threads)
        self._ncnn = ncnn = require("ncnn", self.extra)
        self._shape = variant.options["shape"]
        self._net = net = ncnn.Net()
        net.opt.num_threads = threads
        for kind in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{kind}", False)
        if net.load_param(str(variant.path)) or net.load_model(
            str(variant.path.with_suffix(".bin"))
        ):
            raise FastDigitError(f"ncnn cannot load {variant.path}")
        (self._input,), (self._output,) = net.input_names(), net.output_names()

    def bind(self, images: FloatArray, out: FloatArray) -> Call:
        images = self._arranged(images, self._shape)
        sources = [self._ncnn.Mat(image) for image in images]
        create, input_, output = self._net.create_extractor, self._input, self._output

        def call() -> None:
            for row, source in enumerate(sources):
                with create() as extractor:
                    extractor.input(input_, source)
                    _, result = extractor.extract(output)
                    out[row] = result

        return call


class TensorFlow(_Peer):
    """TensorFlow, where the network comes from: a traced function of fixed shape.

    Plain and compiled with XLA; the faster one counts. Input tensors are made beforehand.
    """

    name = "tensorflow"
    distribution = "tensorflow"
    environment: ClassVar[Mapping[str, str]] = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }

    @classmethod
    def lacks(cls, files: ModelFiles) -> str | None:
        return None if files.keras else "the network as --keras FILE"

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        assert files.keras is not None
        return [
            Variant("tf.function", files.keras, {"jit_compile": False}),
            Variant("tf.function, XLA", files.keras, {"jit_compile": True}),
        ]

    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        super().__init__(variant, batch, threads)
        self._tf = tf = require("tensorflow", self.extra)
        if tf.config.threading.get_intra_op_parallelism_threads() != threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        model = tf.keras.models.load_model(variant.path, compile=False)
        self._shape = (batch, *model.input_shape[1:])
        signature = [tf.TensorSpec(self._shape, tf.float32)]
        self._function = tf.function(
            lambda images: model(images, training=False), signature, **variant.options
        ).get_concrete_function()

    def bind(self, images: FloatArray, out: FloatArray) -> Call:
        source = self._tf.constant(self._arranged(images, self._shape))
        function = self._function

        def call() -> None:
            np.copyto(out, function(source).numpy())

        return call


#: Every known runtime by name; fastdigit and the reference first.
RUNTIMES: Mapping[str, type[Runtime]] = {
    runtime.name: runtime
    for runtime in (FastDigit, OnnxRuntime, OpenVino, LiteRT, Mnn, Ncnn, TensorFlow)
}


def _onnx_image_shape(path: Path) -> list[int]:
    ort = require("onnxruntime", OnnxRuntime.extra)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [int(size) for size in session.get_inputs()[0].shape[1:]]
