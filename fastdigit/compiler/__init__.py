"""Compiles small convolutional networks from Keras, ONNX or TensorFlow into one model file.

Front ends build a graph (:mod:`~fastdigit.compiler.ir`), passes rewrite it until the model file can
express it, the packer writes it, and the result is verified against its source. Nothing here
imports the engine: whoever compiles hands it in.
"""

from __future__ import annotations

from fastdigit.compiler.backends.fdm.listing import listing
from fastdigit.compiler.backends.fdm.unpack import Program, unpack
from fastdigit.compiler.driver import Compiled, compile_model
from fastdigit.compiler.meta import COMPILER_VERSION
from fastdigit.compiler.verify import Verification

__all__ = [
    "COMPILER_VERSION",
    "Compiled",
    "Program",
    "Verification",
    "compile_model",
    "listing",
    "unpack",
]
