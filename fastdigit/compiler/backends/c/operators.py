"""The loops of each operator, with the sizes of the network."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fastdigit.compiler.backends.c.emitter import Emitter, emits
from fastdigit.compiler.backends.c.text import image, loops, number, window
from fastdigit.compiler.ir import Affine, Pool, Shape
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Conv2D,
    ConvTranspose2D,
    Crop,
    Dense,
    Eltwise,
    LayerNorm,
    LogSoftmax,
    Pad,
    Pool2D,
    Recurrent,
    Reshape,
    Resize,
    Softmax,
    Transpose,
)
from fastdigit.errors import UnsupportedError

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


@emits(Conv2D)
def _conv2d(emitter: Emitter, label: str, op: Conv2D, *shapes: Shape) -> list[str]:
    (height, width, channels), (rows, columns, outputs) = shapes
    weights = emitter.array(f"{label}_weights", op.weights)
    bias = None if op.bias is None else emitter.array(f"{label}_bias", op.bias)
    pool = op.pool or Pool("max", (1, 1), (1, 1))
    kernel = op.weights.shape[:2]
    # Size of the convolution's own output, which pooling's padding is outside of.
    full = replace(op, pool=None).infer(shapes[0])
    item = "k"
    if op.groups > 1:
        item = f"o / {outputs // op.groups} * {channels // op.groups} + k"
    start = f"{bias}[o]" if bias else "0.0f"
    pooled = op.pool is not None
    average = pool.mode == "average"
    value = emitter.epilogue(label, op.activation, op.affine, "acc[o]", "r", "c", "o")
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
            *window(pool),
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


@emits(ConvTranspose2D)
def _conv_transpose2d(
    emitter: Emitter, label: str, op: ConvTranspose2D, *shapes: Shape
) -> list[str]:
    (height, width, channels), (rows, columns, outputs) = shapes
    weights = emitter.array(f"{label}_weights", op.weights)
    start = "0.0f" if op.bias is None else f"{emitter.array(f'{label}_bias', op.bias)}[o]"
    item = "k"
    if op.groups > 1:
        item = f"o / {outputs // op.groups} * {channels // op.groups} + k"
    value = emitter.epilogue(label, op.activation, op.affine, "acc[o]", "i", "j", "o")
    (down, right), (top, left) = op.stride, op.pad[:2]
    return [
        f"for (int i = 0; i < {rows}; i++)",
        f"for (int j = 0; j < {columns}; j++) {{",
        f"    float acc[{outputs}];",
        f"    for (int o = 0; o < {outputs}; o++) acc[o] = {start};",
        f"    for (int u = 0; u < {op.weights.shape[0]}; u++) {{",
        f"        const int row = i + {top} - u * {op.dilation[0]};",
        f"        if (row < 0 || row % {down} || row / {down} >= {height}) continue;",
        f"        for (int v = 0; v < {op.weights.shape[1]}; v++) {{",
        f"            const int column = j + {left} - v * {op.dilation[1]};",
        f"            if (column < 0 || column % {right} || column / {right} >= {width}) continue;",
        f"            const int pixel = row / {down} * {width} + column / {right};",
        f"            const float *in = x + pixel * {channels};",
        f"            for (int k = 0; k < {channels // op.groups}; k++)",
        f"                for (int o = 0; o < {outputs}; o++)",
        f"                    acc[o] += in[{item}] * {weights}[u][v][k][o];",
        "        }",
        "    }",
        f"    for (int o = 0; o < {outputs}; o++)",
        f"        y[(i * {columns} + j) * {outputs} + o] = {value};",
        "}",
    ]


@emits(Dense)
def _dense(emitter: Emitter, label: str, op: Dense, *shapes: Shape) -> list[str]:
    inputs, outputs = op.weights.shape
    if op.precision == "int8-dynamic":
        raise UnsupportedError(
            "a dense layer that quantises its inputs can't be written as C: use int8"
        )
    bias = None if op.bias is None else emitter.array(f"{label}_bias", op.bias)
    start = f"{bias}[o]" if bias else "0.0f"
    if op.precision == "int8" and op.scale is not None:
        scale = emitter.array(f"{label}_scale", op.scale)
        integers = np.rint(op.weights / op.scale).astype(np.int64)
        weights = emitter.array(f"{label}_weights", integers, "signed char")
        value = emitter.epilogue(label, op.activation, None, f"y[o] * {scale}[o] + {start}")
        start = "0.0f"
    else:
        weights = emitter.array(f"{label}_weights", op.weights)
        value = emitter.epilogue(label, op.activation, None, "y[o]")
    lines = [
        f"for (int o = 0; o < {outputs}; o++) y[o] = {start};",
        f"for (int k = 0; k < {inputs}; k++)",
        f"    for (int o = 0; o < {outputs}; o++)",
        f"        y[o] += x[k] * {weights}[k][o];",
    ]
    if value != "y[o]":
        lines.append(f"for (int o = 0; o < {outputs}; o++) y[o] = {value};")
    return lines


@emits(Pool2D)
def _pool2d(emitter: Emitter, label: str, op: Pool2D, *shapes: Shape) -> list[str]:
    (height, width, channels), (rows, columns, _) = shapes
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
        *(f"    {line}" for line in window(pool)),
        *([f"        {bounds}"] if any(pool.pad) else []),
        f"        {step}",
        *(["        count++;"] if average else []),
        "    }",
        f"    y[(i * {columns} + j) * {channels} + o] = {result};",
        "}",
    ]


@emits(Eltwise)
def _eltwise(emitter: Emitter, label: str, op: Eltwise, *shapes: Shape) -> list[str]:
    shape = image(shapes[0])
    index = f"(r * {shape[1]} + c) * {shape[2]} + o"
    affine = op.affine
    if affine is not None and len(shapes[0]) == 1:
        affine = Affine(2, affine.scale, affine.shift)
    value = emitter.epilogue(label, op.activation, affine, f"x[{index}]", "r", "c", "o")
    return [
        f"for (int r = 0; r < {shape[0]}; r++)",
        f"for (int c = 0; c < {shape[1]}; c++)",
        f"for (int o = 0; o < {shape[2]}; o++)",
        f"    y[{index}] = {value};",
    ]


@emits(Softmax)
def _softmax(emitter: Emitter, label: str, op: Softmax, *shapes: Shape) -> list[str]:
    size = shapes[0][-1]
    scaled = "x[o] - most"
    if op.temperature != 1:
        scaled = f"({scaled}) / {number(op.temperature)}"
    return _pixels(
        shapes[0],
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


@emits(LogSoftmax)
def _logsoftmax(emitter: Emitter, label: str, op: LogSoftmax, *shapes: Shape) -> list[str]:
    size = shapes[0][-1]
    return _pixels(
        shapes[0],
        [
            "float most = x[0], sum = 0.0f;",
            f"for (int o = 1; o < {size}; o++)",
            "    if (x[o] > most) most = x[o];",
            f"for (int o = 0; o < {size}; o++) sum += expf(x[o] - most);",
            f"for (int o = 0; o < {size}; o++) y[o] = x[o] - most - logf(sum);",
        ],
    )


@emits(Binary)
def _binary(emitter: Emitter, label: str, op: Binary, *shapes: Shape) -> list[str]:
    shape = image(shapes[0])
    if op.constant is None:
        other, operand = image(shapes[1]), "z"
    else:
        other = image(op.constant.shape)
        operand = emitter.array(f"{label}_operand", op.constant.ravel())
    index = [axis if size > 1 else "0" for axis, size in zip("rco", other, strict=True)]
    first = f"x[(r * {shape[1]} + c) * {shape[2]} + o]"
    second = f"{operand}[({index[0]} * {other[1]} + {index[1]}) * {other[2]} + {index[2]}]"
    value = f"({_BINARIES[op.kind].format(a=first, b=second)})"
    affine = op.affine
    if affine is not None and len(shapes[0]) == 1:
        affine = Affine(2, affine.scale, affine.shift)
    value = emitter.epilogue(label, op.activation, affine, value, "r", "c", "o")
    return [
        *loops(shape),
        f"    y[(r * {shape[1]} + c) * {shape[2]} + o] = {value};",
    ]


@emits(Concat)
def _concat(emitter: Emitter, label: str, op: Concat, *shapes: Shape) -> list[str]:
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


@emits(Crop)
def _crop(emitter: Emitter, label: str, op: Crop, *shapes: Shape) -> list[str]:
    source, target = shapes
    sizes, widths = image(source), [(0, 0)] * (3 - len(source)) + list(op.widths)
    left = image(target)
    row, column, channel = (before for before, _ in widths)
    return [
        *loops(left),
        f"    y[(r * {left[1]} + c) * {left[2]} + o] =",
        f"        x[((r + {row}) * {sizes[1]} + c + {column}) * {sizes[2]} + o + {channel}];",
    ]


@emits(LayerNorm)
def _layernorm(emitter: Emitter, label: str, op: LayerNorm, *shapes: Shape) -> list[str]:
    size = shapes[0][-1]
    value = "(x[o] - mean) * factor"
    if op.scale is not None:
        value += f" * {emitter.array(f'{label}_scale', op.scale)}[o]"
    if op.shift is not None:
        value += f" + {emitter.array(f'{label}_shift', op.shift)}[o]"
    return _pixels(
        shapes[0],
        [
            "float mean = 0.0f, variance = 0.0f;",
            f"for (int o = 0; o < {size}; o++) mean += x[o];",
            f"mean /= {size}.0f;",
            f"for (int o = 0; o < {size}; o++) variance += (x[o] - mean) * (x[o] - mean);",
            f"const float factor = 1.0f / sqrtf(variance / {size}.0f + {number(op.epsilon)});",
            f"for (int o = 0; o < {size}; o++) y[o] = {value};",
        ],
    )


@emits(Pad)
def _pad(emitter: Emitter, label: str, op: Pad, *shapes: Shape) -> list[str]:
    source, target = shapes
    sizes, widths = image(source), [(0, 0)] * (3 - len(source)) + list(op.widths)
    full = image(target)
    row, column, channel = (before for before, _ in widths)
    return [
        f"for (int i = 0; i < {math.prod(full)}; i++) y[i] = {number(op.value)};",
        *loops(sizes),
        f"    y[((r + {row}) * {full[1]} + c + {column}) * {full[2]} + o + {channel}] =",
        f"        x[(r * {sizes[1]} + c) * {sizes[2]} + o];",
    ]


@emits(Recurrent)
def _recurrent(emitter: Emitter, label: str, op: Recurrent, *shapes: Shape) -> list[str]:
    """Sums x + p of all gates, in order; those of a candidate that waits for its reset gate come
    last."""
    *rows, steps, columns = shapes[0]
    units = op.weights.shape[0]
    weights = emitter.array(f"{label}_weights", op.weights)
    bias = "0.0f" if op.bias is None else f"{emitter.array(f'{label}_bias', op.bias)}[o]"

    def gate(index: int) -> str:
        value = f"x[at + {index * units} + u] + p[{index * units} + u]"
        return emitter.epilogue(label, op.gates, None, f"({value})")

    def activated(value: str) -> str:
        return emitter.epilogue(label, op.activation, None, f"({value})")

    last = f"x[at + {columns - units} + u] + p[{columns - units} + u]"
    match op.kind:
        case "simple":
            body = [f"h[u] = {activated(last)};"]
        case "lstm":
            candidate = activated(f"x[at + {2 * units} + u] + p[{2 * units} + u]")
            body = [
                f"cell[u] = {gate(1)} * cell[u] + {gate(0)} * {candidate};",
                f"h[u] = {gate(3)} * {activated('cell[u]')};",
            ]
        case _:
            if op.kind == "gru_reset_after":
                last = f"x[at + {2 * units} + u] + {gate(1)} * p[{2 * units} + u]"
            body = [
                f"const float update = {gate(0)};",
                f"h[u] = update * h[u] + (1.0f - update) * {activated(last)};",
            ]
    reset = op.kind == "gru"
    first = columns - units if reset else columns
    product = [
        f"for (int o = 0; o < {first}; o++) p[o] = {bias};",
        f"for (int k = 0; k < {units}; k++)",
        f"    for (int o = 0; o < {first}; o++) p[o] += h[k] * {weights}[k][o];",
    ]
    if reset:
        product += [
            f"for (int u = 0; u < {units}; u++) kept[u] = {gate(1)} * h[u];",
            f"for (int o = {first}; o < {columns}; o++) p[o] = {bias};",
            f"for (int k = 0; k < {units}; k++)",
            f"    for (int o = {first}; o < {columns}; o++) p[o] += kept[k] * {weights}[k][o];",
        ]
    arrays = [f"h[{units}] = {{0}}", f"p[{columns}]"]
    arrays += [f"cell[{units}] = {{0}}"] if op.kind == "lstm" else []
    arrays += [f"kept[{units}]"] if reset else []
    step = f"{steps - 1} - t" if op.backwards else "t"
    return [
        f"for (int r = 0; r < {math.prod(rows)}; r++) {{",
        f"    float {', '.join(arrays)};",
        f"    for (int t = 0; t < {steps}; t++) {{",
        f"        const int at = (r * {steps} + {step}) * {columns};",
        *(f"        {line}" for line in product),
        f"        for (int u = 0; u < {units}; u++) {{",
        *(f"            {line}" for line in body),
        f"            y[(r * {steps} + {step}) * {units} + u] = h[u];",
        "        }",
        "    }",
        "}",
    ]


@emits(Reshape)
def _reshape(emitter: Emitter, label: str, op: Reshape, *shapes: Shape) -> list[str]:
    return [f"for (int i = 0; i < {math.prod(shapes[1])}; i++) y[i] = x[i];"]


@emits(Resize)
def _resize(emitter: Emitter, label: str, op: Resize, *shapes: Shape) -> list[str]:
    (_, width, channels), (rows, columns, _) = shapes
    at = [emitter.array(f"{label}_{name}", getattr(op, name)) for name in ("rows", "columns")]
    return [
        f"for (int r = 0; r < {rows}; r++)",
        f"for (int c = 0; c < {columns}; c++) {{",
        f"    const int i = (int){at[0]}[r], j = (int){at[1]}[c];",
        f"    const float down = {at[0]}[r] - (float)i, right = {at[1]}[c] - (float)j;",
        # Where the weight of the next pixel is 0, there may be none.
        f"    const int below = down > 0.0f ? {width * channels} : 0;",
        f"    const int behind = right > 0.0f ? {channels} : 0;",
        f"    const float *a = x + (i * {width} + j) * {channels};",
        f"    for (int o = 0; o < {channels}; o++, a++) {{",
        "        const float first = a[0] + right * (a[behind] - a[0]);",
        "        const float second = a[below] + right * (a[below + behind] - a[below]);",
        f"        y[(r * {columns} + c) * {channels} + o] = first + down * (second - first);",
        "    }",
        "}",
    ]


@emits(Transpose)
def _transpose(emitter: Emitter, label: str, op: Transpose, *shapes: Shape) -> list[str]:
    source, target = shapes
    perm = (*range(3 - len(source)), *(axis + 3 - len(source) for axis in op.perm))
    sizes, full = image(source), image(target)
    names = dict(zip(perm, "rco", strict=True))
    return [
        *loops(full),
        f"    y[(r * {full[1]} + c) * {full[2]} + o] =",
        f"        x[({names[0]} * {sizes[1]} + {names[1]}) * {sizes[2]} + {names[2]}];",
    ]


def _pixels(shape: tuple[int, ...], body: list[str]) -> list[str]:
    """Do `body`, which reads x and writes y along the last axis, for each pixel."""
    count, size = math.prod(shape[:-1]), shape[-1]
    if count == 1:
        return body
    return [
        f"for (int i = 0; i < {count}; i++, x += {size}, y += {size}) {{",
        *(f"    {line}" for line in body),
        "}",
    ]
