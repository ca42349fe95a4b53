"""What the machine refuses a server, and clients that go away: each ends in a stated error, and
the server goes on."""

from __future__ import annotations

import ast
import errno
import http.client
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.serve import Settings, cage, create_app
from tests.support import need
from tests.support.serving import WAIT, serving

need("uvicorn", "httptools", "prometheus_client")
Image = need("PIL.Image")
TestClient = need("starlette.testclient").TestClient

DIGITS = load_mnist_test()[0]
INFER = "/v2/models/digits/infer"
UNAVAILABLE = "pictures and long JSON can't be read now: try again later"


def picture(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


SEVEN = picture(DIGITS[0])


@pytest.fixture
def client() -> Iterator[Any]:
    with TestClient(create_app(), raise_server_exceptions=False) as client:
        yield client


def right(client: Any) -> bool:
    return bool(client.post("/predict", content=SEVEN).json()["label"] == 7)


# ---- Processes ----


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EAGAIN, errno.EMFILE])
def test_no_process_can_be_started(
    client: Any, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(cage.subprocess, "Popen", refuse)
        for path in ("/predict", "/read"):
            answer = client.post(path, content=SEVEN)
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
            assert answer.json() == {"error": UNAVAILABLE}
        assert os.strerror(code) in caplog.text and "Traceback" not in caplog.text
        # Tensors need none.
        body = json.dumps(
            {
                "inputs": [
                    {
                        "name": "input",
                        "shape": [1, 784],
                        "datatype": "UINT8",
                        "data": DIGITS[0].ravel().tolist(),
                    }
                ]
            }
        )
        assert client.post(INFER, content=body).json()["outputs"][1]["data"] == [7]
    assert right(client)


def test_a_process_that_ends_before_it_begins(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(cage.sys, "executable", "/bin/false")
        answer = client.post("/predict", content=SEVEN)
        assert answer.status_code == 503 and answer.json() == {"error": UNAVAILABLE}
    assert right(client)
    assert not client.app._cage._busy


def test_no_thread_can_be_started(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(cage.threading.Timer, "start", refuse)
        answer = client.post("/predict", content=SEVEN)
        assert answer.status_code == 503 and answer.json() == {"error": UNAVAILABLE}
    assert right(client)
    assert not client.app._cage._busy


def test_a_process_is_killed_at_work(client: Any) -> None:
    assert right(client)
    (process,) = client.app._cage._idle
    slow = picture(np.zeros((4000, 4000), np.uint16))
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(client.post("/predict", content=slow)))
    thread.start()
    while process not in client.app._cage._busy:
        time.sleep(0.001)
    os.kill(process._process.pid, signal.SIGKILL)
    thread.join()
    assert answers[0].status_code == 413
    assert "ends the process that reads it" in answers[0].json()["error"]
    assert right(client)


def test_who_waits_too_long_for_others_is_told() -> None:
    """Behind a picture that takes its time; the next one is read all the same."""
    settings = Settings(timeout=0.3, reading_timeout=60)
    with TestClient(create_app(settings)) as client:
        while client.post("/predict", content=SEVEN).status_code != 200:
            pass  # until there is a process
        slow = picture(np.zeros((4000, 4000), np.uint16))
        thread = threading.Thread(target=lambda: client.post("/predict", content=slow))
        thread.start()
        while not client.app._cage._busy:
            time.sleep(0.001)
        answer = client.post("/predict", content=SEVEN)
        thread.join()
        assert answer.status_code in (200, 504)  # a fast machine has read both
        if answer.status_code == 504:
            assert "0.3 seconds were not enough" in answer.json()["error"]
        assert right(client)


# ---- Clocks ----


def test_no_part_of_the_package_relies_on_the_time_of_day() -> None:
    """It may jump: durations and deadlines are of clocks that don't."""
    for path in sorted(Path(fastdigit.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                assert name not in ("time.time", "time.time_ns"), path
                if path.parts[-2] != "bench":  # whose report has a date
                    assert name not in ("datetime.now", "datetime.utcnow"), path


def test_a_clock_that_goes_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [2e9]

    def back() -> float:
        now[0] -= 3600
        return now[0]

    settings = Settings(client_rate=1000.0, max_queue_delay_microseconds=1000)
    monkeypatch.setattr(time, "time", back)
    with TestClient(create_app(settings)) as client:
        for _ in range(5):
            assert client.get("/v2").status_code == 200
            assert right(client)
        seconds = [
            float(line.rpartition(" ")[2])
            for line in client.get("/metrics").text.splitlines()
            if line.startswith("fastdigit_request_duration_seconds_sum")
        ]
        assert 0 < seconds[0] < 600


# ---- Disks ----


def test_damaged_files_of_other_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker may have been killed while it made one, or the disk was full."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with TestClient(create_app()) as client:
        for data in (b"", b"\xff" * 4096, struct.pack("<ii", 40, 0) + b"\x10\0\0\0{}"):
            (tmp_path / "counter_99999.db").write_bytes(data)
            answer = client.get("/metrics")
            if answer.status_code != 200:
                assert answer.status_code == 503 and "are damaged" in answer.json()["error"]
            assert client.get("/v2").status_code == 200
        (tmp_path / "counter_99999.db").unlink()
        assert client.get("/metrics").status_code == 200


def test_workers_need_room_to_count_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    import tempfile

    from fastdigit.serve import server

    def nowhere(**_: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkdtemp", nowhere)
        with (
            pytest.raises(OSError, match="set PROMETHEUS_MULTIPROC_DIR"),
            server._metrics_directory(2),
        ):
            raise AssertionError
    made = tmp_path / "made"
    made.mkdir()
    with monkeypatch.context() as patched:
        usage = shutil.disk_usage(made)
        patched.setattr(tempfile, "mkdtemp", lambda prefix: str(made))
        patched.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2_000_000))
        with (
            pytest.raises(OSError, match="2000000 bytes free; 2 workers"),
            server._metrics_directory(2),
        ):
            raise AssertionError
    assert not made.exists() and "PROMETHEUS_MULTIPROC_DIR" not in os.environ


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_log_that_cannot_be_written_and_no_home() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nowhere = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"}
    command = [sys.executable, "-m", "fastdigit.cli", "serve", f"--port={port}", "--access-log"]
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(command, stderr=full, stdout=full, env={**os.environ, **nowhere})
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        deadline = time.monotonic() + WAIT
        while True:
            try:
                connection.connect()
                break
            except ConnectionRefusedError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        for body, status in ((SEVEN, 200), (b"no picture", 400), (SEVEN, 200)):
            connection.request("POST", "/predict", body)
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == status
        assert answer["label"] == 7
    finally:
        process.terminate()
        assert process.wait(WAIT) == 0


# ---- Clients that go away ----


def whole_request(images: np.ndarray) -> bytes:
    tensor = {
        "name": "input",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "parameters": {"binary_data_size": images.nbytes},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    lines = [f"POST {INFER} HTTP/1.1", "Host: x", f"Inference-Header-Content-Length: {len(head)}"]
    lines += [f"Content-Length: {len(head) + images.nbytes}", "", ""]
    return "\r\n".join(lines).encode() + head + images.tobytes()


@pytest.mark.slow
def test_clients_gone_while_they_wait_and_while_they_are_answered() -> None:
    options = ("--max-queue-delay-microseconds=300000", "--max-batch-size=512")
    with serving(*options, "--log-level=debug") as server:
        one, many = whole_request(DIGITS[:1]), whole_request(np.repeat(DIGITS[:400], 10, 0))
        for sent in (one, many):
            for reset in (False, True):
                for _ in range(8 if sent is one else 3):
                    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
                    connection.sendall(sent)
                    if sent is many:
                        connection.recv(1)  # the answer has begun, and is larger than buffers are
                    if reset:
                        linger = struct.pack("ii", 1, 0)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    connection.close()
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as asked:
            asked.sendall(one.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))
            answer = b"".join(iter(lambda: asked.recv(65536), b""))
        outputs = json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"]
        got = np.array(outputs[0]["data"], np.float32)
        assert got.tobytes() == fastdigit.predict_proba(DIGITS[:1]).tobytes()
        deadline = time.monotonic() + 30
        while True:
            asking = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            asking.request("GET", "/metrics")
            told = asking.getresponse().read()
            asking.close()
            if b'fastdigit_queue_depth{model="digits"} 0.0' in told:
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "Traceback" not in server.log
