"""The ASGI application: puts its parts together, each in a module of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any, Final

from starlette.applications import Starlette
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from fastdigit import load
from fastdigit.model import Model
from fastdigit.serve.access_log import AccessLog
from fastdigit.serve.asgi import Application, Receive, Scope, Send
from fastdigit.serve.authentication import Authentication
from fastdigit.serve.bodies import Bodies
from fastdigit.serve.cage import Cage
from fastdigit.serve.clients import Clients, Rates
from fastdigit.serve.draining import Draining
from fastdigit.serve.hosts import Hosts
from fastdigit.serve.inference import Inference
from fastdigit.serve.metrics import Metrics, forget_dead_workers
from fastdigit.serve.pictures import Pictures
from fastdigit.serve.routes import PAGE, Routes
from fastdigit.serve.served import Models
from fastdigit.serve.settings import Settings

__all__ = ["App"]

#: What is answered is what it says it is, even if a browser thinks that it looks like a page.
NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
#: A client that goes on with this connection would send a request into its end.
CLOSE: Final = (b"connection", b"close")


class App:
    """The ASGI application; :func:`fastdigit.serve.create_app` makes it.

    Parameters
    ----------
    settings
        What to serve.
    open_model
        Opens each; :func:`fastdigit.load`, unless a benchmark serves something else.

    Notes
    -----
    A request passes uvicorn's middleware for proxies, :class:`AccessLog`, :class:`Rates`,
    :class:`Hosts` and :class:`Authentication`, those that the settings ask for; then inference
    goes straight to :class:`Inference`, everything else to :class:`Routes` by way of Starlette.
    """

    def __init__(self, settings: Settings, open_model: Callable[..., Model] = load) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.draining = Draining(settings.drain_delay)
        self.clients = Clients(settings)
        self.models = Models(settings, self.metrics, open_model)
        bodies = Bodies(settings)
        self._cage = self._cage_of(settings.reading_timeout, settings.timeout)
        # Processes of their own: nobody waits behind a page for one digit, and behind another page
        # as long as that may take.
        longest = settings.page_timeout
        self._pages = self._cage_of(longest, max(longest, settings.timeout))
        self._inference = Inference(settings, self.models, bodies, self._cage)
        pictures = Pictures(settings, self.models, self.metrics, bodies, self._cage, self._pages)
        routes = Routes(settings, self.models, self.metrics, self.draining, pictures)
        self._routes = routes.application(self._lifespan)
        self._entrance: Application = self._dispatch
        if settings.token is not None:
            self._entrance = Authentication(
                self._entrance, settings.token, PAGE, self._inference.refused
            )
        if settings.allowed_hosts:
            self._entrance = Hosts(self._entrance, settings.allowed_hosts, self._inference.refused)
        if settings.client_rate:
            self._entrance = Rates(self._entrance, self.clients, self._asked_too_often)
        if settings.access_log:
            self._entrance = AccessLog(self._entrance)
        if settings.trusted_proxies:
            trusted: Any = ProxyHeadersMiddleware(
                self._entrance,  # type: ignore[arg-type]  # uvicorn has a class for each message
                list(settings.trusted_proxies),
            )
            self._entrance = trusted

    def _cage_of(self, seconds: float, patience: float) -> Cage:
        """Processes for jobs of so many seconds."""
        settings = self.settings
        return Cage(
            settings.readers,
            seconds,
            settings.reading_memory_bytes,
            settings.max_buffered_bytes,
            patience,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = [*message.get("headers", ()), NO_SNIFFING]
                if self.draining.begun:
                    headers.append(CLOSE)
            await send(message)

        await self._entrance(scope, receive, told)

    def _asked_too_often(self, scope: Scope, status: int) -> None:
        self.metrics.refused("client_rate")
        self._inference.refused(scope, status)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            served = self._inference.model_of(scope)
            if served is not None:
                await self._inference.answer(served, scope, receive, send)
                return
        await self._routes(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        forget_dead_workers()
        loop = asyncio.get_running_loop()
        restore = self.draining.on_sigterm(loop)
        task = loop.create_task(self._update_gauges())
        try:
            yield
        finally:
            self.draining.begun = True
            task.cancel()
            restore()
            self._cage.close()
            self._pages.close()

    async def _update_gauges(self) -> None:
        while True:
            self.metrics.update_depths()
            await asyncio.sleep(1)
