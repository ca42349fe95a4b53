"""What the server uses of uvicorn's internals is there; versions that were not tested are refused.

If a test of a name fails, that name has gone from the installed uvicorn (or has moved), and
fastdigit/serve/uvicorn_internals.py must do without it before the version may be admitted.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.metadata
import inspect
import socket
import tomllib
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import fastdigit.serve
from fastdigit.errors import MissingExtraError
from fastdigit.serve import UVICORN, require_uvicorn
from tests.support import need

uvicorn = need("uvicorn")
need("httptools")

SERVE = Path(fastdigit.serve.__file__).parent
TREE = ast.parse((SERVE / "uvicorn_internals.py").read_text(encoding="utf-8"))


def imported_names(tree: ast.AST = TREE) -> list[tuple[str, str]]:
    """What a module imports from uvicorn, below its top: module and name."""
    return [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("uvicorn.")
        for alias in node.names
    ]


def attributes(of: str) -> set[str]:
    """Attributes of a variable, or of what super() stands for, anywhere in the module."""
    found = set()
    for node in ast.walk(TREE):
        if isinstance(node, ast.Attribute):
            value = node.value
            if isinstance(value, ast.Call):
                value = value.func
            if isinstance(value, ast.Name) and value.id == of:
                found.add(node.attr)
    return found


def inherited() -> list[str]:
    """Names that Protocol takes from uvicorn's class: used or overridden, and not its own."""
    protocol = next(
        node for node in TREE.body if isinstance(node, ast.ClassDef) and node.name == "Protocol"
    )
    methods = {node.name for node in protocol.body if isinstance(node, ast.FunctionDef)}
    own = {name for name in methods if name.startswith("_")} | {
        node.attr
        for node in ast.walk(protocol)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and node.attr.startswith("_")
    }
    return sorted((attributes("self") | attributes("super") | methods) - own - {"_arguments"})


@pytest.fixture(scope="module")
def connection() -> Any:
    """uvicorn's own class with half of a request, so that it has all that it will ever have."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.server import ServerState

    async def main() -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()

        config = uvicorn.Config(app, ws="none", lifespan="off")
        made = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        transport = mock.MagicMock()
        transport.is_closing.return_value = False
        made.connection_made(transport)
        made.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{")
        return made

    return asyncio.run(main())


@pytest.mark.parametrize(("module", "name"), imported_names())
def test_uvicorn_still_has_what_is_imported(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name), f"{module} has no {name} any more"


@pytest.mark.parametrize("name", inherited())
def test_uvicorn_s_connection_still_has(connection: Any, name: str) -> None:
    assert hasattr(connection, name), (
        f"uvicorn {uvicorn.__version__}: HttpToolsProtocol has no {name} any more"
    )


@pytest.mark.parametrize("name", sorted(attributes("cycle")))
def test_uvicorn_s_request_still_has(connection: Any, name: str) -> None:
    assert hasattr(connection.cycle, name), (
        f"uvicorn {uvicorn.__version__}: RequestResponseCycle has no {name} any more"
    )


def test_what_is_used_is_found() -> None:
    assert ("uvicorn.supervisors", "Multiprocess") in imported_names()
    assert {"connections", "cycle", "pipeline", "transport", "send_400_response"} <= set(
        inherited()
    )
    assert attributes("cycle") == {
        *("response_complete", "response_started", "more_body", "keep_alive"),
    }


def test_the_supervisor_takes_what_it_is_given() -> None:
    from uvicorn.supervisors import Multiprocess

    assert list(inspect.signature(Multiprocess).parameters) == ["config", "sockets"]


#: What uvicorn documents, and others use, too.
DOCUMENTED = {("uvicorn.middleware.proxy_headers", "ProxyHeadersMiddleware")}


def test_internals_are_used_in_one_module() -> None:
    for path in sorted(SERVE.glob("*.py")):
        if path.name != "uvicorn_internals.py":
            names = imported_names(ast.parse(path.read_text(encoding="utf-8")))
            assert set(names) <= DOCUMENTED, f"{path.name} imports {names}"


def test_the_extra_asks_for_the_versions_that_were_tested() -> None:
    project = tomllib.loads((SERVE.parents[1] / "pyproject.toml").read_text())["project"]
    asked = [r for r in project["optional-dependencies"]["serve"] if r.startswith("uvicorn")]
    assert asked == [f"uvicorn>={UVICORN[0]},<{UVICORN[1]}"]
    require_uvicorn()


@pytest.mark.parametrize(
    ("version", "tested"),
    [
        ("0.34.0", False),
        ("0.52.4", False),
        ("0.53.0", True),
        ("0.54.0", True),
        ("0.54.9.dev1", True),
        ("0.55.0", False),
        ("0.100.0", False),
        ("1.0.0", False),
    ],
)
def test_other_versions_are_refused_with_a_reason(
    version: str, tested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    if tested:
        require_uvicorn()
        return
    with pytest.raises(MissingExtraError, match=f"uvicorn is {version}; .* {UVICORN[0]} .*install"):
        require_uvicorn()


def test_a_version_that_was_not_tested_serves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastdigit.cli import main

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.0")
    assert main(["serve", "--port", "0"]) == 2
    assert "fastdigit serve: uvicorn is 9.0; the server was tested with" in capsys.readouterr().err
    # The application does not depend on it.
    fastdigit.serve.create_app()


def test_each_worker_s_socket_is_made_where_it_is_unpickled() -> None:
    import pickle

    from fastdigit.serve.server import bound_socket
    from fastdigit.serve.uvicorn_internals import WorkerSocket

    with bound_socket(socket.AF_INET, ("127.0.0.1", 0)) as reserved:
        sent = pickle.dumps(WorkerSocket(bound_socket, socket.AF_INET, reserved.getsockname()))
        with pickle.loads(sent) as first, pickle.loads(sent) as second:
            assert first.getsockname() == second.getsockname() == reserved.getsockname()
            assert first.fileno() != second.fileno()
