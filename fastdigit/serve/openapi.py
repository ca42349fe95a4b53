"""The interface as an OpenAPI 3.1 document, for clients to read and tests to hold the server to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from fastdigit.reader.checks import CHECKS
from fastdigit.serve.protocol import DTYPES, INPUT, VERSION, Signature
from fastdigit.serve.settings import MAX_PATTERN

__all__ = ["document"]

Json = dict[str, Any]

#: What becomes infinite as a float32 is no input: half a step above its greatest value, and more.
GREATEST: Final = math.nextafter((2 - 2**-24) * 2.0**127, 0)
FLOAT: Json = {"type": "number", "minimum": -GREATEST, "maximum": GREATEST}


def document(version: str, models: Iterable[Signature], *, token: bool) -> Json:
    """Describe a server.

    Parameters
    ----------
    version
        Of fastdigit.
    models
        What is served.
    token
        Whether clients must send one.
    """
    paths: Json = {
        "/v2": {"get": _get("About the server", _object(name=_string(), version=_string()), 200)},
        "/v2/health/live": {
            "get": _open(_get("Whether it runs", _object(live={"const": True}), 200))
        },
        "/v2/health/ready": {
            "get": _open(_get("Whether it accepts requests", _object(ready=_boolean()), 200, 503))
        },
        "/metrics": {
            "get": {
                "summary": "Metrics for Prometheus",
                "responses": {
                    "200": {
                        "description": "Text format",
                        "content": {"text/plain": {"schema": _string()}},
                    }
                },
            }
        },
        "/predict": {
            "post": {
                "summary": "Read the digit in an image file",
                "requestBody": _picture(),
                "responses": _responses(
                    {"type": "object", "required": ["label", "class", "image"]},
                    *(200, 400, 408, 413, 415, 429, 503, 504),
                ),
            }
        },
        "/read": {
            "post": {
                "summary": "Read all digits in an image file: fields, lines, a page",
                "parameters": _reading_options(),
                "requestBody": _picture(),
                "responses": _responses(_reading(), *(200, 400, 408, 413, 415, 429, 503, 504)),
            }
        },
    }
    for signature in models:
        for path in ("", f"/versions/{VERSION}"):
            base = f"/v2/models/{signature.name}{path}"
            metadata = _object(
                name={"const": signature.name},
                versions=_array(_string()),
                platform=_string(),
                inputs=_array(_tensor()),
                outputs=_array(_tensor()),
            )
            config = _object(name={"const": signature.name}, max_batch_size={"type": "integer"})
            ready = _object(name={"const": signature.name}, ready=_boolean())
            paths[base] = {"get": _get("What a model takes and gives", metadata, 200)}
            paths[f"{base}/config"] = {"get": _get("Its configuration", config, 200)}
            paths[f"{base}/ready"] = {"get": _get("Whether it is ready", ready, 200, 503)}
            paths[f"{base}/infer"] = {"post": _infer(signature)}
    security = {"bearer": {"type": "http", "scheme": "bearer"}}
    for methods in paths.values():
        for operation in methods.values():
            opened = operation.pop("open", False)
            if token and not opened:
                operation["security"] = [{"bearer": []}]
                operation["responses"]["401"] = _response(401, {})
    return {
        "openapi": "3.1.0",
        "info": {"title": "fastdigit", "version": version},
        "paths": paths,
        "components": {"securitySchemes": security} if token else {},
    }


def _string() -> Json:
    return {"type": "string"}


def _boolean() -> Json:
    return {"type": "boolean"}


def _array(items: Json) -> Json:
    return {"type": "array", "items": items}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _tensor() -> Json:
    return _object(name=_string(), datatype=_string(), shape=_array({"type": "integer"}))


def _open(operation: Json) -> Json:
    return {**operation, "open": True}


def _get(summary: str, schema: Json, *statuses: int) -> Json:
    return {"summary": summary, "responses": _responses(schema, *statuses)}


def _responses(schema: Json, *statuses: int) -> Json:
    return {str(status): _response(status, schema) for status in statuses}


def _response(status: int, schema: Json) -> Json:
    if status >= 400:
        schema = _object(error=_string())
    return {
        "description": "Done" if status < 400 else "An error, and what it is",
        "content": {"application/json": {"schema": schema}},
    }


def _picture() -> Json:
    kinds = ("image/png", "image/jpeg")
    return {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "contentMediaType": kind}} for kind in kinds
        },
    }


def _reading_options() -> list[Json]:
    number = "(0|[1-9][0-9]{0,8})"
    options = {
        "length": ("Digits of each field", {"type": "integer", "minimum": 1, "maximum": 999999999}),
        "pattern": (
            "A regular expression of Python that each whole field matches",
            {"type": "string", "minLength": 1, "maxLength": MAX_PATTERN},
        ),
        "check": ("The check digit that each field ends in", {"enum": list(CHECKS)}),
        "region": (
            "TOP,BOTTOM,LEFT,RIGHT: the part of the picture to look at, in pixels",
            {"type": "string", "pattern": f"^{number}(,{number}){{3}}$"},
        ),
        "reject_below": (
            "Fields of a lower probability are left out",
            {"type": "number", "minimum": 0, "maximum": 1},
        ),
    }
    return [
        {"name": name, "in": "query", "description": text, "schema": schema}
        for name, (text, schema) in options.items()
    ]


def _reading() -> Json:
    integer = {"type": "integer"}
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    box = {**_array(integer), "minItems": 4, "maxItems": 4}

    def alternatives(of: Json) -> Json:
        return _array({"type": "array", "prefixItems": [of, probability], "items": False})

    label = {"type": "integer", "minimum": 0, "maximum": 9}
    digit = _object(label=label, probability=probability, box=box, alternatives=alternatives(label))
    field = _object(
        text=_string(),
        probability=probability,
        box=box,
        digits=_array(digit),
        alternatives=alternatives(_string()),
    )
    return _object(
        text=_string(),
        lines=_array(_array(field)),
        left_out=_array(box),
        height=integer,
        width=integer,
        read_microseconds=integer,
    )


def _infer(signature: Signature) -> Json:
    # One image, flat: what a schema can say of "as many numbers as the shape makes".
    size = 1
    for n in signature.shape:
        size *= n
    low, high = (max(FLOAT["minimum"], min(FLOAT["maximum"], end)) for end in signature.range)
    number = {"type": "number", "minimum": low, "maximum": high}
    inputs = [_input(size, [name for name in DTYPES if name != "UINT8"], number)]
    if signature.accepts_bytes:
        pixel = {"type": "integer", "minimum": 0, "maximum": 255}
        inputs.append(_input(size, ["UINT8"], pixel))
    names = list(signature.output_names)
    # All of them: two in either order, more in their own.
    orders = {1: [], 2: [names, names[::-1]]}.get(len(names), [names])
    request = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"]},
            "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"anyOf": inputs}},
            # None, one, or all.
            "outputs": {
                "anyOf": [
                    {"type": "null"},
                    {"type": "array", "maxItems": 1, "items": _object(name={"enum": names})},
                    *(
                        {
                            "type": "array",
                            "minItems": len(names),
                            "maxItems": len(names),
                            "prefixItems": [_object(name={"const": name}) for name in order],
                        }
                        for order in orders
                    ),
                ]
            },
        },
    }
    output = _tensor()
    # JSON has neither infinity nor NaN.
    output["properties"]["data"] = _array({"type": ["number", "null"]})
    output["required"].append("data")
    answer = _object(
        model_name={"const": signature.name},
        model_version={"const": VERSION},
        outputs=_array(output),
    )
    return {
        "summary": "Inference; tensors may also follow the JSON in binary",
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": _responses(answer, *(200, 400, 408, 413, 415, 429, 503, 504)),
    }


def _input(size: int, datatypes: list[str], item: Json) -> Json:
    return _object(
        name={"const": INPUT},
        datatype={"enum": datatypes},
        shape={"const": [1, size]},
        data={"type": "array", "minItems": size, "maxItems": size, "items": item},
    )
