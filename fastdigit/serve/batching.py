"""Dynamic batching: requests that are there at the same time are run together.

A result does not depend on the batch an image is in (to the bit, as the engine promises), so
batching changes only when an answer comes. The words are those of Triton Inference Server's
``dynamic_batching``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdigit.errors import InputError
from fastdigit.serve.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["Batcher"]

logger = logging.getLogger("fastdigit.serve")


class _Request:
    """Images that belong together, and how far they are.

    `taken` of them have gone into batches, `done` have come back, into `answer` if there are
    several parts.
    """

    __slots__ = ("answer", "arrived", "done", "future", "images", "taken", "timer")

    def __init__(
        self, images: NDArray[Any], future: asyncio.Future[Floats], arrived: float
    ) -> None:
        self.images = images
        self.future = future
        self.arrived = arrived
        self.taken = self.done = 0
        self.answer: Floats | None = None
        self.timer: asyncio.TimerHandle | None = None


#: A request's part of a batch: rows from the first number up to the second.
_Part = tuple[_Request, int, int]


class Batcher:
    """Queue of one model, and what runs it. Everything happens on one event loop.

    Parameters
    ----------
    run
        Takes N images, returns float32 of shape (N, outputs); InputError if a value is wrong.
    max_batch_size, max_queue_delay_microseconds, max_queue_size, timeout
        See :class:`fastdigit.serve.Settings`.
    executor
        Where `run` is called; None: on the event loop, which is faster if it takes no longer than
        a few milliseconds.
    observe
        Called with the number of images of each batch and the seconds that it took.
    """

    def __init__(
        self,
        run: Callable[[NDArray[Any]], Floats],
        *,
        max_batch_size: int,
        max_queue_delay_microseconds: int,
        max_queue_size: int,
        timeout: float,
        executor: Executor | None = None,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch_size
        self._delay = max_queue_delay_microseconds * 1e-6
        self._max_queue = max_queue_size
        self._timeout = timeout
        self._executor = executor
        self._observe = observe
        self._queue: deque[_Request] = deque()
        self._rows = 0
        self._running = False
        self._wake: asyncio.Handle | None = None
        self._wake_is_late = False

    @property
    def depth(self) -> int:
        """Images that wait."""
        return self._rows

    def submit(self, images: NDArray[Any]) -> asyncio.Future[Floats]:
        """Queue one image or more; the future has their outputs, in order.

        Raises
        ------
        RequestError
            413: more images than may ever wait; 429: too many wait already. Through the future,
            504: no answer within the timeout.
        InputError
            Through the future: a value is not in the model's range.
        """
        n = len(images)
        if n > self._max_queue:
            raise RequestError(413, f"{n} images in one request, at most {self._max_queue} may be")
        if self._rows + n > self._max_queue:
            raise RequestError(429, f"{self._rows} images are waiting already: try again later")
        loop = asyncio.get_running_loop()
        request = _Request(images, loop.create_future(), loop.time())
        request.timer = loop.call_later(self._timeout, self._expire, request)
        self._queue.append(request)
        self._rows += n
        self._schedule(loop)
        return request.future

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that the next batch is started, at the right time."""
        if self._running or not self._queue:
            return
        full = self._delay == 0 or self._rows >= self._max_batch
        if self._wake is not None:
            if not (full and self._wake_is_late):
                return
            self._wake.cancel()
        due = 0.0 if full else self._queue[0].arrived + self._delay
        self._wake_is_late = due > loop.time()
        # Not at once: requests that arrived in the same turn of the loop are still to be queued.
        self._wake = (
            loop.call_at(due, self._start) if self._wake_is_late else loop.call_soon(self._start)
        )

    def _expire(self, request: _Request) -> None:
        if not request.future.done():
            request.future.set_exception(
                RequestError(504, f"no answer within {self._timeout:g} seconds")
            )
        self._forget(request)

    def _forget(self, request: _Request) -> None:
        """Take out of the queue what nobody waits for any more."""
        if request.timer is not None:
            request.timer.cancel()
        rest = len(request.images) - request.taken
        if rest:
            self._rows -= rest
            request.taken = len(request.images)
            self._queue.remove(request)

    def _take(self) -> list[_Part]:
        """The next batch: in the order of arrival, all bytes or all floats.

        A request of which something is left goes behind those that came meanwhile.
        """
        parts: list[_Part] = []
        room = self._max_batch
        while self._queue and room:
            request = self._queue[0]
            if request.future.done():
                self._forget(request)
                continue
            if parts and parts[0][0].images.dtype != request.images.dtype:
                break
            first = request.taken
            last = min(len(request.images), first + room)
            parts.append((request, first, last))
            room -= last - first
            self._rows -= last - first
            request.taken = last
            self._queue.popleft()
            if last < len(request.images):
                self._queue.append(request)
        return parts

    def _start(self) -> None:
        self._wake = None
        parts = self._take()
        if not parts:
            return
        loop = asyncio.get_running_loop()
        if self._executor is None:
            self._deliver(self._results(parts))
            self._schedule(loop)
            return
        self._running = True
        work = loop.run_in_executor(self._executor, self._results, parts)
        work.add_done_callback(self._finish)

    def _finish(self, work: asyncio.Future[list[tuple[_Part, Floats | Exception]]]) -> None:
        self._running = False
        if not work.cancelled():
            self._deliver(work.result())
        self._schedule(asyncio.get_running_loop())

    def _results(self, parts: list[_Part]) -> list[tuple[_Part, Floats | Exception]]:
        """Outputs, or the error, of each part; runs in the executor if there is one."""
        slices = [request.images[first:last] for request, first, last in parts]
        began = time.perf_counter()
        try:
            if len(slices) == 1:
                outputs = self._run(slices[0])
                self._observe(len(outputs), time.perf_counter() - began)
                return [(parts[0], outputs)]
            outputs = self._run(np.concatenate(slices))
        except InputError as error:
            if len(parts) == 1:
                return [(parts[0], error)]
            # One of them is wrong: the others shall have their answers.
            return [result for part in parts for result in self._results([part])]
        except Exception as error:
            logger.exception("a batch of %d requests failed", len(parts))
            return [(part, error) for part in parts]
        self._observe(len(outputs), time.perf_counter() - began)
        ends = np.cumsum([len(part) for part in slices])
        return list(zip(parts, np.split(outputs, ends[:-1]), strict=True))

    def _deliver(self, results: list[tuple[_Part, Floats | Exception]]) -> None:
        for (request, first, last), result in results:
            if request.future.done():
                continue
            if isinstance(result, Exception):
                self._forget(request)
                request.future.set_exception(result)
            elif last - first == len(request.images):
                request.future.set_result(result)
            else:
                if request.answer is None:
                    request.answer = np.empty((len(request.images), result.shape[1]), np.float32)
                request.answer[first:last] = result
                request.done += last - first
                if request.done < len(request.images):
                    continue
                request.future.set_result(request.answer)
            if request.timer is not None:
                request.timer.cancel()
