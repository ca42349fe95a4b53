"""Processes and sockets: one worker here, or several under uvicorn's supervisor."""

from __future__ import annotations

import dataclasses
import logging
import logging.config
import multiprocessing
import multiprocessing.connection
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn

from fastdigit.serve import create_app, require_uvicorn
from fastdigit.serve.hosts import is_loopback
from fastdigit.serve.metrics import DIRECTORY
from fastdigit.serve.settings import Settings

if TYPE_CHECKING:
    from fastdigit.serve.app import App

__all__ = ["run"]

logger = logging.getLogger("fastdigit.serve")

BACKLOG = 2048

#: What a worker counts in: some files of 64 KiB, which grow with the number of models.
METRICS_BYTES = 1 << 20

#: Open files beside connections: the log, models, pipes to other processes, libraries; and those
#: that are being refused.
OTHER_DESCRIPTORS = 64


class Factory:
    """Makes the application in each worker; it travels there by pickle, from us to us."""

    def __init__(self, settings: Settings, make_app: Callable[[Settings], App]) -> None:
        self.settings = settings
        self.make_app = make_app

    def __call__(self) -> App:
        _end_with_parent()
        return self.make_app(self.settings)


def _end_with_parent() -> None:
    """Or a worker whose supervisor was killed would keep the port, its models and its token."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        multiprocessing.connection.wait([sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, args=(parent.sentinel,), name="parent", daemon=True).start()


def bound_socket(family: int, address: tuple[Any, ...], shared: bool = True) -> socket.socket:
    """A socket bound to an address; shared: one of several."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    bound.set_inheritable(True)
    return bound


def run(
    settings: Settings,
    host: str,
    port: int,
    workers: int,
    log_level: str,
    make_app: Callable[[Settings], App] = create_app,
) -> int:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    settings
        What to serve.
    host, port
        Where to listen; port 0: any that is free, which is printed.
    workers
        Processes, each with models and queues of its own.
    log_level
        One of uvicorn's.
    make_app
        Makes the application, in each worker.

    Returns
    -------
    int
        0, or uvicorn's status if a worker could not start.

    Raises
    ------
    MissingExtraError
        This version of uvicorn was not tested.
    """
    require_uvicorn()
    from fastdigit.serve.uvicorn_internals import (
        Protocol,
        WorkerSocket,
        run_workers,
        uncaught_sigterm,
    )

    # uvicorn does so, too; what is said before it begins shall have its time and level as well.
    logging.config.dictConfig(_logging(log_level))
    settings = _with_descriptors(settings)
    # With several workers each makes its own, but what can't be opened shall be said once.
    app = make_app(settings)
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    reserved = bound_socket(family, address, shared=workers > 1)
    if not is_loopback(host) and settings.token is None:
        logger.warning("listening on %s, open to whoever reaches it: set a token", host)
    with reserved, uncaught_sigterm():
        address = reserved.getsockname()
        shown = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
        config = uvicorn.Config(
            app if workers == 1 else Factory(settings, make_app),
            factory=workers > 1,
            host=host,
            port=address[1],
            http=Protocol,
            proxy_headers=False,
            ws="none",
            workers=workers,
            backlog=BACKLOG,
            access_log=False,
            server_header=False,
            log_config=_logging(log_level),
            log_level=log_level,
            timeout_graceful_shutdown=int(settings.timeout) + 1,
        )
        if workers == 1:
            _say_where(shown, address[1])
            uvicorn.Server(config).run(sockets=[reserved])
            return 0
        with _metrics_directory(workers):
            _say_where(shown, address[1])
            run_workers(config, WorkerSocket(bound_socket, family, address))
    return 0


def _say_where(host: str, port: int) -> None:
    # Where the log can't be written any more (a full disk), it is not: logging does the same.
    with suppress(OSError):
        print(f"fastdigit serves http://{host}:{port}/", file=sys.stderr, flush=True)


def _with_descriptors(settings: Settings) -> Settings:
    """Settings with no more connections than this process may have files open.

    One more would be an error of the server's own, and processes for pictures could not begin.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.max_connections + OTHER_DESCRIPTORS
    if soft < needed and soft != resource.RLIM_INFINITY:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            connections = max(1, soft - OTHER_DESCRIPTORS)
            logger.warning(
                "this process may have %d descriptors (ulimit -n): at most %d connections",
                *(soft, connections),
            )
            return dataclasses.replace(settings, max_connections=connections)
    return settings


def _logging(level: str) -> dict[str, Any]:
    """What is logged, as :mod:`logging.config` has it: uvicorn's messages, and ours, with times."""
    own = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "format": "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s[%(process)d]: "
                "%(message)s",
                "datefmt": "%Y-%m-%dT%H:%M:%S",
                "()": "fastdigit.serve.server.UtcFormatter",
            }
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "stream": "ext://sys.stderr",
            }
        },
        "loggers": {"uvicorn": own, "fastdigit": own},
    }


def _check_room(directory: str, workers: int) -> None:
    """A worker maps its files into memory, and is killed where the disk has no room for them."""
    free, needed = shutil.disk_usage(directory).free, workers * METRICS_BYTES
    if free < needed:
        raise OSError(
            f"{directory} has {free} bytes free; {workers} workers count in files of up to "
            f"{needed}: make room, or set {DIRECTORY}"
        )


class UtcFormatter(logging.Formatter):
    """Writes times in UTC: servers and clients are rarely in one zone."""

    @staticmethod
    def converter(seconds: float | None) -> time.struct_time:
        """Return the time, broken up."""
        return time.gmtime(seconds)


@contextmanager
def _metrics_directory(workers: int) -> Iterator[None]:
    """Where workers count, if the environment doesn't say where; OSError if they can't there."""
    if DIRECTORY in os.environ:
        _check_room(os.environ[DIRECTORY], workers)
        yield
        return
    try:
        made = tempfile.mkdtemp(prefix="fastdigit-metrics-")
    except OSError as error:
        raise OSError(f"workers have no place to count in: set {DIRECTORY} ({error})") from None
    os.environ[DIRECTORY] = made
    try:
        _check_room(made, workers)
        yield
    finally:
        del os.environ[DIRECTORY]
        shutil.rmtree(made, ignore_errors=True)
