"""Load on `fastdigit serve`: what rate it sustains, beside the same server around ONNX Runtime and
around nothing at all (what HTTP and the protocol cost alone).

    python benchmarks/serve_load.py                    highest rate with a p99 of at most 5 ms
    python benchmarks/serve_load.py --rate 2000        one rate
    python benchmarks/serve_load.py --soak 600         saturated: errors, answers, memory

The load is open loop: requests are due at random times (a Poisson process) that do not depend on
the answers, and latency counts from when a request was due, whether or not a connection was free to
send it. A server that stalls can't make its own stall look short that way ("coordinated omission",
G. Tene, "How NOT to Measure Latency"). The client takes part of the machine; how late it sent is
reported beside the latency. Each request is one digit in binary, and each answer is checked.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import fastdigit
from fastdigit.bench.adapter import shipped_files
from fastdigit.compiler.frontends.runners import import_onnxruntime
from fastdigit.datasets import load_mnist_test
from fastdigit.serve.settings import Settings
from fastdigit.threads import available_cpus

HOST = "127.0.0.1"
DIGITS = 1000
MAX_REQUESTS = 20_000_000
MAX_SECONDS = 3600
GRACE = 5.0  # seconds for the last answers

# ---- Servers ----


class OnnxRuntimeModel:
    """What the server asks of a model, answered by ONNX Runtime."""

    input_shape = (28, 28, 1)
    classes = tuple("0123456789")

    def __init__(self, path: str | None = None, **_: Any) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        # Set as its documentation advises for one process a core.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            shipped_files().onnx[-1],  # without the units that pruning has left empty
            options,
            providers=["CPUExecutionProvider"],
        )
        self._input = self._session.get_inputs()[0].name

    def info(self) -> dict[str, Any]:
        return {
            "outputs": 10,
            "has_softmax": True,
            "has_sigmoid": False,
            "range": (0.0, 1.0),
            "accepts_u8": True,
            "multiply_adds": 1_205_824,
        }

    has_labels = True
    inputs: ClassVar = {"input": (28, 28, 1)}
    outputs: ClassVar = {"probabilities": (10,)}

    @staticmethod
    def labels_of(values: np.ndarray) -> np.ndarray:
        return values.argmax(axis=1)

    def predict_proba(self, batch: np.ndarray) -> np.ndarray:
        floats = (batch.astype(np.float32) / np.float32(255)).reshape(-1, 28, 28, 1)
        result: np.ndarray = self._session.run(None, {self._input: floats})[0]
        return result


class NoModel(OnnxRuntimeModel):
    """Answers at once, and wrongly."""

    def __init__(self, path: str | None = None, **_: Any) -> None:
        pass

    def predict_proba(self, batch: np.ndarray) -> np.ndarray:
        return np.full((len(batch), 10), 0.1, np.float32)


ENGINES = {"fastdigit": fastdigit.load, "onnxruntime": OnnxRuntimeModel, "nothing": NoModel}


def make_app(settings: Settings, engine: str) -> Any:
    from fastdigit.serve.app import App

    return App(settings, ENGINES[engine])


def serve(engine: str, workers: int, settings: Settings) -> int:
    from fastdigit.serve.server import run

    return run(settings, HOST, 0, workers, "info", functools.partial(make_app, engine=engine))


class Server:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def pids(self) -> list[int]:
        """It and its workers."""
        found = [self.process.pid]
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
        return found

    def resident(self) -> int:
        """Bytes of memory of all its processes."""
        total = 0
        for pid in self.pids():
            match = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
            total += 1024 * int(match[1]) if match else 0
        return total


@contextmanager
def running(engine: str, workers: int, options: list[str]) -> Iterator[Server]:
    command = [sys.executable, __file__, "--serve", engine, "--workers", str(workers), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        port, started = 0, 0
        for line in process.stderr:
            if match := re.search(r"serves http://[^:]+:(\d+)/", line):
                port = int(match[1])
            started += "startup complete" in line
            if started == workers:
                break
        else:
            raise RuntimeError(f"the server around {engine} did not start")
        yield Server(process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# ---- Requests ----


def requests(engine: str) -> list[tuple[bytes, bytes]]:
    """Requests, and what their answers must end in: outputs, of which the label comes last."""
    images, _ = load_mnist_test()
    images = images[:DIGITS]
    values = fastdigit.predict_proba(images)
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "input",
                    "shape": [1, 28, 28],
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": 784},
                }
            ],
            "parameters": {"binary_data_output": True},
        },
        separators=(",", ":"),
    ).encode()
    head = (
        f"POST /v2/models/digits/infer HTTP/1.1\r\nHost: {HOST}\r\n"
        f"Content-Length: {len(header) + 784}\r\n"
        f"Inference-Header-Content-Length: {len(header)}\r\n\r\n"
    ).encode()
    pairs = []
    for image, row in zip(images, values, strict=True):
        label = np.int64(row.argmax()).tobytes()
        # Another engine's last bits are its own, its label is not.
        end = {"fastdigit": row.tobytes() + label, "onnxruntime": label, "nothing": b""}[engine]
        pairs.append((head + header + image.tobytes(), end))
    return pairs


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.due = 0.0
        self.expected = b""
        self.busy = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, due: float, pair: tuple[bytes, bytes]) -> None:
        assert self.transport is not None
        self.due, self.busy = due, True
        request, self.expected = pair
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        start = head.index(b"\r\ncontent-length: ") + 18
        length = int(head[start : start + 12].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return
        body, self.buffer = self.buffer[end + 4 : end + 4 + length], b""
        self.busy = False
        ok = head.startswith(b"http/1.1 200")
        self.load.answered(self, ok, body.endswith(self.expected))

    def connection_lost(self, error: Exception | None) -> None:
        self.load.lost(self)


@dataclass
class Result:
    """Of one run. Times in milliseconds."""

    engine: str
    offered: float  # requests/s
    answered: float  # requests/s
    requests: int
    errors: int
    wrong: int
    p50: float
    p99: float
    p999: float
    worst: float
    sent_late_p99: float

    def good(self, limit: float) -> bool:
        return not (self.errors or self.wrong) and self.p99 <= limit


class Load:
    """Requests of one run: open loop at a rate; or, with no rate, as fast as answers come."""

    def __init__(
        self,
        pairs: list[tuple[bytes, bytes]],
        rate: float | None,
        seconds: float,
        connections: int,
        seed: int = 0,
    ) -> None:
        self.pairs = pairs
        self.rate = rate
        self.seconds = seconds
        self.connections = connections
        rng = np.random.default_rng(seed)
        self.order = rng.integers(0, len(pairs), 1 << 16).tolist()
        self.due: list[float] = []
        if rate is not None:
            gaps = rng.exponential(1 / rate, int(min(rate * seconds * 1.2 + 100, MAX_REQUESTS)))
            times = np.cumsum(gaps)
            self.due = times[times < seconds].tolist()
        self.next = 0
        self.idle: deque[Connection] = deque()
        self.waiting: deque[tuple[float, int]] = deque()
        self.open: set[Connection] = set()
        self.latencies: list[float] = []
        self.late: list[float] = []
        self.errors = self.wrong = self.done = 0
        self.finished = asyncio.Event()
        self.closing = False
        self.began = self.ended = 0.0

    async def run(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            _, connection = await loop.create_connection(lambda: Connection(self), HOST, port)
            self.open.add(connection)
            self.idle.append(connection)
        self.began = time.perf_counter()
        if self.rate is None:
            for connection in list(self.idle):
                self.answered_again(connection)
            await asyncio.sleep(self.seconds)
            self.closing = True
        else:
            while self.next < len(self.due):
                now = time.perf_counter() - self.began
                while self.next < len(self.due) and self.due[self.next] <= now:
                    self.start(self.due[self.next])
                    self.next += 1
                if self.next < len(self.due):
                    await asyncio.sleep(max(0.0, self.due[self.next] - now))
        try:
            async with asyncio.timeout(GRACE):
                while any(c.busy for c in self.open) or self.waiting:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            self.errors += len(self.waiting) + sum(c.busy for c in self.open)
        self.ended = time.perf_counter()
        self.closing = True
        for connection in self.open:
            if connection.transport is not None:
                connection.transport.close()

    def start(self, due: float) -> None:
        if self.idle:
            self.send(self.idle.pop(), due, self.next)
        else:
            self.waiting.append((due, self.next))

    def send(self, connection: Connection, due: float, number: int) -> None:
        if self.rate is not None:
            self.late.append(time.perf_counter() - self.began - due)
        connection.send(due, self.pairs[self.order[number & 0xFFFF]])

    def answered_again(self, connection: Connection) -> None:
        """Closed loop: the next at once."""
        self.next += 1
        self.send(connection, time.perf_counter() - self.began, self.next)

    def answered(self, connection: Connection, ok: bool, right: bool) -> None:
        self.done += 1
        if len(self.latencies) < 2_000_000:
            self.latencies.append(time.perf_counter() - self.began - connection.due)
        self.errors += not ok
        self.wrong += ok and not right
        if self.rate is None:
            if not self.closing:
                self.answered_again(connection)
        elif self.waiting:
            self.send(connection, *self.waiting.popleft())
        else:
            self.idle.append(connection)

    def lost(self, connection: Connection) -> None:
        if not self.closing:
            self.errors += 1
            self.open.discard(connection)
            if connection in self.idle:
                self.idle.remove(connection)

    def result(self, engine: str) -> Result:
        times = 1e3 * np.array(self.latencies or [np.inf])
        late = 1e3 * np.array(self.late or [0.0])
        p50, p99, p999 = np.percentile(times, [50, 99, 99.9], method="higher")
        seconds = self.ended - self.began
        return Result(
            engine=engine,
            offered=len(self.due) / self.seconds if self.rate is not None else float("nan"),
            answered=self.done / seconds,
            requests=self.done,
            errors=self.errors,
            wrong=self.wrong,
            p50=float(p50),
            p99=float(p99),
            p999=float(p999),
            worst=float(times.max()),
            sent_late_p99=float(np.percentile(late, 99)),
        )


def loaded(
    server: Server,
    engine: str,
    rate: float | None,
    seconds: float,
    options: argparse.Namespace,
    seed: int = 0,
) -> Result:
    """Load a server; the client has an event loop of its own each time."""
    load = Load(requests(engine), rate, seconds, options.connections, seed)
    try:
        import uvloop

        uvloop.run(load.run(server.port))
    except ImportError:
        asyncio.run(load.run(server.port))
    return load.result(engine)


def sustained(server: Server, engine: str, options: argparse.Namespace) -> Result:
    """The run at the highest rate that stays within the limit, by bisection from saturation."""
    saturated = loaded(server, engine, None, min(options.seconds, 5), options)
    low, high = 0.0, 1.05 * saturated.answered
    best: Result | None = None
    for step in range(options.steps):
        rate = (low + high) / 2 if best or step else 0.7 * high
        result = loaded(server, engine, rate, options.seconds, options, seed=step)
        print_row(result, "within" if result.good(options.limit) else "beyond")
        if result.good(options.limit):
            best, low = result, rate
        else:
            high = rate
    if best is None:
        raise RuntimeError(f"{engine}: no rate tried stayed within {options.limit} ms")
    return best


def soak(server: Server, engine: str, options: argparse.Namespace) -> dict[str, Any]:
    """Saturation for long: in ten parts, with memory after each."""
    parts = 10
    rows, memory = [], []
    for i in range(parts):
        rows.append(loaded(server, engine, None, options.soak / parts, options, seed=i))
        memory.append(server.resident())
        print_row(rows[-1], f"{memory[-1] / 1e6:.1f} MB")
    # The first part fills caches and buffers.
    growth = memory[-1] - memory[1]
    report = {
        "engine": engine,
        "seconds": options.soak,
        "requests": sum(row.requests for row in rows),
        "errors": sum(row.errors for row in rows),
        "wrong": sum(row.wrong for row in rows),
        "requests_per_second": float(np.mean([row.answered for row in rows])),
        "resident_bytes": memory,
        "growth_bytes": growth,
    }
    print(
        f"{report['requests']} requests, {report['errors']} errors, {report['wrong']} wrong, "
        f"memory {growth / 1e6:+.2f} MB from the second part to the last"
    )
    return report


HEADINGS = (
    "engine",
    "offered/s",
    "answered/s",
    "p50 ms",
    "p99",
    "p99.9",
    "worst",
    "late",
    "errors",
)


def print_row(result: Result, remark: str = "") -> None:
    times = (result.p50, result.p99, result.p999, result.worst, result.sent_late_p99)
    cells = [f"{result.engine:>11}", f"{result.offered:10.0f}", f"{result.answered:10.0f}"]
    cells += [f"{t:8.2f}" for t in times] + [f"{result.errors + result.wrong:7}", remark]
    print(" ".join(cells), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", default="fastdigit,onnxruntime,nothing")
    parser.add_argument("--workers", type=int, default=available_cpus())
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--rate", type=float, help="requests/s, in place of a search")
    parser.add_argument("--limit", type=float, default=5.0, help="p99 in ms")
    parser.add_argument("--steps", type=int, default=7, help="runs of a search")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="saturation for so long")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--max-batch-size", type=int, default=Settings.max_batch_size)
    parser.add_argument("--max-queue-delay-microseconds", type=int, default=0)
    parser.add_argument("--serve", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    engines = options.engines.split(",")
    for name, value, most in (
        ("--seconds", options.seconds, MAX_SECONDS),
        ("--soak", options.soak or 1, MAX_SECONDS),
        ("--connections", options.connections, 1000),
        ("--rate", options.rate or 1, MAX_REQUESTS / options.seconds),
    ):
        if not 0 < value <= most:
            parser.error(f"{name} is to be in 0..{most:g}")
    if unknown := set(engines) - set(ENGINES):
        parser.error(f"unknown engine {', '.join(unknown)}; known are {', '.join(ENGINES)}")
    if options.serve:
        settings = Settings(
            max_batch_size=options.max_batch_size,
            max_queue_delay_microseconds=options.max_queue_delay_microseconds,
        )
        return serve(options.serve, options.workers, settings)

    facts = {
        "cpus": available_cpus(),
        "isa": fastdigit.config()["isa"],
        "workers": options.workers,
        "connections": options.connections,
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "fastdigit": fastdigit.__version__,
    }
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(" ".join(f"{h:>{w}}" for h, w in zip(HEADINGS, (11, 10, 10, *[8] * 5, 7), strict=True)))
    passed = [
        *("--max-batch-size", str(options.max_batch_size)),
        *("--max-queue-delay-microseconds", str(options.max_queue_delay_microseconds)),
    ]
    results: list[Any] = []
    bad = False
    for engine in engines:
        with running(engine, options.workers, passed) as server:
            loaded(server, engine, None, 1, options)  # warm
            if options.soak:
                report = soak(server, engine, options)
                bad |= bool(report["errors"] or report["wrong"])
                results.append(report)
                continue
            if options.rate:
                result = loaded(server, engine, options.rate, options.seconds, options)
                print_row(result)
                bad |= bool(result.errors or result.wrong)
            else:
                result = sustained(server, engine, options)
            results.append(asdict(result))
    if not options.soak and not options.rate:
        print(f"\nSustained with a p99 of at most {options.limit:g} ms:")
        for row in results:
            ratio = row["answered"] / results[0]["answered"]
            print(f"{row['engine']:>11} {row['answered']:8.0f} requests/s {ratio:6.2f}x")
    if options.json:
        options.json.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
