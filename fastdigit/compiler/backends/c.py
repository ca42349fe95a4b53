"""Writes a network as one self-contained C11 file and its header.

For firmware, and for services that want no library: weights are constant arrays, each operator is a
function whose loops have this network's sizes, values live in a scratch array that the caller gives
and whose parts are used again when nothing needs them any more. Nothing is allocated, no state is
kept, and of the C library only ``math.h`` is used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import lt
from typing import Any

import numpy as np

from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.backends.fdm.unpack import Program
from fastdigit.compiler.ir import Activation, Affine, Graph, Node, Pool
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Conv2D,
    Dense,
    Eltwise,
    LayerNorm,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
    Transpose,
    make_graph,
)
from fastdigit.errors import InputError, UnsupportedError

__all__ = ["Emitted", "emit_c"]

#: Of the first operand a and the second b.
_BINARIES = {
    "add": "{a} + {b}",
    "sub": "{a} - {b}",
    "mul": "{a} * {b}",
    "div": "{a} / {b}",
    "max": "{a} > {b} ? {a} : {b}",
    "min": "{a} < {b} ? {a} : {b}",
    "prelu": "{a} > 0.0f ? {a} : {a} * {b}",
}


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


def emit_c(program: Program, name: str) -> Emitted:
    """Write a compiled model as C.

    Parameters
    ----------
    program
        As :func:`fastdigit.compiler.backends.fdm.unpack.unpack` returns it.
    name
        Prefix of all names, and of the two files.

    Raises
    ------
    InputError
        If ``name`` is not a C identifier.
    UnsupportedError
        If the network has an operator that can't be written as C.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise InputError(f"{name!r} is not a C identifier, which names in C begin with")
    return _Emitter(program, name).emit()


class _Emitter:
    def __init__(self, program: Program, name: str) -> None:
        self.program = program
        self.graph = separate_overlapping_pools(program.graph)
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
        names = self.program.meta.get("classes") or range(outputs)
        classes = ", ".join(_string(str(label)) for label in names)
        lines = [
            f"/* {self.name}: {self._title()}.",
            " *",
            f" * Takes {_shape(inputs)} floats from {low:g} to {high:g}, rows first"
            + (", channels last" if len(inputs) == 3 else "")
            + f", and gives {outputs}"
            + (" probabilities." if self._has_softmax() else " scores."),
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
            "/* Index of the greatest output, the first of equals. */",
            f"int {self.name}_argmax(const float *output);",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "#endif",
            "",
        ]
        return "\n".join(lines)

    def _has_softmax(self) -> bool:
        return bool(self.graph.nodes) and isinstance(self.graph.nodes[-1].op, Softmax)

    def _run(self, calls: list[str]) -> str:
        upper = self.name.upper()
        if not calls:
            size = math.prod(self.graph.shapes[self.graph.output])
            calls = [f"    for (int i = 0; i < {size}; i++) output[i] = input[i];"]
        if not any("scratch" in call for call in calls):
            calls = ["    (void)scratch;", *calls]
        return "\n".join(
            [
                f"void {self.name}_run(const float *input, float *output, float *scratch)",
                "{",
                *calls,
                "}",
                "",
                f"int {self.name}_argmax(const float *output)",
                "{",
                "    int best = 0;",
                f"    for (int i = 1; i < {upper}_OUTPUTS; i++)",
                "        if (output[i] > output[best]) best = i;",
                "    return best;",
                "}",
                "",
            ]
        )

    # Functions

    def _function(self, label: str, node: Node) -> None:
        sizes = [self.graph.shapes[value] for value in (*node.inputs, node.output)]
        op = node.op
        bodies: dict[type, Callable[..., list[str]]] = {
            Conv2D: self._conv2d,
            Dense: self._dense,
            Pool2D: self._pool2d,
            Eltwise: self._eltwise,
            Softmax: self._softmax,
            Binary: self._binary,
            Concat: self._concat,
            LayerNorm: self._layernorm,
            Pad: self._pad,
            Reshape: self._reshape,
            Transpose: self._transpose,
        }
        body = bodies.get(type(op))
        if body is None:
            raise UnsupportedError(f"{node.name}: a {type(op).__name__} can't be written as C yet")
        shapes = ", ".join(_shape(shape) for shape in sizes[:-1])
        second = "const float *restrict z, " * (len(node.inputs) - 1)
        arguments = f"const float *restrict x, {second}float *restrict y"
        self.functions.append(
            "\n".join(
                [
                    f"/* {type(op).__name__}: {shapes} to {_shape(sizes[-1])}. */",
                    f"static void {self.name}_{label}({arguments})",
                    "{",
                    *(f"    {line}" if line else "" for line in body(label, op, *sizes)),
                    "}",
                    "",
                ]
            )
        )

    def _conv2d(
        self, label: str, op: Conv2D, input: tuple[int, ...], output: tuple[int, ...]
    ) -> list[str]:
        height, width, channels = input
        rows, columns, outputs = output
        weights = self._array(f"{label}_weights", op.weights)
        bias = None if op.bias is None else self._array(f"{label}_bias", op.bias)
        pool = op.pool or Pool("max", (1, 1), (1, 1))
        kernel = op.weights.shape[:2]
        # Size of the convolution's own output, which pooling's padding is outside of.
        full = [
            (size + before + after - dilation * (taps - 1) - 1) // stride + 1
            for size, before, after, dilation, taps, stride in zip(
                (height, width), op.pad[:2], op.pad[2:], op.dilation, kernel, op.stride, strict=True
            )
        ]
        item = "k"
        if op.groups > 1:
            item = f"o / {outputs // op.groups} * {channels // op.groups} + k"
        start = f"{bias}[o]" if bias else "0.0f"
        pooled = op.pool is not None
        average = pool.mode == "average"
        value = self._epilogue(label, op.activation, op.affine, "acc[o]", "r", "c", "o")
        yield_ = f"y[(i * {columns} + j) * {outputs} + o]"
        lines = [
            f"for (int i = 0; i < {rows}; i++)",
            f"for (int j = 0; j < {columns}; j++) {{",
        ]
        inner: list[str] = []
        if pooled:
            initial = "0.0f" if average else "-INFINITY"
            inner += [
                f"float best[{outputs}];",
                f"for (int o = 0; o < {outputs}; o++) best[o] = {initial};",
                *(["int count = 0;"] if average else []),
                *_window(pool),
            ]
            work: list[str] = []
            if any(pool.pad):
                work.append(f"if (r < 0 || r >= {full[0]} || c < 0 || c >= {full[1]}) continue;")
        else:
            inner += ["const int r = i, c = j;"]
            work = []
        work += [
            f"float acc[{outputs}];",
            f"for (int o = 0; o < {outputs}; o++) acc[o] = {start};",
            f"for (int u = 0; u < {kernel[0]}; u++) {{",
            f"    const int row = r * {op.stride[0]} + u * {op.dilation[0]} - {op.pad[0]};",
            *([f"    if (row < 0 || row >= {height}) continue;"] if op.pad[0] or op.pad[2] else []),
            f"    for (int v = 0; v < {kernel[1]}; v++) {{",
            f"        const int column = c * {op.stride[1]} + v * {op.dilation[1]} - {op.pad[1]};",
            *(
                [f"        if (column < 0 || column >= {width}) continue;"]
                if op.pad[1] or op.pad[3]
                else []
            ),
            f"        const float *in = x + (row * {width} + column) * {channels};",
            f"        for (int k = 0; k < {channels // op.groups}; k++)",
            f"            for (int o = 0; o < {outputs}; o++)",
            f"                acc[o] += in[{item}] * {weights}[u][v][k][o];",
            "    }",
            "}",
        ]
        if pooled:
            if average:
                work += [
                    "count++;",
                    f"for (int o = 0; o < {outputs}; o++) best[o] += {value};",
                ]
                last = [f"for (int o = 0; o < {outputs}; o++) {yield_} = best[o] / (float)count;"]
            else:
                work += [
                    f"for (int o = 0; o < {outputs}; o++) {{",
                    f"    const float value = {value};",
                    "    if (value > best[o]) best[o] = value;",
                    "}",
                ]
                last = [f"for (int o = 0; o < {outputs}; o++) {yield_} = best[o];"]
            inner += [f"    {line}" for line in work] + ["}", *last]
        else:
            inner += [*work, f"for (int o = 0; o < {outputs}; o++) {yield_} = {value};"]
        return [*lines, *(f"    {line}" for line in inner), "}"]

    def _dense(
        self, label: str, op: Dense, input: tuple[int, ...], output: tuple[int, ...]
    ) -> list[str]:
        inputs, outputs = op.weights.shape
        if op.precision == "int8-dynamic":
            raise UnsupportedError(
                "a dense layer that quantises its inputs can't be written as C: use int8"
            )
        bias = None if op.bias is None else self._array(f"{label}_bias", op.bias)
        start = f"{bias}[o]" if bias else "0.0f"
        if op.precision == "int8" and op.scale is not None:
            scale = self._array(f"{label}_scale", op.scale)
            integers = np.rint(op.weights / op.scale).astype(np.int64)
            weights = self._array(f"{label}_weights", integers, "signed char")
            value = self._epilogue(label, op.activation, None, f"y[o] * {scale}[o] + {start}")
            start = "0.0f"
        else:
            weights = self._array(f"{label}_weights", op.weights)
            value = self._epilogue(label, op.activation, None, "y[o]")
        lines = [
            f"for (int o = 0; o < {outputs}; o++) y[o] = {start};",
            f"for (int k = 0; k < {inputs}; k++)",
            f"    for (int o = 0; o < {outputs}; o++)",
            f"        y[o] += x[k] * {weights}[k][o];",
        ]
        if value != "y[o]":
            lines.append(f"for (int o = 0; o < {outputs}; o++) y[o] = {value};")
        return lines

    def _pool2d(
        self, label: str, op: Pool2D, input: tuple[int, ...], output: tuple[int, ...]
    ) -> list[str]:
        height, width, channels = input
        rows, columns, _ = output
        pool = op.pool
        average = pool.mode == "average"
        bounds = f"if (r < 0 || r >= {height} || c < 0 || c >= {width}) continue;"
        item = f"x[(r * {width} + c) * {channels} + o]"
        result = "best / (float)count" if average else "best"
        step = f"best += {item};" if average else f"if ({item} > best) best = {item};"
        return [
            f"for (int i = 0; i < {rows}; i++)",
            f"for (int j = 0; j < {columns}; j++)",
            f"for (int o = 0; o < {channels}; o++) {{",
            f"    float best = {'0.0f' if average else '-INFINITY'};",
            *(["    int count = 0;"] if average else []),
            *(f"    {line}" for line in _window(pool)),
            *([f"        {bounds}"] if any(pool.pad) else []),
            f"        {step}",
            *(["        count++;"] if average else []),
            "    }",
            f"    y[(i * {columns} + j) * {channels} + o] = {result};",
            "}",
        ]

    def _eltwise(
        self, label: str, op: Eltwise, input: tuple[int, ...], output: tuple[int, ...]
    ) -> list[str]:
        shape = (1,) * (3 - len(input)) + tuple(input)
        index = f"(r * {shape[1]} + c) * {shape[2]} + o"
        affine = op.affine
        if affine is not None and len(input) == 1:
            affine = Affine(2, affine.scale, affine.shift)
        value = self._epilogue(label, op.activation, affine, f"x[{index}]", "r", "c", "o")
        return [
            f"for (int r = 0; r < {shape[0]}; r++)",
            f"for (int c = 0; c < {shape[1]}; c++)",
            f"for (int o = 0; o < {shape[2]}; o++)",
            f"    y[{index}] = {value};",
        ]

    def _softmax(
        self, label: str, op: Softmax, input: tuple[int, ...], output: tuple[int, ...]
    ) -> list[str]:
        size = output[-1]
        scaled = "x[o] - most"
        if op.temperature != 1:
            scaled = f"({scaled}) / {_number(op.temperature)}"
        return self._pixels(
            output,
            [
                "float most = x[0], sum = 0.0f;",
                f"for (int o = 1; o < {size}; o++)",
                "    if (x[o] > most) most = x[o];",
                f"for (int o = 0; o < {size}; o++) {{",
                f"    y[o] = expf({scaled});",
                "    sum += y[o];",
                "}",
                f"for (int o = 0; o < {size}; o++) y[o] /= sum;",
            ],
        )

    def _layernorm(
        self, label: str, op: LayerNorm, input: tuple[int, ...], output: tuple[int, ...]
    ) -> list[str]:
        size = output[-1]
        value = "(x[o] - mean) * factor"
        if op.scale is not None:
            value += f" * {self._array(f'{label}_scale', op.scale)}[o]"
        if op.shift is not None:
            value += f" + {self._array(f'{label}_shift', op.shift)}[o]"
        return self._pixels(
            output,
            [
                "float mean = 0.0f, variance = 0.0f;",
                f"for (int o = 0; o < {size}; o++) mean += x[o];",
                f"mean /= {size}.0f;",
                f"for (int o = 0; o < {size}; o++) variance += (x[o] - mean) * (x[o] - mean);",
                f"const float factor = 1.0f / sqrtf(variance / {size}.0f + {_number(op.epsilon)});",
                f"for (int o = 0; o < {size}; o++) y[o] = {value};",
            ],
        )

    def _pixels(self, shape: tuple[int, ...], body: list[str]) -> list[str]:
        """Do `body`, which reads x and writes y along the last axis, for each pixel."""
        count, size = math.prod(shape[:-1]), shape[-1]
        if count == 1:
            return body
        return [
            f"for (int i = 0; i < {count}; i++, x += {size}, y += {size}) {{",
            *(f"    {line}" for line in body),
            "}",
        ]

    def _binary(self, label: str, op: Binary, *shapes: tuple[int, ...]) -> list[str]:
        shape = _image(shapes[0])
        if op.constant is None:
            other, operand = _image(shapes[1]), "z"
        else:
            other = _image(op.constant.shape)
            operand = self._array(f"{label}_operand", op.constant.ravel())
        index = [axis if size > 1 else "0" for axis, size in zip("rco", other, strict=True)]
        first = f"x[(r * {shape[1]} + c) * {shape[2]} + o]"
        second = f"{operand}[({index[0]} * {other[1]} + {index[1]}) * {other[2]} + {index[2]}]"
        value = f"({_BINARIES[op.kind].format(a=first, b=second)})"
        affine = op.affine
        if affine is not None and len(shapes[0]) == 1:
            affine = Affine(2, affine.scale, affine.shift)
        value = self._epilogue(label, op.activation, affine, value, "r", "c", "o")
        return [
            *_loops(shape),
            f"    y[(r * {shape[1]} + c) * {shape[2]} + o] = {value};",
        ]

    def _concat(self, label: str, op: Concat, *shapes: tuple[int, ...]) -> list[str]:
        # All that lies behind the axis is in one piece.
        axis = op.axis
        outer = math.prod(shapes[-1][:axis])
        sizes = [math.prod(shape[axis:]) for shape in shapes]
        return [
            f"for (int i = 0; i < {outer}; i++) {{",
            f"    for (int k = 0; k < {sizes[0]}; k++)",
            f"        y[i * {sizes[2]} + k] = x[i * {sizes[0]} + k];",
            f"    for (int k = 0; k < {sizes[1]}; k++)",
            f"        y[i * {sizes[2]} + {sizes[0]} + k] = z[i * {sizes[1]} + k];",
            "}",
        ]

    def _pad(
        self, label: str, op: Pad, input: tuple[int, ...], output: tuple[int, ...]
    ) -> list[str]:
        sizes, widths = _image(input), [(0, 0)] * (3 - len(input)) + list(op.widths)
        full = _image(output)
        row, column, channel = (before for before, _ in widths)
        return [
            f"for (int i = 0; i < {math.prod(full)}; i++) y[i] = {_number(op.value)};",
            *_loops(sizes),
            f"    y[((r + {row}) * {full[1]} + c + {column}) * {full[2]} + o + {channel}] =",
            f"        x[(r * {sizes[1]} + c) * {sizes[2]} + o];",
        ]

    def _reshape(
        self, label: str, op: Reshape, input: tuple[int, ...], output: tuple[int, ...]
    ) -> list[str]:
        return [f"for (int i = 0; i < {math.prod(output)}; i++) y[i] = x[i];"]

    def _transpose(
        self, label: str, op: Transpose, input: tuple[int, ...], output: tuple[int, ...]
    ) -> list[str]:
        perm = (*range(3 - len(input)), *(axis + 3 - len(input) for axis in op.perm))
        sizes, full = _image(input), _image(output)
        names = dict(zip(perm, "rco", strict=True))
        return [
            *_loops(full),
            f"    y[(r * {full[1]} + c) * {full[2]} + o] =",
            f"        x[({names[0]} * {sizes[1]} + {names[1]}) * {sizes[2]} + {names[2]}];",
        ]

    # Expressions and arrays

    def _epilogue(
        self, label: str, activation: Activation, affine: Affine | None, value: str, *axes: str
    ) -> str:
        if activation.name != "linear":
            value = f"{self._activation(activation)}({value})"
        if affine is None:
            return value
        scale = self._array(f"{label}_scale", affine.scale)
        shift = self._array(f"{label}_shift", affine.shift)
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
            body = ACTIVATIONS[activation.name].c.format(a=_number(activation.alpha))
            yield f"static float {function}(float x)"
            yield "{"
            yield f"    return {body};"
            yield "}"
            yield ""

    def _array(self, label: str, values: Any, type_: str = "float") -> str:
        name = f"{self.name}_{label}"
        array = np.asarray(values)
        if type_ == "float":
            array = array.astype(np.float32)
        dims = "".join(f"[{size}]" for size in array.shape)
        body = "\n".join(_initializer(array, 1))
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
    return make_graph(graph.input, graph.shapes[graph.input], nodes, graph.output)


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


def _image(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Three axes: a vector is one pixel."""
    return (1,) * (3 - len(shape)) + tuple(shape)


def _loops(shape: tuple[int, ...]) -> list[str]:
    """Over the rows, columns and channels of an image."""
    return [
        f"for (int {name} = 0; {name} < {size}; {name}++)"
        for name, size in zip("rco", shape, strict=True)
    ]


def _window(pool: Pool) -> list[str]:
    """Loops over the pixels (r, c) of the window that belongs to output (i, j)."""
    (down, right), (height, width) = pool.stride, pool.size
    return [
        f"for (int r = i * {down} - {pool.pad[0]}, p = 0; p < {height}; r++, p++)",
        f"for (int c = j * {right} - {pool.pad[1]}, q = 0; q < {width}; c++, q++) {{",
    ]


def _initializer(array: np.ndarray[Any, Any], depth: int) -> Iterator[str]:
    indent = "    " * min(depth, 4)
    if array.ndim > 1:
        for index, part in enumerate(array):
            yield f"{indent}{{"
            yield from _initializer(part, depth + 1)
            yield f"{indent}}}{',' if index + 1 < len(array) else ''}"
        return
    numbers = [_number(item) for item in array]
    for start in range(0, len(numbers), 8):
        yield indent + ", ".join(numbers[start : start + 8]) + ","


def _number(value: Any) -> str:
    """A C literal that reads back as exactly this number."""
    if isinstance(value, np.integer):
        return str(int(value))
    number = float(np.float32(value))
    if not math.isfinite(number):
        raise UnsupportedError(f"a weight is {number}, which C has no literal for")
    text = f"{number:.9g}"
    return text + ("f" if re.search(r"[.e]", text) else ".0f")


def _string(text: str) -> str:
    """A C string literal; whatever is not plain ASCII is written in octal."""
    plain = [
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in str(text).encode()
    ]
    return '"' + "".join(plain) + '"'


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
