"""`fastdigit serve` as it is used: real sockets, real clients, signals, workers."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from tests.support import need
from tests.support.serving import WAIT, Server, serving
from tests.support.written import written

need("starlette", "uvicorn", "httptools", "prometheus_client", "PIL")

pytestmark = pytest.mark.slow

DIGITS = load_mnist_test()[0]
INFER = "/v2/models/digits/infer"


def request_of(images: np.ndarray) -> tuple[bytes, dict[str, str]]:
    tensor = {
        "name": "input",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "parameters": {"binary_data_size": images.nbytes},
    }
    header = json.dumps({"inputs": [tensor]}).encode()
    return header + images.tobytes(), {"Inference-Header-Content-Length": str(len(header))}


def infer(connection: http.client.HTTPConnection, first: int, n: int = 1) -> tuple[int, bool]:
    """Status, and whether the answer is the right one."""
    body, headers = request_of(DIGITS[first : first + n])
    connection.request("POST", INFER, body, headers)
    response = connection.getresponse()
    content = json.loads(response.read())
    if response.status != 200:
        assert list(content) == ["error"]
        return response.status, False
    got = np.array(content["outputs"][0]["data"], np.float32).reshape(n, 10)
    return 200, got.tobytes() == fastdigit.predict_proba(DIGITS[first : first + n]).tobytes()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--read-timeout", "3") as running:  # 20 MB in less, on a busy machine
        yield running
        assert "Traceback" not in running.log


# ---- Real clients ----


def test_tritonclient(server: Server) -> None:
    triton = need("tritonclient.http")
    client = triton.InferenceServerClient(server.url.removeprefix("http://"), concurrency=4)
    try:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("digits") and client.is_model_ready("digits", "1")
        assert not client.is_model_ready("nothing")
        assert client.get_server_metadata()["name"] == "fastdigit"
        assert client.get_model_metadata("digits", "1")["inputs"][0]["name"] == "input"
        assert client.get_model_config("digits")["max_batch_size"] > 0
        floats = (DIGITS[:100, ..., None] / 255).astype(np.float32)
        for batch, datatype in ((floats, "FP32"), (DIGITS[:100], "UINT8")):
            want = fastdigit.predict_proba(batch)
            for binary in (True, False):
                sent = triton.InferInput("input", list(batch.shape), datatype)
                sent.set_data_from_numpy(batch, binary_data=binary)
                # Without a list of outputs it asks for all of them, in binary.
                wanted = [
                    None,
                    [
                        triton.InferRequestedOutput("label", binary_data=False),
                        triton.InferRequestedOutput("probabilities", binary_data=True),
                    ],
                ]
                for outputs in wanted:
                    answer = client.infer("digits", [sent], outputs=outputs, request_id="x")
                    assert answer.get_response()["id"] == "x"
                    assert answer.as_numpy("probabilities").tobytes() == want.tobytes()
                    np.testing.assert_array_equal(answer.as_numpy("label"), want.argmax(1))
        for algorithm in ("gzip", "deflate"):
            answer = client.infer("digits", [sent], request_compression_algorithm=algorithm)
            assert answer.as_numpy("probabilities").tobytes() == want.tobytes()
        started = [client.async_infer("digits", [sent]) for _ in range(8)]
        for pending in started:
            assert pending.get_result().as_numpy("probabilities").tobytes() == want.tobytes()
        with pytest.raises(triton.InferenceServerException, match="no model 'nothing'"):
            client.infer("nothing", [sent])
    finally:
        client.close()


def test_kserve_client(server: Server) -> None:
    kserve = need("kserve")
    import asyncio

    floats = (DIGITS[:5, ..., None] / 255).astype(np.float32)
    want = fastdigit.predict_proba(floats)

    async def main() -> None:
        config = kserve.inference_client.RESTConfig(protocol="v2")
        client = kserve.InferenceRESTClient(config)
        try:
            assert await client.is_server_live(server.url)
            assert await client.is_server_ready(server.url)
            assert await client.is_model_ready(server.url, "digits")
            for binary in (False, True):
                sent = kserve.InferInput("input", list(floats.shape), "FP32")
                sent.set_data_from_numpy(floats, binary_data=binary)
                request = kserve.InferRequest("digits", [sent], request_id="y")
                answer = await client.infer(server.url, request, model_name="digits")
                output = next(o for o in answer.outputs if o.name == "probabilities")
                assert answer.id == "y" and output.as_numpy().tobytes() == want.tobytes()
        finally:
            await client.close()

    asyncio.run(main())


# ---- Load ----


def answers(server: Server, seconds: float, clients: int, n: int = 1) -> list[tuple[int, bool]]:
    """What so many clients get in that time, each with a connection of its own."""
    stop = time.monotonic() + seconds

    def client(seed: int) -> list[tuple[int, bool]]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        rng = np.random.default_rng(seed)
        got = []
        while time.monotonic() < stop:
            got.append(infer(connection, int(rng.integers(0, 9000)), n))
        connection.close()
        return got

    with ThreadPoolExecutor(clients) as pool:
        return [answer for got in pool.map(client, range(clients)) for answer in got]


def test_readings_of_concurrent_clients(server: Server) -> None:
    """Each gets what is on its page, and a digit beside them its label."""
    image = need("PIL.Image")
    texts = ["117", "20742 60614", "356\n98101", ""]

    def answer(path: str, pixels: np.ndarray) -> dict[str, Any]:
        file = io.BytesIO()
        image.fromarray(pixels).save(file, "PNG")
        with urlopen(Request(f"{server.url}{path}", file.getvalue()), timeout=WAIT) as response:
            found: dict[str, Any] = json.load(response)
        return found

    def ask(number: int) -> bool:
        if number % 5 == 4:
            return bool(answer("/predict", 255 - DIGITS[0].repeat(8, 0).repeat(8, 1))["label"] == 7)
        text = texts[number % 5]
        pixels = written(text) if text else np.full((80, 80), 255, np.uint8)
        return bool(answer("/read", pixels)["text"] == text)

    with ThreadPoolExecutor(5) as pool:
        assert all(pool.map(ask, range(20)))


def test_concurrent_clients_get_their_own_answers(server: Server) -> None:
    got = answers(server, 2, 16)
    assert len(got) > 100 and set(got) == {(200, True)}


def test_concurrent_clients_with_delay_and_small_batches() -> None:
    options = ("--max-batch-size", "3", "--max-queue-delay-microseconds", "2000")
    with serving(*options) as server:
        assert set(answers(server, 1, 8, n=2)) == {(200, True)}


def test_a_full_queue_refuses_and_recovers() -> None:
    with serving("--max-queue-size", "4", "--max-queue-delay-microseconds", "50000") as server:
        got = answers(server, 1, 16, n=2)
        assert {(200, True), (429, False)} == set(got)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        assert infer(connection, 5) == (200, True)


# ---- Signals and workers ----


def drained(server: Server, clients: int, delay: float) -> list[str]:
    """SIGTERM under load; what went wrong with requests that the server had accepted."""
    wrong: list[str] = []
    done = threading.Event()
    counts = [0] * clients

    def client(index: int) -> None:
        while not done.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            try:
                connection.connect()
            except OSError:
                return  # it does not listen any more
            try:
                # One request a connection: that an idle one is closed is no failure.
                status = infer(connection, index)
            except OSError as error:
                if not server_is_closing.is_set():
                    wrong.append(repr(error))
                return
            finally:
                connection.close()
            counts[index] += 1
            if status != (200, True):
                wrong.append(str(status))

    server_is_closing = threading.Event()
    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    server.process.send_signal(signal.SIGTERM)
    if delay:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        deadline = time.monotonic() + delay / 2
        while True:
            connection.request("GET", "/v2/health/ready")
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status == 503:
                assert answer["ready"] is False
                break
            assert time.monotonic() < deadline, "it still says that it is ready"
            time.sleep(0.02)
        time.sleep(delay / 4)
        assert server.process.poll() is None
        connection.close()
        done.set()
    # A connection that the kernel has accepted and the server not yet is reset when it closes.
    server_is_closing.set()
    for thread in threads:
        thread.join()
    assert min(counts) > 0
    assert server.process.wait(60) == 0
    return wrong


def test_workers_end_with_a_supervisor_that_was_killed() -> None:
    """Or they would keep the port, and answer with models and tokens of before."""
    with serving("--workers", "2") as server:
        port = server.port
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except ConnectionRefusedError:
                break
            assert time.monotonic() < deadline, "workers still listen"
            time.sleep(0.1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_says_not_ready_then_drains_and_exits(workers: str) -> None:
    with serving("--drain-delay", "4", "--workers", workers) as server:
        assert drained(server, 4, 4.0) == []
        assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_answers_requests_in_progress(workers: str) -> None:
    """A request whose body is still coming when SIGTERM comes gets its answer."""
    with serving("--workers", workers) as server:
        body, headers = request_of(DIGITS[:1])
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
            lines = [f"POST {INFER} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            slow.sendall("\r\n".join([*lines, "", ""]).encode() + body[:50])
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Shutting down", int(workers))
            slow.sendall(body[50:])
            answer = b"".join(iter(lambda: slow.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer
        assert server.process.wait(60) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_loses_no_request_of_a_connection_in_use(workers: str) -> None:
    """Clients that keep connections and honour "Connection: close" are told before the end."""
    with serving("--workers", workers) as server:
        clients = 8
        lost, told = [0] * clients, [0] * clients

        def client(index: int) -> None:
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
                try:
                    connection.connect()
                    body, headers = request_of(DIGITS[index : index + 1])
                    connection.request("POST", INFER, body, headers)
                    response = connection.getresponse()
                except OSError:
                    return  # no one has accepted this connection: that happens
                try:
                    while response.headers.get("connection") != "close":
                        assert response.read()
                        time.sleep(0.002)
                        connection.request("POST", INFER, body, headers)
                        response = connection.getresponse()
                    told[index] += 1
                except (OSError, http.client.HTTPException):
                    lost[index] += 1
                finally:
                    connection.close()

        threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert server.process.wait(60) == 0
        assert sum(lost) == 0 and min(told) >= 1, (lost, told)


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in os.listdir(f"/proc/{pid}/task")
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    ]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux' /proc")
def test_workers_share_the_load_the_metrics_and_are_replaced() -> None:
    prometheus = need("prometheus_client.parser")
    with serving("--workers", "2") as server:
        pids = {int(pid) for pid in server.wait_for(r"Started server process \[(\d+)\]", 2)}
        assert len(pids) == 2 and pids <= set(children(server.process.pid))
        got = answers(server, 1, 16)
        assert set(got) == {(200, True)}
        used = {pid: Path(f"/proc/{pid}/stat").read_text().split()[13] for pid in pids}
        assert all(int(ticks) > 0 for ticks in used.values())

        def total(name: str) -> float:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            return sum(
                sample.value
                for family in prometheus.text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == name
            )

        deadline = time.monotonic() + 10  # a request is counted when it has been answered
        while total("fastdigit_requests_total") < len(got):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # Whichever worker is asked, and also when one that counted is gone.
        for _ in range(5):
            assert total("fastdigit_requests_total") == len(got)
        os.kill(min(pids), signal.SIGKILL)
        server.wait_for("Application startup complete", 3)
        assert total("fastdigit_requests_total") == len(got)
        more = answers(server, 0.5, 8)
        assert set(more) == {(200, True)}
        deadline = time.monotonic() + 10
        while total("fastdigit_requests_total") < len(got) + len(more):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert total("fastdigit_requests_total") == len(got) + len(more)
        # The other worker brings its gauge up to date once a second.
        until = time.monotonic() + 5
        while total("fastdigit_queue_depth") and time.monotonic() < until:
            time.sleep(0.1)
        assert total("fastdigit_queue_depth") == 0
        started = server.wait_for(r"Started server process \[(\d+)\]", 3)
        assert server.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in started)


def test_what_cannot_be_served_is_said_and_exits(tmp_path: Path) -> None:
    import subprocess
    import sys

    damaged = tmp_path / "damaged.fdm"
    damaged.write_bytes(b"no model")
    for options, message in (
        (["--model", f"x={damaged}"], "not a .fdm file"),
        (["--model", f"x={damaged}", "--workers", "2"], "not a .fdm file"),
        (["--model", f"x={tmp_path / 'nothing'}"], "nothing"),
        (["--model", "x"], "NAME=PATH"),
        (["--model", "a/b=c"], "cannot be named"),
        (["--max-batch-size", "0"], "max_batch_size is 0"),
        (["--host", "203.0.113.1"], "assign"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "fastdigit.cli", "serve", "--port", "0", *options],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2, done
        assert message in done.stderr and "Traceback" not in done.stderr


def test_token_from_file_and_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame\n")
    for options, environment in (
        (("--token-file", str(tmp_path / "token")), {}),
        ((), {"FASTDIGIT_TOKEN": "sesame"}),
    ):
        with serving(*options, **environment) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            for headers, status in (({}, 401), ({"Authorization": "Bearer sesame"}, 200)):
                connection.request("GET", "/v2", headers=headers)
                response = connection.getresponse()
                response.read()
                assert response.status == status
            assert "sesame" not in server.log


# ---- Hostile and broken clients ----


def exchanged(server: Server, *parts: bytes, pause: float = 0.0) -> bytes:
    """Everything the server answers to these bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
    return answer


def error_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower(), answer
    assert head.lower().count(b"x-content-type-options: nosniff") == 1, answer
    return int(head.split()[1]), json.loads(body)["error"]


START = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n".encode()


CHUNK = b"400000\r\n" + bytes(0x400000) + b"\r\n"


@pytest.mark.parametrize(
    ("parts", "status", "message"),
    [
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20], 400, "not HTTP"),
        ([b"GARBAGE\r\n\r\n"], 400, "not HTTP"),
        ([START + b"Content-Length: abc\r\n\r\n"], 400, "not HTTP"),
        ([START + b"Content-Length: -1\r\n\r\n"], 400, "not HTTP"),
        ([START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"], 400, "not HTTP"),
        (
            [START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
            400,
            "not HTTP",
        ),
        ([START + b"X: " + b"y" * 200_000 + b"\r\n\r\n"], 431, "headers have more"),
        ([START + b"X: " + b"y" * 66_000 + b"\r\n\r\n"], 431, "headers have more"),
        ([START + b"Content-Length: 99999999999\r\n\r\n"], 413, "more than"),
        ([START + b"Content-Length: 9999999999999999999999\r\n\r\n"], 400, "not HTTP"),
        # Less than it says: the rest never comes.
        ([START + b"Content-Length: 100\r\n\r\n{}"], 408, "body took too long"),
        ([START + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"], 400, "not HTTP"),
        ([START + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"], 408, "body took too long"),
        ([START.replace(b"Host: x\r\n", b"") + b"\r\n"], 400, "0 Host headers"),
        ([START + b"Host: y\r\n\r\n"], 400, "2 Host headers"),
        ([START.replace(b"Host", b"Toast") + b"Content-Length: 2\r\n\r\n{}"], 400, "0 Host"),
        ([START], 408, "headers took too long"),
        ([b""], 408, "headers took too long"),
        (
            [START + b"Transfer-Encoding: chunked\r\n\r\n", *[CHUNK] * 5],
            413,
            "more than",
        ),
    ],
    ids=range(19),
)
def test_broken_requests(server: Server, parts: list[bytes], status: int, message: str) -> None:
    got, text = error_of(exchanged(server, *parts))
    assert (got, message in text) == (status, True), text


def test_clients_that_drip(server: Server) -> None:
    """A byte now and then keeps no connection beyond the timeout."""
    for start in (START, START + b"Content-Length: 100\r\n\r\n"):
        began = time.monotonic()
        drops = (b"X: y\r\n" if start == START else b" " for _ in range(100))
        got, _ = error_of(exchanged(server, start, *drops, pause=0.1))
        assert got == 408 and time.monotonic() - began < 15


INNER = b"GET /v2/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_upgrade_with_a_body_hides_no_request(
    server: Server, protocol: str, chunked: bool
) -> None:
    """The parser stops at such a header, and would take the body for the next request."""
    start = START + f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n".encode()
    length = f"Content-Length: {len(INNER)}\r\n\r\n".encode()
    head, body = start + length, INNER
    if chunked:
        head = start + b"Transfer-Encoding: chunked\r\n\r\n"
        body = f"{len(INNER):x}\r\n".encode() + INNER + b"\r\n0\r\n\r\n"
    for parts in ((head + body,), (head, body)):
        answer = exchanged(server, *parts, pause=0.2)
        status, message = error_of(answer)
        assert status == 400 and "Upgrade" in message
        assert answer.count(b"HTTP/1.1 ") == 1


def test_an_upgrade_without_a_body_is_answered_and_ends(server: Server) -> None:
    start = b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    for parts in ((start + INNER,), (start, INNER)):
        answer = exchanged(server, *parts, pause=0.2)
        assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "start",
    [
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
        b"POST /nope HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["length", "chunked", "empty lines"],
)
def test_clients_that_drip_after_the_answer(server: Server, start: bytes) -> None:
    drop = b"1\r\nx\r\n" if b"chunked" in start else b"\r\n"
    began = time.monotonic()
    exchanged(server, start, *(drop for _ in range(150)), pause=0.1)
    assert time.monotonic() - began < 15


def test_more_than_it_says_is_the_next_request(server: Server) -> None:
    parts = START + b"Content-Length: 2\r\n\r\n{}", b"GARBAGE\r\n\r\n"
    # At once: the request is answered, and nothing else is.
    status, text = error_of(exchanged(server, b"".join(parts)))
    assert status == 400 and "inputs are to be" in text
    # Later: two answers.
    first, second = exchanged(server, *parts, pause=0.3).split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"400") and b"inputs are to be" in first
    assert second.startswith(b"400") and b"not HTTP" in second


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    parts = []
    for i in range(5):
        body, headers = request_of(DIGITS[i : i + 1])
        close = "Connection: close\r\n" if i == 4 else ""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        length = f"Content-Length: {len(body)}\r\n{close}\r\n"
        parts.append(START + (lines + length).encode() + body)
    responses = exchanged(server, b"".join(parts)).split(b"HTTP/1.1 ")[1:]
    labels = [json.loads(r.partition(b"\r\n\r\n")[2])["outputs"][1]["data"][0] for r in responses]
    assert labels == fastdigit.predict(DIGITS[:5]).tolist()


def test_clients_that_leave(server: Server) -> None:
    body, headers = request_of(DIGITS[:1])
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    whole = START + (lines + f"Content-Length: {len(body)}\r\n\r\n").encode() + body
    for end in (10, len(START), len(whole) - 5, len(whole)):
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                connection.sendall(whole[:end])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    assert infer(connection, 3) == (200, True)


def test_clients_that_have_no_more_to_say_get_their_answer(server: Server) -> None:
    """Netcat and old HTTP/1.0 clients close their side after the request."""
    body, headers = request_of(DIGITS[:1])
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    whole = START + (lines + f"Content-Length: {len(body)}\r\n\r\n").encode() + body
    old = whole.replace(b"HTTP/1.1\r\nHost: x", b"HTTP/1.0")
    for sent, status in ((whole, b"200"), (old, b"200"), (whole[:-5], None)):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.split()[1:2] == ([] if status is None else [status]), answer


def test_a_page_of_another_site_does_not_reach_a_server_by_its_name(server: Server) -> None:
    """DNS rebinding: browsers tell the name by which they ask, and pages can't change it."""
    for origin in ("Origin: http://x\r\n", "Sec-Fetch-Site: same-origin\r\n"):
        for host, status in (
            ("evil.example", 421),
            ("evil.example:80", 421),
            ("", 421),
            ("localhost", 200),
            ("LOCALHOST:8000", 200),
            ("127.0.0.1:1", 200),
            ("[::1]:1", 200),
        ):
            request = f"GET /v2 HTTP/1.1\r\nHost: {host}\r\n{origin}Connection: close\r\n\r\n"
            assert exchanged(server, request.encode()).split()[1] == b"%d" % status, host
    with serving("--allowed-host", "digits.example") as named:
        for host, status in (("digits.example", 200), ("evil.example", 421), ("10.0.0.1", 200)):
            headers = f"Host: {host}\r\nOrigin: http://x\r\nConnection: close\r\n\r\n"
            answer = exchanged(named, f"GET /v2 HTTP/1.1\r\n{headers}".encode())
            assert answer.split()[1] == b"%d" % status


def test_answers_are_what_they_say(server: Server) -> None:
    for path in ("/", "/v2", "/nothing", INFER):
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = exchanged(server, head.encode()).partition(b"\r\n\r\n")[0].lower()
        assert answer.count(b"x-content-type-options: nosniff") == 1, answer


def test_the_log_tells_when_what_and_why() -> None:
    with serving("--access-log", "--log-level", "debug") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        assert infer(connection, 3) == (200, True)
        connection.request("POST", INFER, b'{"inputs": []}')
        assert connection.getresponse().read()
        connection.request("GET", "/a%0ab")
        assert connection.getresponse().read()
        time_of_day = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
        line = time_of_day + r"INFO fastdigit\.access\[\d+\]: 127\.0\.0\.1 "
        server.wait_for(line + rf"POST '{INFER}' 200 \d+ bytes [\d.]+ ms\n")
        server.wait_for(line + rf"POST '{INFER}' 400 \d+ bytes")
        server.wait_for(line + r"GET '/a\\nb' 404 ")
        server.wait_for(time_of_day + r"DEBUG fastdigit\.serve\[\d+\]: .*400, inputs are to be")


def test_too_many_connections() -> None:
    with serving("--max-connections", "5") as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(5)]
        time.sleep(0.2)
        assert error_of(exchanged(server)) == (503, "too many connections")
        for connection in idle:
            connection.close()
        time.sleep(0.2)
        assert infer(http.client.HTTPConnection("127.0.0.1", server.port), 3) == (200, True)


def test_unread_bodies_are_bounded_together() -> None:
    with serving("--max-buffered-bytes", "3000000", "--read-timeout", "5") as server:
        slow = []
        for _ in range(3):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            connection.sendall(START + b"Content-Length: 2000000\r\n\r\n" + bytes(950_000))
            slow.append(connection)
        time.sleep(0.5)
        refused = exchanged(server, START + b"Content-Length: 2000000\r\n\r\n" + bytes(950_000))
        assert error_of(refused) == (503, "too many requests in progress")
        for connection in slow:
            connection.close()
        time.sleep(0.2)
        assert infer(http.client.HTTPConnection("127.0.0.1", server.port), 3) == (200, True)


def test_idle_servers_stay_idle(server: Server) -> None:
    """No thread or timer spins while nothing happens."""
    stat = Path(f"/proc/{server.process.pid}/stat")
    if not stat.exists():
        pytest.skip("needs Linux' /proc")

    def ticks() -> int:
        return sum(int(field) for field in stat.read_text().split()[13:15])

    before = ticks()
    time.sleep(2)
    assert ticks() - before <= 0.1 * 2 * os.sysconf("SC_CLK_TCK")
