"""Comparisons, and what is chosen by them: Where, and the operators of booleans.

A comparison is kept as a formula until something is chosen by it. What is a maximum, a minimum or
an activation becomes one: ``Where(x > t, x, t)`` is ``max(x, t)``. Anything else is computed with
the comparison as a value of 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastdigit.compiler.frontends.common import clip, uniform
from fastdigit.compiler.frontends.onnx.registry import Operator, aligned
from fastdigit.compiler.ir import Activation, Node
from fastdigit.compiler.ops import Binary, Eltwise

if TYPE_CHECKING:
    from fastdigit.compiler.frontends.onnx.importer import Importer

__all__ = ["CHOICES", "Truth", "chosen"]

#: Of comparisons: which is true where the operands are the other way round.
_TURNED: Final = {
    "Greater": "Less",
    "GreaterOrEqual": "LessOrEqual",
    "Less": "Greater",
    "LessOrEqual": "GreaterOrEqual",
}
#: Of comparisons: which is true where they are not.
_NEGATED: Final = {
    "Greater": "LessOrEqual",
    "GreaterOrEqual": "Less",
    "Less": "GreaterOrEqual",
    "LessOrEqual": "Greater",
}
#: What reads or makes comparisons.
CHOICES: Final = frozenset(
    {*_TURNED, "And", "Cast", "Equal", "Identity", "Not", "Or", "Where", "Xor"}
)
#: What makes 2^-21 at least of any positive float32 number.
_STEEP: Final = float(np.finfo(np.float32).max)
#: May be infinite or no number where they are not chosen, and zero times that is not zero.
_UNBOUNDED: Final = ("exponential", "log", "sqrt")
#: Exporters write constants as float32.
_CLOSE: Final = 1e-6


@dataclass(frozen=True)
class Truth:
    """Whether a comparison holds, element by element.

    Parameters
    ----------
    name
        Of its operator.
    value
        Compared with ``bound``, in the way of ``kind``, an operator of ONNX; if ``kind`` is "",
        it is 0 where the comparison does not hold, and 1 where it does.
    """

    name: str
    value: str
    kind: str = ""
    bound: float = 0.0

    def placed(self, importer: Importer) -> str:
        """Return the value of 0 and 1, in the graph."""
        if not self.kind:
            return self.value
        if self.kind.endswith("OrEqual"):
            opposite = replace(self, kind=_NEGATED[self.kind])
            return Truth(self.name, opposite.placed(importer)).negated(importer).value
        shape, sign = importer.shape(self.value), 1.0 if self.kind == "Greater" else -1.0
        # The difference; 0 up to a difference of 0, and at least 2^-20 for any above; 0 and 1.
        value = self.value
        for op in (
            Eltwise(affine=uniform(shape, sign, -sign * self.bound)),
            Eltwise(Activation("hard_sigmoid", _STEEP), uniform(shape, 2.0, -1.0)),
            Eltwise(Activation("relu"), uniform(shape, 2.0**21)),
            Binary("min", np.array([1.0])),
        ):
            value = importer.builder.add(self.name, op, value)
        return value

    def negated(self, importer: Importer) -> Truth:
        """Return whether it does not hold."""
        if self.kind:
            return replace(self, kind=_NEGATED[self.kind])
        shape = importer.shape(self.value)
        opposite = Eltwise(affine=uniform(shape, -1.0, 1.0))
        return Truth(self.name, importer.builder.add(self.name, opposite, self.value))


def chosen(importer: Importer, operator: Operator) -> Truth | str:
    """Return what an operator of :data:`CHOICES` makes of its inputs, of which one is a truth, or
    of values."""
    inputs: tuple[Any, ...] = operator.inputs
    match operator.op_type, inputs:
        case (("Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Equal"), (left, right)):
            if not isinstance(left, Truth) and not isinstance(right, Truth):
                return _compared(importer, operator, left, right)
        case "Not", (Truth() as truth,):
            return truth.negated(importer)
        case (("And" | "Or" | "Xor"), (Truth() as left, Truth() as right)):
            return _joined(importer, operator, left, right)
        case "Cast", (Truth() as truth,):
            return truth if operator.attributes.get("to") == 9 else truth.placed(importer)
        case "Identity", (Truth() as truth,):
            return truth
        case "Where", (condition, yes, no):
            return _where(importer, operator, condition, yes, no)
    raise operator.refuse(
        "inputs of these kinds",
        "comparisons of values with values or numbers, And, Or, Xor and Not of these, and Where",
    )


def _compared(importer: Importer, operator: Operator, left: Any, right: Any) -> Truth:
    kind = operator.op_type
    if not isinstance(left, str):
        left, right, kind = right, left, _TURNED.get(kind, kind)
    bound = 0.0
    if isinstance(right, str):
        value = importer.builder.combine(operator.name, "sub", left, right)
    elif right.size == 1 and right.dtype.kind == "f" and np.isfinite(right).all():
        value, bound = left, float(right.ravel()[0])
        aligned(operator, right, importer.shape(left))
    else:
        index = 1 if kind == operator.op_type else 0
        bounds = operator.weights(index)
        assert bounds is not None
        moved = Binary("add", -aligned(operator, bounds, importer.shape(left)).astype(np.float64))
        value = importer.builder.add(operator.name, moved, left)
    if kind != "Equal":
        return Truth(operator.name, value, kind, bound)
    ways = (Truth(operator.name, value, way, bound) for way in ("GreaterOrEqual", "LessOrEqual"))
    return _product(importer, operator, *ways)


def _product(importer: Importer, operator: Operator, left: Truth, right: Truth) -> Truth:
    values = left.placed(importer), right.placed(importer)
    return Truth(operator.name, importer.builder.combine(operator.name, "mul", *values))


def _joined(importer: Importer, operator: Operator, left: Truth, right: Truth) -> Truth:
    if operator.op_type == "And":
        return _product(importer, operator, left, right)
    values = left.placed(importer), right.placed(importer)
    if operator.op_type == "Or":
        return Truth(operator.name, importer.builder.combine(operator.name, "max", *values))
    difference = importer.builder.combine(operator.name, "sub", *values)
    distance = importer.builder.combine(operator.name, "mul", difference, difference)
    return Truth(operator.name, distance)


def _where(importer: Importer, operator: Operator, condition: Any, yes: Any, no: Any) -> str:
    if isinstance(yes, Truth) or isinstance(no, Truth) or isinstance(condition, str):
        raise operator.refuse("a condition that is none, or truths to choose", "values or numbers")
    if isinstance(condition, Truth) and condition.kind:
        kind = condition.kind
        above, below = (yes, no) if kind.startswith("Greater") else (no, yes)
        known = _activation(importer, operator, condition, above, below)
        if known is not None:
            return known
    terms = []
    for given, chooses in ((yes, True), (no, False)):
        term = _term(importer, operator, condition, given, chooses)
        if term is not None:
            terms.append(term)
    if not terms:  # zero, whatever is chosen
        source = next(given for given in (yes, no, condition) if not isinstance(given, np.ndarray))
        value = source.value if isinstance(source, Truth) else source
        nothing = Eltwise(affine=uniform(importer.shape(value), 0.0))
        return importer.emit(operator, nothing, source=value)
    if len(terms) == 1:
        return terms[0]
    return importer.builder.combine(operator.name, "add", *terms)


def _term(
    importer: Importer, operator: Operator, condition: Any, given: Any, chooses: bool
) -> str | None:
    """Return one of the operands where it is chosen and zero elsewhere; None if it is zero."""
    builder = importer.builder
    if isinstance(given, np.ndarray):
        if given.dtype.kind not in "fiu" or not np.isfinite(given).all():
            raise operator.refuse("numbers that are not finite", "finite numbers")
        if not given.any():
            return None
    elif _may_be_unbounded(builder.producers, given):
        raise operator.refuse(
            "a choice of what may be infinite or no number elsewhere (exp, log, sqrt, a quotient)",
            "finite values",
        )
    if isinstance(condition, Truth):
        truth = condition if chooses else condition.negated(importer)
        mask = truth.placed(importer)
        if isinstance(given, str):
            return builder.combine(operator.name, "mul", given, mask)
        number = aligned(operator, given, importer.shape(mask)).astype(np.float64)
        return builder.add(operator.name, Binary("mul", number), mask)
    known = (condition if chooses else np.logical_not(condition)).astype(np.float64)
    if isinstance(given, str):
        kept = aligned(operator, known, importer.shape(given))
        return builder.add(operator.name, Binary("mul", kept), given)
    other = next(one for one in operator.inputs[1:] if isinstance(one, str))
    nothing = builder.add(operator.name, Eltwise(affine=uniform(importer.shape(other), 0.0)), other)
    numbers = aligned(operator, known * given, importer.shape(other))
    return builder.add(operator.name, Binary("add", numbers), nothing)


def _may_be_unbounded(producers: Any, value: str) -> bool:
    waiting, seen = [value], set()
    while waiting:
        node: Node | None = producers.get(waiting.pop())
        if node is None or node.output in seen:
            continue
        seen.add(node.output)
        op = node.op
        if getattr(op, "activation", None) is not None and op.activation.name in _UNBOUNDED:  # type: ignore[attr-defined]
            return True
        if isinstance(op, Binary) and op.kind == "div":
            return True
        waiting += node.inputs
    return False


def _activation(
    importer: Importer, operator: Operator, truth: Truth, above: Any, below: Any
) -> str | None:
    """Return the choice if it is a maximum, a minimum or an activation of what is compared."""
    x, bound = truth.value, truth.bound
    if isinstance(above, str) and above == x and _is(below, bound):
        return importer.emit(operator, *clip(bound, np.inf), source=x)
    if isinstance(below, str) and below == x and _is(above, bound):
        return importer.emit(operator, *clip(-np.inf, bound), source=x)
    if bound != 0 or not isinstance(above, str) or above != x or not isinstance(below, str):
        return None
    found = _multiple(importer, x, below)
    if found is not None and found >= 0:
        kind = Activation("leaky_relu", found) if found else Activation("relu")
        return importer.emit(operator, Eltwise(kind), source=x)
    alpha = _elu(importer, x, below)
    if alpha is not None and alpha >= 0:
        return importer.emit(operator, Eltwise(Activation("elu", alpha)), source=x)
    return None


def _is(given: Any, number: float) -> bool:
    return isinstance(given, np.ndarray) and given.size == 1 and float(given.ravel()[0]) == number


def _multiple(importer: Importer, x: str, value: str) -> float | None:
    """Return the number that x is multiplied by, if a value is that."""
    node = importer.builder.producers.get(value)
    if node is None or node.inputs != (x,) or not isinstance(node.op, Binary):
        return None
    return _number(node.op) if node.op.kind == "mul" else None


def _elu(importer: Importer, x: str, value: str) -> float | None:
    """Return alpha if a value is ``alpha * (exp(x) - 1)``, in any of its pieces."""
    node, ops = importer.builder.producers.get(value), []
    while node is not None and isinstance(node.op, Binary) and node.op.constant is not None:
        ops.append(node.op)
        node = importer.builder.producers.get(node.inputs[0])
    if node is None or node.inputs != (x,) or not isinstance(node.op, Eltwise):
        return None
    if node.op.activation != Activation("exponential") or node.op.affine is not None:
        return None
    factor, shift = 1.0, 0.0
    for op in reversed(ops):
        number = _number(op)
        if number is None or op.kind not in ("add", "mul"):
            return None
        factor, shift = (
            (factor, shift + number) if op.kind == "add" else (factor * number, shift * number)
        )
    return factor if abs(factor + shift) <= _CLOSE * abs(factor) else None


def _number(op: Binary) -> float | None:
    constant = op.constant
    return float(constant.ravel()[0]) if constant is not None and constant.size == 1 else None
