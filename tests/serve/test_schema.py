"""What the server says of itself in /openapi.json is true, whatever is sent: schemathesis."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from fastdigit.serve import Settings, create_app
from tests.support import need
from tests.support.networks import chain, dense, packed

need("starlette", "uvicorn", "httptools", "prometheus_client", "PIL")
schemathesis = need("schemathesis")
pytestmark = pytest.mark.slow


def statuses_of(operation: Any, mode: Any) -> set[int]:
    """Send what the schema allows, or forbids; the answers must be as it says."""
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    statuses = set()
    # No schema can say what bytes are a picture with a digit on it, or which pattern is one.
    pictures = operation.path in ("/predict", "/read")
    excluded = [positive_data_acceptance] if pictures else []

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def conforms(case: Any) -> None:
        statuses.add(case.call_and_validate(excluded_checks=excluded).status_code)

    conforms()
    return statuses


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_the_schema_is_kept(mode: str, tmp_path: Path) -> None:
    """Every operation, with requests that fit the schema and with others.

    Beside the digits, whose images are large, there is a small network to generate inputs for.
    """
    path = tmp_path / "small.fdm"
    graph = chain((6,), [dense(np.random.default_rng(0), 6, 3)])
    path.write_bytes(packed(graph, input_range=(-np.inf, np.inf), u8_divisor=0))
    app = create_app(Settings(models={"small": str(path)}))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if "digits" in operation.path and operation.method == "post":
            continue
        statuses = seen.setdefault(operation.label, set())
        # What has no parameters has no requests that do not fit.
        if mode == "NEGATIVE" and operation.method != "post":
            continue
        statuses |= statuses_of(operation, schemathesis.GenerationMode[mode])
    assert len(seen) >= 6 + 2 * 2 * 3 + 2
    infer = seen["POST /v2/models/small/infer"]
    assert infer == ({200} if mode == "POSITIVE" else {400})


def test_the_greatest_number_of_the_schema_is_the_greatest_that_is_taken(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from fastdigit.serve.openapi import GREATEST

    path = tmp_path / "small.fdm"
    graph = chain((1,), [dense(np.random.default_rng(0), 1, 1)])
    path.write_bytes(packed(graph, input_range=(-np.inf, np.inf), u8_divisor=0))
    with TestClient(create_app(Settings(models={"small": str(path)}))) as client:
        for value, status in ((GREATEST, 200), (math.nextafter(GREATEST, math.inf), 400)):
            for sign in (1, -1):
                data = [sign * value]
                tensor = {"name": "input", "datatype": "FP32", "shape": [1, 1], "data": data}
                answer = client.post("/v2/models/small/infer", json={"inputs": [tensor]})
                assert answer.status_code == status, answer.text


def test_the_digits_are_described() -> None:
    app = create_app()
    from starlette.testclient import TestClient

    with TestClient(app) as client:
        paths = client.get("/openapi.json").json()["paths"]
        infer = paths["/v2/models/digits/infer"]["post"]["requestBody"]["content"]
        floats, pixels = infer["application/json"]["schema"]["properties"]["inputs"]["items"][
            "anyOf"
        ]
        assert floats["properties"]["data"]["items"]["maximum"] == 1
        assert pixels["properties"]["datatype"] == {"enum": ["UINT8"]}
        for one, value in ((floats, 0.5), (pixels, 128)):
            properties = one["properties"]
            tensor = {
                "name": properties["name"]["const"],
                "datatype": properties["datatype"]["enum"][0],
                "shape": properties["shape"]["const"],
                "data": [value] * properties["data"]["minItems"],
            }
            response = client.post("/v2/models/digits/infer", json={"inputs": [tensor]})
            assert response.status_code == 200, response.text


def test_a_token_is_part_of_it() -> None:
    from starlette.testclient import TestClient

    with TestClient(create_app(Settings(token="sesame"))) as client:
        assert client.get("/openapi.json").status_code == 401
        described = client.get("/openapi.json", headers={"authorization": "Bearer sesame"}).json()
        assert described["paths"]["/v2"]["get"]["security"] == [{"bearer": []}]
        assert "security" not in described["paths"]["/v2/health/live"]["get"]
