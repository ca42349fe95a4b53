"""What costs much to read is read elsewhere, within limits, and hurts nobody else."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import InputError
from fastdigit.serve import Settings, create_app, inference
from fastdigit.serve.cage import Cage
from fastdigit.serve.errors import RequestError
from tests.support import need

need("uvicorn", "httptools", "prometheus_client")
Image = need("PIL.Image")
TestClient = need("starlette.testclient").TestClient

DIGITS = load_mnist_test()[0]
INFER = "/v2/models/digits/infer"
MANY = 200  # images: more JSON than is read on the event loop


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(), raise_server_exceptions=False) as client:
        yield client


def request_of(images: np.ndarray, datatype: str = "UINT8", **more: Any) -> bytes:
    tensor = {"name": "input", "shape": list(images.shape), "datatype": datatype}
    return json.dumps({"inputs": [{**tensor, "data": images.tolist()}], **more}).encode()


def picture(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG file that repeats its last scan."""
    data = picture(np.zeros((side, side), np.uint8), "JPEG", progressive=True, quality=10)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


def test_long_json_is_answered_like_short(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = DIGITS[:MANY]
    floats = (images / 255).astype(np.float32)
    want = fastdigit.predict_proba(images)

    def never(*_: object) -> None:
        raise AssertionError("long JSON is not parsed here")

    monkeypatch.setattr(inference.protocol, "parse", never)
    for body in (request_of(images, id="x"), request_of(floats, "FP32", id="x")):
        assert len(body) > inference.INLINE_JSON_BYTES
        for content, headers in ((body, {}), (gzip.compress(body), {"content-encoding": "gzip"})):
            response = client.post(INFER, content=content, headers=headers)
            assert response.status_code == 200, response.text
            answer = response.json()
            assert answer["id"] == "x"
            found = np.array(answer["outputs"][0]["data"], np.float32).reshape(MANY, 10)
            np.testing.assert_array_equal(found, want)
            assert answer["outputs"][1]["data"] == want.argmax(1).tolist()


def test_long_json_may_ask_for_binary_and_fewer_outputs(client: TestClient) -> None:
    outputs = [{"name": "label", "parameters": {"binary_data": True}}]
    response = client.post(INFER, content=request_of(DIGITS[:MANY], outputs=outputs))
    size = int(response.headers["Inference-Header-Content-Length"])
    labels = np.frombuffer(response.content[size:], "<i8")
    np.testing.assert_array_equal(labels, fastdigit.predict(DIGITS[:MANY]))


def test_long_answers_are_written_in_parts(client: TestClient) -> None:
    images = np.repeat(DIGITS[:50], 20, axis=0)  # 10,000 numbers, more than two parts
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "input",
                    "shape": [1000, 28, 28],
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": images.nbytes},
                }
            ]
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    answer = client.post(INFER, content=header + images.tobytes(), headers=headers).json()
    want = fastdigit.predict_proba(images)
    found = np.array(answer["outputs"][0]["data"], np.float32).reshape(want.shape)
    assert found.tobytes() == want.tobytes()
    assert answer["outputs"][1]["data"] == want.argmax(1).tolist()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (request_of(DIGITS[:MANY])[:-1], "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (request_of(DIGITS[:MANY], "FP7"), "datatype FP7"),
        (request_of(DIGITS[:MANY].astype(int) + 1), "in 0..255"),
        # One long string made NumPy take its length for each of the others.
        (
            json.dumps(
                {
                    "inputs": [
                        {
                            "name": "input",
                            "shape": [1, 28, 28],
                            "datatype": "FP32",
                            "data": ["1" * 1_000_000] + [""] * 783,
                        }
                    ]
                }
            ).encode(),
            "no number",
        ),
    ],
    ids=["cut off", "nested", "datatype", "range", "strings"],
)
def test_long_json_is_refused_like_short(client: TestClient, body: bytes, message: str) -> None:
    response = client.post(INFER, content=body)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_what_unpacks_to_too_much_is_refused(client: TestClient) -> None:
    bomb = gzip.compress(bytes(100 << 20))
    for path in (INFER, "/predict"):
        response = client.post(path, content=bomb, headers={"content-encoding": "gzip"})
        assert response.status_code == 413
        assert "when decompressed" in response.json()["error"]


@pytest.mark.parametrize("path", ["/predict", "/read"])
def test_pictures_may_be_compressed(client: TestClient, path: str) -> None:
    def answer(content: bytes, **headers: str) -> Any:
        response = client.post(path, content=content, headers=headers)
        found = response.json()
        return response.status_code, {k: v for k, v in found.items() if "microseconds" not in k}

    body = picture(np.pad(DIGITS[0], 8))
    packed = {"content-encoding": "gzip"}
    status, found = answer(body)
    assert status == 200 and "7" in (found.get("class"), found.get("text"))
    assert answer(gzip.compress(body), **packed) == (status, found)
    assert answer(body, **{"content-encoding": "br"})[0] == 415
    assert answer(gzip.compress(bytes(20 << 20)), **packed)[0] == 413


def test_scans_of_a_picture_are_counted() -> None:
    with pytest.raises(InputError, match=r"has 65 scans, at most 64"):
        fastdigit.normalize(many_scans(50, 65))
    with pytest.raises(InputError, match="no digit"):
        fastdigit.normalize(many_scans(50, 64))


def test_pictures_of_16_bits_keep_their_greys() -> None:
    words = (np.arange(600 * 3, dtype=np.uint32) * 36 % 65536).astype(np.uint16).reshape(600, 3)
    found = fastdigit.images.decode(picture(words))
    np.testing.assert_array_equal(found, np.rint(words / 257).astype(np.uint8))


def test_a_job_that_takes_too_long_is_ended_and_the_next_one_is_done() -> None:
    # Decoding that takes a second on a fast core; a digit takes milliseconds.
    with TestClient(create_app(Settings(reading_timeout=0.3))) as client:
        assert client.post("/predict", content=picture(DIGITS[0])).status_code == 200
        slow = client.post("/predict", content=many_scans(4000, 64))
        assert slow.status_code == 413
        assert "more than the 0.3 s" in slow.json()["error"]
        assert client.post("/predict", content=picture(DIGITS[0])).json()["label"] == 7


def test_a_job_that_takes_too_much_memory_is_ended_and_the_next_one_is_done() -> None:
    large = picture(np.zeros((4000, 4000), np.uint16))
    bounded = Settings(reading_memory_bytes=48 << 20, reading_timeout=60)
    with TestClient(create_app(bounded)) as client:
        for _ in range(2):
            refused = client.post("/predict", content=large)
            assert refused.status_code == 413, refused.text
            assert client.post("/predict", content=picture(DIGITS[0])).json()["label"] == 7
        lists = b'{"inputs":[' + b"[]," * 3_000_000 + b"[]]}"
        refused = client.post(INFER, content=lists)
        assert refused.status_code == 413 and "memory" in refused.json()["error"]
    with TestClient(create_app(Settings(reading_timeout=60))) as client:
        assert "no digit" in client.post("/predict", content=large).json()["error"]


def test_a_process_that_was_killed_is_replaced(client: TestClient) -> None:
    cage = client.app._cage  # type: ignore[attr-defined]
    for _ in range(2):
        assert client.post("/predict", content=picture(DIGITS[0])).status_code == 200
        (process,) = cage._idle
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.wait()


def test_waiting_jobs_are_bounded() -> None:
    import asyncio

    cage = Cage(1, seconds=30, memory=256 << 20, max_waiting_bytes=3_000_000, patience=60)
    body = many_scans(2000, 30)
    fat = picture(DIGITS[0]) + bytes(2_000_000)

    async def main() -> list[Any]:
        jobs = [cage.picture("a", data, None, (1 << 24, 1 << 24)) for data in (body, fat, fat)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    try:
        _, second, third = asyncio.run(main())
    finally:
        cage.close()
    assert isinstance(second, np.ndarray)
    assert isinstance(third, RequestError) and third.status == 503
    with pytest.raises(RequestError, match="shutting down"):
        cage._ask(("picture", None, 1, 1), b"")


def test_the_processes_end_with_the_application() -> None:
    with TestClient(create_app()) as client:
        assert client.post("/predict", content=picture(DIGITS[0])).status_code == 200
        (process,) = client.app._cage._idle  # type: ignore[attr-defined]
    assert process._process.wait(30) == -signal.SIGKILL
