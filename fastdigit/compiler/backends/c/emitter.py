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
from fastdigit.compiler.backends.c.text import identifiers, initializer, number, shown, string
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


@dataclass(frozen=True)
class _Port:
    """An input or output in C: a value of the graph, the name of its argument, and what is behind
    NAME_ and name_ in the macros and functions about it."""

    value: str
    shape: Shape
    argument: str
    size: str
    classes: str = ""
    label: str = ""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


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
        self.program = program
        self.graph = separate_overlapping_pools(program.graph)
        self.inputs, self.outputs = _ports(program)
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
            self._run(calls, offsets),
        ]
        return Emitted("\n".join(text), header, scratch)

    def _title(self) -> str:
        name = _in_comment(str(self.program.meta.get("name", self.name)))
        return f"the network {name} as C, written by fastdigit"

    def _place(self, value: str, offsets: dict[str, int]) -> str:
        for port in (*self.inputs, *self.outputs):
            if value == port.value:
                return port.argument
        return f"scratch + {offsets[value]}" if offsets[value] else "scratch"

    def _header(self, scratch: int) -> str:
        upper = self.name.upper()
        arrays = len(self.inputs) + len(self.outputs) + 1
        lines = [
            f"/* {self.name}: {self._title()}.",
            " *",
            *(self._about_one() if arrays == 3 else self._about_several()),
            " * Any number of threads may call it, each with its own "
            + ("output" if len(self.outputs) == 1 else "outputs")
            + " and scratch memory. */",
            f"#ifndef {upper}_H",
            f"#define {upper}_H",
            "",
            *(f"#define {upper}_{port.size} {port.elements}" for port in self.inputs),
            *(f"#define {upper}_{port.size} {port.elements}" for port in self.outputs),
            f"#define {upper}_SCRATCH {max(1, scratch)} /* floats */",
            *(
                f"#define {upper}_{port.classes} {{{self._classes(index)}}}"
                for index, port in enumerate(self.outputs)
                if port.classes
            ),
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            f"/* The {'three' if arrays == 3 else arrays} arrays must not overlap. */",
            f"{self._prototype()};",
            "",
        ]
        for index, port in enumerate(self.outputs):
            if port.label:
                lines += [
                    "/* 1 if the output is greater than 0.5, otherwise 0. */"
                    if is_binary(self.graph, index)
                    else "/* Index of the greatest output, the first of equals. */",
                    f"int {self.name}_{port.label}(const float *{port.argument});",
                    "",
                ]
        lines += ["#ifdef __cplusplus", "}", "#endif", "#endif", ""]
        return "\n".join(lines)

    def _about_one(self) -> list[str]:
        """What is taken and given, of one each."""
        ((taken,), (given,)) = self.inputs, self.outputs
        return [
            f" * Takes {self._taken(0, taken)}, and gives {given.elements} {self._what(0)}.",
        ]

    def _about_several(self) -> list[str]:
        """The same of each, with its name."""
        names = [port.name for port in self.program.inputs], self.program.outputs
        lines = [" * Takes"]
        for index, port in enumerate(self.inputs):
            called = _in_comment(names[0][index])
            lines.append(f" *   {port.argument} ({called}): {self._taken(index, port)};")
        lines.append(" * gives")
        for index, port in enumerate(self.outputs):
            called, what = _in_comment(names[1][index]), self._what(index)
            lines.append(f" *   {port.argument} ({called}): {shown(port.shape)} {what};")
        lines[-1] = lines[-1][:-1] + "."
        return lines

    def _taken(self, index: int, port: _Port) -> str:
        low, high = self.program.inputs[index].range
        bounds = f" from {low:g} to {high:g}" if math.isfinite(low) or math.isfinite(high) else ""
        layout = ", channels last" if len(port.shape) == 3 else ""
        return f"{shown(port.shape)} floats{bounds}, rows first{layout}"

    def _what(self, index: int) -> str:
        probable = ends_in_softmax(self.graph, index) or ends_in_sigmoid(self.graph, index)
        return "probabilities" if probable else "scores"

    def _classes(self, index: int) -> str:
        described = self.program.meta.get("outputs")
        several = len(self.outputs) > 1
        meta = described[index] if several and isinstance(described, list) else self.program.meta
        count = 2 if is_binary(self.graph, index) else self.outputs[index].elements
        return ", ".join(string(str(label)) for label in meta.get("classes") or range(count))

    def _prototype(self) -> str:
        arguments = [
            *(f"const float *{port.argument}" for port in self.inputs),
            *(f"float *{port.argument}" for port in self.outputs),
            "float *scratch",
        ]
        return f"void {self.name}_run({', '.join(arguments)})"

    def _run(self, calls: list[str], offsets: dict[str, int]) -> str:
        upper = self.name.upper()
        lines = list(calls)
        for port in self.outputs:
            place = self._place(port.value, offsets)
            if place != port.argument:  # an input, or what another output is too
                loop = f"for (int i = 0; i < {port.elements}; i++)"
                lines.append(f"    {loop} {port.argument}[i] = {place}[i];")
        if not any("scratch" in line for line in lines):
            lines = ["    (void)scratch;", *lines]
        body = [self._prototype(), "{", *lines, "}", ""]
        for index, port in enumerate(self.outputs):
            if not port.label:
                continue
            name = port.argument
            argmax = [
                "    int best = 0;",
                f"    for (int i = 1; i < {upper}_{port.size}; i++)",
                f"        if ({name}[i] > {name}[best]) best = i;",
                "    return best;",
            ]
            body += [
                f"int {self.name}_{port.label}(const float *{name})",
                "{",
                *([f"    return {name}[0] > 0.5f;"] if is_binary(self.graph, index) else argmax),
                "}",
                "",
            ]
        return "\n".join(body)

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


def _in_comment(name: str) -> str:
    """A name from a file must not end the comment that it stands in."""
    return repr(re.sub(r"[^A-Za-z0-9_. -]", "?", name))


def _ports(program: Program) -> tuple[list[_Port], list[_Port]]:
    """Inputs and outputs: one alone is called ``input`` or ``output``, of several each by its
    name."""
    graph = program.graph
    inputs = [(value, graph.shapes[value]) for value in graph.inputs]
    outputs = [(value, graph.shapes[value]) for value in graph.outputs]
    taken, given = [_Port(*inputs[0], "input", "INPUTS")], []
    if len(inputs) > 1:
        names = identifiers([port.name for port in program.inputs])
        taken = [
            _Port(*port, f"input_{name}", f"INPUT_{name.upper()}")
            for port, name in zip(inputs, names, strict=True)
        ]
    if len(outputs) == 1:
        return taken, [_Port(*outputs[0], "output", "OUTPUTS", "CLASSES", "label")]
    for port, name in zip(outputs, identifiers(program.outputs), strict=True):
        upper = name.upper()
        labels = (f"CLASSES_{upper}", f"label_{name}") if len(port[1]) == 1 else ()
        given.append(_Port(*port, f"output_{name}", f"OUTPUT_{upper}", *labels))
    return taken, given


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
    """Give each value between inputs and outputs a place in the scratch memory.

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
        if node.output in graph.outputs:
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
