"""The ASGI application: routes, limits, and what becomes of errors."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from types import FrameType
from typing import Any, Final
from urllib.parse import parse_qs

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fastdigit import __version__, load
from fastdigit.errors import InputError
from fastdigit.images import decode, normalize
from fastdigit.model import Model
from fastdigit.serve import protocol
from fastdigit.serve.batching import Batcher
from fastdigit.serve.errors import ClientGone, RequestError
from fastdigit.serve.metrics import CONTENT_TYPE, Metrics, forget_dead_workers
from fastdigit.serve.openapi import document
from fastdigit.serve.protocol import VERSION, Signature, numbers
from fastdigit.serve.settings import DEFAULT_NAME, Settings

__all__ = ["App"]

logger = logging.getLogger("fastdigit.serve")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json")
BINARY: Final = (b"content-type", b"application/octet-stream")

# A batch with more multiply-adds (tens of milliseconds) is run beside the event loop. A smaller one
# is done sooner than another thread would have begun.
INLINE_MULTIPLY_ADDS: Final = 1_000_000_000

# Pictures are decoded beside the event loop: so many at a time, and so many in all.
DECODERS: Final = 2
MAX_PICTURES: Final = 32

PAGE: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class Served:
    """A model, its queue, and what is said and counted about it."""

    def __init__(self, name: str, model: Model, settings: Settings, metrics: Metrics) -> None:
        facts = model.info()
        self.model = model
        self.signature = Signature(
            name=name,
            shape=model.input_shape,
            outputs=facts["outputs"],
            values="probabilities" if facts["has_softmax"] else "logits",
            accepts_bytes=facts["accepts_u8"],
        )
        self.metrics = metrics.of_model(name)
        work = facts["multiply_adds"] * settings.max_batch_size
        self.batcher = Batcher(
            model.predict_proba if facts["has_softmax"] else model.logits,
            max_batch_size=settings.max_batch_size,
            max_queue_delay_microseconds=settings.max_queue_delay_microseconds,
            max_queue_size=settings.max_queue_size,
            timeout=settings.timeout,
            executor=None
            if work <= INLINE_MULTIPLY_ADDS
            else ThreadPoolExecutor(1, f"fastdigit-{name}"),
            observe=self.metrics.batch,
        )
        metrics.watch_depth(name, lambda: self.batcher.depth)

    async def infer(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        if not len(images):
            return np.empty((0, self.signature.outputs), np.float32)
        return await self.batcher.submit(images)


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
    Inference requests go straight to :meth:`_infer`, everything else through Starlette: what
    Starlette does for a request would take as long as the network.
    """

    def __init__(self, settings: Settings, open_model: Callable[..., Model] = load) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.draining = False
        self._buffered = 0
        self._pictures = 0
        self._token = None if settings.token is None else b"Bearer " + settings.token.encode()
        self._decoders = ThreadPoolExecutor(DECODERS, "fastdigit-decode")
        self.models = {
            name: Served(name, open_model(path, threads=settings.threads), settings, self.metrics)
            for name, path in settings.paths().items()
        }
        self._infer_paths = {
            f"/v2/models/{name}{version}/infer": served
            for name, served in self.models.items()
            for version in ("", f"/versions/{VERSION}")
        }
        page = files("fastdigit.serve").joinpath("page")
        self._page = {
            path: Response(page.joinpath(name).read_bytes(), media_type=kind, headers=PAGE_HEADERS)
            for path, (name, kind) in PAGE.items()
        }
        self._starlette = self._routes()

    def _routes(self) -> Starlette:
        model = "/v2/models/{model}"
        version = model + "/versions/{version}"
        routes = [
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/metrics", self._metrics),
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
            lifespan=self._lifespan,
            exception_handlers={
                HTTPException: self._http_error,
                RequestError: self._request_error,
                InputError: self._input_error,
                ClientGone: self._gone,
                Exception: self._unexpected,
            },
        )
        app.router.redirect_slashes = False
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            served = self._infer_paths.get(scope["path"])
            if served is not None and scope["method"] == "POST":
                await self._infer(served, scope, receive, send)
                return
            if self._token is not None and not self._is_open(scope["path"]):
                authorization = dict(scope["headers"]).get(b"authorization", b"")
                if not hmac.compare_digest(authorization, self._token):
                    await self._respond(send, *self._problem(self._unauthorized()))
                    return
        await self._starlette(scope, receive, send)

    # ---- Its life ----

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        forget_dead_workers()
        loop = asyncio.get_running_loop()
        restore = self._drain_on_sigterm(loop)
        task = loop.create_task(self._update_gauges())
        try:
            yield
        finally:
            self.draining = True
            task.cancel()
            restore()
            self._decoders.shutdown(wait=False, cancel_futures=True)

    async def _update_gauges(self) -> None:
        while True:
            self.metrics.update_depths()
            await asyncio.sleep(1)

    def _drain_on_sigterm(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Say that we are not ready as soon as SIGTERM comes, and pass it on after the delay.

        The handler that is there already is the server's, which stops listening and waits for
        requests in progress.
        """
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        server: Any = signal.getsignal(signal.SIGTERM)

        def drain(number: int, frame: FrameType | None) -> None:
            again, self.draining = self.draining, True
            if not callable(server):
                signal.signal(number, server)
                signal.raise_signal(number)
            elif again or self.settings.drain_delay == 0:
                server(number, frame)
            else:
                logger.info("draining: %g seconds until exit", self.settings.drain_delay)
                loop.call_soon_threadsafe(
                    loop.call_later, self.settings.drain_delay, server, number, None
                )

        signal.signal(signal.SIGTERM, drain)

        def restore() -> None:
            signal.signal(signal.SIGTERM, server)

        return restore

    # ---- Requests in general ----

    @staticmethod
    def _is_open(path: str) -> bool:
        """Whether a path needs no token: the page, which asks for it, and health."""
        return path in PAGE or path.startswith("/v2/health/")

    @staticmethod
    def _unauthorized() -> RequestError:
        return RequestError(401, "the token is missing or wrong: Authorization: Bearer TOKEN")

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, decompressed, within all limits."""
        limit = self.settings.max_body_bytes
        # uvicorn has seen to it that it is a number.
        if int(headers.get(b"content-length", b"0")) > limit:
            raise RequestError(413, f"the body has more than {limit} bytes", close=True)
        message = await self._message(receive, self.settings.read_timeout)
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            body = await self._rest(body, receive, limit)
        if len(body) > limit:
            raise RequestError(413, f"the body has more than {limit} bytes")
        encoding = headers.get(b"content-encoding")
        if encoding is not None:
            body = protocol.decompressed(body, encoding.decode("latin-1").strip().lower(), limit)
        return body

    async def _rest(self, first: bytes, receive: Receive, limit: int) -> bytes:
        parts, size = [first], len(first)
        self._buffered += size
        deadline = time.monotonic() + self.settings.read_timeout
        try:
            while True:
                if size > limit:
                    raise RequestError(413, f"the body has more than {limit} bytes", close=True)
                if self._buffered > self.settings.max_buffered_bytes:
                    raise RequestError(503, "too many requests in progress", close=True)
                message = await self._message(receive, deadline - time.monotonic())
                part = message.get("body", b"")
                parts.append(part)
                size += len(part)
                self._buffered += len(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
        finally:
            self._buffered -= size

    @staticmethod
    async def _message(receive: Receive, timeout: float) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout(timeout):
                message = await receive()
        except TimeoutError:
            raise RequestError(408, "the body took too long to arrive", close=True) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    @staticmethod
    def _problem(error: Exception) -> tuple[int, Headers, bytes]:
        """Status, headers and body that tell a client of an error."""
        headers: Headers = [JSON]
        if isinstance(error, RequestError):
            status, message = error.status, str(error)
            if error.close:
                headers.append((b"connection", b"close"))
            if status in (429, 503):
                headers.append((b"retry-after", b"1"))
            if status == 401:
                headers.append((b"www-authenticate", b"Bearer"))
        elif isinstance(error, InputError):
            status, message = 400, str(error)
        else:
            status, message = 500, "internal error; the server's log has it"
        return status, headers, json.dumps({"error": message}).encode()

    @staticmethod
    async def _respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    # ---- Inference ----

    async def _infer(self, served: Served, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        try:
            status, headers, body = await self._inferred(served, dict(scope["headers"]), receive)
        except ClientGone:
            return
        except Exception as error:
            if not isinstance(error, RequestError | InputError):
                logger.exception("inference of %s failed", served.signature.name)
            status, headers, body = self._problem(error)
        await self._respond(send, status, headers, body)
        served.metrics.request(status, time.perf_counter() - began)

    async def _inferred(
        self, served: Served, headers: dict[bytes, bytes], receive: Receive
    ) -> tuple[int, Headers, bytes]:
        if self._token is not None and not hmac.compare_digest(
            headers.get(b"authorization", b""), self._token
        ):
            raise self._unauthorized()
        body = await self._body(headers, receive)
        length = headers.get(b"inference-header-content-length")
        request = protocol.parse(
            body, None if length is None else length.decode("latin-1"), served.signature
        )
        values = await served.infer(request.images)
        answer = protocol.encode(request, served.signature, values, request.id)
        if answer.header_length is None:
            return 200, [JSON], answer.body
        size = b"%d" % answer.header_length
        return 200, [BINARY, (b"inference-header-content-length", size)], answer.body

    # ---- The rest of the protocol ----

    async def _server(self, request: Request) -> Response:
        extensions = ["binary_tensor_data", "model_configuration"]
        return JSONResponse({"name": "fastdigit", "version": __version__, "extensions": extensions})

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        if self.draining:
            return JSONResponse({"ready": False, "error": "the server is shutting down"}, 503)
        return JSONResponse({"ready": True})

    def _served(self, name: str, version: str | None = None) -> Served:
        served = self.models.get(name)
        if served is None:
            raise RequestError(
                404, f"there is no model {name[:80]!r}; there are {', '.join(self.models)}"
            )
        if version not in (None, VERSION):
            raise RequestError(404, f"model {name!r} has no version but {VERSION}")
        return served

    def _named(self, request: Request) -> Served:
        return self._served(request.path_params["model"], request.path_params.get("version"))

    async def _model(self, request: Request) -> Response:
        return JSONResponse(self._named(request).signature.metadata())

    async def _model_ready(self, request: Request) -> Response:
        name = self._named(request).signature.name
        if self.draining:
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

        delay = self.settings.max_queue_delay_microseconds
        return JSONResponse(
            {
                "name": signature.name,
                "platform": metadata["platform"],
                "max_batch_size": self.settings.max_queue_size,
                "input": tensors("inputs"),
                "output": tensors("outputs"),
                "dynamic_batching": {
                    "preferred_batch_size": [self.settings.max_batch_size],
                    "max_queue_delay_microseconds": delay,
                },
                # A parameter is a string there.
                "parameters": {"classes": {"string_value": json.dumps(served.model.classes)}},
            }
        )

    async def _model_unknown(self, request: Request) -> Response:
        self._named(request)
        raise AssertionError("requests to models that are served don't come here")

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _openapi(self, request: Request) -> Response:
        signatures = [served.signature for served in self.models.values()]
        return JSONResponse(document(__version__, signatures, token=self._token is not None))

    async def _asset(self, request: Request) -> Response:
        return self._page[request.url.path]

    # ---- Pictures ----

    async def _predict(self, request: Request) -> Response:
        """A picture of a digit, as an image file, in the body."""
        query = parse_qs(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        served = self._served(query.get("model", [DEFAULT_NAME])[-1])
        began = time.perf_counter()
        status = 500
        try:
            response = await self._pictured(served, request)
            status = response.status_code
            return response
        except (RequestError, InputError) as error:
            status = self._problem(error)[0]
            raise
        finally:
            served.metrics.request(status, time.perf_counter() - began)

    async def _pictured(self, served: Served, request: Request) -> Response:
        if served.signature.shape != (28, 28, 1) or not served.signature.accepts_bytes:
            raise RequestError(400, f"model {served.signature.name} takes no 28x28 images")
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise RequestError(
                415, "send the PNG or JPEG file as the body itself: curl --data-binary @FILE"
            )
        if self._pictures >= MAX_PICTURES:
            raise RequestError(429, "too many pictures are waiting already: try again later")
        self._pictures += 1
        try:
            body = await self._body(dict(request.scope["headers"]), request.receive)
            began = time.perf_counter()
            image = await asyncio.get_running_loop().run_in_executor(
                self._decoders, self._picture, body
            )
        finally:
            self._pictures -= 1
        normalized = time.perf_counter()
        values = (await served.infer(image[None]))[0]
        label = int(values.argmax())
        return JSONResponse(
            {
                "model_name": served.signature.name,
                "label": label,
                "class": served.model.classes[label],
                "classes": list(served.model.classes),
                served.signature.values: numbers(values),
                "image": image.tolist(),
                "normalize_microseconds": round(1e6 * (normalized - began)),
                "inference_microseconds": round(1e6 * (time.perf_counter() - normalized)),
            }
        )

    def _picture(self, body: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return normalize(decode(body, max_pixels=self.settings.max_pixels))

    # ---- Errors on Starlette's routes ----

    def _response(self, error: Exception) -> Response:
        status, headers, body = self._problem(error)
        response = Response(body, status)
        for name, value in headers:
            response.headers[name.decode()] = value.decode()
        return response

    async def _request_error(self, request: Request, error: Exception) -> Response:
        return self._response(error)

    async def _input_error(self, request: Request, error: Exception) -> Response:
        return self._response(error)

    async def _gone(self, request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # to nobody

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path[:200]
        messages = {
            404: f"there is nothing at {path}",
            405: f"{request.method} is not allowed at {path}",
        }
        message = messages.get(error.status_code, error.detail)
        return JSONResponse({"error": message}, error.status_code, headers=error.headers)

    async def _unexpected(self, request: Request, error: Exception) -> Response:
        return self._response(error)
