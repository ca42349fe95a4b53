"""``POST /predict``: an image file with one digit in, the digit out."""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fastdigit.errors import InputError
from fastdigit.serve.bodies import Bodies, encoding_of
from fastdigit.serve.cage import Cage
from fastdigit.serve.errors import RequestError, problem
from fastdigit.serve.protocol import numbers
from fastdigit.serve.served import Models, Served
from fastdigit.serve.settings import DEFAULT_NAME, Settings

__all__ = ["Pictures"]

# Requests with pictures that may be in progress.
MAX_PICTURES: Final = 32


class Pictures:
    """Answers pictures, which the cage reads."""

    def __init__(self, settings: Settings, models: Models, bodies: Bodies, cage: Cage) -> None:
        self._models = models
        self._bodies = bodies
        self._limits = settings.max_body_bytes, settings.max_pixels
        self._cage = cage
        self._waiting = 0

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
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise RequestError(
                415, "send the PNG or JPEG file as the body itself: curl --data-binary @FILE"
            )
        if self._waiting >= MAX_PICTURES:
            raise RequestError(429, "too many pictures are waiting already: try again later")
        self._waiting += 1
        try:
            headers = dict(request.scope["headers"])
            body = await self._bodies.read(headers, request.receive)
            began = time.perf_counter()
            image = await self._cage.picture(body, encoding_of(headers), self._limits)
        finally:
            self._waiting -= 1
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
