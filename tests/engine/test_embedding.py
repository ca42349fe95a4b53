"""fastdigit inside other programs: event loops, threads, processes, pre-forking servers."""

from __future__ import annotations

import ast
import asyncio
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from tests.support import need

IMAGES = load_mnist_test()[0][:200]
PACKAGE = Path(fastdigit.__file__).parent
WAIT = 60


def answer() -> bytes:
    return fastdigit.predict_proba(IMAGES).tobytes()


def run(code: str, *, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT, check=check, **options
    )


# ---- asyncio ----


def test_a_thread_keeps_the_event_loop_free() -> None:
    """The GIL is released: the loop goes on turning while a long batch runs."""
    batch = np.tile(IMAGES, (50, 1, 1))

    async def main() -> tuple[np.ndarray, int]:
        turns = 0
        work = asyncio.create_task(asyncio.to_thread(fastdigit.predict_proba, batch))
        while not work.done():
            await asyncio.sleep(0)
            turns += 1
        return await work, turns

    result, turns = asyncio.run(main())
    assert result[:200].tobytes() == answer()
    assert turns > 20


def test_many_tasks_share_one_model() -> None:
    model = fastdigit.load()

    async def one(i: int) -> bytes:
        batch = IMAGES[i : i + 3]
        return (await asyncio.to_thread(model.predict_proba, batch)).tobytes()

    async def main() -> list[bytes]:
        return await asyncio.gather(*(one(i) for i in range(150)))

    for i, got in enumerate(asyncio.run(main())):
        assert got == model.predict_proba(IMAGES[i : i + 3]).tobytes()


# ---- Processes ----


def in_child(model: fastdigit.Model | None, queue: Any) -> None:
    predict = fastdigit.predict_proba if model is None else model.predict_proba
    queue.put(predict(IMAGES).tobytes())


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_models_before_and_in_a_child(method: str, threads: int) -> None:
    """A model used here first, then in a child: inherited, or pickled on the way."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform has no {method}")
    context = multiprocessing.get_context(method)
    model = fastdigit.load(threads=threads)
    want = answer()
    assert model.predict_proba(IMAGES).tobytes() == want
    for given in (model, None):
        queue = context.Queue()
        children = [context.Process(target=in_child, args=(given, queue)) for _ in range(2)]
        for child in children:
            child.start()
        assert [queue.get(timeout=WAIT) for _ in children] == [want, want]
        for child in children:
            child.join(WAIT)
            assert child.exitcode == 0
    assert model.predict_proba(IMAGES).tobytes() == want


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux")
def test_affinity_that_changes_meanwhile() -> None:
    """How many threads a model uses is settled when it is loaded; where they run is not."""
    run(
        """
        import os, threading
        import fastdigit
        from fastdigit.datasets import load_mnist_test
        images = load_mnist_test()[0][:64]
        model = fastdigit.load(threads=3)
        want = model.predict_proba(images).tobytes()
        cpus = sorted(os.sched_getaffinity(0))
        stop, wrong = threading.Event(), []
        def work():
            while not stop.is_set():
                if model.predict_proba(images).tobytes() != want: wrong.append(True)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads: thread.start()
        for i in range(40):
            allowed = cpus if i % 3 == 2 else [cpus[i % len(cpus)]]
            for task in os.listdir("/proc/self/task"):
                os.sched_setaffinity(int(task), allowed)
            assert model.predict_proba(images).tobytes() == want
        assert model.threads == 3
        stop.set()
        for thread in threads: thread.join()
        assert not wrong
        """
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_while_other_threads_predict() -> None:
    """What other threads hold at the fork, the child must not wait for."""
    done = run(
        """
        import os, sys, threading
        import fastdigit
        from fastdigit.datasets import load_mnist_test
        images = load_mnist_test()[0][:64]
        model = fastdigit.load(threads=2)
        want = model.predict_proba(images).tobytes()
        stop = threading.Event()
        def work():
            while not stop.is_set():
                assert model.predict_proba(images).tobytes() == want
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                ok = all(model.predict_proba(images).tobytes() == want for _ in range(3))
                os._exit(0 if ok else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads: thread.join()
        """
    )
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("preload", [["--preload"], []])
def test_gunicorn(preload: list[str], tmp_path: Path) -> None:
    """The server's application under gunicorn, opened before the fork or after it."""
    need("gunicorn", "uvicorn.workers", "starlette", "httptools", "prometheus_client")
    import http.client
    import json

    (tmp_path / "served.py").write_text(
        "from fastdigit.serve import Settings, create_app\n"
        "app = create_app(Settings())\n"
        "import fastdigit\n"
        "from fastdigit.datasets import load_mnist_test\n"
        "fastdigit.predict(load_mnist_test()[0][:5])\n"
    )
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    log = tmp_path / "log"
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "gunicorn", *preload]
    command += ["-w", "2", "-k", "uvicorn.workers.UvicornWorker", "-b", "127.0.0.1:0"]
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    with log.open("wb") as file:
        server = subprocess.Popen(
            [*command, "served:app"], cwd=tmp_path, stderr=file, stdout=file, env=environment
        )
    try:
        deadline = time.monotonic() + WAIT
        while log.read_text().count("Application startup complete") < 2:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        port = int(re.findall(r"http://127.0.0.1:(\d+)", log.read_text())[0])

        def ask(i: int) -> bytes:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
            tensor = {"name": "input", "datatype": "UINT8", "shape": [1, 784]}
            tensor["data"] = IMAGES[i].ravel().tolist()
            body = json.dumps({"inputs": [tensor]})
            connection.request("POST", "/v2/models/digits/infer", body)
            values = json.loads(connection.getresponse().read())["outputs"][0]["data"]
            connection.close()
            return np.array(values, np.float32).tobytes()

        with ThreadPoolExecutor(8) as pool:
            assert b"".join(pool.map(ask, range(200))) == answer()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        assert 'fastdigit_requests_total{model="digits"} 200.0' in text
        connection.close()
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(WAIT)
    assert status == 0, log.read_text()
    assert "Traceback" not in log.read_text()


# ---- Threads, also without the GIL ----


def test_threads_open_and_use_models_at_once() -> None:
    want = answer()
    barrier = threading.Barrier(8)
    shared = fastdigit.load(threads=2)

    def work(_: int) -> bool:
        barrier.wait()
        return all(
            model.predict_proba(IMAGES).tobytes() == want
            for _ in range(3)
            for model in (shared, fastdigit.load())
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_the_first_call_in_many_threads_opens_one_model() -> None:
    done = run(
        """
        import threading, sys
        sys.setswitchinterval(1e-6)
        import fastdigit, numpy as np
        opened = []
        real = fastdigit.load
        fastdigit.load = lambda *a, **k: opened.append(1) or real(*a, **k)
        image = np.zeros((1, 28, 28), np.uint8)
        barrier = threading.Barrier(16)
        def work():
            barrier.wait()
            fastdigit.predict(image)
        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(len(opened))
        """
    )
    assert done.stdout.split() == ["1"]


#: Names of modules that change after import, and why no two threads can harm each other there.
SHARED_STATE = {
    "fastdigit.__init__._default": "written once, under _default_lock",
    "fastdigit.joined._model": "written once, under _lock",
    "fastdigit.judge._models": "written once, under _lock",
}


def test_no_module_of_the_runtime_has_state_that_threads_share() -> None:
    """Free-threaded readiness: nothing to lock, but what is listed."""
    found = set()
    files = [PACKAGE / f"{name}.py" for name in ("__init__", "model", "ports", "threads")]
    pictures = sorted((PACKAGE / "images").glob("*.py"))
    pictures += sorted((PACKAGE / "reader").glob("*.py"))
    assert len(pictures) > 15
    for path in files + pictures:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                found |= {f"fastdigit.{path.stem}.{name}" for name in node.names}
        for node in tree.body:
            value = getattr(node, "value", None)
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(
                value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
            ):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = {ast.unparse(target) for target in targets} - {"__all__"}
                found |= {f"fastdigit.{path.stem}.{name}" for name in names}
    assert found == set(SHARED_STATE)


def test_a_subinterpreter_is_refused() -> None:
    """By an ImportError, not a crash, and the main interpreter goes on."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            __import__(name)
        except ImportError:
            continue
        break
    else:
        pytest.skip("this Python has no module for subinterpreters")
    inner = """
try:
    import fastdigit._core
except ImportError as error:
    print("refused:", error)
else:
    print("imported")
"""
    done = run(
        f"""
        import sys
        import fastdigit
        import {name} as interpreters
        interpreter = interpreters.create()
        interpreters.run_string(interpreter, {inner!r})
        sys.stdout.flush()
        interpreters.destroy(interpreter)
        import numpy as np
        print(fastdigit.predict(np.zeros((1, 28, 28), np.uint8)).shape)
        """,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.splitlines()[-1] == "(1,)"
    # Cython's module keeps its state per process, as NumPy does, and says so.
    assert re.search(r"refused: .*(once per process|interpreter)", done.stdout), done.stdout
