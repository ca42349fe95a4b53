"""``POST /read``: all digits of a picture, with the limits of ``/predict``."""

from __future__ import annotations

import io
import json
import signal
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest

from fastdigit.images import decode
from fastdigit.reader import read
from fastdigit.serve import Settings, create_app
from fastdigit.serve.settings import MAX_PATTERN
from tests.support import need
from tests.support.written import written

need("uvicorn", "httptools", "prometheus_client")
Image, ImageDraw, ImageFont = map(need, ("PIL.Image", "PIL.ImageDraw", "PIL.ImageFont"))
TestClient = need("starlette.testclient").TestClient

TEXT = "7210 4149\n5906 9015"
PAGE = written(TEXT)


def file_of(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def as_json(reading: Any) -> Any:
    return json.loads(json.dumps({"text": reading.text, **asdict(reading)}))


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    patient = Settings(reading_timeout=60, page_timeout=60)  # on a busy machine
    with TestClient(create_app(patient), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_it_answers_what_read_returns(client: TestClient, kind: str) -> None:
    body = file_of(PAGE, kind)
    response = client.post("/read", content=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert answer.pop("read_microseconds") > 0
    assert (answer.pop("height"), answer.pop("width")) == PAGE.shape
    assert answer == as_json(read(decode(body)))
    assert answer["text"] == TEXT


def test_a_picture_without_digits(client: TestClient) -> None:
    answer = client.post("/read", content=file_of(np.full((50, 70), 255, np.uint8))).json()
    assert (answer["text"], answer["lines"]) == ("", [])
    assert (answer["height"], answer["width"]) == (50, 70)


def test_boxes_are_in_pixels_of_the_file(client: TestClient) -> None:
    """A JPEG file as large as this is decoded at a fraction of its size for one digit."""
    small, times = written("117"), 20
    large = small.repeat(times, 0).repeat(times, 1)
    assert decode(file_of(large, "JPEG")).shape != large.shape
    answer = client.post("/read", content=file_of(large, "JPEG")).json()
    assert answer["text"] == "117" and (answer["height"], answer["width"]) == large.shape
    rows, columns = (np.flatnonzero((small < 128).any(axis)) for axis in (1, 0))
    ink = [rows[0], rows[-1] + 1, columns[0], columns[-1] + 1]
    box = np.array(answer["lines"][0][0]["box"]) / times
    np.testing.assert_allclose(box, ink, atol=2)


@pytest.mark.parametrize(
    "options",
    [
        {"length": 4},
        {"pattern": r"\d{4}"},
        {"check": "luhn"},
        {"check": "mod11", "length": 4},
        {"reject_below": 0.9995},
        {"reject_below": 1e-7, "length": 3},
        {"region": (0, PAGE.shape[0] // 2, 0, PAGE.shape[1])},
    ],
)
def test_options_are_those_of_read(client: TestClient, options: dict[str, Any]) -> None:
    query = {
        name: ",".join(map(str, value)) if name == "region" else value
        for name, value in options.items()
    }
    answer = client.post(f"/read?{urlencode(query)}", content=file_of(PAGE)).json()
    want = as_json(read(PAGE, **options))
    assert {name: answer[name] for name in want} == want


@pytest.mark.parametrize("number", [".9", "0.9", "9.e-1", "0", "1.", "1"])
def test_numbers_as_the_command_takes_them(client: TestClient, number: str) -> None:
    answer = client.post(f"/read?reject_below={number}", content=file_of(PAGE)).json()
    assert answer["text"] == read(PAGE, reject_below=float(number)).text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("patern=x", "no option 'patern'; there are check, length, pattern, region, reject_below"),
        ("model=digits", "no option 'model'"),
        ("length=", "length is '', expected a number"),
        ("length=4.0", "length is '4.0'"),
        ("length=-4", "length is '-4'"),
        (f"length={'9' * 5000}", "expected a number"),
        ("length=0", "at least 1"),
        ("length=4&length=5", "length is given 2 times"),
        ("reject_below=1.5", "expected a number in 0..1"),
        ("reject_below=nan", "reject_below is 'nan', expected a number in 0..1"),
        ("reject_below=-1", "reject_below is '-1'"),
        ("reject_below=.", "reject_below is '.'"),
        ("reject_below=.e-1", "reject_below is '.e-1'"),
        ("check=isbn", "check is 'isbn', expected luhn or mod11"),
        ("region=1,2,3", "TOP,BOTTOM,LEFT,RIGHT"),
        ("region=1,2,3,4,5", "TOP,BOTTOM,LEFT,RIGHT"),
        ("region=-1,9,0,9", "TOP,BOTTOM,LEFT,RIGHT"),
        ("region=0,9999,0,9", "not inside an image of"),
        ("pattern=", "the pattern is empty"),
        ("pattern=(", "no regular expression"),
        (f"pattern={'(' * MAX_PATTERN}", "no regular expression"),
        (f"pattern={quote('a{99999999999999999999}')}", "no regular expression"),
        (f"pattern={'x' * (MAX_PATTERN + 1)}", f"at most {MAX_PATTERN}"),
    ],
    ids=lambda value: value[:24],
)
def test_wrong_options_are_refused(client: TestClient, query: str, message: str) -> None:
    response = client.post(f"/read?{query}", content=file_of(PAGE))
    assert response.status_code == 400
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    ("content", "headers", "status", "message"),
    [
        (b"", {}, 400, "no PNG or JPEG"),
        (b"GIF89a", {}, 400, "no PNG or JPEG"),
        (b"%PDF-1.7", {}, 400, "no PNG or JPEG"),
        (file_of(PAGE)[:1000], {}, 400, "damaged"),
        (b"x", {"content-type": "multipart/form-data; boundary=x"}, 415, "--data-binary"),
    ],
    ids=["empty", "another format", "PDF", "damaged", "form"],
)
def test_what_is_no_picture_is_refused(
    client: TestClient, content: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    response = client.post("/read", content=content, headers=headers)
    assert response.status_code == status
    assert message in response.json()["error"]


def test_size_is_limited() -> None:
    with TestClient(create_app(Settings(max_pixels=9999, max_body_bytes=5000))) as client:
        wide = client.post("/read", content=file_of(np.zeros((100, 100), np.uint8)))
        assert wide.status_code == 400 and "at most 9999" in wide.json()["error"]
        # Pillow has a limit of its own, which is not what the operator has chosen.
        beyond = bytearray(file_of(np.zeros((1, 1), np.uint8)))
        struct.pack_into(">II", beyond, 16, 20_000, 20_000)
        struct.pack_into(">I", beyond, 29, zlib.crc32(beyond[12:29]))
        wide = client.post("/read", content=bytes(beyond))
        assert wide.status_code == 400 and "at most 9999" in wide.json()["error"]
        assert client.post("/read", content=bytes(5001)).status_code == 413


def test_a_pattern_that_never_ends_is_ended() -> None:
    """Matching it takes exponential time; the next request is answered."""
    many = file_of(written("72104149590690157210414959069015"))
    with TestClient(create_app(Settings(page_timeout=2.0))) as client:
        assert client.post("/read", content=file_of(written("117"))).json()["text"] == "117"
        endless = client.post(f"/read?pattern={quote('([0-9]+)*[A-Z]')}", content=many)
        assert endless.status_code == 413
        assert "more than the 2 s" in endless.json()["error"]
        assert "simpler pattern" in endless.json()["error"]
        assert client.post("/read", content=file_of(written("117"))).json()["text"] == "117"


def test_memory_is_limited() -> None:
    large = file_of(np.full((4000, 4000, 3), 255, np.uint8))
    bounded = Settings(reading_memory_bytes=48 << 20, page_timeout=60)
    with TestClient(create_app(bounded)) as client:
        refused = client.post("/read", content=large)
        assert refused.status_code == 413 and "memory" in refused.json()["error"]
        assert client.post("/read", content=file_of(written("117"))).json()["text"] == "117"


def test_pictures_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdigit.serve import pictures

    monkeypatch.setattr(pictures, "MAX_PICTURES", 0)
    with TestClient(create_app()) as client:
        for path in ("/read", "/predict"):
            response = client.post(path, content=file_of(PAGE))
            assert response.status_code == 429 and response.headers["retry-after"]


def test_a_page_may_take_longer_than_one_digit() -> None:
    """And is read elsewhere, so that nobody waits behind it for one digit."""
    hasty = Settings(reading_timeout=1e-3, page_timeout=60)
    with TestClient(create_app(hasty)) as client:
        assert client.post("/read", content=file_of(PAGE)).json()["text"] == TEXT
        refused = client.post("/predict", content=file_of(np.zeros((3000, 3000), np.uint8)))
        assert refused.status_code == 413 and "more than the 0.001 s" in refused.json()["error"]


@pytest.mark.slow
def test_a_full_page_of_print_is_read() -> None:
    """In the memory that it may take; its time is the machine's."""
    page = np.full((2400, 1700), 255, np.uint8)
    numbers = np.random.default_rng(1).integers(0, 10**6, (60, 8))
    printed = Image.fromarray(page)
    draw = ImageDraw.Draw(printed)
    font = ImageFont.load_default(24)
    for row, line in enumerate(numbers.tolist()):
        draw.text((60, 30 + 39 * row), "    ".join(map(str, line)), 0, font)
    with TestClient(create_app(Settings(page_timeout=600))) as client:
        answer = client.post("/read", content=file_of(np.asarray(printed)))
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["lines"]) == len(numbers)


def test_a_process_that_ends_is_replaced(client: TestClient) -> None:
    assert client.post("/read", content=file_of(PAGE)).status_code == 200
    (process,) = client.app._pages._idle  # type: ignore[attr-defined]
    process._process.send_signal(signal.SIGKILL)
    process._process.wait()
    assert client.post("/read", content=file_of(PAGE)).json()["text"] == TEXT


def test_metrics() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with TestClient(create_app()) as client:
        for body in (file_of(PAGE), b"x", b"y"):
            client.post("/read", content=body)
        client.post("/read?length=x", content=file_of(PAGE))
        text = client.get("/metrics").text
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["fastdigit_readings_total",] == 4
    assert samples["fastdigit_reading_failures_total", "400"] == 3
    assert samples["fastdigit_reading_duration_seconds_count",] == 4
    assert samples["fastdigit_reading_duration_seconds_sum",] > 0
    assert samples["fastdigit_requests_total", "digits"] == 0


def test_it_is_described(client: TestClient) -> None:
    """The answer has what the schema requires, and nothing else."""
    described = client.get("/openapi.json").json()["paths"]["/read"]["post"]
    assert [one["name"] for one in described["parameters"]] == [
        *("length", "pattern", "check", "region", "reject_below"),
    ]
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    answer = client.post("/read", content=file_of(PAGE)).json()

    def check(value: Any, schema: dict[str, Any]) -> None:
        kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": float}
        assert isinstance(value, kinds[schema["type"]]), (value, schema)
        if schema["type"] == "object":
            assert sorted(value) == sorted(schema["required"]) == sorted(schema["properties"])
            for name, one in value.items():
                check(one, schema["properties"][name])
        if schema["type"] == "array" and "prefixItems" in schema:
            for one, of in zip(value, schema["prefixItems"], strict=True):
                check(one, of)
        elif schema["type"] == "array":
            for one in value:
                check(one, schema["items"])

    check(answer, schema)
    assert answer["lines"]
