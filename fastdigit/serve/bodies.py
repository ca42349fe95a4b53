"""Bodies of requests, read within limits of size and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from fastdigit.serve.asgi import Receive
from fastdigit.serve.errors import ClientGone, RequestError
from fastdigit.serve.settings import Settings

__all__ = ["Bodies", "encoding_of"]


class Bodies:
    """Reads bodies, and knows how many bytes of them wait for their rest."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.max_body_bytes
        self._limit_together = settings.max_buffered_bytes
        self._timeout = settings.read_timeout
        self._buffered = 0

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Return the whole body of a request, as it was sent.

        Raises
        ------
        RequestError
            408: it took too long; 413: it is too large; 503: all bodies together are.
        ClientGone
            The client has closed the connection.
        """
        # The server in front has seen to it that it is a number.
        if int(headers.get(b"content-length", b"0")) > self._limit:
            raise self._too_large(close=True)
        message = await _message(receive, self._timeout)
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            body = await self._rest(body, receive)
        if len(body) > self._limit:
            raise self._too_large(close=False)
        return body

    async def _rest(self, first: bytes, receive: Receive) -> bytes:
        parts, size = [first], len(first)
        self._buffered += size
        deadline = time.monotonic() + self._timeout
        try:
            while True:
                if size > self._limit:
                    raise self._too_large(close=True)
                if self._buffered > self._limit_together:
                    raise RequestError(503, "too many requests in progress", close=True)
                message = await _message(receive, deadline - time.monotonic())
                part = message.get("body", b"")
                parts.append(part)
                size += len(part)
                self._buffered += len(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
        finally:
            self._buffered -= size

    def _too_large(self, *, close: bool) -> RequestError:
        return RequestError(413, f"the body has more than {self._limit} bytes", close=close)


def encoding_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Return how a body is compressed, None if it is not."""
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return None
    named = encoding.decode("latin-1").strip().lower()
    return None if named == "identity" else named


async def _message(receive: Receive, timeout: float) -> MutableMapping[str, Any]:
    try:
        async with asyncio.timeout(timeout):
            message = await receive()
    except TimeoutError:
        raise RequestError(408, "the body took too long to arrive", close=True) from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message
