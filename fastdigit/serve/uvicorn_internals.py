"""All that is used of uvicorn beyond its documented interface; the rest of the server is server.py.

A class of uvicorn's is extended here that it does not promise to keep as it is, so the versions are
bounded: :func:`fastdigit.serve.require_uvicorn` refuses others, and the extra ``serve`` asks for
these. To admit a new one, run the tests of the server with it: one of them names what has gone.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from fastdigit.serve.settings import Settings

__all__ = ["Protocol", "WorkerSocket", "run_workers", "uncaught_sigterm"]

#: Seconds that a connection without a request stays open when the server ends, and that a client
#: which was told of an error has to hear of it.
LINGER = 1.0
#: More than any client of ours sends; httptools itself has no limit.
MAX_HEADER_BYTES = 64 << 10
#: Headers that say that a body follows, unless its length is 0.
OF_A_BODY = (b"content-length", b"transfer-encoding")


class Protocol(HttpToolsProtocol):
    """One connection: a limit on slow headers, which uvicorn waits for forever, and on their size;
    errors are JSON, as everywhere else."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # uvicorn makes connections itself, so they ask the application for its limits.
        self._settings: Settings = self.app.settings
        self._deaf = False
        self._ending = False
        self._header_bytes: int | None = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._host = self.client[0] if self.client else ""
        self._taking: asyncio.TimerHandle | None = None
        #: Whether more of a request is to come, and whether it is the last one here.
        self._receiving = False
        self._last = False
        may_stay = self.app.clients.connect(self._host)
        if len(self.connections) > self._settings.max_connections:
            self.app.metrics.refused("connections")
            self._error(503, "too many connections")
        elif not may_stay:
            self.app.metrics.refused("client_connections")
            self._error(429, "this client has too many connections")
        else:
            self._expect_headers()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Whether to answer still: a client may send its request, and then say that it is done."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return None
        cycle.keep_alive = False
        return True

    def shutdown(self) -> None:
        """End at the next answer, which says so; a connection without a request lingers for one.

        A client that reuses a connection may have sent a request that we have not seen yet.
        """
        self._ending = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LINGER, self._close_idle)
        else:
            super().shutdown()

    def _close_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        if self._taking is not None:
            self._taking.cancel()
        self.app.clients.leave(self._host)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_taking()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_taking()
        if self._receiving:  # answered before it was whole: what is left has its time, too
            self.loop.call_later(self._settings.read_timeout, self._close_answered, self.cycle)

    def _close_answered(self, cycle: Any) -> None:
        """Close, if what was sent with the request that was answered there still comes."""
        if self._receiving and self.cycle is cycle:
            self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_taking()

    def _expect_taking(self) -> None:
        """Give a client as long to take an answer as it has to send a request.

        A transport that is closed waits for what it still has to send; for ever, if need be.
        """
        if self._taking is None and self.transport.get_write_buffer_size():
            timeout = self._settings.read_timeout
            self._taking = self.loop.call_later(timeout, self._not_taken)

    def _not_taken(self) -> None:
        self._taking = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._deaf or self.transport.is_closing():
            return
        if self._header_bytes is not None:
            if self._header_timer is None:  # also if these are empty lines, which begin nothing
                self._expect_headers()
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
        self._receiving = True
        # All of it may have come at once, before it was counted.
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEADER_BYTES:
            self._error(431, f"the headers have more than {MAX_HEADER_BYTES} bytes")
            self._deaf = True
            return
        # RFC 9112, section 3.2: one Host, and in HTTP/1.1 there must be one.
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._error(400, f"the request has {hosts} Host headers, expected one")
            self._deaf = True  # what follows belongs to no request
            return
        if self.parser.should_upgrade():
            # The parser takes all that follows for another protocol, the body as well.
            if any(name in OF_A_BODY and value != b"0" for name, value in self.headers):
                self._error(400, "Upgrade is not supported: send the request without that header")
                self._deaf = True
                return
            self._last = True
        super().on_headers_complete()
        if self._ending or self._last:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._deaf:
            return
        super().on_message_complete()
        self._header_bytes = 0
        self._receiving = False
        self._deaf = self._last

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
        if self._deaf or self.transport.is_closing():
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
        head = b"content-type: application/json\r\nx-content-type-options: nosniff\r\n"
        head += b"connection: close\r\ncontent-length: %d\r\n" % len(body)
        if status in (429, 503):
            head += b"retry-after: 1\r\n"
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)
        if status in (429, 503):  # there are too many connections already
            self.transport.close()
        else:
            # With bytes unread, closing would reset the connection, and the answer might be lost.
            self._deaf = True
            self.transport.write_eof()
            self.loop.call_later(LINGER, self.transport.close)
        self._expect_taking()


class WorkerSocket:
    """A listening socket that each worker opens for itself: it is made where it is unpickled.

    Workers that share one socket accept connections as they come, and one may get nearly all of
    them; with SO_REUSEPORT the kernel deals them out. The parent holds `port`, bound but not
    listening, so that nobody else gets it.
    """

    def __init__(
        self,
        open_socket: Callable[[int, tuple[Any, ...]], socket.socket],
        family: int,
        address: tuple[Any, ...],
    ) -> None:
        self._arguments = open_socket, family, address

    def __reduce__(self) -> tuple[Callable[..., socket.socket], tuple[Any, ...]]:
        open_socket, *arguments = self._arguments
        return open_socket, tuple(arguments)


def run_workers(config: uvicorn.Config, worker_socket: WorkerSocket) -> None:
    """Run ``config.workers`` processes under uvicorn's supervisor, until SIGTERM or SIGINT.

    The supervisor does nothing with its sockets but hand them to the workers, pickled.
    """
    Multiprocess(config, [worker_socket]).run()  # type: ignore[list-item]


@contextmanager
def uncaught_sigterm() -> Iterator[None]:
    """uvicorn raises SIGTERM again when it has drained: it shall not kill us then."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
