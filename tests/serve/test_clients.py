"""What one client may take: requests by time, connections by count, and nobody else pays for it."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.serve import Settings, clients, create_app
from fastdigit.serve.clients import Clients, client_of
from tests.support import need
from tests.support.serving import Server, serving

need("uvicorn", "httptools", "prometheus_client")
TestClient = need("starlette.testclient").TestClient

INFER = "/v2/models/digits/infer"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("unknown", "10.0.0.1", False),
        ("junk1", "junk2", True),
    ],
)
def test_who_is_one_client(one: str, other: str, same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same


@settings(deadline=None)
@given(
    st.sampled_from([0.5, 1.0, 4.0, 32.0]),
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2))),
)
def test_each_client_has_a_bucket_of_its_own(
    rate: float, burst: int, requests: list[tuple[int, int]]
) -> None:
    """Against buckets of tokens in fractions; times are multiples of an eighth of a second."""
    clock = Clock()
    limits = Clients(Settings(client_rate=rate, client_burst=burst), clock)
    tokens = [Fraction(burst)] * 3
    for eighths, client in requests:
        clock.now += eighths / 8
        grown = Fraction(eighths, 8) * Fraction(rate)
        tokens = [min(Fraction(burst), held + grown) for held in tokens]
        wait = limits.wait(f"10.0.0.{client}")
        if tokens[client] >= 1:
            assert wait == 0
            tokens[client] -= 1
        else:
            assert wait == pytest.approx(float((1 - tokens[client]) / Fraction(rate)))


def test_who_waits_as_told_is_answered() -> None:
    clock = Clock()
    limits = Clients(Settings(client_rate=3.0, client_burst=2), clock)
    for _ in range(1000):
        wait = limits.wait("a")
        if wait:
            clock.now += wait
            assert limits.wait("a") == 0


def test_clients_that_owe_nothing_are_forgotten_and_the_table_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "MAX_CLIENTS", 100)
    clock = Clock()
    limits = Clients(Settings(client_rate=1.0, client_burst=2), clock)
    for i in range(1000):
        assert limits.wait(f"2001:db8:{i:x}::1") == 0
    assert len(limits._empty_at) == 100
    clock.now += 10
    for i in range(60):
        assert limits.wait(f"10.0.0.{i}") == 0
    assert len(limits._empty_at) <= 60
    for i in range(60):
        assert limits.wait(f"10.0.0.{i}") == 0
        assert limits.wait(f"10.0.0.{i}") == 1


def test_connections_are_counted_by_client_and_forgotten() -> None:
    settings = Settings(max_client_connections=2, trusted_proxies=("10.1.0.0/16",))
    limits = Clients(settings)
    assert [limits.connect("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert limits.connect("10.0.0.2")
    assert all(limits.connect("10.1.2.3") for _ in range(5))
    assert limits.connect("unix:") is True  # no address
    for host, times in (("10.0.0.1", 3), ("10.0.0.2", 1), ("10.1.2.3", 5), ("unix:", 1)):
        for _ in range(times):
            limits.leave(host)
    assert not limits._connections


def refused(answer: Any) -> bool:
    if answer.status_code == 429:
        assert answer.json() == {"error": "this client asks too often: see Retry-After"}
        assert int(answer.headers["retry-after"]) >= 1
    return bool(answer.status_code == 429)


@pytest.fixture
def slow() -> Settings:
    return Settings(client_rate=0.001, client_burst=3, trusted_proxies=("10.9.0.0/16",))


def test_requests_beyond_the_rate_are_refused_and_counted(slow: Settings) -> None:
    app = create_app(slow)
    with TestClient(app, client=("10.0.0.1", 1)) as client:
        assert [refused(client.get("/v2")) for _ in range(4)] == [False] * 3 + [True]
        answer = client.post(INFER, content=b"{}")
        assert refused(answer) and int(answer.headers["retry-after"]) > 500
        assert client.get("/v2/health/live").status_code == 200
        other = TestClient(app, client=("10.0.0.2", 1))
        told = other.get("/metrics").text
        assert 'fastdigit_refused_total{reason="client_rate"} 2.0' in told
        assert 'fastdigit_request_failures_total{model="digits",status="429"} 1.0' in told


def test_only_trusted_proxies_are_believed(slow: Settings) -> None:
    app = create_app(slow)
    stranger, proxy = (TestClient(app, client=(host, 1)) for host in ("10.0.0.1", "10.9.0.1"))

    def asked(client: Any, told: str | None) -> bool:
        headers = {} if told is None else {"x-forwarded-for": told}
        return refused(client.get("/v2", headers=headers))

    # Whoever it says it is, it is itself.
    assert [asked(stranger, f"10.0.1.{i}") for i in range(4)] == [False] * 3 + [True]
    # Those behind a proxy each have their own; what they themselves say comes first, and is not
    # believed.
    for i in range(3):
        assert [asked(proxy, f"10.2.0.{j}, 10.3.0.{i}") for j in range(4)] == [False] * 3 + [True]
    assert [asked(proxy, "10.4.0.1, 10.9.0.7") for _ in range(4)] == [False] * 3 + [True]
    assert [asked(proxy, None) for _ in range(4)] == [False] * 3 + [True]


def test_without_a_rate_nobody_is_counted() -> None:
    app = create_app()
    with TestClient(app) as client:
        assert {client.get("/v2").status_code for _ in range(200)} == {200}
    assert not app.clients._empty_at


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client_rate": -1.0}, "client_rate is -1.0"),
        ({"client_rate": float("nan")}, "client_rate is nan"),
        ({"client_rate": float("inf")}, "client_rate is inf"),
        ({"client_burst": 0}, "client_burst is 0"),
        ({"max_client_connections": 0}, "max_client_connections is 0"),
        ({"trusted_proxies": ("10.0.0.1/8",)}, "trusted_proxies: 10.0.0.1/8 has host bits set"),
        ({"trusted_proxies": ("proxy",)}, "trusted_proxies: 'proxy' does not appear"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**options)


# ---- With real sockets ----


def ask(port: int, source: str, path: str = "/v2") -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=30, source_address=(source, 0)
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, body, headers
    finally:
        connection.close()


def opened(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))


def said(connection: socket.socket) -> tuple[int, dict[str, Any], bytes]:
    answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body), head.lower()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    options = ("--max-client-connections=4", "--client-rate=0.01", "--client-burst=5")
    with serving(*options, "--read-timeout=3") as running:
        yield running
        assert "Traceback" not in running.log


@pytest.mark.slow
def test_a_client_with_too_many_connections_is_told_and_others_are_answered(
    server: Server,
) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(opened(server.port, "127.0.0.2"))
        time.sleep(0.2)
        fifth = stack.enter_context(opened(server.port, "127.0.0.2"))
        status, error, head = said(fifth)
        assert (status, error) == (429, {"error": "this client has too many connections"})
        assert b"retry-after: 1" in head and b"connection: close" in head
        assert ask(server.port, "127.0.0.3")[0] == 200
    time.sleep(0.2)
    status, text, _ = ask(server.port, "127.0.0.2", "/metrics")
    assert status == 200
    assert b'fastdigit_refused_total{reason="client_connections"} 1.0' in text


@pytest.mark.slow
def test_a_client_that_asks_too_often_is_told_and_others_are_answered(server: Server) -> None:
    statuses = [ask(server.port, "127.0.0.4")[0] for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    status, body, headers = ask(server.port, "127.0.0.4")
    assert status == 429 and "too often" in json.loads(body)["error"]
    assert 60 < int(headers["retry-after"]) <= 100
    assert ask(server.port, "127.0.0.4", "/v2/health/ready")[0] == 200
    assert ask(server.port, "127.0.0.5")[0] == 200


@pytest.mark.slow
def test_clients_that_do_not_take_their_answer_are_let_go(server: Server) -> None:
    """What a closed connection has still to send is kept, for as long as somebody lets it be."""
    images = np.zeros((4000, 28, 28), np.uint8)
    tensor = {
        "name": "input",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "parameters": {"binary_data_size": images.nbytes},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    request = (
        f"POST {INFER} HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {len(head)}\r\n"
        f"Content-Length: {len(head) + images.nbytes}\r\n\r\n"
    ).encode()
    request += head + images.tobytes()

    def connections() -> int:
        with open(f"/proc/{server.process.pid}/net/tcp", encoding="ascii") as file:
            inodes = {line.split()[9] for line in file.readlines()[1:]}
        return sum(
            1
            for name in resource_links(server.process.pid)
            if name.removeprefix("socket:[").rstrip("]") in inodes
        )

    before = connections()
    with ExitStack() as stack:
        for _ in range(2):
            made = stack.enter_context(socket.socket())
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            made.bind(("127.0.0.6", 0))
            made.connect(("127.0.0.1", server.port))
            made.settimeout(20)
            made.sendall(request)
            assert made.recv(100).startswith(b"HTTP/1.1 200")
        assert connections() == before + 2
        deadline = time.monotonic() + 20  # 3 for the answer, and 5 that it may be used again
        while connections() > before:
            assert time.monotonic() < deadline, "they are still there"
            time.sleep(0.1)
    assert ask(server.port, "127.0.0.7")[0] == 200


def resource_links(pid: int) -> list[str]:
    """What the descriptors of a process are."""
    import os

    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


@pytest.mark.slow
def test_descriptors_that_the_system_does_not_give_are_not_promised() -> None:
    """Beyond the limit of the process, a connection would be an error of the server's own."""
    with serving(limits={resource.RLIMIT_NOFILE: (128, 128)}) as running:
        running.wait_for(r"WARNING fastdigit\.serve.*128 descriptors.*at most (\d+) connections")
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(opened(running.port, "127.0.0.2"))
            status, error, _ = said(stack.enter_context(opened(running.port, "127.0.0.3")))
            assert (status, error) == (503, {"error": "too many connections"})
        time.sleep(0.5)
        assert ask(running.port, "127.0.0.3")[0] == 200
        assert "Traceback" not in running.log


@pytest.mark.slow
def test_descriptors_that_the_system_gives_are_taken() -> None:
    with serving(limits={resource.RLIMIT_NOFILE: (128, 6000)}) as running:
        assert "descriptors" not in running.log
        with open(f"/proc/{running.process.pid}/limits", encoding="ascii") as file:
            (line,) = [line for line in file if line.startswith("Max open files")]
        assert int(line.split()[3]) > 4096
