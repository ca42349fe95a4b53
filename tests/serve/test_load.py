"""The load generator of benchmarks/: it counts from when a request was due, and sees errors."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import ROOT, need

SCRIPT = ROOT / "benchmarks" / "serve_load.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve_load", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["serve_load"] = module
    spec.loader.exec_module(module)
    return module


def against(tool: ModuleType, answers: list[tuple[float, bytes]], rate: float, n: int) -> object:
    """Load a server that gives these answers after these seconds, one by one, then the last."""
    count = 0

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while await reader.read(100):
            delay, body = answers[min(count, len(answers) - 1)]
            count += 1
            await asyncio.sleep(delay)
            status = b"500" if body == b"broken" else b"200"
            writer.write(
                b"HTTP/1.1 %s X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
            )
        writer.close()

    async def main() -> object:
        server = await asyncio.start_server(client, "127.0.0.1", 0)
        load = tool.Load([(b"GET / HTTP/1.1\r\n\r\n", b"right")], rate, n / rate, 1)
        await load.run(server.sockets[0].getsockname()[1])
        server.close()
        return load.result("test")

    return asyncio.run(main())


def test_a_stall_is_the_fault_of_all_it_delayed(tool: ModuleType) -> None:
    result = against(tool, [(0.5, b"right"), (0.0, b"right")], 200, 200)
    # A closed loop would have seen one slow request of 200.
    assert (result.errors, result.wrong) == (0, 0)  # type: ignore[attr-defined]
    assert result.p50 > 1 and result.p99 > 300, result  # type: ignore[attr-defined]


def test_errors_and_wrong_answers_are_counted(tool: ModuleType) -> None:
    answers = [(0.0, body) for body in (b"right", b"broken", b"wrong", b"wrong", b"right")]
    result = against(tool, answers, 500, 100)
    assert (result.errors, result.wrong) == (1, 2)  # type: ignore[attr-defined]
    assert not result.good(1e9)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [["--rate", "50"], ["--soak", "2"]])
def test_the_tool_runs(mode: list[str], tmp_path: Path) -> None:
    need("starlette", "uvicorn", "httptools", "prometheus_client", "onnxruntime")
    out = tmp_path / "out.json"
    command = [sys.executable, str(SCRIPT), *mode, "--seconds", "1", "--workers", "2"]
    done = subprocess.run([*command, "--json", str(out)], timeout=120, capture_output=True)
    assert done.returncode == 0, done
    results = json.loads(out.read_text())["results"]
    assert [row["engine"] for row in results] == ["fastdigit", "onnxruntime", "nothing"]
    assert all(row["requests"] > 10 and not row["errors"] + row["wrong"] for row in results)
