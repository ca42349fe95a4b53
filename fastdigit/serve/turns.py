"""Who comes next, of those who wait for what few can have at once: each client in turn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["Turns"]


class Turns:
    """Places that are given to clients in turn, and to each client's requests as they came.

    So a client that asks for much waits behind its own requests, and delays another's by one at
    most for each place. Everything happens on one event loop.

    Parameters
    ----------
    places
        How many may have one at a time.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, client: str, seconds: float) -> AsyncIterator[None]:
        """Have a place, after up to so many seconds; :class:`TimeoutError` if there was none."""
        await self._take(client, seconds)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, client: str, seconds: float) -> None:
        if self._free:
            self._free -= 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(client, deque())
        queue.append(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except BaseException:
            if future.done() and not future.cancelled():
                self._pass_on()  # it came too late
            else:
                with suppress(ValueError):  # passed over already
                    queue.remove(future)
                if not queue and self._waiting.get(client) is queue:
                    del self._waiting[client]
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            client, queue = self._waiting.popitem(last=False)
            future = queue.popleft()
            if queue:
                self._waiting[client] = queue  # behind the others
            if not future.done():
                future.set_result(None)
                return
        self._free += 1
