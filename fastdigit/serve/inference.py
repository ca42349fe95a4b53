"""Inference requests of the Open Inference Protocol, from the socket's bytes to the answer's.

They go past Starlette: what it does for a request would take as long as the network.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from fastdigit.errors import InputError
from fastdigit.serve import protocol
from fastdigit.serve.asgi import BINARY, JSON, Headers, Receive, Scope, Send, respond
from fastdigit.serve.bodies import Bodies, encoding_of
from fastdigit.serve.cage import Cage
from fastdigit.serve.clients import client_in
from fastdigit.serve.errors import ClientGone, RequestError, TooLarge, problem
from fastdigit.serve.served import Models, Served
from fastdigit.serve.settings import Settings

__all__ = ["Inference"]

logger = logging.getLogger("fastdigit.serve")

# JSON of more bytes is read beside the event loop, which it would hold up. Tensors in binary are
# used where they lie.
INLINE_JSON_BYTES: Final = 64 << 10


class Inference:
    """Answers ``POST /v2/models/NAME/infer`` for each model that is served."""

    def __init__(self, settings: Settings, models: Models, bodies: Bodies, cage: Cage) -> None:
        self._max_bytes = settings.max_body_bytes
        self._bodies = bodies
        self._cage = cage
        self._models = {
            f"/v2/models/{name}{version}/infer": served
            for name, served in models.items()
            for version in ("", f"/versions/{protocol.VERSION}")
        }

    def model_of(self, scope: Scope) -> Served | None:
        """Return the model that an HTTP request is for, None if it is no inference request."""
        served = self._models.get(scope["path"])
        return served if served is not None and scope["method"] == "POST" else None

    def refused(self, scope: Scope, status: int) -> None:
        """Count a request that was answered with an error before it came here."""
        served = self.model_of(scope)
        if served is not None:
            served.metrics.request(status, 0.0)

    async def answer(self, served: Served, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever is wrong with it, and count it."""
        began = time.perf_counter()
        try:
            status, headers, body = await self._inferred(served, scope, receive)
        except ClientGone:
            return
        except Exception as error:
            if not isinstance(error, RequestError | InputError):
                logger.exception("inference of %s failed", served.signature.name)
            status, headers, body = problem(error)
            logger.debug("inference of %s: %d, %s", served.signature.name, status, error)
        await respond(send, status, headers, body)
        served.metrics.request(status, time.perf_counter() - began)

    async def _inferred(
        self, served: Served, scope: Scope, receive: Receive
    ) -> tuple[int, Headers, bytes]:
        headers = dict(scope["headers"])
        body = await self._bodies.read(headers, receive)
        request = await self._parsed(body, scope, headers, served.signature)
        values = await served.infer(request.images)
        parts: list[bytes] = []
        for answer in protocol.encode(request, served.signature, values, served.model.labels_of):
            if parts:
                await asyncio.sleep(0)  # others have a turn
            parts.append(answer.body)
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if answer.header_length is None:
            return 200, [JSON], body
        size = b"%d" % answer.header_length
        return 200, [BINARY, (b"inference-header-content-length", size)], body

    async def _parsed(
        self,
        body: bytes,
        scope: Scope,
        headers: dict[bytes, bytes],
        signature: protocol.Signature,
    ) -> protocol.Inference:
        """Read a request: here if that is a matter of few milliseconds, else in the cage."""
        encoding, length = encoding_of(headers), headers.get(b"inference-header-content-length")
        header_length = None if length is None else length.decode("latin-1")
        plain = body
        if encoding is not None:
            try:
                plain = protocol.decompressed(body, encoding, INLINE_JSON_BYTES)
            except TooLarge:
                return await self._cage.inference(
                    client_in(scope), body, encoding, self._max_bytes, header_length, signature
                )
        if protocol.json_bytes(plain, header_length) <= INLINE_JSON_BYTES:
            return protocol.parse(plain, header_length, signature)
        return await self._cage.inference(
            client_in(scope), plain, None, self._max_bytes, header_length, signature
        )
