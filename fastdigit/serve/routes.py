"""What is answered beside inference: health, metadata, metrics, the page; and errors on the way."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractAsyncContextManager
from importlib.resources import files
from typing import Any, Final, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fastdigit import __version__
from fastdigit.errors import InputError
from fastdigit.serve.draining import Draining
from fastdigit.serve.errors import ClientGone, RequestError, problem
from fastdigit.serve.metrics import CONTENT_TYPE, Metrics
from fastdigit.serve.openapi import document
from fastdigit.serve.pictures import Pictures
from fastdigit.serve.served import Models, Served
from fastdigit.serve.settings import Settings

__all__ = ["PAGE", "Routes"]

logger = logging.getLogger("fastdigit.serve")

PAGE: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class Lifespan(Protocol):
    """What Starlette enters when the server starts, and leaves when it ends."""

    def __call__(self, app: Starlette, /) -> AbstractAsyncContextManager[None]: ...


class Routes:
    """The endpoints, and what they look at."""

    def __init__(
        self,
        settings: Settings,
        models: Models,
        metrics: Metrics,
        draining: Draining,
        pictures: Pictures,
    ) -> None:
        self._settings = settings
        self._models = models
        self._metrics = metrics
        self._draining = draining
        self._pictures = pictures
        page = files("fastdigit.serve").joinpath("page")
        self._page = {
            path: Response(page.joinpath(name).read_bytes(), media_type=kind, headers=PAGE_HEADERS)
            for path, (name, kind) in PAGE.items()
        }

    def application(self, lifespan: Lifespan) -> Starlette:
        """Make the Starlette application of all routes."""
        model = "/v2/models/{model}"
        version = model + "/versions/{version}"
        routes = [
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/predict", self._pictures.predict, methods=["POST"]),
            Route("/read", self._pictures.read, methods=["POST"]),
            Route("/metrics", self._metrics_text),
            Route("/openapi.json", self._openapi),
            *(Route(path, self._asset) for path in PAGE),
            *(Route(base, self._model) for base in (model, version)),
            *(Route(base + "/ready", self._model_ready) for base in (model, version)),
            *(Route(base + "/config", self._model_config) for base in (model, version)),
            # A model or version that is not served; those that are never get here with POST.
            *(
                Route(base + "/infer", self._model_unknown, methods=["POST"])
                for base in (model, version)
            ),
        ]
        app = Starlette(
            routes=routes,
            lifespan=lifespan,
            exception_handlers={
                HTTPException: _http_error,
                RequestError: _told,
                InputError: _told,
                ClientGone: _gone,
                Exception: _told,
            },
        )
        app.router.redirect_slashes = False
        return app

    # ---- The server ----

    async def _server(self, request: Request) -> Response:
        extensions = ["binary_tensor_data", "model_configuration"]
        return JSONResponse({"name": "fastdigit", "version": __version__, "extensions": extensions})

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        if self._draining.begun:
            return JSONResponse({"ready": False, "error": "the server is shutting down"}, 503)
        return JSONResponse({"ready": True})

    async def _metrics_text(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _openapi(self, request: Request) -> Response:
        signatures = [served.signature for served in self._models.values()]
        token = self._settings.token is not None
        return JSONResponse(document(__version__, signatures, token=token))

    async def _asset(self, request: Request) -> Response:
        return self._page[request.url.path]

    # ---- A model ----

    def _named(self, request: Request) -> Served:
        return self._models.find(request.path_params["model"], request.path_params.get("version"))

    async def _model(self, request: Request) -> Response:
        return JSONResponse(self._named(request).signature.metadata())

    async def _model_ready(self, request: Request) -> Response:
        name = self._named(request).signature.name
        if self._draining.begun:
            problem = {"name": name, "ready": False, "error": "the server is shutting down"}
            return JSONResponse(problem, 503)
        return JSONResponse({"name": name, "ready": True})

    async def _model_config(self, request: Request) -> Response:
        """The model configuration extension of Triton, as far as it is true of us."""
        served = self._named(request)
        signature = served.signature
        metadata = signature.metadata()
        types = {"FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}

        def tensors(kind: str) -> list[dict[str, Any]]:
            return [
                {
                    "name": tensor["name"],
                    "data_type": types[tensor["datatype"]],
                    "dims": tensor["shape"][1:] or [1],
                }
                for tensor in metadata[kind]
            ]

        delay = self._settings.max_queue_delay_microseconds
        return JSONResponse(
            {
                "name": signature.name,
                "platform": metadata["platform"],
                "max_batch_size": self._settings.max_queue_size,
                "input": tensors("inputs"),
                "output": tensors("outputs"),
                "dynamic_batching": {
                    "preferred_batch_size": [self._settings.max_batch_size],
                    "max_queue_delay_microseconds": delay,
                },
                # A parameter is a string there.
                "parameters": {"classes": {"string_value": json.dumps(served.model.classes)}},
            }
        )

    async def _model_unknown(self, request: Request) -> Response:
        self._named(request)
        raise AssertionError("requests to models that are served don't come here")


# ---- Errors ----


async def _told(request: Request, error: Exception) -> Response:
    status, headers, body = problem(error)
    logger.debug("%s %s: %d, %s", request.method, request.url.path[:200], status, error)
    response = Response(body, status)
    for name, value in headers:
        response.headers[name.decode()] = value.decode()
    return response


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # to nobody


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    messages = {
        404: f"there is nothing at {path}",
        405: f"{request.method} is not allowed at {path}",
    }
    message = messages.get(error.status_code, error.detail)
    return JSONResponse({"error": message}, error.status_code, headers=error.headers)
