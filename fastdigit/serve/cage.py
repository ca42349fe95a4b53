"""What clients send that can cost much to read, read in processes that can be killed.

A picture of a kilobyte can ask for a minute of decoding, and JSON of a megabyte for gigabytes. So
pictures and long JSON are read in a process of their own: the operating system bounds its memory,
the server its time, and neither the event loop nor another request waits for it.

The server sends a job by pickle, and its payload as it is. The answer is JSON and bytes: what comes
out of a process that read what a stranger sent is not unpickled.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, BinaryIO, Final

import numpy as np

from fastdigit.errors import InputError
from fastdigit.images import decode, normalize
from fastdigit.reader import read
from fastdigit.serve.errors import RequestError
from fastdigit.serve.protocol import Inference, Signature, decompressed, parse
from fastdigit.serve.turns import Turns

__all__ = ["Cage"]

logger = logging.getLogger("fastdigit.serve")

#: Image files that are read: of others, decoders are less proven.
FORMATS: Final = ("PNG", "JPEG")
#: Lengths of a message's head and of its payload.
LENGTHS: Final = struct.Struct("<QQ")
# A process that has grown by so much begins anew: what it holds, it may never give back.
GROWN: Final = 64 << 20
# What a process may take to begin.
START_SECONDS: Final = 60.0
# Jobs that may wait, beside the limit on their bytes; and those of one client.
MAX_WAITING: Final = 64
MAX_WAITING_OF_CLIENT: Final = 32


class Cage:
    """Processes for pictures and long JSON, started when first needed.

    Parameters
    ----------
    processes
        How many at most, one a job.
    seconds
        That a job may take.
    memory
        Bytes that a job may take, beyond those of a process that has done nothing.
    max_waiting_bytes
        Payloads of all jobs together that have not been answered yet.
    patience
        Seconds that a job may wait for its turn.

    Notes
    -----
    Clients come in turn: one that sends many jobs delays another's by one for each process.

    Where the operating system has no limit on a process's memory (macOS takes it and ignores it),
    only time is bounded.
    """

    def __init__(
        self,
        processes: int,
        seconds: float,
        memory: int,
        max_waiting_bytes: int,
        patience: float,
    ) -> None:
        self._seconds = seconds
        self._memory = memory
        self._max_bytes = max_waiting_bytes
        self._patience = patience
        self._turns = Turns(processes)
        self._threads = ThreadPoolExecutor(processes, "fastdigit-cage")
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._closed = False
        self._waiting: Counter[str] = Counter()
        self._bytes = 0

    async def picture(
        self, client: str, body: bytes, encoding: str | None, limits: tuple[int, int]
    ) -> Any:
        """Return the picture in a file as uint8 (28, 28): decoded and normalized.

        Parameters
        ----------
        client
            Who sent it.
        body, encoding
            The file, and its ``Content-Encoding``.
        limits
            Bytes that it may have when decompressed, and pixels.

        Raises
        ------
        RequestError
            It is no picture of a digit, or costs too much.
        """
        _, pixels = await self._run(client, ("picture", encoding, *limits), body)
        return np.frombuffer(pixels, np.uint8).reshape(28, 28)

    async def reading(
        self,
        client: str,
        body: bytes,
        encoding: str | None,
        limits: tuple[int, int],
        options: dict[str, Any],
    ) -> bytes:
        """Return what :func:`fastdigit.read` finds in a picture, as JSON.

        Parameters
        ----------
        client, body, encoding, limits
            As for :meth:`picture`.
        options
            Those of :func:`fastdigit.read` that are given.

        Raises
        ------
        RequestError
            It is no picture, the options are wrong, or it costs too much.
        """
        _, found = await self._run(client, ("reading", encoding, *limits, options), body)
        return found

    async def inference(
        self,
        client: str,
        body: bytes,
        encoding: str | None,
        limit: int,
        header_length: str | None,
        signature: Signature,
    ) -> Inference:
        """Return what :func:`.protocol.parse` makes of a body with at most `limit` bytes.

        Raises
        ------
        RequestError
            The request is wrong, or costs too much to read.
        """
        job = ("inference", encoding, limit, header_length, signature)
        head, data = await self._run(client, job, body)
        images = np.frombuffer(data, head["dtype"]).reshape(head["shape"])
        outputs = tuple((name, binary) for name, binary in head["outputs"])
        return Inference(head["id"], images, outputs)

    def close(self) -> None:
        """Kill the processes; jobs in progress end with an error."""
        with self._lock:
            self._closed = True
            processes = [*self._idle, *self._busy]
        for process in processes:
            process.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self, client: str, job: tuple[Any, ...], payload: bytes
    ) -> tuple[dict[str, Any], bytes]:
        total = self._waiting.total()
        if total >= MAX_WAITING or self._waiting[client] >= MAX_WAITING_OF_CLIENT:
            raise RequestError(429, "too many requests are waiting to be read: try again later")
        if total and self._bytes + len(payload) > self._max_bytes:
            raise RequestError(503, "too many requests in progress")
        self._waiting[client] += 1
        self._bytes += len(payload)
        try:
            async with self._turns.turn(client, self._patience):
                answer = asyncio.get_running_loop().run_in_executor(
                    self._threads, self._ask, job, payload
                )
                head, data = await answer
        except TimeoutError:
            message = f"{self._patience:g} seconds were not enough for what came before"
            raise RequestError(504, message) from None
        except RuntimeError as error:  # there is no thread to be had
            raise self._unavailable(error) from None
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]
            self._bytes -= len(payload)
        if "error" in head:
            raise RequestError(head["status"], head["error"])
        return head, data

    def _ask(self, job: tuple[Any, ...], payload: bytes) -> tuple[dict[str, Any], bytes]:
        """Have a process do a job; in a thread, for it waits."""
        process = self._process()
        late = threading.Event()
        began = again = False
        try:
            with _ending(process, START_SECONDS, late):
                process.wait_until_ready()
            began = True
            with _ending(process, self._seconds, late):
                head, data = process.ask(job, payload)
            again = not head.pop("last")
            return head, data
        except (EOFError, OSError) as error:
            if self._closed or not began:
                raise self._unavailable(error) from None
            if late.is_set():
                what = f"more than the {self._seconds:g} s that it may take"
            else:
                status = process.wait()
                logger.error("the process that read a request ended with status %d", status)
                what = "more memory than it may take, or ends the process that reads it"
            raise RequestError(413, f"the body takes {what}: {_hint(job)}") from None
        finally:
            with self._lock:
                self._busy.discard(process)
                again = again and not late.is_set() and not self._closed
                if again:
                    self._idle.append(process)
            if not again:
                process.kill()
                process.wait()

    def _process(self) -> _Process:
        """One that is idle, or a new one."""
        with self._lock:
            while self._idle and self._idle[-1].ended():
                self._idle.pop().wait()
            try:
                if self._closed:
                    raise OSError
                process = self._idle.pop() if self._idle else _Process(self._memory)
            except OSError as error:  # no memory, no descriptor, no process to be had
                raise self._unavailable(error) from None
            self._busy.add(process)
            return process

    def _unavailable(self, error: Exception) -> RequestError:
        """What is told if no process can read anything, for no fault of what is to be read."""
        if self._closed:
            return RequestError(503, "the server is shutting down")
        reason = str(error) or "it ended before it began, or took too long"
        logger.error("no process that reads requests can be started: %s", reason)
        return RequestError(503, "pictures and long JSON can't be read now: try again later")


@contextlib.contextmanager
def _ending(process: _Process, seconds: float, late: threading.Event) -> Iterator[None]:
    """Kill a process, and set `late`, if it is at something for longer."""

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _hint(job: tuple[Any, ...]) -> str:
    if job[0] == "reading" and "pattern" in job[-1]:
        return "send a smaller picture, or a simpler pattern"
    if job[0] == "reading":
        return "send a smaller picture, or a region of it"
    if job[0] == "picture":
        return "send a smaller picture, or save it anew"
    return "send fewer images, or tensors in binary"


class _Process:
    """One process, from outside."""

    def __init__(self, memory: int) -> None:
        # One thread is enough, and the memory of others counts.
        ones = ("FASTDIGIT_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(ones, "1")}
        self._process = subprocess.Popen(
            # -P: nothing is imported from the folder that the server was started in.
            [sys.executable, "-P", "-m", "fastdigit.serve.cage", str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            # Ctrl-C is for the server, which ends it.
            start_new_session=True,
        )
        self._ready = False

    def wait_until_ready(self) -> None:
        """Wait for the process to begin; EOFError if it ends instead."""
        if not self._ready:
            assert self._process.stdout is not None
            _receive(self._process.stdout)
            self._ready = True

    def ask(self, job: tuple[Any, ...], payload: bytes) -> tuple[dict[str, Any], bytes]:
        """Send a job and return its answer; EOFError or OSError if the process ends before it."""
        there, back = self._process.stdin, self._process.stdout
        assert there is not None and back is not None
        _send(there, pickle.dumps(job), payload)
        head, data = _receive(back)
        found: dict[str, Any] = json.loads(head)
        return found, data

    def ended(self) -> bool:
        """Whether it has, of itself or because somebody killed it."""
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was to be written still has nowhere to go
                pipe.close()
        return status


def _send(pipe: BinaryIO | Any, head: bytes, payload: bytes) -> None:
    pipe.write(LENGTHS.pack(len(head), len(payload)))
    pipe.write(head)
    pipe.write(payload)
    pipe.flush()


def _receive(pipe: BinaryIO | Any) -> tuple[bytes, bytes]:
    sizes = LENGTHS.unpack(_exactly(pipe, LENGTHS.size))
    return _exactly(pipe, sizes[0]), _exactly(pipe, sizes[1])


def _exactly(pipe: BinaryIO | Any, size: int) -> bytes:
    data: bytes = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


# ---- Inside ----


def _done(job: tuple[Any, ...], payload: bytes) -> tuple[dict[str, Any], bytes]:
    kind, encoding, limit, *rest = job
    if encoding is not None:
        payload = decompressed(payload, encoding, limit)
    if kind == "picture":
        return {}, normalize(decode(payload, max_pixels=rest[0], formats=FORMATS)).tobytes()
    if kind == "reading":
        return {}, _read(payload, *rest)
    request = parse(payload, *rest)
    images = np.ascontiguousarray(request.images)
    head = {
        "id": request.id,
        "outputs": request.outputs,
        "dtype": images.dtype.str,
        "shape": images.shape,
    }
    return head, images.tobytes()


def _read(payload: bytes, max_pixels: int, options: dict[str, Any]) -> bytes:
    began = time.perf_counter()
    pixels = decode(payload, max_pixels=max_pixels, formats=FORMATS, reduce=False)
    reading = read(pixels, **options)
    height, width = pixels.shape[:2]
    found = {
        "text": reading.text,
        **asdict(reading),
        "height": height,
        "width": width,
        "read_microseconds": round(1e6 * (time.perf_counter() - began)),
    }
    return json.dumps(found).encode()


def _answer(job: tuple[Any, ...], payload: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        return _done(job, payload)
    except RequestError as error:
        return {"status": error.status, "error": str(error)}, b""
    except InputError as error:
        status = 413 if isinstance(error.__cause__, MemoryError) else 400
        return {"status": status, "error": str(error)}, b""
    except MemoryError:
        message = f"the body takes more memory than it may take: {_hint(job)}"
        return {"status": 413, "error": message}, b""


def _bound_memory(memory: int) -> None:
    """Let this process take so much more than it has now, write no file and leave no core."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # no Linux
        return
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))


def _resident() -> int:
    """Bytes that this process has in memory; 0 where that is not known."""
    import resource

    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _warm_up() -> None:
    """Import and open all that pictures need, while memory has no bound."""
    from PIL import Image

    stroke = np.full((64, 64), 255, np.uint8)
    stroke[12:52, 30:34] = 0
    read(stroke)
    for kind in FORMATS:
        file = io.BytesIO()
        Image.new("L", (28, 28)).save(file, kind)
        with contextlib.suppress(InputError):  # there is no digit in it
            normalize(decode(file.getvalue(), formats=FORMATS))


def main() -> None:
    """Do jobs from standard input until it ends."""
    jobs, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    _warm_up()
    _bound_memory(int(sys.argv[1]))
    began = _resident()
    _send(answers, b"", b"")
    while True:
        try:
            head, payload = _receive(jobs)
        except (EOFError, MemoryError):
            return
        # The head comes from the server, and only the payload from a stranger.
        found, data = _answer(pickle.loads(head), payload)  # noqa: S301
        del payload
        found["last"] = found.get("status") == 413 or _resident() - began > GROWN
        _send(answers, json.dumps(found).encode(), data)
        if found["last"]:
            return


if __name__ == "__main__":
    main()
