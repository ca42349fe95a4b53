"""Computes what a Keras network computes, in float64, from its layers and weights as they are.

This is the second opinion on everything between a file and the compiled model: it shares no code
with the converters, the graph or the passes. It does what Keras' documentation says of each layer,
on batches (N, ...), and is plain rather than fast.
"""

from fastdigit.compiler.frontends.keras.evaluate import (  # noqa: F401 - each fills the table
    elementwise,
    moves,
    normalization,
    recurrent,
    windows,
)
from fastdigit.compiler.frontends.keras.evaluate.run import evaluate
from fastdigit.compiler.frontends.keras.evaluate.table import EVALUATORS

__all__ = ["EVALUATORS", "evaluate"]
