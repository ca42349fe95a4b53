"""The ASGI application: puts its parts together, each in a module of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette

from fastdigit import load
from fastdigit.model import Model
from fastdigit.serve.asgi import Application, Receive, Scope, Send
from fastdigit.serve.authentication import Authentication
from fastdigit.serve.bodies import Bodies
from fastdigit.serve.draining import Draining
from fastdigit.serve.inference import Inference
from fastdigit.serve.metrics import Metrics, forget_dead_workers
from fastdigit.serve.pictures import Pictures
from fastdigit.serve.routes import PAGE, Routes
from fastdigit.serve.served import Models
from fastdigit.serve.settings import Settings

__all__ = ["App"]


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
    A request passes :class:`Authentication`, if there is a token; then inference goes straight to
    :class:`Inference`, everything else to :class:`Routes` by way of Starlette.
    """

    def __init__(self, settings: Settings, open_model: Callable[..., Model] = load) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.draining = Draining(settings.drain_delay)
        self.models = Models(settings, self.metrics, open_model)
        bodies = Bodies(settings)
        self._inference = Inference(self.models, bodies)
        self._pictures = Pictures(settings, self.models, bodies)
        routes = Routes(settings, self.models, self.metrics, self.draining, self._pictures)
        self._routes = routes.application(self._lifespan)
        self._entrance: Application = self._dispatch
        if settings.token is not None:
            self._entrance = Authentication(
                self._dispatch, settings.token, PAGE, self._inference.refused
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._entrance(scope, receive, send)

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
            self._pictures.close()

    async def _update_gauges(self) -> None:
        while True:
            self.metrics.update_depths()
            await asyncio.sleep(1)
