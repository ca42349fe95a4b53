"""fastdigit.serve.ray on a real Ray: two replicas on this machine, one of which is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit import datasets
from fastdigit.errors import MissingExtraError
from fastdigit.serve.ray import application
from tests.support import missing
from tests.support.networks import packed, small_networks
from tests.support.ray_processes import processes_called

for package in ("ray.serve", "starlette", "uvicorn", "prometheus_client", "PIL"):
    if importlib.util.find_spec(package.split(".")[0]) is None:
        missing(package)

pytestmark = pytest.mark.slow

IMAGES, _ = datasets.load_mnist_test()
INFER = "/v2/models/digits/infer"


class Service:
    """Its address, and requests to it."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.base + path, timeout=60) as response:
            return json.load(response)

    def post(self, path: str, body: bytes, **headers: str) -> tuple[bytes, Any]:
        request = urllib.request.Request(self.base + path, body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read(), response.headers

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """In binary both ways."""
        tensor = {
            "name": "input",
            "shape": list(images.shape),
            "datatype": "UINT8",
            "parameters": {"binary_data_size": images.nbytes},
        }
        wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}]
        header = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
        length = {"Inference-Header-Content-Length": str(len(header))}
        body, headers = self.post(INFER, header + images.tobytes(), **length)
        values = body[int(headers["Inference-Header-Content-Length"]) :]
        return np.frombuffer(values, np.float32).reshape(len(images), 10)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    import ray
    from ray import serve

    lenet = tmp_path_factory.mktemp("models") / "lenet.fdm"
    lenet.write_bytes(packed(small_networks()["lenet"]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray.init(
        num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    options = {
        # As text, as the command line gives them.
        "num_replicas": "2",
        "num_cpus": "0.5",
        "max_batch_size": "32",
        "models": {"lenet": str(lenet)},
    }
    serve.run(application(options), name="digits", route_prefix="/")
    yield Service(port)
    serve.shutdown()
    ray.shutdown()


def test_the_protocol(service: Service) -> None:
    assert service.get("/v2/health/live") == {"live": True}
    assert service.get("/v2/health/ready") == {"ready": True}
    assert service.get("/v2")["version"] == fastdigit.__version__
    assert service.get("/v2/models/lenet/ready") == {"name": "lenet", "ready": True}
    config = service.get("/v2/models/digits/config")
    assert config["dynamic_batching"]["preferred_batch_size"] == [32]
    tensor = {
        "name": "input",
        "shape": [1, 28, 28],
        "datatype": "UINT8",
        "data": IMAGES[0].tolist(),
    }
    tensor["data"] = [tensor["data"]]
    body, _ = service.post(INFER, json.dumps({"id": "7", "inputs": [tensor]}).encode())
    answer = json.loads(body)
    assert answer["id"] == "7"
    assert answer["outputs"][1]["data"] == list(fastdigit.predict(IMAGES[0]))


def test_errors_are_those_of_the_server(service: Service) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        service.post(INFER, b"no json")
    assert refused.value.code == 400 and "not JSON" in json.load(refused.value)["error"]
    with pytest.raises(urllib.error.HTTPError) as unknown:
        service.get("/v2/models/none")
    assert unknown.value.code == 404


def test_both_replicas_answer_with_the_same_bits(service: Service) -> None:
    """Many requests at once, of all sizes: what shares a batch with what changes no bit."""
    want = fastdigit.predict_proba(IMAGES[:500])
    rng = np.random.default_rng(0)
    parts = [slice(i, i + int(rng.integers(1, 50))) for i in range(450)]

    def ask(part: slice) -> bool:
        return service.probabilities(IMAGES[part]).tobytes() == want[part].tobytes()

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, parts))
    assert len(processes_called("ServeReplica")) == 2


def test_a_killed_replica_is_replaced(service: Service) -> None:
    """Clients that send again what failed get every answer; then there are two replicas again."""
    want = fastdigit.predict_proba(IMAGES[:300])
    replicas = processes_called("ServeReplica")
    failures = []

    def ask(i: int) -> bool:
        if i == 50:
            os.kill(replicas[0], signal.SIGKILL)
        for attempt in range(20):
            try:
                got = service.probabilities(IMAGES[i : i + 1])
            except (urllib.error.HTTPError, ConnectionError) as error:
                assert not isinstance(error, urllib.error.HTTPError) or error.code >= 500
                failures.append(i)
                time.sleep(0.1 * attempt)
                continue
            return got.tobytes() == want[i : i + 1].tobytes()
        return False

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(300)))
    assert len(failures) < 100
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        now = processes_called("ServeReplica")
        if len(now) == 2 and replicas[0] not in now:
            break
        time.sleep(0.5)
    assert len(now) == 2 and replicas[0] not in now, now
    assert service.get("/v2/health/ready") == {"ready": True}


# ---- Without a cluster ----


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"replicas": 2}, TypeError, "unknown options replicas; there are models"),
        ({"max_batch_size": "0"}, ValueError, "max_batch_size is 0"),
        ({"timeout": "soon"}, ValueError, "soon"),
        ({"models": {"a/b": "x"}}, ValueError, "cannot be named"),
    ],
)
def test_mistakes(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        application(options)


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "fastdigit\[serve,ray\]"'):
        application()


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    """Found out by the replicas, which may be on other machines."""
    assert application({"models": {"none": str(tmp_path / "none.fdm")}}) is not None
