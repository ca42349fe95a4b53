"""Image files in: ``POST /predict`` for one digit, ``POST /read`` for all digits of a picture."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fastdigit.errors import InputError
from fastdigit.reader.checks import CHECKS
from fastdigit.serve.bodies import Bodies, encoding_of
from fastdigit.serve.cage import Cage
from fastdigit.serve.clients import client_in
from fastdigit.serve.errors import RequestError, problem
from fastdigit.serve.metrics import Metrics
from fastdigit.serve.protocol import numbers
from fastdigit.serve.served import Models, Served
from fastdigit.serve.settings import DEFAULT_NAME, MAX_PATTERN, Settings

__all__ = ["READING_OPTIONS", "Pictures", "reading_options"]

# Requests with pictures that may be in progress, of all clients and of one.
MAX_PICTURES: Final = 32
MAX_PICTURES_OF_CLIENT: Final = 16
#: What the query of ``/read`` may have.
READING_OPTIONS: Final = ("check", "length", "pattern", "region", "reject_below")
NUMBER: Final = re.compile("[0-9]{1,9}")
PROBABILITY: Final = re.compile(r"([0-9]{1,9}\.?|[0-9]{0,9}\.[0-9]{1,20})(e-[0-9]{1,3})?")


class Pictures:
    """Answers pictures, which the cages read: of one digit, and pages."""

    def __init__(
        self,
        settings: Settings,
        models: Models,
        metrics: Metrics,
        bodies: Bodies,
        cage: Cage,
        pages: Cage,
    ) -> None:
        self._models = models
        self._metrics = metrics
        self._bodies = bodies
        self._limits = settings.max_body_bytes, settings.max_pixels
        self._cage = cage
        self._pages = pages
        self._waiting: Counter[str] = Counter()

    async def predict(self, request: Request) -> Response:
        """Answer a picture of a digit, an image file in the body, and count it."""
        query = parse_qs(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        served = self._models.find(query.get("model", [DEFAULT_NAME])[-1])
        began = time.perf_counter()
        status = 500
        try:
            response = await self._predicted(served, request)
            status = response.status_code
            return response
        except (RequestError, InputError) as error:
            status = problem(error)[0]
            raise
        finally:
            served.metrics.request(status, time.perf_counter() - began)

    async def _predicted(self, served: Served, request: Request) -> Response:
        if served.signature.shape != (28, 28, 1) or not served.signature.accepts_bytes:
            raise RequestError(400, f"model {served.signature.name} takes no 28x28 images")
        if not served.signature.labels:
            raise RequestError(400, f"model {served.signature.name} gives no labels")
        async with self._turn(request) as (client, body, encoding):
            began = time.perf_counter()
            image = await self._cage.picture(client, body, encoding, self._limits)
        normalized = time.perf_counter()
        # Of several outputs, the first.
        values = (await served.infer(image[None]))[0][: served.signature.outputs]
        label = int(served.model.labels_of(values[None])[0])
        return JSONResponse(
            {
                "model_name": served.signature.name,
                "label": label,
                "class": served.model.classes[label],
                "classes": list(served.model.classes),
                served.signature.values: numbers(values),
                "image": image.tolist(),
                "normalize_microseconds": round(1e6 * (normalized - began)),
                "inference_microseconds": round(1e6 * (time.perf_counter() - normalized)),
            }
        )

    async def read(self, request: Request) -> Response:
        """Answer a picture of any digits, an image file in the body, and count it."""
        began = time.perf_counter()
        status = 500
        try:
            options = reading_options(request.scope["query_string"].decode("latin-1"))
            async with self._turn(request) as (client, body, encoding):
                found = await self._pages.reading(client, body, encoding, self._limits, options)
            status = 200
            return Response(found, media_type="application/json")
        except (RequestError, InputError) as error:
            status = problem(error)[0]
            raise
        finally:
            self._metrics.reading(status, time.perf_counter() - began)

    @asynccontextmanager
    async def _turn(self, request: Request) -> AsyncIterator[tuple[str, bytes, str | None]]:
        """Who sent a request, its body and how that is compressed, for one of those that may be in
        progress."""
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise RequestError(
                415, "send the PNG or JPEG file as the body itself: curl --data-binary @FILE"
            )
        client, waiting = client_in(request.scope), self._waiting
        if waiting.total() >= MAX_PICTURES or waiting[client] >= MAX_PICTURES_OF_CLIENT:
            raise RequestError(429, "too many pictures are waiting already: try again later")
        waiting[client] += 1
        try:
            headers = dict(request.scope["headers"])
            body = await self._bodies.read(headers, request.receive)
            yield client, body, encoding_of(headers)
        finally:
            waiting[client] -= 1
            if not waiting[client]:
                del waiting[client]


def reading_options(query: str) -> dict[str, Any]:
    """What :func:`fastdigit.read` is told, from a query.

    Raises
    ------
    RequestError
        400: there is no such option, it is given twice, or has another form. What the values say
        is for the reader to judge.
    """
    options: dict[str, Any] = {}
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if name not in READING_OPTIONS:
            known = ", ".join(READING_OPTIONS)
            raise RequestError(400, f"there is no option {name[:80]!r}; there are {known}")
        if len(values) > 1:
            raise RequestError(400, f"{name} is given {len(values)} times")
        options[name] = _value(name, values[0])
    return options


def _value(name: str, text: str) -> Any:
    shown = repr(text[:80])
    if name == "pattern" and len(text) > MAX_PATTERN:
        raise RequestError(400, f"pattern has {len(text)} characters, at most {MAX_PATTERN}")
    if name == "check" and text not in CHECKS:
        raise RequestError(400, f"check is {shown}, expected {' or '.join(CHECKS)}")
    if name in ("pattern", "check"):
        return text
    if name == "reject_below":
        if not PROBABILITY.fullmatch(text):
            raise RequestError(400, f"reject_below is {shown}, expected a number in 0..1")
        return float(text)
    numbers = text.split(",")
    count = 1 if name == "length" else 4
    if len(numbers) != count or not all(map(NUMBER.fullmatch, numbers)):
        form = "a number" if name == "length" else "TOP,BOTTOM,LEFT,RIGHT, four numbers of pixels"
        raise RequestError(400, f"{name} is {shown}, expected {form}")
    found = tuple(map(int, numbers))
    return found[0] if name == "length" else found
