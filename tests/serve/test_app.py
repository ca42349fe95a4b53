"""The application through its ASGI interface: the protocol, its errors, its limits."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastdigit
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.ir import Activation
from fastdigit.datasets import load_mnist_test
from fastdigit.serve import Settings, create_app
from fastdigit.serve.errors import RequestError
from fastdigit.serve.protocol import DTYPES, Answer, Inference, Signature, encode, parse
from tests.support import need
from tests.support.networks import chain, dense

need("uvicorn", "httptools", "prometheus_client", "PIL")
TestClient = need("starlette.testclient").TestClient

DIGITS = load_mnist_test()[0]
INFER = "/v2/models/digits/infer"
HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def vector_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of another shape, without softmax and without bytes as input."""
    path = tmp_path_factory.mktemp("models") / "vector.fdm"
    graph = chain((6,), [dense(np.random.default_rng(0), 6, 3)])
    meta = {"classes": ["low", "middle", "high, or more"]}
    path.write_bytes(pack(graph, meta, input_range=(-np.inf, np.inf), u8_divisor=0))
    return path


@pytest.fixture(scope="module")
def client(vector_model: Path) -> Iterator[TestClient]:
    app = create_app(Settings(models={"vector": str(vector_model)}))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def tensor(array: np.ndarray, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": "input", "shape": list(array.shape), "datatype": datatype, **more}


def with_data(array: np.ndarray, datatype: str = "FP32", flat: bool = True) -> dict[str, Any]:
    data = array.ravel().tolist() if flat else array.tolist()
    return {"inputs": [tensor(array, datatype, data=data)]}


def in_binary(array: np.ndarray, datatype: str, **request: Any) -> tuple[bytes, dict[str, str]]:
    parameters = {"binary_data_size": array.nbytes}
    request["inputs"] = [tensor(array, datatype, parameters=parameters)]
    header = json.dumps(request).encode()
    return header + array.tobytes(), {HEADER: str(len(header))}


def encoded(*arguments: Any) -> Answer:
    """A whole answer."""
    parts = list(encode(*arguments))
    return Answer(b"".join(part.body for part in parts), parts[-1].header_length)


def outputs_of(response: Any) -> dict[str, np.ndarray]:
    """Tensors of a response, in JSON or in binary."""
    size = int(response.headers.get(HEADER, len(response.content)))
    rest = response.content[size:]
    found = {}
    for output in json.loads(response.content[:size])["outputs"]:
        dtype = {"FP32": "<f4", "INT64": "<i8"}[output["datatype"]]
        if "data" in output:
            array = np.array(output["data"], dtype)
        else:
            n = output["parameters"]["binary_data_size"]
            array, rest = np.frombuffer(rest[:n], dtype), rest[n:]
        found[output["name"]] = array.reshape(output["shape"])
    assert not rest
    return found


# ---- The protocol ----


def test_server_and_health(client: TestClient) -> None:
    assert client.get("/v2").json() == {
        "name": "fastdigit",
        "version": fastdigit.__version__,
        "extensions": ["binary_tensor_data", "model_configuration"],
    }
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_models(client: TestClient, version: str) -> None:
    assert client.get(f"/v2/models/digits{version}").json() == {
        "name": "digits",
        "versions": ["1"],
        "platform": "fastdigit",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 28, 28, 1]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
            {"name": "label", "datatype": "INT64", "shape": [-1]},
        ],
    }
    ready = client.get(f"/v2/models/vector{version}/ready").json()
    assert ready == {"name": "vector", "ready": True}
    config = client.get(f"/v2/models/vector{version}/config").json()
    assert config["output"][0] == {"name": "logits", "data_type": "TYPE_FP32", "dims": [3]}
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 0
    classes = json.loads(config["parameters"]["classes"]["string_value"])
    assert classes == ["low", "middle", "high, or more"]


@pytest.mark.parametrize("version", ["", "/versions/1"])
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("shape", [(28, 28, 1), (28, 28), (784,)])
@pytest.mark.parametrize("datatype", ["FP32", "UINT8", "FP64"])
def test_json_requests(
    client: TestClient, version: str, flat: bool, shape: tuple[int, ...], datatype: str
) -> None:
    images = DIGITS[:3].reshape(3, *shape)
    batch = images if datatype == "UINT8" else (images / 255).astype(np.float32)
    response = client.post(
        f"/v2/models/digits{version}/infer", json={"id": "17", **with_data(batch, datatype, flat)}
    )
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("digits", "1", "17")
    outputs = outputs_of(response)
    # To the bit: JSON writes a float so that it is read as the same one.
    assert outputs["probabilities"].tobytes() == fastdigit.predict_proba(batch).tobytes()
    np.testing.assert_array_equal(outputs["label"], fastdigit.predict(batch))


@pytest.mark.parametrize("datatype", DTYPES)
def test_binary_requests(client: TestClient, datatype: str) -> None:
    dtype = DTYPES[datatype]
    batch = DIGITS[:200] if datatype == "UINT8" else (DIGITS[:200] / 255).astype(dtype)
    body, headers = in_binary(batch, datatype, parameters={"binary_data_output": True})
    response = client.post(INFER, content=body, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    outputs = outputs_of(response)
    assert outputs["probabilities"].tobytes() == fastdigit.predict_proba(batch).tobytes()
    np.testing.assert_array_equal(outputs["label"], fastdigit.predict(batch))


def test_outputs_are_chosen(client: TestClient) -> None:
    request = with_data(DIGITS[:2], "UINT8")
    label = {"name": "label"}
    probabilities = {"name": "probabilities", "parameters": {"binary_data": True}}
    response = client.post(INFER, json={**request, "outputs": [label]})
    assert set(outputs_of(response)) == {"label"}
    response = client.post(INFER, json={**request, "outputs": [probabilities, label]})
    outputs = outputs_of(response)
    assert list(outputs) == ["probabilities", "label"]
    assert outputs["probabilities"].tobytes() == fastdigit.predict_proba(DIGITS[:2]).tobytes()
    # What is said of an output counts more than what is said of all.
    probabilities["parameters"]["binary_data"] = False
    response = client.post(
        INFER,
        json={
            **request,
            "parameters": {"binary_data_output": True},
            "outputs": [probabilities, label],
        },
    )
    header = json.loads(response.content[: int(response.headers[HEADER])])
    assert ["data" in output for output in header["outputs"]] == [True, False]


def test_no_images_give_no_answers(client: TestClient) -> None:
    response = client.post(INFER, json=with_data(np.zeros((0, 28, 28))))
    assert outputs_of(response)["probabilities"].shape == (0, 10)


def test_one_sigmoid_is_labelled_by_a_threshold(tmp_path: Path) -> None:
    shape, rng = (28, 28, 1), np.random.default_rng(0)
    paths = {}
    for name, activation in (("mask", Activation("sigmoid")), ("number", Activation())):
        layer = dense(rng, 784, 1, activation=activation)
        data = pack(chain(shape, [layer]), {}, input_range=(0.0, 1.0), u8_divisor=255)
        paths[name] = tmp_path / f"{name}.fdm"
        paths[name].write_bytes(data)
    app = create_app(Settings(models={name: str(path) for name, path in paths.items()}))
    with TestClient(app) as client:
        outputs = outputs_of(
            client.post("/v2/models/mask/infer", json=with_data(DIGITS[:40], "UINT8"))
        )
        mask = fastdigit.load(paths["mask"])
        assert outputs["probabilities"].tobytes() == mask.predict_proba(DIGITS[:40]).tobytes()
        assert set(outputs["label"]) == {0, 1}
        np.testing.assert_array_equal(outputs["label"], outputs["probabilities"][:, 0] > 0.5)
        config = client.get("/v2/models/mask/config").json()
        assert json.loads(config["parameters"]["classes"]["string_value"]) == ["0", "1"]
        read = client.post("/predict?model=mask", content=png(DIGITS[0])).json()
        assert read["label"] == int(read["probabilities"][0] > 0.5)

        outputs = outputs_of(
            client.post("/v2/models/number/infer", json=with_data(DIGITS[:5], "UINT8"))
        )
        assert list(outputs) == ["logits"]
        refused = client.post("/predict?model=number", content=png(DIGITS[0]))
        assert refused.status_code == 400 and "no labels" in refused.json()["error"]


def test_other_models(client: TestClient, vector_model: Path) -> None:
    batch = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    outputs = outputs_of(client.post("/v2/models/vector/infer", json=with_data(batch)))
    model = fastdigit.load(vector_model)
    assert outputs["logits"].tobytes() == model.logits(batch).tobytes()
    np.testing.assert_array_equal(outputs["label"], model.predict(batch))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_requests(client: TestClient, encoding: str) -> None:
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    body = compress(json.dumps(with_data(DIGITS[:1], "UINT8")).encode())
    response = client.post(INFER, content=body, headers={"content-encoding": encoding})
    assert outputs_of(response)["label"] == fastdigit.predict(DIGITS[:1])
    for damaged in (body[:-1], body + b"x", b"x" + body):
        response = client.post(INFER, content=damaged, headers={"content-encoding": encoding})
        assert response.status_code == 400 and "error" in response.json()
    bomb = compress(bytes(100 << 20))
    response = client.post(INFER, content=bomb, headers={"content-encoding": encoding})
    assert response.status_code == 413 and "decompressed" in response.json()["error"]


# ---- Its errors ----

GOOD = with_data(DIGITS[:1], "UINT8")
INPUT = GOOD["inputs"][0]
ONES = [1] * 784

BAD_REQUESTS: list[tuple[Any, str]] = [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b'{"inputs":' * 50_000, "not JSON"),
    ([], "JSON array, expected an object"),
    ({}, "inputs are to be"),
    ({"inputs": []}, "inputs are to be"),
    ({"inputs": [1]}, "inputs are to be"),
    ({"inputs": [INPUT, INPUT]}, "inputs are to be"),
    ({"inputs": [INPUT], "id": 7}, "id is a JSON number"),
    ({"inputs": [INPUT], "parameters": []}, "parameters of the request are a JSON array"),
    ({"inputs": [INPUT], "parameters": {"binary_data_output": 1}}, "expected true or false"),
    ({"inputs": [INPUT], "outputs": {}}, "outputs are a JSON object"),
    ({"inputs": [INPUT], "outputs": ["label"]}, "to be named once each"),
    ({"inputs": [INPUT], "outputs": [{"name": "x"}]}, "probabilities, label"),
    ({"inputs": [INPUT], "outputs": [{"name": "label"}] * 2}, "to be named once each"),
    (
        {"inputs": [INPUT], "outputs": [{"name": "label", "parameters": {"classification": 3}}]},
        "not supported",
    ),
    ({"inputs": [{**INPUT, "name": "x"}]}, "named 'x', expected 'input'"),
    ({"inputs": [{**INPUT, "name": None}]}, "expected 'input'"),
    ({"inputs": [{**INPUT, "datatype": "BYTES"}]}, "datatype BYTES, expected FP32"),
    ({"inputs": [{**INPUT, "datatype": ["FP32"]}]}, "expected FP32"),
    *(
        ({"inputs": [{**INPUT, "shape": shape}]}, "has shape")
        for shape in (
            *(None, 1, [], [1], [784], [1, 783], [1, 28, 28, 3], [28, 28], [-1, 784], [1.0, 784]),
            *([True, 784], ["1", 784], [2**70, 784], [1] * 100, [[1, 784]]),
        )
    ),
    ({"inputs": [{**INPUT, "data": None}]}, "neither 'data'"),
    ({"inputs": [{**INPUT, "data": 1}]}, "neither 'data'"),
    ({"inputs": [{**INPUT, "data": []}]}, "no array of shape"),
    ({"inputs": [{**INPUT, "data": ONES[1:]}]}, "no array of shape"),
    ({"inputs": [{**INPUT, "data": [*ONES[1:], [1]]}]}, "no number"),
    ({"inputs": [{**INPUT, "data": [*ONES[1:], "1"]}]}, "no number"),
    ({"inputs": [{**INPUT, "data": [*ONES[1:], None]}]}, "no number"),
    ({"inputs": [{**INPUT, "data": [*ONES[1:], {}]}]}, "no number"),
    ({"inputs": [{**INPUT, "data": [*ONES[1:], True]}]}, "no number"),
    ({"inputs": [{**INPUT, "datatype": "FP32", "data": [0.5] * 783 + [True]}]}, "no number"),
    ({"inputs": [{**INPUT, "data": [[ONES[:28]] * 27 + [ONES[:27]]]}]}, "no array of shape"),
    ({"inputs": [{**INPUT, "data": [[ONES[:28]] * 27 + [1]]}]}, "no array of shape"),
    ({"inputs": [{**INPUT, "data": [ONES]}]}, "no array of shape"),
    ({"inputs": [{**INPUT, "datatype": "FP32", "data": [*ONES[1:], 10**400]}]}, "out of range"),
    ({"inputs": [{**INPUT, "data": [*ONES[1:], 10**400]}]}, "in 0..255"),
    ({"inputs": [{**INPUT, "data": [*ONES[1:], 10**30]}]}, "in 0..255"),
    ({"inputs": [{**INPUT, "data": [*ONES[1:], 256]}]}, "in 0..255"),
    ({"inputs": [{**INPUT, "data": [*ONES[1:], -1]}]}, "in 0..255"),
    ({"inputs": [{**INPUT, "data": [*ONES[1:], 0.5]}]}, "in 0..255"),
    ({"inputs": [{**INPUT, "datatype": "FP32", "data": [*ONES[1:], 1.5]}]}, "1.5"),
    ({"inputs": [{**INPUT, "datatype": "FP64", "data": [*ONES[1:], 1e300]}]}, "inf"),
    (
        json.dumps({"inputs": [{**INPUT, "datatype": "FP32", "data": [*ONES[1:], 0]}]})
        .replace(", 0]", ", NaN]")
        .encode(),
        "NaN, which JSON",
    ),
    (
        json.dumps({"inputs": [{**INPUT, "datatype": "FP32", "data": [*ONES[1:], 0]}]})
        .replace(", 0]", ", 1e999]")
        .encode(),
        "inf",
    ),
    ({"inputs": [{**INPUT, "parameters": {"binary_data_size": 784}}]}, "both"),
    ({"inputs": [{**INPUT, "parameters": {"shared_memory_region": "x"}}]}, "not supported"),
    ({"inputs": [tensor(DIGITS[:1], "UINT8", parameters={"binary_data_size": 784})]}, "0 bytes"),
]


@pytest.mark.parametrize(("request_", "message"), BAD_REQUESTS)
def test_bad_requests_are_refused_with_the_reason(
    client: TestClient, request_: Any, message: str
) -> None:
    content = request_ if isinstance(request_, bytes) else json.dumps(request_)
    response = client.post(INFER, content=content)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]
    assert len(response.json()["error"]) < 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body, size: (body[:-1], size), "783 bytes follow"),
        (lambda body, size: (body + b"x", size), "785 bytes follow"),
        (lambda body, size: (body, str(len(body) + 1)), "but the body has"),
        (lambda body, size: (body, "9" * 30), "expected a number"),
        (lambda body, size: (body, "-5"), "expected a number"),
        (lambda body, size: (body, "x"), "expected a number"),
        (lambda body, size: (body, "0"), "not JSON"),
        (lambda body, size: (body, str(int(size) - 1)), "not JSON"),
        (lambda body, size: (body.replace(b'"binary_data_size": 784', b'"a": 1'), size), "JSON"),
        (lambda body, size: (body.replace(b": 784}", b": 785}"), size), "make 784 bytes"),
        (lambda body, size: (body.replace(b": 784}", b": 1e3}"), size), "make 784 bytes"),
    ],
)
def test_bad_binary_requests(client: TestClient, change: Any, message: str) -> None:
    body, headers = in_binary(DIGITS[:1], "UINT8")
    body, size = change(body, headers[HEADER])
    response = client.post(INFER, content=body, headers={HEADER: size})
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 2.0])
def test_values_out_of_range(client: TestClient, value: float) -> None:
    batch = np.full((1, 28, 28), value, np.float32)
    body, headers = in_binary(batch, "FP32")
    response = client.post(INFER, content=body, headers=headers)
    assert response.status_code == 400, response.text
    assert f"value {value:g}" in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/nothing/ready", 404),
        ("GET", "/v2/models/digits/versions/2", 404),
        ("GET", "/v2/models/digits/versions/2/ready", 404),
        ("POST", "/v2/models/nothing/infer", 404),
        ("POST", "/v2/models/digits/versions/2/infer", 404),
        ("POST", "/v2/models/..%2f..%2fetc/infer", 404),
        ("GET", "/v2/models/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/page/../../settings.py", 404),
        ("POST", "/predict?model=nothing", 404),
        ("POST", "/predict?model=/etc/passwd", 404),
        ("POST", "/predict?model=vector", 400),
        ("GET", INFER, 405),
        ("PUT", "/v2", 405),
        ("GET", "/predict", 405),
        ("GET", "/read", 405),
        ("DELETE", "/v2/models/digits", 405),
    ],
)
def test_every_error_is_json(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    if status == 405:
        assert response.headers["allow"]


def test_a_bug_is_an_error_that_tells_nothing(
    vector_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app()
    with TestClient(app, raise_server_exceptions=False) as client:

        def broken(*_: object) -> None:
            raise ZeroDivisionError("secret")

        monkeypatch.setattr(app.models["digits"], "infer", broken)
        for path, body in ((INFER, json.dumps(GOOD).encode()), ("/predict", png(DIGITS[0]))):
            response = client.post(path, content=body)
            assert response.status_code == 500
            assert "secret" not in response.text and list(response.json()) == ["error"]
    assert "secret" in caplog.text


# ---- Limits ----


def test_body_limit() -> None:
    with TestClient(create_app(Settings(max_body_bytes=1000))) as client:
        response = client.post(INFER, content=bytes(1001))
        assert response.status_code == 413 and "1000" in response.json()["error"]
        assert response.headers["connection"] == "close"
        chunks = client.post(INFER, content=iter([bytes(600), bytes(600)]))
        assert chunks.status_code == 413
        assert client.post("/predict", content=bytes(1001)).status_code == 413
        assert client.post(INFER, content=bytes(1000)).status_code == 400


def test_batch_limit() -> None:
    with TestClient(create_app(Settings(max_queue_size=5, max_batch_size=2))) as client:
        assert client.post(INFER, json=with_data(DIGITS[:5], "UINT8")).status_code == 200
        response = client.post(INFER, json=with_data(DIGITS[:6], "UINT8"))
        assert response.status_code == 413 and "at most 5" in response.json()["error"]


def test_token() -> None:
    app = create_app(Settings(token="sesame"))
    with TestClient(app) as client:
        right, wrong = ({"authorization": f"Bearer {word}"} for word in ("sesame", "sesam"))
        for path in ("/", "/page.js", "/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200
        for path in ("/v2", "/v2/models/digits", "/metrics", "/nothing"):
            for headers in (
                {},
                wrong,
                {"authorization": "sesame"},
                {"authorization": "é".encode()},
            ):
                refused = client.get(path, headers=headers)
                assert refused.status_code == 401 and list(refused.json()) == ["error"]
                assert refused.headers["www-authenticate"] == "Bearer"
        for path in (INFER, "/predict", "/read"):
            assert client.post(path, json=GOOD, headers=wrong).status_code == 401
        assert client.get("/v2", headers=right).status_code == 200
        assert client.post(INFER, json=GOOD, headers=right).status_code == 200
    assert "sesame" not in repr(app.settings)


def test_settings_are_checked(tmp_path: Path) -> None:
    for wrong in (
        {"max_batch_size": 0},
        {"max_queue_delay_microseconds": -1},
        {"timeout": 0.0},
        {"read_timeout": float("nan")},
        {"token": ""},
        {"models": {"../x": "y"}},
        {"models": {"": "y"}},
        {"models": {"a/b": "y"}},
    ):
        with pytest.raises(ValueError):
            Settings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        create_app(Settings(models={"x": str(tmp_path / "nothing.fdm")}))


def test_not_ready_while_draining(client: TestClient) -> None:
    app = client.app
    app.draining.begun = True  # type: ignore[attr-defined]
    try:
        for path in ("/v2/health/ready", "/v2/models/digits/ready"):
            response = client.get(path)
            assert response.status_code == 503
            assert response.json()["ready"] is False and response.json()["error"]
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.post(INFER, json=GOOD).status_code == 200
    finally:
        app.draining.begun = False  # type: ignore[attr-defined]


# ---- Pictures ----


def png(image: np.ndarray, kind: str = "PNG") -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_predict_reads_pictures(client: TestClient, kind: str) -> None:
    picture = 255 - DIGITS[0].repeat(8, 0).repeat(8, 1)
    response = client.post("/predict", content=png(picture, kind))
    assert response.status_code == 200, response.text
    answer = response.json()
    image = fastdigit.normalize(png(picture, kind))
    np.testing.assert_array_equal(answer["image"], image)
    want = fastdigit.predict_proba(image)[0]
    assert np.array(answer["probabilities"], np.float32).tobytes() == want.tobytes()
    assert (answer["label"], answer["class"], answer["classes"]) == (7, "7", list("0123456789"))
    assert answer["inference_microseconds"] > 0 and answer["normalize_microseconds"] > 0


@pytest.mark.parametrize(
    ("content", "headers", "status", "message"),
    [
        (b"", {}, 400, "no PNG or JPEG"),
        (b"GIF89a", {}, 400, "no PNG or JPEG"),
        (png(np.zeros((50, 50), np.uint8))[:-20], {}, 400, "damaged"),
        (png(np.zeros((50, 50), np.uint8)), {}, 400, "no digit"),
        (b"x", {"content-type": "multipart/form-data; boundary=x"}, 415, "--data-binary"),
    ],
    ids=["empty", "another format", "damaged", "blank", "form"],
)
def test_predict_refuses(
    client: TestClient, content: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    response = client.post("/predict", content=content, headers=headers)
    assert response.status_code == status
    assert message in response.json()["error"]


def test_pictures_are_limited_in_pixels() -> None:
    with TestClient(create_app(Settings(max_pixels=9999))) as client:
        response = client.post("/predict", content=png(np.zeros((100, 100), np.uint8)))
        assert response.status_code == 400 and "at most 9999" in response.json()["error"]


# ---- Metrics ----


def test_metrics_count_what_happened() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with TestClient(create_app()) as client:
        for _ in range(3):
            client.post(INFER, json=with_data(DIGITS[:5], "UINT8"))
        client.post(INFER, content=b"{")
        client.post("/predict", content=b"x")
        response = client.get("/metrics")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert samples["fastdigit_requests_total", "digits"] == 5
    assert samples["fastdigit_request_failures_total", "400", "digits"] == 2
    assert samples["fastdigit_request_duration_seconds_count", "digits"] == 5
    assert samples["fastdigit_request_duration_seconds_sum", "digits"] > 0
    assert samples["fastdigit_batch_size_sum", "digits"] == 15
    assert samples["fastdigit_batch_size_bucket", "8.0", "digits"] == 3
    assert samples["fastdigit_inference_duration_seconds_count", "digits"] == 3
    assert samples["fastdigit_queue_depth", "digits"] == 0


# ---- Bytes alone ----


def greatest(values: np.ndarray) -> np.ndarray:
    return values.argmax(axis=1)


SIGNATURE = Signature("m", (4, 3, 1), 10, "probabilities", True, (0.0, 1.0), True)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {
            "name": st.just("input") | json_values,
            "datatype": st.sampled_from([*DTYPES, "BOOL"]) | json_values,
            "shape": st.sampled_from([[1, 4, 3, 1], [0, 12], [2, 4, 3]]) | json_values,
        },
        optional={
            "data": st.lists(json_values, max_size=14) | st.just([0] * 12) | json_values,
            "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 50)})
            | json_values,
        },
    ),
    st.binary(max_size=50),
    st.none() | st.integers(-5, 400).map(str) | st.text(max_size=5),
    st.booleans(),
)
def test_any_bytes_are_a_request_or_an_error(
    tensor: dict[str, Any], rest: bytes, length: str | None, honest: bool
) -> None:
    header = json.dumps({"inputs": [tensor]}).encode()
    try:
        request = parse(header + rest, str(len(header)) if honest else length, SIGNATURE)
    except RequestError as error:
        assert error.status == 400 and str(error)
        return
    assert request.images.dtype in (np.float32, np.uint8)
    assert request.images[0:].size == len(request.images) * 12


@given(st.integers(0, 5), st.integers(0, 2**32 - 1), st.permutations(["probabilities", "label"]))
def test_answers_survive_the_journey(n: int, seed: int, names: list[str]) -> None:
    values = np.random.default_rng(seed).random((n, 10), np.float32)
    for binary in ([False, False], [True, True], [True, False]):
        wanted = tuple(zip(names, binary, strict=True))
        answer = encoded(Inference("i", values, wanted), SIGNATURE, values, greatest)

        class Response:
            content = answer.body
            headers = {} if answer.header_length is None else {HEADER: answer.header_length}

        outputs = outputs_of(Response)
        assert list(outputs) == names
        assert outputs["probabilities"].tobytes() == values.tobytes()
        np.testing.assert_array_equal(outputs["label"], values.argmax(1) if n else [])


def test_what_json_cannot_say_is_null() -> None:
    """Logits of inputs near the largest float32 overflow; "Infinity" is no JSON."""
    values = np.array([[np.inf, 1.5, -np.inf], [np.nan, 0.25, -2.0]], np.float32)
    wanted = (("probabilities", False), ("label", False))
    answer = encoded(Inference(None, values, wanted), SIGNATURE, values, greatest)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    response = json.loads(answer.body, parse_constant=refuse)
    assert response["outputs"][0]["data"] == [None, 1.5, None, None, 0.25, -2.0]
    binary = encoded(
        Inference(None, values, (("probabilities", True),)), SIGNATURE, values, greatest
    )
    assert binary.body[binary.header_length :] == values.tobytes()


@pytest.mark.parametrize("optional", ["id", "outputs", "parameters"])
def test_null_is_as_if_it_were_left_out(optional: str) -> None:
    """Clients that write all fields of a record send it."""
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 12], "data": [0.5] * 12}
    request = {"inputs": [tensor]}
    plain = parse(json.dumps(request).encode(), None, SIGNATURE)
    with_null = parse(json.dumps({**request, optional: None}).encode(), None, SIGNATURE)
    assert (with_null.id, with_null.outputs) == (plain.id, plain.outputs)
    np.testing.assert_array_equal(with_null.images, plain.images)
