"""A real server for tests: `fastdigit serve` in a process of its own."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WAIT = 60


class Server:
    """A running server, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, pattern: str, times: int = 1) -> list[str]:
        """What a regular expression finds in the log, once it is there so many times."""

        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            found = re.findall(pattern, self.log)
            if len(found) >= times:
                return found
            assert self.process.poll() is None, f"the server died: {self.log}"
            time.sleep(0.02)
        raise AssertionError(f"the server never said {pattern!r}: {self.log}")

    @property
    def url(self) -> str:
        return self.wait_for(r"serves (http://\S+)/")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT)


def wait_until_it_listens(server: Server) -> None:
    deadline = time.monotonic() + WAIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=WAIT).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise AssertionError(f"the server does not listen: {server.log}") from None
            time.sleep(0.02)


@contextmanager
def serving(
    *options: str, limits: Mapping[int, tuple[int, int]] | None = None, **environment: str
) -> Iterator[Server]:
    """Run `fastdigit serve` on a free port, under limits of :mod:`resource`; it listens when this
    yields."""

    def limit() -> None:
        for kind, values in (limits or {}).items():
            resource.setrlimit(kind, values)

    workers = int(options[options.index("--workers") + 1]) if "--workers" in options else 1
    with tempfile.TemporaryDirectory() as made:
        log = Path(made) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "fastdigit.cli", "serve", "--port", "0", *options],
                stderr=file,
                stdout=file,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=limit,
            )
        server = Server(process, log)
        try:
            server.wait_for("Application startup complete", workers)
            wait_until_it_listens(server)  # which comes after that line
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(WAIT)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    raise AssertionError(f"the server did not stop: {server.log}") from None
