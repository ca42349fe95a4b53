"""The command ``fastdigit serve``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fastdigit.errors import InputError
from fastdigit.limits import Limits
from fastdigit.serve import require_extra
from fastdigit.serve.hosts import is_loopback
from fastdigit.serve.settings import Settings

__all__ = ["add_arguments", "run"]

TOKEN_VARIABLE = "FASTDIGIT_TOKEN"  # noqa: S105 - the name of a variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="0: any free one (%(default)s)")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes, of which each keeps one core busy; 0: one for each CPU that this "
        "process may use (%(default)s)",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        type=_model,
        metavar="NAME=PATH",
        help="serve a .fdm file as NAME, beside the model that ships as 'digits'; may be repeated",
    )
    parser.add_argument(
        "--log-level",
        default="info",
        choices=("critical", "error", "warning", "info", "debug"),
        help="(%(default)s)",
    )
    parser.add_argument("--access-log", action="store_true", help="log a line for each request")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which browsers may ask for this server, beside localhost and IP addresses; "
        "may be repeated. Default: any name, but none if it listens on a loopback address only",
    )
    batching = parser.add_argument_group("batching")
    limits = parser.add_argument_group("limits")
    for group, name, unit, text in (
        (batching, "max_batch_size", "N", "images run together"),
        (batching, "max_queue_delay_microseconds", "US", "wait for more images to run together"),
        (batching, "max_queue_size", "N", "images that may wait for a model"),
        (limits, "timeout", "S", "seconds from request to answer"),
        (limits, "read_timeout", "S", "seconds a client may take to send its request"),
        (limits, "max_body_bytes", "N", "size of a request"),
        (limits, "max_buffered_bytes", "N", "size of all requests in progress"),
        (limits, "max_pixels", "N", "size of a picture"),
        (limits, "readers", "N", "processes a worker that read pictures and long JSON"),
        (limits, "reading_timeout", "S", "seconds that reading one of these may take"),
        (limits, "page_timeout", "S", "seconds that reading all digits of a picture may take"),
        (limits, "reading_memory_bytes", "N", "memory that it may take"),
        (limits, "max_connections", "N", "open connections"),
        (limits, "max_client_connections", "N", "open connections of one address"),
        (limits, "client_rate", "N", "requests a second from one address; 0: any"),
        (limits, "client_burst", "N", "requests at once from one that was silent"),
        (limits, "drain_delay", "S", "seconds of saying 'not ready' between SIGTERM and the end"),
    ):
        default = getattr(Settings, name)
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            metavar=unit,
            help=f"{text} (%(default)s)",
        )
    limits.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="what a model file may ask for, such as operations=1e11; may be repeated",
    )
    limits.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address or network of a proxy whose X-Forwarded-For says who the client is; may be "
        "repeated",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the token that clients must send as 'Authorization: Bearer TOKEN'; "
        f"without it, {TOKEN_VARIABLE} in the environment counts",
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise InputError(f"{path} holds no token: it is not UTF-8 text") from None


def _model(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, path


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Serve; return the exit status."""
    require_extra()
    token = os.environ.get(TOKEN_VARIABLE)
    if options.token_file is not None:
        token = _token(options.token_file)
    names = [name for name, _ in options.model]
    if len(set(names)) < len(names):
        parser.error("--model: a name is given twice")
    if options.workers < 0:
        parser.error("--workers is negative")
    try:
        settings = Settings(
            models=dict(options.model),
            model_limits=Limits.parsed(options.limit),
            token=token,
            trusted_proxies=tuple(options.trusted_proxy),
            # A server for this machine is known by no name that others could point to it.
            allowed_hosts=tuple(options.allowed_host)
            or (("localhost",) if is_loopback(options.host) else ()),
            **{
                name: getattr(options, name)
                for name in vars(options)
                if name in Settings.__dataclass_fields__ and name != "models"
            },
        )
    except ValueError as error:
        parser.error(str(error))
    from fastdigit.serve.server import run as serve
    from fastdigit.threads import available_cpus

    workers = options.workers or available_cpus()
    return serve(settings, options.host, options.port, workers, options.log_level)
