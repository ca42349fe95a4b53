"""The end of a server's life: not ready, and still answering, between SIGTERM and the exit."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["Draining"]

logger = logging.getLogger("fastdigit.serve")


class Draining:
    """Whether the server is about to end.

    Parameters
    ----------
    delay
        Seconds from SIGTERM until the server is told of it.

    Attributes
    ----------
    begun
        From then on it says that it is not ready.
    """

    def __init__(self, delay: float) -> None:
        self.begun = False
        self._delay = delay

    def on_sigterm(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Begin as soon as SIGTERM comes, and pass it on after the delay.

        The handler that is there already is the server's, which stops listening and waits for
        requests in progress.

        Returns
        -------
        callable
            Puts that handler back.
        """
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        server: Any = signal.getsignal(signal.SIGTERM)

        def drain(number: int, frame: FrameType | None) -> None:
            again, self.begun = self.begun, True
            if not callable(server):
                signal.signal(number, server)
                signal.raise_signal(number)
            elif again or self._delay == 0:
                server(number, frame)
            else:
                logger.info("draining: %g seconds until exit", self._delay)
                loop.call_soon_threadsafe(loop.call_later, self._delay, server, number, None)

        signal.signal(signal.SIGTERM, drain)

        def restore() -> None:
            signal.signal(signal.SIGTERM, server)

        return restore
