"""uvicorn's HTTP protocol, with a limit on slow headers, and errors in JSON as everywhere else."""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fastdigit.serve.settings import Settings

__all__ = ["Protocol"]

#: More than any client of ours sends; httptools itself has no limit.
MAX_HEADER_BYTES = 64 << 10


class Protocol(HttpToolsProtocol):
    """One connection. uvicorn waits forever for the headers of a request; this doesn't."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # uvicorn makes connections itself, so they ask the application for its limits.
        self._settings: Settings = self.app.settings
        self._deaf = False
        self._header_bytes: int | None = 0
        self._header_timer: asyncio.TimerHandle | None = None
        if len(self.connections) > self._settings.max_connections:
            self._error(503, "too many connections")
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf or self.transport.is_closing():
            return
        if self._header_bytes is not None:
            self._header_bytes += len(data)
            super().data_received(data)
            if self._header_bytes is not None and self._header_bytes > MAX_HEADER_BYTES:
                self._error(431, f"the headers have more than {MAX_HEADER_BYTES} bytes")
            return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        if self._header_timer is None:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        self._header_bytes = None
        self._forget_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._header_bytes = 0

    def _expect_headers(self) -> None:
        self._header_timer = self.loop.call_later(self._settings.read_timeout, self._too_slow)

    def _forget_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _too_slow(self) -> None:
        self._header_timer = None
        self._error(408, "the headers took too long to arrive")

    def send_400_response(self, msg: str) -> None:
        self._error(400, "this is not HTTP/1.1, or its headers contradict each other")

    def _error(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            broken = cycle.more_body and not cycle.response_started and not self.pipeline
            if not broken:
                # What came before gets its answer; what is wrong here ends the connection then.
                cycle.keep_alive = False
                self._deaf = True
                return
        body = json.dumps({"error": message}).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n"
        self.transport.write(STATUS_LINE[status] + head % len(body) + b"\r\n" + body)
        self.transport.close()
