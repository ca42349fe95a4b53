"""Requests that are answered with an error, and what the client is told."""

from __future__ import annotations

import json

from fastdigit.errors import InputError

__all__ = ["ClientGone", "RequestError", "TooLarge", "problem"]


class RequestError(Exception):
    """A request that is answered with a status and ``{"error": message}``.

    Attributes
    ----------
    status
        HTTP status.
    close
        Whether the connection is of no further use, because the body was not read to its end.
    retry_after
        Seconds after which to try again, where that may help: with 429 and 503.
    """

    def __init__(
        self, status: int, message: str, *, close: bool = False, retry_after: int = 1
    ) -> None:
        super().__init__(message)
        self.status = status
        self.close = close
        self.retry_after = retry_after


class TooLarge(RequestError):
    """A body with more bytes than it may have."""


class ClientGone(Exception):
    """The client closed the connection before it had sent its request."""


def problem(error: Exception) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body that tell a client of an error.

    An error that nobody foresaw tells it nothing: the server's log has it.
    """
    headers = [(b"content-type", b"application/json")]
    if isinstance(error, RequestError):
        status, message = error.status, str(error)
        if error.close:
            headers.append((b"connection", b"close"))
        if status in (429, 503):
            headers.append((b"retry-after", b"%d" % error.retry_after))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
    elif isinstance(error, InputError):
        status, message = 400, str(error)
    else:
        status, message = 500, "internal error; the server's log has it"
    return status, headers, json.dumps({"error": message}).encode()
