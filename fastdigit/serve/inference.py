"""Inference requests of the Open Inference Protocol, from the socket's bytes to the answer's.

They go past Starlette: what it does for a request would take as long as the network.
"""

from __future__ import annotations

import logging
import time

from fastdigit.errors import InputError
from fastdigit.serve import protocol
from fastdigit.serve.asgi import BINARY, JSON, Headers, Receive, Scope, Send, respond
from fastdigit.serve.bodies import Bodies
from fastdigit.serve.errors import ClientGone, RequestError, problem
from fastdigit.serve.served import Models, Served

__all__ = ["Inference"]

logger = logging.getLogger("fastdigit.serve")


class Inference:
    """Answers ``POST /v2/models/NAME/infer`` for each model that is served."""

    def __init__(self, models: Models, bodies: Bodies) -> None:
        self._bodies = bodies
        self._models = {
            f"/v2/models/{name}{version}/infer": served
            for name, served in models.items()
            for version in ("", f"/versions/{protocol.VERSION}")
        }

    def model_of(self, scope: Scope) -> Served | None:
        """Return the model that an HTTP request is for, None if it is no inference request."""
        served = self._models.get(scope["path"])
        return served if served is not None and scope["method"] == "POST" else None

    def refused(self, scope: Scope) -> None:
        """Count a request that was answered with 401 before it came here."""
        served = self.model_of(scope)
        if served is not None:
            served.metrics.request(401, 0.0)

    async def answer(self, served: Served, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever is wrong with it, and count it."""
        began = time.perf_counter()
        try:
            status, headers, body = await self._inferred(served, dict(scope["headers"]), receive)
        except ClientGone:
            return
        except Exception as error:
            if not isinstance(error, RequestError | InputError):
                logger.exception("inference of %s failed", served.signature.name)
            status, headers, body = problem(error)
        await respond(send, status, headers, body)
        served.metrics.request(status, time.perf_counter() - began)

    async def _inferred(
        self, served: Served, headers: dict[bytes, bytes], receive: Receive
    ) -> tuple[int, Headers, bytes]:
        body = await self._bodies.read(headers, receive)
        length = headers.get(b"inference-header-content-length")
        request = protocol.parse(
            body, None if length is None else length.decode("latin-1"), served.signature
        )
        values = await served.infer(request.images)
        answer = protocol.encode(request, served.signature, values, request.id)
        if answer.header_length is None:
            return 200, [JSON], answer.body
        size = b"%d" % answer.header_length
        return 200, [BINARY, (b"inference-header-content-length", size)], answer.body
