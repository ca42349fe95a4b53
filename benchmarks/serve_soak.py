"""An hour, or how long you like, of `fastdigit serve` with hostile clients among healthy ones.

    python benchmarks/serve_soak.py --minutes 60 --json soak.json
    python benchmarks/serve_soak.py --minutes 5 -- --max-connections-per-client 50

Healthy clients send tensors, JSON and pictures at a fixed rate, at random times that don't depend
on the answers; each answer is compared with what the package itself says. Hostile ones, a process
of low priority with another address (127.0.0.2), do what is listed in `HOSTILE`. Each minute has a
row: how long the healthy waited, what was wrong, and what server and cage hold. What stands behind
`--` goes to the server. Linux only: memory and descriptors are read from /proc.

The exit status is 1 if a healthy client got a wrong answer, or none to tensors or JSON. Pictures
are read by the same processes as the hostile ones, so that some may be refused: that is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fastdigit
from fastdigit.datasets import load_mnist_test

HOST = "127.0.0.1"
HOSTILE_HOST = "127.0.0.2"
INFER = "/v2/models/digits/infer"
PATIENCE = 30.0  # seconds that a client waits for an answer
FRESH = 3.0  # seconds after which a connection is not used again: the server closes it after 5

# ---- What is sent ----


def message(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def tensors(images: np.ndarray, *headers: str) -> bytes:
    tensor = {
        "name": "input",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "parameters": {"binary_data_size": images.nbytes},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    length = f"Inference-Header-Content-Length: {len(head)}"
    return message(INFER, head + images.tobytes(), length, *headers)


def png(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG file that repeats its last scan."""
    data = png(np.zeros((side, side), np.uint8), "JPEG", progressive=True, quality=10)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


@dataclass(frozen=True)
class Known:
    """A request, and whether an answer is the right one."""

    request: bytes
    right: Callable[[Any], bool]


def known() -> dict[str, list[Known]]:
    """Requests of healthy clients, by kind."""
    images, _ = load_mnist_test()
    images = images[:200]
    values = fastdigit.predict_proba(images)

    def same(row: np.ndarray) -> Callable[[Any], bool]:
        def right(answer: Any) -> bool:
            found = {output["name"]: output["data"] for output in answer["outputs"]}
            got = np.array(found["probabilities"], np.float32).tobytes()
            return got == row.tobytes() and found["label"] == [row.argmax()]

        return right

    def labelled(label: int, image: np.ndarray) -> Callable[[Any], bool]:
        return lambda answer: answer["label"] == label and answer["image"] == image.tolist()

    kinds: dict[str, list[Known]] = {"tensors": [], "json": [], "pictures": [], "readings": []}
    for image, row in zip(images, values, strict=True):
        kinds["tensors"].append(Known(tensors(image[None]), same(row)))
        data = {
            "name": "input",
            "shape": [1, 28, 28],
            "datatype": "UINT8",
            "data": [image.tolist()],
        }
        body = json.dumps({"inputs": [data]}).encode()
        kinds["json"].append(Known(message(INFER, body), same(row)))
    for image in images[:20]:
        picture = 255 - np.pad(image, 8).repeat(4, 0).repeat(4, 1)
        normal = fastdigit.normalize(picture)
        right = labelled(int(fastdigit.predict(normal[None])[0]), normal)
        kinds["pictures"].append(Known(message("/predict", png(picture)), right))
    for i in range(10):
        page = np.full((60, 200), 255, np.uint8)
        for j in range(4):
            page[16:44, 20 + 40 * j : 48 + 40 * j] = 255 - images[4 * i + j]
        text = fastdigit.read(page).text
        request = message("/read", png(page))
        kinds["readings"].append(Known(request, lambda answer, text=text: answer["text"] == text))
    return kinds


# ---- Healthy clients ----


@dataclass
class Minute:
    """What the clients of one kind saw in a minute. Milliseconds."""

    times: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: int = 0

    def summary(self) -> dict[str, Any]:
        times = np.array(self.times or [np.nan])
        p50, p99 = np.percentile(times, [50, 99], method="higher")
        return {
            "answers": len(self.times),
            "p50": float(p50),
            "p99": float(p99),
            "worst": float(times.max()),
            "statuses": dict(self.statuses),
            "wrong": self.wrong,
        }


class Healthy:
    """Clients of one kind: requests are due at random times, and latency counts from then."""

    def __init__(self, port: int, rate: float, requests: list[Known], seed: int) -> None:
        self._port = port
        self._rate = rate
        self._requests = requests
        self._rng = np.random.default_rng(seed)
        self._idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self.minute = Minute()

    async def run(self, until: float) -> None:
        due = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            while (due := due + self._rng.exponential(1 / self._rate)) < until:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                request = self._requests[self._rng.integers(len(self._requests))]
                tasks.create_task(self._ask(request, due))

    async def _ask(self, known: Known, due: float) -> None:
        minute = self.minute
        try:
            async with asyncio.timeout(PATIENCE):
                status, body = await self._answer(known.request)
        except (OSError, EOFError, TimeoutError) as error:
            minute.statuses[type(error).__name__] += 1
            return
        minute.times.append(1e3 * (time.monotonic() - due))
        minute.statuses[str(status)] += 1
        if status == 200 and not known.right(json.loads(body)):
            minute.wrong += 1

    async def _answer(self, request: bytes) -> tuple[int, bytes]:
        while self._idle and time.monotonic() - self._idle[0][0] > FRESH:
            self._idle.popleft()[2].close()
        if self._idle:
            _, reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(HOST, self._port)
        whole = False
        try:
            writer.write(request)
            status, head = await head_of(reader)
            body = await reader.readexactly(length_of(head))
            whole = b"connection: close" not in head
            return status, body
        finally:
            if whole:
                self._idle.append((time.monotonic(), reader, writer))
            else:
                writer.close()


async def head_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    return int(head.split(None, 2)[1]), head


def length_of(head: bytes) -> int:
    match = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
    return int(match[1]) if match else 0


# ---- Hostile clients ----


class Attack:
    """One hostile client: a connection from another address, and what became of it."""

    def __init__(self, port: int, rng: np.random.Generator, payloads: dict[str, bytes]) -> None:
        self.port = port
        self.rng = rng
        self.payloads = payloads

    @contextmanager
    def _closing(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        try:
            yield
        finally:
            writer.close()

    async def connect(
        self, receive_buffer: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        made = socket.socket()
        made.setblocking(False)
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.bind((HOSTILE_HOST, 0))
        try:
            await asyncio.get_running_loop().sock_connect(made, (HOST, self.port))
        except BaseException:
            made.close()
            raise
        return await asyncio.open_connection(sock=made, limit=1 << 12)

    async def sent(self, *parts: bytes, pause: float = 0.0, end: bool = False) -> str:
        """Send the parts, and say how it was answered."""
        reader, writer = await self.connect()
        with self._closing(writer):
            answer = asyncio.ensure_future(head_of(reader))
            with suppress(OSError):  # it has heard enough, and may have said so
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    if pause:
                        await asyncio.wait([answer], timeout=pause)
                    if answer.done():
                        break
                if end:
                    writer.write_eof()
            return str((await answer)[0])

    # Each of the following is a kind of client.

    async def slow_head(self) -> str:
        head = message(INFER, b"")
        return await self.sent(*(head[i : i + 1] for i in range(len(head))), pause=0.5)

    async def slow_body(self) -> str:
        request = message(INFER, bytes(10_000))
        start = request.index(b"\r\n\r\n") + 4
        drops = (request[i : i + 1] for i in range(start, start + 100))
        return await self.sent(request[:start], *drops, pause=0.5)

    async def slow_reader(self) -> str:
        """Asks for a long answer, and takes it a few bytes a second."""
        reader, writer = await self.connect(receive_buffer=2048)
        with self._closing(writer):
            writer.write(self.payloads["long answer"] * 4)
            for _ in range(60):
                if not await reader.read(16):
                    return "closed"
                await asyncio.sleep(1)
        return "open after a minute"

    async def half_closed(self) -> str:
        request = tensors(np.zeros((1, 28, 28), np.uint8))
        return await self.sent(request[: int(self.rng.integers(1, len(request)))], end=True)

    async def leaves(self) -> str:
        """Goes away in the middle of its request or behind it, by FIN or RST."""
        request = tensors(np.zeros((1, 28, 28), np.uint8))
        _, writer = await self.connect()
        with self._closing(writer):
            writer.write(request[: int(self.rng.integers(0, len(request) + 1))])
            if self.rng.integers(2):
                opened = writer.get_extra_info("socket")
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "left"

    async def oversized(self) -> str:
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n"
        if self.rng.integers(2):
            return await self.sent(f"{head}Content-Length: 99999999\r\n\r\n".encode())
        chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        return await self.sent(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), *[chunk] * 18)

    async def smuggled(self) -> str:
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n"
        hidden = "GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"
        forms = (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "Content-Length: +5\r\n\r\n",
            "Content-Length : 5\r\n\r\n",
            "Content-Length: 5\r\nHost: y\r\n\r\n",
            "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        )
        return await self.sent((head + forms[self.rng.integers(len(forms))] + hidden).encode())

    async def garbage(self) -> str:
        return await self.sent(self.rng.bytes(int(self.rng.integers(20, 2000))) + b"\r\n\r\n")

    async def long_headers(self) -> str:
        return await self.sent(message("/v2", b"", "X: " + "y" * 200_000))

    async def flood(self) -> str:
        """Two hundred connections that say nothing for five seconds."""
        found = await asyncio.gather(*(self.connect() for _ in range(200)), return_exceptions=True)
        await asyncio.sleep(5)
        opened = [pair for pair in found if not isinstance(pair, BaseException)]
        for _, writer in opened:
            writer.close()
        return "opened" if len(opened) == len(found) else "refused in part"

    async def bomb(self) -> str:
        """What takes much to unpack, to parse, to decode or to match."""
        name = BOMBS[self.rng.integers(len(BOMBS))]
        return f"{name}: {await self.sent(self.payloads[name])}"


BOMBS = (
    "gzip",
    "gzipped picture",
    "PNG of 16 bit",
    "JPEG of scans",
    "JSON of lists",
    "JSON of strings",
    "gzipped JSON",
    "pattern",
)

#: Kinds of hostile clients, and how often one comes.
HOSTILE: dict[Callable[[Attack], Awaitable[str]], int] = {
    Attack.slow_head: 6,
    Attack.slow_body: 6,
    Attack.slow_reader: 4,
    Attack.half_closed: 10,
    Attack.leaves: 20,
    Attack.oversized: 6,
    Attack.smuggled: 20,
    Attack.garbage: 10,
    Attack.long_headers: 6,
    Attack.flood: 2,
    Attack.bomb: 4,
}


def payloads() -> dict[str, bytes]:
    """What is too long to be made each time."""
    packed = "Content-Encoding: gzip"
    strings = ["a" * 1_000_000, *[""] * 783]
    bomb = {"name": "input", "shape": [1, 28, 28], "datatype": "FP32", "data": strings}
    lists = b'{"inputs":[' + b"[]," * 3_000_000 + b"[]]}"
    page = np.full((60, 200), 255, np.uint8)
    page[16:44, 20:24] = 0
    return {
        "long answer": tensors(np.zeros((2000, 28, 28), np.uint8)),
        "gzip": message(INFER, gzip.compress(bytes(100 << 20)), packed),
        "gzipped picture": message("/predict", gzip.compress(bytes(100 << 20)), packed),
        "PNG of 16 bit": message("/predict", png(np.zeros((4000, 4000), np.uint16))),
        "JPEG of scans": message("/predict", many_scans(4000, 64)),
        "JSON of lists": message(INFER, lists),
        "JSON of strings": message(INFER, json.dumps({"inputs": [bomb]}).encode()),
        "gzipped JSON": message(INFER, gzip.compress(lists), packed),
        "pattern": message("/read?pattern=(%5Cd*)*%5Cd*(%5Cd*%5Cd*)*x%3F1", png(page)),
    }


async def attack(port: int, rate: float, seconds: float, seed: int) -> dict[str, dict[str, int]]:
    rng = np.random.default_rng(seed)
    prepared = payloads()
    kinds, weights = list(HOSTILE), np.array(list(HOSTILE.values()), float)
    outcomes: dict[str, Counter[str]] = {kind.__name__: Counter() for kind in kinds}

    async def one(kind: Callable[[Attack], Awaitable[str]]) -> None:
        client = Attack(port, np.random.default_rng(rng.integers(1 << 63)), prepared)
        try:
            async with asyncio.timeout(120):
                outcome = await kind(client)
        except asyncio.IncompleteReadError as error:
            outcome = "closed in an answer" if error.partial else "closed"
        except (OSError, TimeoutError) as error:
            outcome = type(error).__name__
        outcomes[kind.__name__][outcome] += 1

    end = time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        while time.monotonic() < end:
            kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
            tasks.create_task(one(kind))
            await asyncio.sleep(rng.exponential(1 / rate))
    return {name: dict(counts) for name, counts in outcomes.items()}


# ---- The server, from outside ----


class Watched:
    """A server, and what it and its children hold."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def holds(self) -> dict[str, int]:
        mine = self.process.pid
        cage = []
        for task in Path(f"/proc/{mine}/task").iterdir():
            cage += map(int, (task / "children").read_text().split())
        return {
            "server_bytes": resident(mine),
            "cage_bytes": sum(map(resident, cage)),
            "descriptors": len(os.listdir(f"/proc/{mine}/fd")),
            "threads": len(os.listdir(f"/proc/{mine}/task")),
            "children": len(cage),
        }


def resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0
    match = re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)
    return 1024 * int(match[1]) if match else 0


@contextmanager
def running(options: list[str], log: Path) -> Iterator[Watched]:
    command = [sys.executable, "-m", "fastdigit.cli", "serve", "--port", "0", *options]
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file, text=True)
    try:
        deadline = time.monotonic() + 60
        while "startup complete" not in (said := log.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {said}")
            time.sleep(0.05)
        match = re.search(r"serves http://[^:]+:(\d+)/", said)
        assert match
        yield Watched(process, int(match[1]))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# ---- The run ----

#: Share of each kind in the requests of the healthy.
SHARES = {"tensors": 0.85, "json": 0.1, "pictures": 0.03, "readings": 0.02}


async def soak(
    server: Watched, requests: dict[str, list[Known]], rate: float, minutes: int
) -> list[dict[str, Any]]:
    """A row a minute."""
    clients = {
        kind: Healthy(server.port, rate * share, requests[kind], seed)
        for seed, (kind, share) in enumerate(SHARES.items())
    }
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    async with asyncio.TaskGroup() as tasks:
        for client in clients.values():
            tasks.create_task(client.run(began + 60 * minutes))
        for minute in range(1, minutes + 1):
            await asyncio.sleep(began + 60 * minute - time.monotonic())
            row: dict[str, Any] = {"minute": minute, **server.holds()}
            row["load_average"] = os.getloadavg()[0]
            for kind, client in clients.items():
                seen, client.minute = client.minute, Minute()
                row[kind] = seen.summary()
            rows.append(row)
            print_row(row)
    return rows


def print_row(row: dict[str, Any]) -> None:
    cells = [f"{row['minute']:6}"]
    for kind in SHARES:
        seen = row[kind]
        lost = seen["answers"] - seen["statuses"].get("200", 0)
        lost += sum(n for name, n in seen["statuses"].items() if not name.isdigit())
        cells.append(f"{seen['answers']:6} {seen['p50']:7.1f} {seen['p99']:8.1f} {lost:3}")
    cells.append(f"{row['server_bytes'] / 1e6:7.1f} {row['cage_bytes'] / 1e6:7.1f}")
    cells.append(f"{row['descriptors']:5} {row['threads']:4} {row['load_average']:5.1f}")
    print(" | ".join(cells), flush=True)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in SHARES:
        statuses: Counter[str] = Counter()
        for row in rows:
            statuses.update(row[kind]["statuses"])
        found[kind] = {
            "statuses": dict(statuses),
            "wrong": sum(row[kind]["wrong"] for row in rows),
            "p50": float(np.nanmedian([row[kind]["p50"] for row in rows])),
            "p99_of_a_minute": [
                float(np.nanmedian([row[kind]["p99"] for row in rows])),
                float(np.nanmax([row[kind]["p99"] for row in rows])),
            ],
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rate", type=float, default=20.0, help="healthy requests/s")
    parser.add_argument(
        "--hostile-rate", type=float, default=3.0, help="hostile clients/s; 0: none"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and outcomes there")
    parser.add_argument("--log", type=Path, default=Path("soak.log"), help="the server's log")
    parser.add_argument("--attack", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("server", nargs="*", metavar="OPTION", help="of the server")
    options = parser.parse_args()
    if options.minutes < 1 or options.rate <= 0 or options.hostile_rate < 0:
        parser.error("--minutes and --rate are positive, --hostile-rate not negative")
    if options.attack:
        os.nice(5)
        seconds = 60.0 * options.minutes
        outcomes = asyncio.run(attack(options.attack, options.hostile_rate, seconds, 0))
        print(json.dumps(outcomes))
        return 0

    requests = known()
    widths = " | ".join(f"{kind + ':':>9} n   p50 ms      p99 not" for kind in SHARES)
    print(f"minute | {widths} | server MB, cage | descriptors, threads, load")
    with running(options.server, options.log) as server:
        hostile = None
        if options.hostile_rate:
            command = [sys.executable, __file__, "--attack", str(server.port)]
            command += ["--minutes", str(options.minutes)]
            command += ["--hostile-rate", str(options.hostile_rate)]
            hostile = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            rows = asyncio.run(soak(server, requests, options.rate, options.minutes))
            outcomes = json.loads(hostile.communicate(timeout=180)[0]) if hostile else {}
            after = server.holds()
        finally:
            if hostile and hostile.poll() is None:
                hostile.kill()
                hostile.wait()
    status = server.process.returncode
    result = {"summary": summary(rows), "hostile": outcomes, "after": after, "exit": status}
    print(json.dumps(result, indent=1))
    tracebacks = options.log.read_text().count("Traceback")
    print(f"the server ended with {status}; {tracebacks} tracebacks in {options.log}")
    if options.json:
        options.json.write_text(json.dumps({**result, "rows": rows}, indent=1) + "\n")
    wrong = sum(kind["wrong"] for kind in result["summary"].values())
    unanswered = any(
        set(result["summary"][kind]["statuses"]) - {"200"} for kind in ("tensors", "json")
    )
    return int(bool(wrong or unanswered or status or tracebacks))


if __name__ == "__main__":
    sys.exit(main())
