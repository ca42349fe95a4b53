"""A request that is answered with an error."""

from __future__ import annotations

__all__ = ["ClientGone", "RequestError"]


class RequestError(Exception):
    """A request that is answered with a status and ``{"error": message}``.

    Attributes
    ----------
    status
        HTTP status.
    close
        Whether the connection is of no further use, because the body was not read to its end.
    """

    def __init__(self, status: int, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.close = close


class ClientGone(Exception):
    """The client closed the connection before it had sent its request."""
