"""A line in the log for each request."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from typing import Any

from fastdigit.serve.asgi import Application, Receive, Scope, Send

__all__ = ["AccessLog"]

logger = logging.getLogger("fastdigit.access")


class AccessLog:
    """Middleware around the whole application: who asked for what, status, bytes, milliseconds."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began, status, size = time.perf_counter(), 0, 0

        async def counted(message: MutableMapping[str, Any]) -> None:
            nonlocal status, size
            status = message.get("status", status)
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._application(scope, receive, counted)
        finally:
            milliseconds = 1e3 * (time.perf_counter() - began)
            # An address may be what a proxy was told, and a path is the client's own words: as
            # Python writes them, they stay on their line.
            client = (scope.get("client") or ("-",))[0][:64].encode("unicode_escape").decode()
            logger.info(
                "%s %s %r %d %d bytes %.1f ms",
                *(client, scope["method"], scope["path"][:200], status, size, milliseconds),
            )
