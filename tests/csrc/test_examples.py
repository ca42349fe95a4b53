"""examples/c, built and run: right answers, bad input, and what valgrind and sanitizers see."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import fastdigit
from fastdigit import _core, datasets
from tests.support.c_build import NATIVE, ROOT, TIMEOUT, Toolchain, program, run
from tests.support.sanitizers import MEMORY, OPTIONS, THREADS, sanitizer

pytestmark = pytest.mark.slow

SEED = ROOT / "fastdigit/models/seed.fdm"
IMAGES, LABELS = datasets.load_mnist_test()
VALGRIND = (
    # Fair: a thread that computes would keep the others from the one CPU that valgrind has.
    *("valgrind", "--quiet", "--error-exitcode=99", "--fair-sched=yes"),
    *("--leak-check=full", "--show-leak-kinds=all", "--errors-for-leak-kinds=all"),
)


@dataclass(frozen=True)
class Way:
    """How a program is built and started, and the ISA it is given; "": what it chooses."""

    toolchain: Toolchain
    prefix: tuple[str, ...] = ()
    isa: str = ""
    images: int = 40

    @property
    def environment(self) -> dict[str, str]:
        return {**OPTIONS, **({"FASTDIGIT_ISA": self.isa} if self.isa else {})}

    def command(self, source: str) -> list[str]:
        return [*self.prefix, str(program(f"examples/c/{source}.c", self.toolchain))]


@pytest.fixture(params=["native", "valgrind", "memory", "threads"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    """Plain; under valgrind; with the address and undefined behaviour sanitizers; with TSan."""
    NATIVE.require()
    match request.param:
        case "native":
            return Way(NATIVE, images=1000)
        case "valgrind":
            NATIVE.require("valgrind")
            # Its fused multiply-adds are calls, a lane each.
            return Way(NATIVE, VALGRIND, "generic")
        case "memory":
            return Way(MEMORY, sanitizer(MEMORY, tmp_path))
        case _:
            return Way(THREADS, sanitizer(THREADS, tmp_path), "generic")


def expected(images: np.ndarray, isa: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What this process says of the images with an ISA."""
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    return fastdigit.load("seed").predict_proba(images)


# ---- classify ----


def test_classify(way: Way, tmp_path: Path) -> None:
    images = IMAGES[: way.images]
    many, one = tmp_path / "many.idx", tmp_path / "one.pgm"
    many.write_bytes(datasets.encode_idx(images))
    one.write_bytes(b"P5 # from a scanner\n28\n# and\n28 255\n" + images[3].tobytes())
    command = [*way.command("classify"), SEED, many, one, tmp_path / "none"]
    done = run(command, **way.environment)
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip() == f"{tmp_path}/none: No such file or directory"
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(many)] * len(images) + [str(one)]
    assert [int(row[1]) for row in rows] == [*range(len(images)), 0]
    want = fastdigit.load("seed").predict_proba(np.concatenate([images, images[3:4]]))
    assert [int(row[2]) for row in rows] == list(want.argmax(axis=1))
    np.testing.assert_allclose([float(row[3]) for row in rows], want.max(axis=1), atol=1.1e-5)


def test_classify_reads_standard_input() -> None:
    NATIVE.require()
    command = [str(program("examples/c/classify.c", NATIVE)), str(SEED)]
    done = subprocess.run(
        command, input=datasets.encode_idx(IMAGES[:3]), capture_output=True, timeout=TIMEOUT
    )
    labels = [int(line.split()[2]) for line in done.stdout.splitlines()]
    assert (done.returncode, labels) == (0, list(fastdigit.load("seed").predict(IMAGES[:3])))


BAD = {
    "nothing": (b"", "neither PGM, PPM nor IDX"),
    "words": (b"hello, world", "neither PGM, PPM nor IDX"),
    "another size": (b"P5 27 28 255\n" + bytes(756), "images of 28 x 27 pixels, expected 28 x 28"),
    "sixteen bits": (b"P5 28 28 65535\n" + bytes(2 * 784), "greatest value is not 255"),
    "a huge size": (b"P5 99999999999999999999 28 255\n", "gives no size"),
    "no size": (b"P5 #" + b"x" * 100, "gives no size"),
    "no white space": (b"P5 28 28 255", "greatest value is not 255"),
    "colours": (b"P6 28 28 255\n" + bytes(3 * 784), "number of channels"),
    "half an image": (b"P5 28 28 255\n" + bytes(783), "ends before its last image"),
    "idx labels": (struct.pack(">4BI", 0, 0, 8, 1, 5) + bytes(5), "neither PGM, PPM nor IDX"),
    "idx floats": (struct.pack(">4B3I", 0, 0, 13, 3, 1, 28, 28), "neither PGM, PPM nor IDX"),
    "half a header": (struct.pack(">4BI", 0, 0, 8, 3, 1), "ends in its header"),
    "idx of another size": (struct.pack(">4B3I", 0, 0, 8, 3, 1, 28, 2**31), "expected 28 x 28"),
    "more promised than there": (
        struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 28, 28) + bytes(784),
        "ends before its last image",
    ),
}


def test_classify_bad_files(tmp_path: Path) -> None:
    """Each says what is wrong with it, under the sanitizers; a good file after them still works."""
    prefix = sanitizer(MEMORY, tmp_path)
    files = []
    for i, (data, _) in enumerate(BAD.values()):
        files.append(tmp_path / f"{i}")
        files[-1].write_bytes(data)
    (tmp_path / "good").write_bytes(datasets.encode_idx(IMAGES[:1]))
    command = [*prefix, program("examples/c/classify.c", MEMORY), SEED, *files, tmp_path / "good"]
    done = run(command, **OPTIONS)
    assert done.returncode == 1
    errors = done.stderr.splitlines()
    assert len(errors) == len(BAD), done.stderr
    for (_, message), error, file in zip(BAD.values(), errors, files, strict=True):
        assert error.startswith(f"{file}: ") and message in error
    # The last file that promised more had one image.
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [
        str(files[-1]),
        str(tmp_path / "good"),
    ]


def test_classify_without_a_model(tmp_path: Path) -> None:
    NATIVE.require()
    classify = program("examples/c/classify.c", NATIVE)
    assert run([classify]).returncode == 2
    (tmp_path / "bad.fdm").write_bytes(SEED.read_bytes()[:1000])
    for path, message in (("none.fdm", "cannot open"), ("bad.fdm", "bytes")):
        done = run([classify, tmp_path / path])
        assert done.returncode == 2 and message in done.stderr


# ---- service ----


class Client:
    """One connection."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(str(path))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def receive(self, size: int) -> bytes:
        parts = []
        while size:
            part = self.socket.recv(size)
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def ask(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.socket.sendall(struct.pack("=I", len(images)) + images.tobytes())
        status, body = self.answer()
        assert status == 0, body
        n = len(images)
        assert len(body) == n * 4 * 11
        return np.frombuffer(body, np.int32, n), np.frombuffer(body[4 * n :], np.float32).reshape(
            n, 10
        )

    def answer(self) -> tuple[int, bytes]:
        status, size = struct.unpack("=II", self.receive(8))
        return status, self.receive(size)


@contextmanager
def service(
    command: list[str], path: Path, workers: int = 3, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process once it listens, and its ISA; it must end well when told to."""
    environment = {k: v for k, v in os.environ.items() if k != "FASTDIGIT_ISA"}
    process = subprocess.Popen(
        [*command, str(SEED), str(path), str(workers)],
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"listening at {path}"), process.communicate(timeout=TIMEOUT)[1]
        yield process, line.split()[-1]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, errors) == (0, "")
        assert not path.exists()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_service(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More clients than workers, all at once; every answer has the bits of the Python package."""
    path = tmp_path / "socket"
    with service(way.command("service"), path, **way.environment) as (_, isa):
        assert isa == way.isa or (not way.isa and isa in [name for name, ok in _core.isas() if ok])
        images = IMAGES[: way.images]
        want = expected(images, isa, monkeypatch)

        def talk(seed: int) -> None:
            rng = np.random.default_rng(seed)
            with Client(path) as client:
                for _ in range(6):
                    first, n = rng.integers(0, len(images)), rng.integers(1, 20)
                    part = slice(first, min(first + n, first + 256, len(images)))
                    labels, values = client.ask(images[part])
                    assert values.tobytes() == want[part].tobytes()
                    assert list(labels) == list(want[part].argmax(axis=1))

        with ThreadPoolExecutor(5) as pool:
            for done in [pool.submit(talk, seed) for seed in range(5)]:
                done.result()


def test_service_bad_requests(way: Way, tmp_path: Path) -> None:
    """None of them disturbs the next client."""
    path = tmp_path / "socket"
    with service(way.command("service"), path, 1, **way.environment):
        for n in (0, 257, 2**32 - 1):
            with Client(path) as client:
                client.socket.sendall(struct.pack("=I", n))
                status, message = client.answer()
                assert status == 1, "FD_ERR_ARGUMENT"
                assert message.decode() == f"a request of {n} images, expected 1 to 256"
                with pytest.raises((EOFError, ConnectionError)):
                    client.receive(1)
        for piece in (b"", b"\x01", struct.pack("=I", 2) + bytes(784)):
            with Client(path) as client:
                client.socket.sendall(piece)  # and leave
        with Client(path) as client:
            client.socket.sendall(struct.pack("=I", 256) + bytes(256 * 784))  # and not read
        with Client(path) as client:
            labels, _ = client.ask(IMAGES[:2])
            assert list(labels) == list(LABELS[:2])


def test_service_does_not_wait_for_the_silent(tmp_path: Path) -> None:
    """A client that says nothing, or half of a request, gives its worker back."""
    NATIVE.require()
    path = tmp_path / "socket"
    command = [str(program("examples/c/service.c", NATIVE))]
    with service(command, path, workers=2), Client(path) as silent, Client(path) as half:
        half.socket.sendall(b"\x01\x00")
        time.sleep(0.2)
        with Client(path) as client:
            assert list(client.ask(IMAGES[:1])[0]) == list(LABELS[:1])
        for waiting in (silent, half):
            with pytest.raises((EOFError, ConnectionError)):
                waiting.receive(1)


def test_service_answers_what_has_begun_before_it_ends(tmp_path: Path) -> None:
    NATIVE.require()
    path = tmp_path / "socket"
    command = [str(program("examples/c/service.c", NATIVE))]
    with service(command, path) as (process, _), Client(path) as client:
        client.socket.sendall(struct.pack("=I", 1) + IMAGES[0].tobytes()[:400])
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        threading.Timer(0.3, client.socket.sendall, [IMAGES[0].tobytes()[400:]]).start()
        status, body = client.answer()
        assert status == 0
        assert np.frombuffer(body, np.int32, 1)[0] == LABELS[0]


def test_service_and_its_socket(tmp_path: Path) -> None:
    """One that was left behind is replaced; one in use, or another file, is not."""
    NATIVE.require()
    path = tmp_path / "socket"
    command = [str(program("examples/c/service.c", NATIVE))]
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with service(command, path):
        assert path.stat().st_mode & 0o077 == 0
        second = run([*command, SEED, path])
        assert second.returncode == 1 and "Address already in use" in second.stderr
        with Client(path) as client:
            client.ask(IMAGES[:1])
    path.write_text("mine")
    assert run([*command, SEED, path]).returncode == 1
    assert path.read_text() == "mine"
    for arguments in ([], [SEED], [SEED, path, "0"], [SEED, path, "65"], [SEED, path, "2x"]):
        assert run([*command, *arguments]).returncode == 2
    assert run([*command, tmp_path / "none.fdm", path]).returncode == 2
