"""Who may ask: the one place where a request's token is looked at."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Container
from typing import Final

from fastdigit.serve.asgi import Application, Receive, Scope, Send, respond
from fastdigit.serve.errors import RequestError, problem

__all__ = ["Authentication"]

HEALTH: Final = "/v2/health/"
"""What begins with it is open: an orchestrator asks without a token."""


class Authentication:
    """Middleware around the whole application: without the token, status 401.

    Parameters
    ----------
    application
        What requests with the token reach.
    token
        What clients must send as ``Authorization: Bearer TOKEN``.
    public
        Paths that need no token, beside those of health: the page, which asks for the token.
    on_refusal
        Called with the scope of each request that is refused.
    """

    def __init__(
        self,
        application: Application,
        token: str,
        public: Container[str],
        on_refusal: Callable[[Scope, int], None],
    ) -> None:
        self._application = application
        self._expected = token.encode()
        self._public = public
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._may_pass(scope):
            await self._application(scope, receive, send)
            return
        self._on_refusal(scope, 401)
        error = RequestError(401, "the token is missing or wrong: Authorization: Bearer TOKEN")
        await respond(send, *problem(error))

    def _may_pass(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if path in self._public or path.startswith(HEALTH):
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return False  # of two, a proxy may have looked at the other
        scheme, _, token = given[0].partition(b" ")
        # Schemes have no case: RFC 9110, section 11.1.
        known = scheme.lower() == b"bearer"
        return hmac.compare_digest(token.lstrip(b" "), self._expected) and known
