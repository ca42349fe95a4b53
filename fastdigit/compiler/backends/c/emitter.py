"""The file around the operators: arrays, activations, scratch memory, the header."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import lt
from typing import Any

import numpy as np

from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.backends.c.text import initializer, number, shown, string
from fastdigit.compiler.backends.fdm.unpack import Program
from fastdigit.compiler.heads import ends_in_sigmoid, ends_in_softmax, is_binary
from fastdigit.compiler.ir import Activation, Affine, Graph, Node, Op, Shape
from fastdigit.compiler.ops import Conv2D, Pool2D, with_nodes
from fastdigit.errors import UnsupportedError

__all__ = ["Emitted", "Emitter", "emits", "plan_scratch"]


@dataclass(frozen=True)
class Emitted:
    """A network in C.

    Parameters
    ----------
    source, header
        The texts of ``NAME.c`` and ``NAME.h``.
    scratch
        How many floats of scratch memory a call needs.
    """

    source: str
    header: str
    scratch: int


Emit = Callable[["Emitter", str, Any, *tuple[Shape, ...]], list[str]]

#: What writes the body of each operator's function.
_EMITTERS: dict[type[Op], Emit] = {}


def emits(kind: type[Op]) -> Callable[[Emit], Emit]:
    """Make a function that which writes ``kind`` in C.

    It takes the emitter, a label for arrays, the operator, and the shapes of its inputs and of its
    output; it returns lines that read ``x`` (and ``z``, the second input) and write ``y``.
    """

    def register(emit: Emit) -> Emit:
        _EMITTERS[kind] = emit
        return emit

    return register


class Emitter:
    def __init__(self, program: Program, name: str) -> None:
        graph = program.graph
        if len(graph.inputs) > 1 or len(graph.outputs) > 1:
            raise UnsupportedError(
                f"the network has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; "
                "written as C are networks of one each: choose an output (outputs=, --keep)"
            )
        self.program = program
        self.graph = separate_overlapping_pools(program.graph)
        self._binary = is_binary(self.graph)
        self.name = name
        self.arrays: list[str] = []
        self.functions: list[str] = []
        self.activations: dict[Activation, str] = {}

    def emit(self) -> Emitted:
        offsets, scratch = plan_scratch(self.graph)
        calls = []
        for index, node in enumerate(self.graph.nodes, start=1):
            label = f"op{index}"
            self._function(label, node)
            where = [self._place(value, offsets) for value in (*node.inputs, node.output)]
            calls.append(f"    {self.name}_{label}({', '.join(where)});")
        header = self._header(scratch)
        text = [
            f"/* {self.name}: {self._title()}. See {self.name}.h. */",
            f'#include "{self.name}.h"',
            "",
            "#include <math.h>",
            "",
            *self._activation_functions(),
            *self.arrays,
            *self.functions,
            self._run(calls),
        ]
        return Emitted("\n".join(text), header, scratch)

    def _title(self) -> str:
        # A name from a file must not end the comment that it stands in.
        name = re.sub(r"[^A-Za-z0-9_. -]", "?", str(self.program.meta.get("name", self.name)))
        return f"the network {name!r} as C, written by fastdigit"

    def _place(self, value: str, offsets: dict[str, int]) -> str:
        if value == self.graph.input:
            return "input"
        if value == self.graph.output:
            return "output"
        return f"scratch + {offsets[value]}" if offsets[value] else "scratch"

    def _header(self, scratch: int) -> str:
        inputs = self.graph.shapes[self.graph.input]
        outputs = math.prod(self.graph.shapes[self.graph.output])
        upper = self.name.upper()
        low, high = self.program.input_range
        bounds = f" from {low:g} to {high:g}" if math.isfinite(low) or math.isfinite(high) else ""
        probable = ends_in_softmax(self.graph) or ends_in_sigmoid(self.graph)
        names = self.program.meta.get("classes") or range(2 if self._binary else outputs)
        classes = ", ".join(string(str(label)) for label in names)
        lines = [
            f"/* {self.name}: {self._title()}.",
            " *",
            f" * Takes {shown(inputs)} floats{bounds}, rows first"
            + (", channels last" if len(inputs) == 3 else "")
            + f", and gives {outputs}"
            + (" probabilities." if probable else " scores."),
            " * Any number of threads may call it, each with its own output and scratch memory. */",
            f"#ifndef {upper}_H",
            f"#define {upper}_H",
            "",
            f"#define {upper}_INPUTS {math.prod(inputs)}",
            f"#define {upper}_OUTPUTS {outputs}",
            f"#define {upper}_SCRATCH {max(1, scratch)} /* floats */",
            f"#define {upper}_CLASSES {{{classes}}}",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            "/* The three arrays must not overlap. */",
            f"void {self.name}_run(const float *input, float *output, float *scratch);",
            "",
            "/* 1 if the output is greater than 0.5, otherwise 0. */"
            if self._binary
            else "/* Index of the greatest output, the first of equals. */",
            f"int {self.name}_label(const float *output);",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "#endif",
            "",
        ]
        return "\n".join(lines)

    def _run(self, calls: list[str]) -> str:
        upper = self.name.upper()
        if not calls:
            size = math.prod(self.graph.shapes[self.graph.output])
            calls = [f"    for (int i = 0; i < {size}; i++) output[i] = input[i];"]
        if not any("scratch" in call for call in calls):
            calls = ["    (void)scratch;", *calls]
        argmax = [
            "    int best = 0;",
            f"    for (int i = 1; i < {upper}_OUTPUTS; i++)",
            "        if (output[i] > output[best]) best = i;",
            "    return best;",
        ]
        return "\n".join(
            [
                f"void {self.name}_run(const float *input, float *output, float *scratch)",
                "{",
                *calls,
                "}",
                "",
                f"int {self.name}_label(const float *output)",
                "{",
                *(["    return output[0] > 0.5f;"] if self._binary else argmax),
                "}",
                "",
            ]
        )

    # Functions

    def _function(self, label: str, node: Node) -> None:
        sizes = [self.graph.shapes[value] for value in (*node.inputs, node.output)]
        op = node.op
        emit = _EMITTERS.get(type(op))
        if emit is None:
            raise UnsupportedError(f"{node.name}: a {type(op).__name__} can't be written as C yet")
        shapes = ", ".join(shown(shape) for shape in sizes[:-1])
        second = "const float *restrict z, " * (len(node.inputs) - 1)
        arguments = f"const float *restrict x, {second}float *restrict y"
        self.functions.append(
            "\n".join(
                [
                    f"/* {type(op).__name__}: {shapes} to {shown(sizes[-1])}. */",
                    f"static void {self.name}_{label}({arguments})",
                    "{",
                    *(f"    {line}" if line else "" for line in emit(self, label, op, *sizes)),
                    "}",
                    "",
                ]
            )
        )

    # Expressions and arrays

    def epilogue(
        self, label: str, activation: Activation, affine: Affine | None, value: str, *axes: str
    ) -> str:
        """Return the expression of an activation and affine of ``value``; ``axes`` are the names of
        the loops."""
        if activation.name != "linear":
            value = f"{self._activation(activation)}({value})"
        if affine is None:
            return value
        scale = self.array(f"{label}_scale", affine.scale)
        shift = self.array(f"{label}_shift", affine.shift)
        index = axes[affine.axis]
        return f"{value} * {scale}[{index}] + {shift}[{index}]"

    def _activation(self, activation: Activation) -> str:
        if activation not in self.activations:
            number = sum(known.name == activation.name for known in self.activations)
            suffix = f"_{number + 1}" if number else ""
            self.activations[activation] = f"{self.name}_{activation.name}{suffix}"
        return self.activations[activation]

    def _activation_functions(self) -> Iterator[str]:
        for activation, function in self.activations.items():
            body = ACTIVATIONS[activation.name].c.format(a=number(activation.alpha))
            yield f"static float {function}(float x)"
            yield "{"
            yield f"    return {body};"
            yield "}"
            yield ""

    def array(self, label: str, values: Any, type_: str = "float") -> str:
        """Add a constant array to the file; return its name."""
        name = f"{self.name}_{label}"
        array = np.asarray(values)
        if type_ == "float":
            array = array.astype(np.float32)
        dims = "".join(f"[{size}]" for size in array.shape)
        body = "\n".join(initializer(array, 1))
        self.arrays.append(f"static const {type_} {name}{dims} = {{\n{body}\n}};\n")
        return name


def separate_overlapping_pools(graph: Graph) -> Graph:
    """Take pooling whose windows overlap out of convolutions, which would compute pixels twice."""
    nodes: list[Node] = []
    for node in graph.nodes:
        op = node.op
        overlaps = isinstance(op, Conv2D) and op.pool and any(map(lt, op.pool.stride, op.pool.size))
        if not overlaps or not isinstance(op, Conv2D) or op.pool is None:
            nodes.append(node)
            continue
        middle = f"{node.output} before pooling"
        nodes.append(Node(node.name, replace(op, pool=None), node.inputs, middle))
        nodes.append(Node(f"{node.name} (pooling)", Pool2D(op.pool), (middle,), node.output))
    return with_nodes(graph, nodes)


def plan_scratch(graph: Graph) -> tuple[dict[str, int], int]:
    """Give each value between the input and the output a place in the scratch memory.

    Two values share a place if the first is read for the last time before the second is written.
    First fit in the order in which values are made.

    Returns
    -------
    tuple
        Offset of each value, and how many floats there are in all.
    """
    last = {value: index for index, node in enumerate(graph.nodes) for value in node.inputs}
    offsets: dict[str, int] = {}
    live: list[tuple[int, int, int]] = []  # offset, size, last use
    total = 0
    for index, node in enumerate(graph.nodes):
        if node.output == graph.output:
            continue
        live = [entry for entry in live if entry[2] >= index]
        size, offset = math.prod(graph.shapes[node.output]), 0
        for start, taken, _ in sorted(live):
            if start - offset >= size:
                break
            offset = max(offset, start + taken)
        offsets[node.output] = offset
        live.append((offset, size, last.get(node.output, index)))
        total = max(total, offset + size)
    return offsets, total
