"""What static analysis is told not to say, is explained where it is told."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support.repository import ROOT

SOURCES = [
    path
    for folder in ("fastdigit", "csrc", "export", "benchmarks", "examples", "tests/fuzz")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".pyx", ".pxd", ".c", ".h")
]
#: Of security, and of clang's analysers; style explains itself.
SUPPRESSED = re.compile(r"#\s*noqa:\s*S\d+(.*)|NOLINT(?:NEXTLINE|BEGIN)?\b(.*)|#\s*nosec(.*)")


def test_there_is_something_to_look_at() -> None:
    assert any(SUPPRESSED.search(path.read_text(encoding="utf-8")) for path in SOURCES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_exceptions_are_explained(path: object) -> None:
    """On the line itself, or in the comment that ends in the lines before it."""
    lines = path.read_text(encoding="utf-8").splitlines()  # type: ignore[attr-defined]
    for number, line in enumerate(lines):
        if not SUPPRESSED.search(line) or "NOLINTEND" in line:
            continue
        reasons = [line.partition("noqa")[2].partition(" ")[2].partition(" ")[2]]
        before = lines[max(0, number - 4) : number]
        reasons += [text for text in before if re.search(r"#\s+\w|\*\s+\w|/\*", text)]
        assert any(len(reason.split()) >= 4 for reason in reasons), f"{path}:{number + 1}"


def test_general_exceptions_are_explained() -> None:
    text = (ROOT / ".clang-tidy").read_text(encoding="utf-8")
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    checks = re.findall(r"-((?:bugprone|clang-analyzer|cert|concurrency)-[\w.-]+)", text)
    aliases = {"cert-exp45-c", "cert-dcl37-c", "cert-dcl51-cpp", "cert-exp42-c", "cert-flp37-c"}
    assert len(checks) > 5 and "clang-analyzer-*" in text
    for check in set(checks) - aliases:  # these are other names of the bugprone ones
        word = re.split(r"[-.]", check, maxsplit=1)[1].split(".")[-1]
        word = re.sub("(assignment-in-).*", r"\1...", word)
        assert word in comments, check
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    before = project[: project.index("\nignore = [")].rpartition("\nselect")[2]
    for rule in tomllib.loads(project)["tool"]["ruff"]["lint"]["ignore"]:
        assert rule in before, f"{rule} is ignored without a reason"


def test_clang_s_analyzer_lacks_one_check_only() -> None:
    """SECURITY.md says so."""
    text = (ROOT / ".clang-tidy").read_text(encoding="utf-8")
    assert re.findall(r"-(clang-analyzer-[\w.-]+)", text) == [
        "clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling"
    ]
