"""No bit of any result changes unnoticed: every ISA computes what was recorded.

That is one set of bits for all ISAs with a fused multiply-add, and another one for ``generic``.
"""

from __future__ import annotations

from fastdigit.compiler.backends.fdm.pack import MINORS
from tests.support import digests


def test_every_isa_computes_the_recorded_bits() -> None:
    for isa, found in digests.computed().items():
        assert found == digests.recorded(isa), isa


def test_the_networks_have_every_operator_and_precision() -> None:
    ops = [node.op for graph in digests.networks().values() for node in graph.nodes]
    assert {type(op) for op in ops} >= {kind for kind, minor in MINORS.items() if minor == 1}
    assert {getattr(op, "precision", "fp32") for op in ops} == set(digests.PRECISIONS)
    assert {op.activation.name for op in ops if hasattr(op, "activation")} == {
        digests.activation(text).name for text in digests.ACTIVATIONS
    }
