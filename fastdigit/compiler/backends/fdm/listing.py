"""A model file as a table, for people."""

from __future__ import annotations

from collections.abc import Iterator

from fastdigit.compiler.backends.fdm.unpack import Program, Record
from fastdigit.compiler.ir import Shape

__all__ = ["listing"]


def listing(program: Program) -> str:
    """Return the program as a table: op, output, what it does, bytes of weights, multiply-adds."""
    rows = [("op", "output", "", "bytes", "multiply-adds")]
    work = program.multiply_adds
    ports = list(_ports(program))
    columns = zip(program.records, program.weight_bytes, work, ports, strict=True)
    for record, size, count, port in columns:
        shape = "x".join(map(str, record.output_shape))
        text = ", ".join((*port, *_details(record)))
        rows.append((record.opcode, shape, text, f"{size:,}", f"{count:,}"))
    weights = f"{sum(program.weight_bytes):,}"
    rows.append(("total", "", f"file {program.size:,} bytes", weights, f"{sum(work):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    left = "  ".join(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False))
    right = "  ".join(cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True))
    return f"{left}  {right}"


def _ports(program: Program) -> Iterator[list[str]]:
    """What is to be said of each op that it is an input or an output: names where there are
    several, and what is accepted."""
    graph = program.graph
    several = len(graph.inputs) + len(graph.outputs) > 2
    for port in program.inputs:
        low, high = port.range
        said = [f"input {port.name!r}"] if several else []
        said.append(f"{low:g} to {high:g}")
        if port.u8_divisor:
            said.append(f"bytes / {port.u8_divisor}" if port.u8_divisor > 1 else "bytes")
        yield said
    for node in graph.nodes:
        yield [
            f"output {name!r}"
            for name, value in zip(program.outputs, graph.outputs, strict=True)
            if several and value == node.output
        ]


def _details(record: Record) -> Iterator[str]:
    """What the fields of a record say: an operator whose fields are known needs nothing here."""

    def by(pair: Shape) -> str:
        return "x".join(map(str, pair))

    if any(record.kernel):
        yield f"{by(record.kernel)} of {record.input_shape[2]} channels"
    if max(record.stride) > 1:
        yield f"stride {by(record.stride)}"
    if max(record.dilation) > 1:
        yield f"dilation {by(record.dilation)}"
    if record.groups > 1:
        yield f"{record.groups} groups"
    if any(record.pad):
        yield f"{'crop' if record.opcode == 'CROP' else 'pad'} {by(record.pad)}"
    if record.opcode == "DENSE":
        yield f"of {record.weights[0]}"
        if record.precision != "fp32":
            dynamic = record.precision == "int8-dynamic"
            yield "int8 weights and inputs" if dynamic else f"{record.precision} weights"
    if record.opcode == "BINARY":
        yield record.binary if record.input2_shape else f"{record.binary} of a constant"
    if record.input2_shape:
        yield f"with {by(record.input2_shape)}"
    if record.concat_axis != "none":
        yield f"by {record.concat_axis}"
    if record.recurrent:
        kind, gates, direction = record.recurrent
        yield kind.replace("_", " ")
        if kind != "simple":
            yield f"gates {gates}"
        if direction == "backwards":
            yield direction
    elif any(record.perm):
        yield f"axes {by(record.perm[:3])}"
    if any(record.pad_channels):
        yield f"{'crop' if record.opcode == 'CROP' else 'pad'} channels {by(record.pad_channels)}"
    if record.opcode == "PAD" and record.alpha:
        yield f"of {record.alpha:g}"
    if record.bias:
        yield "bias"
    if record.activation != "linear":
        alpha = f" {record.alpha:g}" if record.alpha else ""
        yield f"{record.activation}{alpha}"
    if record.opcode == "SOFTMAX" and record.alpha:
        yield f"temperature {record.alpha:g}"
    if record.affine_axis != "none":
        yield f"affine by {record.affine_axis}"
    if record.pool_mode != "none":
        stride = "" if record.pool_stride == record.pool else f" stride {by(record.pool_stride)}"
        pad = f" pad {by(record.pool_pad)}" if any(record.pool_pad) else ""
        yield f"{record.pool_mode} pool {by(record.pool)}{stride}{pad}"
