"""Names by which a server may be asked for: what keeps pages of other sites away from it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from typing import Final

from fastdigit.serve.asgi import Application, Receive, Scope, Send, respond
from fastdigit.serve.errors import RequestError, problem

__all__ = ["Hosts", "is_loopback"]

#: What browsers send and programs don't: a page can set neither.
OF_BROWSERS: Final = frozenset((b"origin", b"sec-fetch-site"))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Hosts:
    """Middleware around the whole application: status 421 for browsers that use another name.

    A page of another site may point a name of its own to this machine, and is then of the same
    origin as the server (DNS rebinding); the browser tells the name. Addresses are no names, and a
    program that is no browser runs no strangers' pages.

    Parameters
    ----------
    application
        What the others reach.
    names
        Names that are allowed, beside localhost.
    on_refusal
        Called with the scope of each request that is refused.
    """

    def __init__(
        self,
        application: Application,
        names: Collection[str],
        on_refusal: Callable[[Scope, int], None],
    ) -> None:
        self._application = application
        self._names = frozenset(name.lower() for name in ("localhost", *names))
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._may_pass(dict(scope["headers"])):
            await self._application(scope, receive, send)
            return
        self._on_refusal(scope, 421)
        await respond(
            send,
            *problem(RequestError(421, "this server has another name: see --allowed-host")),
        )

    def _may_pass(self, headers: dict[bytes, bytes]) -> bool:
        if OF_BROWSERS.isdisjoint(headers):
            return True
        host = headers.get(b"host", b"").decode("latin-1").lower()
        ends = ("[", "]") if host.startswith("[") else ("", ":")
        host = host.removeprefix(ends[0]).partition(ends[1])[0]
        if host.rstrip(".") in self._names:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True
