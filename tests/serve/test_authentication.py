"""With a token set, only health and the page answer without it, whatever the path and method."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdigit.serve import Settings, create_app
from tests.support import need

need("uvicorn", "httptools", "prometheus_client", "PIL")
TestClient = need("starlette.testclient").TestClient

SERVE = Path(create_app.__code__.co_filename).parent

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
OPEN = {"/", "/page.css", "/page.js", "/v2/health/live", "/v2/health/ready"}
RIGHT = {"authorization": "Bearer sesame"}
WRONG: list[dict[str, Any]] = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": "Bearer sesam"},
    {"authorization": "Bearer sesame "},
    {"authorization": "Bearer sesame, Bearer sesame"},
    {"authorization": "Basic sesame"},
    {"authorization": "sesame"},
    {"authorization": "Bearer sésame".encode()},
    {"x-authorization": "Bearer sesame"},
    {"cookie": "authorization=Bearer sesame"},
]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(token="sesame")), raise_server_exceptions=False) as client:
        yield client


def paths_of(client: TestClient) -> set[str]:
    """Every path that the application knows: those of its routes and those that it documents."""
    routes = client.app._routes.routes  # type: ignore[attr-defined]
    found = {
        route.path.format(model=model, version=version)
        for route in routes
        for model in ("digits", "nothing")
        for version in ("1", "2")
    }
    documented = set(client.get("/openapi.json", headers=RIGHT).json()["paths"])
    assert len(documented) >= 13 and documented <= found
    return found


def test_every_route_and_method_refuses_without_the_token(client: TestClient) -> None:
    paths = paths_of(client) | {"/nothing", "/v2/", "/v2/models", "/v2/health", "/predict?token=x"}
    assert paths > OPEN
    refused = set()
    for path in sorted(paths):
        for method in METHODS:
            response = client.request(method, path)
            if path in OPEN:
                assert response.status_code in (200, 405), (method, path)
                continue
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"] == "Bearer"
            assert method == "HEAD" or list(response.json()) == ["error"]
            assert client.request(method, path, headers=RIGHT).status_code != 401, (method, path)
            refused.add(path)
    assert refused == paths - OPEN


@pytest.mark.parametrize("headers", WRONG, ids=str)
def test_what_is_not_the_token_is_refused(client: TestClient, headers: dict[str, Any]) -> None:
    for method, path in (
        ("GET", "/v2"),
        ("GET", "/metrics"),
        ("POST", "/v2/models/digits/infer"),
        ("POST", "/predict"),
    ):
        assert client.request(method, path, headers=headers).status_code == 401, path


def test_the_scheme_has_no_case_and_the_token_is_given_once(client: TestClient) -> None:
    """RFC 9110, section 11.1."""
    assert client.get("/v2", headers={"authorization": "bearer  sesame"}).status_code == 200
    twice = [("authorization", "Bearer sesame"), ("authorization", "Bearer other")]
    for headers in (twice, twice[::-1], [twice[0]] * 2):
        assert client.get("/v2", headers=headers).status_code == 401


def test_only_what_is_inside_a_folder_of_health_is_open(client: TestClient) -> None:
    assert client.get("/v2/health/nothing").status_code == 404
    for path in ("/v2/healthy", "/v2/health/../models/digits", "/page.js/", "//"):
        # Clients tidy paths up; a server has to expect them as they are.
        raw = client.request("GET", f"http://testserver{path}")
        assert raw.status_code == 401, path


def test_refused_inference_is_counted_and_not_run(client: TestClient) -> None:
    def counted(name: str) -> float:
        text = client.get("/metrics", headers=RIGHT).text
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    failures = 'fastdigit_request_failures_total{model="digits",status="401"}'
    before = [
        counted(name) for name in (failures, "fastdigit_batch_size_count", "fastdigit_requests")
    ]
    client.post("/v2/models/digits/infer", content=b"{}")
    after = [
        counted(name) for name in (failures, "fastdigit_batch_size_count", "fastdigit_requests")
    ]
    assert after[0] == before[0] + 1 and after[1] == before[1] and after[2] == before[2] + 1


def test_without_a_token_in_the_settings_nobody_is_asked_for_one() -> None:
    with TestClient(create_app(Settings())) as client:
        assert client.get("/v2").status_code == 200
        assert client.get("/v2", headers={"authorization": "Bearer x"}).status_code == 200


def test_the_token_is_looked_at_in_one_place() -> None:
    """What compares, or reads the header, is in authentication.py alone."""
    found = set()
    for path in sorted(SERVE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in (b"authorization", "authorization"):
                found.add(path.name)
            if isinstance(node, ast.Attribute) and node.attr == "compare_digest":
                found.add(path.name)
    assert found == {"authentication.py"}
