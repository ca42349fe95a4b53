"""What one client may take of a server: requests a second, and connections at a time.

A client is an address, or of IPv6 the /64 that one network has to itself; behind proxies that are
trusted, what they say. Packages that limit rates keep a counter for whatever key a stranger thinks
of, and drop it by a timer; here the table has a bound, and a client is one number in it.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from fastdigit.serve.asgi import Application, Receive, Scope, Send, respond
from fastdigit.serve.authentication import HEALTH
from fastdigit.serve.errors import RequestError, problem
from fastdigit.serve.settings import Settings

__all__ = ["Clients", "Rates", "client_in", "client_of"]

#: Clients that are remembered: 16 MB or so. One that was heard of longest ago is forgotten first.
MAX_CLIENTS: Final = 100_000


@functools.lru_cache(maxsize=4096)
def client_of(host: str) -> str:
    """Return whom an address stands for: itself, and of IPv6 its /64.

    All that is no address (a proxy may call a client "unknown", or pass on what one claims) is one.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def client_in(scope: Scope) -> str:
    """Return who sent a request."""
    return client_of((scope.get("client") or ("",))[0])


class Clients:
    """How much each client has taken.

    Parameters
    ----------
    settings
        `max_client_connections`, `client_rate`, `client_burst` and `trusted_proxies` of it.
    clock
        Seconds that never go backwards.

    Notes
    -----
    The rate is a leaky bucket, kept as the one time at which it will be empty ("generic cell rate
    algorithm", ITU-T I.371): a request moves that time on by 1 / rate, and is refused if this would
    be more than `client_burst` / rate from now. A client whose time has passed is as good as new,
    so that nothing is lost by forgetting it.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = settings.max_client_connections
        self._interval = 1 / settings.client_rate if settings.client_rate else 0.0
        self._burst = settings.client_burst * self._interval
        self._proxies = [ipaddress.ip_network(proxy) for proxy in settings.trusted_proxies]
        self._clock = clock
        self._connections: Counter[str] = Counter()
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def connect(self, host: str) -> bool:
        """Count a connection; whether the client may have it. Each is to be ended by `leave`."""
        client = client_of(host)
        self._connections[client] += 1
        return self._connections[client] <= self._most or self._is_proxy(host)

    def leave(self, host: str) -> None:
        """A connection has ended."""
        client = client_of(host)
        self._connections[client] -= 1
        if not self._connections[client]:
            del self._connections[client]

    def wait(self, host: str) -> float:
        """Count a request: 0 if it may be answered now, else the seconds until one may."""
        if not self._interval:
            return 0.0
        client, now = client_of(host), self._clock()
        empty_at = max(self._empty_at.get(client, now), now) + self._interval
        # Sums of floats: the last of a burst shall not fail by its last bit.
        wait = empty_at - now - self._burst
        if wait > 1e-6 * self._burst:
            return wait
        self._empty_at[client] = empty_at
        self._empty_at.move_to_end(client)
        self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop at most two of those that were heard of longest ago, if they owe nothing."""
        for _ in range(2):
            oldest, empty_at = next(iter(self._empty_at.items()))
            if empty_at > now and len(self._empty_at) <= MAX_CLIENTS:
                return
            del self._empty_at[oldest]
            if not self._empty_at:
                return

    def _is_proxy(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in proxy for proxy in self._proxies)


class Rates:
    """Middleware around the whole application: status 429 for who asks too often.

    Health may always be asked for: an orchestrator that gets no answer would restart the server.

    Parameters
    ----------
    application
        What the others reach.
    clients
        Who has asked for how much.
    on_refusal
        Called with the scope of each request that is refused.
    """

    def __init__(
        self,
        application: Application,
        clients: Clients,
        on_refusal: Callable[[Scope, int], None],
    ) -> None:
        self._application = application
        self._clients = clients
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wait = 0.0
        if scope["type"] == "http" and not scope["path"].startswith(HEALTH):
            wait = self._clients.wait((scope.get("client") or ("",))[0])
        if not wait:
            await self._application(scope, receive, send)
            return
        self._on_refusal(scope, 429)
        error = RequestError(
            429, "this client asks too often: see Retry-After", retry_after=math.ceil(wait)
        )
        await respond(send, *problem(error))
