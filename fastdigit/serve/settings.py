"""What a server is told: models, limits, how it batches."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fastdigit.limits import Limits
from fastdigit.threads import Threads

__all__ = ["DEFAULT_NAME", "MAX_PATTERN", "Settings"]

DEFAULT_NAME: Final = "digits"
"""Name under which the model that ships with the package is served."""

#: Characters of a pattern at ``/read``.
MAX_PATTERN: Final = 200

#: A day: what waits for longer is not waited for.
MAX_SECONDS: Final = 86_400

#: Requests a second: more than any server of this kind answers.
MAX_RATE: Final = 1_000_000

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes
    ----------
    models
        Path of each model file by the name it is served as. `DEFAULT_NAME` is the model that
        ships with the package, unless it is given a path here.
    threads
        Threads of a call; see :func:`fastdigit.load`. One worker process a core is better.
    model_limits
        What a model file may ask for; see :class:`fastdigit.Limits`.
    max_batch_size
        Images that are run together; what a longer request brings is run in parts.
    max_queue_delay_microseconds
        How long an image may wait for others to share its batch. With 0, what came while the
        engine was busy is run together, and nothing waits for what may come.
    max_queue_size
        Images that may wait for one model; further requests get status 429. No request may have
        more.
    timeout
        Seconds from a complete request to its answer, else status 504.
    read_timeout
        Seconds that a client may take to send a request's headers, and again its body.
    max_body_bytes
        Size of a request's body, as sent and as decompressed.
    max_buffered_bytes
        Bodies of all requests in progress together; beyond that, status 503.
    max_pixels
        Size of a picture sent to ``/predict`` or ``/read``.
    readers
        Processes that read pictures and long JSON, beside each worker; and as many for ``/read``.
    reading_timeout
        Seconds that reading one of these may take, else status 413.
    page_timeout
        The same for ``/read``: a full page of print takes longer than one digit.
    reading_memory_bytes
        Memory that it may take, else status 413; Linux only.
    max_connections
        Open connections; one more gets status 503.
    max_client_connections
        Open connections of one client, which is an address, or of IPv6 a /64; one more gets
        status 429.
    client_rate
        Requests a second that one client may send for long; more get status 429. 0: any.
    client_burst
        Requests that it may send at once, when it has been silent.
    trusted_proxies
        Addresses and networks of proxies whose ``X-Forwarded-For`` says who the client is. Nobody
        else is believed.
    token
        If not None, what clients must send as ``Authorization: Bearer TOKEN``, except for health
        and for the page itself.
    drain_delay
        Seconds between SIGTERM and the end of listening, in which the server says that it is not
        ready, and still answers.
    allowed_hosts
        Names by which browsers may ask for this server, beside localhost and IP addresses; empty:
        any name. It keeps pages of other sites from reaching a server that only this machine
        reaches, by a name of theirs that they point to it (DNS rebinding).
    access_log
        Whether to log a line for each request.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    threads: Threads | None = None
    model_limits: Limits | None = None
    max_batch_size: int = 64
    max_queue_delay_microseconds: int = 0
    max_queue_size: int = 4096
    timeout: float = 10.0
    read_timeout: float = 10.0
    max_body_bytes: int = 16 << 20
    max_buffered_bytes: int = 256 << 20
    max_pixels: int = 16_000_000
    readers: int = 1
    reading_timeout: float = 5.0
    page_timeout: float = 30.0
    reading_memory_bytes: int = 256 << 20
    max_connections: int = 4096
    max_client_connections: int = 1024
    client_rate: float = 0.0
    client_burst: int = 100
    trusted_proxies: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    drain_delay: float = 0.0
    allowed_hosts: tuple[str, ...] = ()
    access_log: bool = False

    def __post_init__(self) -> None:
        for name in self.models:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"a model cannot be named {name!r}: letters, digits, '_', '.' and '-' only"
                )
        for field_name, least in (
            ("max_batch_size", 1),
            ("max_queue_delay_microseconds", 0),
            ("max_queue_size", 1),
            ("max_body_bytes", 1),
            ("max_buffered_bytes", 1),
            ("max_pixels", 1),
            ("readers", 1),
            ("reading_memory_bytes", 1 << 20),
            ("max_connections", 1),
            ("max_client_connections", 1),
            ("client_burst", 1),
        ):
            if not getattr(self, field_name) >= least:
                value = getattr(self, field_name)
                raise ValueError(f"{field_name} is {value}, expected at least {least}")
        for field_name in (
            "timeout",
            "read_timeout",
            "reading_timeout",
            "page_timeout",
            "drain_delay",
        ):
            seconds = getattr(self, field_name)
            lowest = 0.0 if field_name == "drain_delay" else sys.float_info.min
            if not lowest <= seconds <= MAX_SECONDS:
                raise ValueError(f"{field_name} is {seconds}, expected up to {MAX_SECONDS} seconds")
        if not 0 <= self.client_rate <= MAX_RATE:
            raise ValueError(f"client_rate is {self.client_rate}, expected 0 to {MAX_RATE}")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"trusted_proxies: {error}") from None
        if self.token is not None and (not self.token or not self.token.isascii()):
            raise ValueError("the token is empty or not ASCII")

    def paths(self) -> dict[str, str | None]:
        """Path of each model to serve; None is the one that ships with the package."""
        return {DEFAULT_NAME: None, **{name: os.fspath(p) for name, p in self.models.items()}}
