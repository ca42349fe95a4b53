"""What the documents promise a reader: links lead somewhere, and README begins with what counts."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdigit.datasets import load_mnist_test
from tests.support import ROOT
from tests.support.repository import repository_files

FOLDERS = ("csrc", "deploy", "docs", "examples", "export", "fastdigit", "tests", "benchmarks")
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.md"))]
)


def without_code(text: str) -> str:
    """The prose of a document: code may hold what looks like links and headings."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """What a link to a heading of a document may end with, as GitHub makes it."""
    headings = re.findall(r"^#+ +(.*)$", without_code(document.read_text("utf-8")), re.MULTILINE)
    made = set()
    for heading in headings:
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading)
        made.add(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return made


def links(document: Path) -> list[str]:
    """Targets of a document's links and images, in Markdown and in HTML, but for other sites."""
    text = without_code(document.read_text("utf-8"))
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(
        r'(?:src|href|srcset)="([^"]+)"', text
    )
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def test_documents_are_found() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in DOCUMENTS}
    assert {"README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/notes/kernels.md"} < names
    assert sum(len(links(file)) for file in DOCUMENTS) > 60
    assert "where-the-time-goes" in anchors(ROOT / "docs/performance.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in links(document):
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(file), f"{target}: the document has no such heading"


def test_every_page_of_docs_is_reached_from_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        if document in reached or document.suffix != ".md":
            continue
        reached.add(document)
        waiting += [
            (document.parent / path).resolve()
            for path in (target.partition("#")[0] for target in links(document))
            if path
        ]
    lost = [
        file.relative_to(ROOT).as_posix()
        for file in sorted((ROOT / "docs").rglob("*.md"))
        if file not in reached
    ]
    assert not lost


def test_readme_begins_with_what_it_is_three_lines_of_use_and_two_commands() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    top = "\n".join(lines[:10])
    assert top.startswith("# fastdigit\n\nfastdigit runs a small convolutional network on a CPU")
    used = [line.strip() for line in top.splitlines() if line.startswith("    ")]
    assert len(used) == 3

    images, labels = load_mnist_test()
    names: dict[str, Any] = {"images": images[:100]}
    exec("\n".join(used), names)
    assert names["labels"].dtype == np.int64 and names["labels"].shape == (100,)
    assert (names["labels"] == labels[:100]).mean() > 0.9
    assert names["probabilities"].dtype == np.float32
    assert names["probabilities"].shape == (100, 10)

    commands = [line.split("#")[0].split() for line in lines[10:20] if line.startswith("    ")]
    assert commands == [["make", "bench"], ["make", "test"]]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {"bench", "test"} <= set(targets)


#: What says where things are in the code.
ABOUT_THE_CODE = ["CONTRIBUTING.md", "docs/architecture.md", "docs/compiler.md"]

#: Headers of the system, and files that an example writes.
ELSEWHERE = {"immintrin.h", "arm_neon.h", "cpuid.h", "math.h", "digits.c", "digits.h"}


@pytest.mark.parametrize("document", ABOUT_THE_CODE)
def test_files_that_are_named_are_there(document: str) -> None:
    """By their path from the root, or by the end of it."""
    files = ["/" + file.relative_to(ROOT).as_posix() for file in repository_files()]
    named = re.findall(
        r"(?<![\w*/.])[\w/.-]*\w\.(?:py|pyx|pyi|c|h|def|md|json|toml|svg)\b",
        (ROOT / document).read_text("utf-8").replace("\\_", "_"),
    )
    assert len(set(named)) > 10
    missing = {
        name
        for name in set(named) - ELSEWHERE
        if not re.search(r"(?<![A-Za-z])[A-Z]{3,}(?![A-Za-z]|\.md)", name)
        and not any(file.endswith("/" + name.removeprefix("../")) for file in files)
    }
    assert not missing


@pytest.mark.parametrize("document", ABOUT_THE_CODE)
def test_names_in_backticks_are_those_of_the_code(document: str) -> None:
    text = without_code((ROOT / document).read_text("utf-8"))
    names = set(re.findall(r"`([A-Za-z_]\w{2,})(?:\(\))?`", text))
    assert len(names) > 20
    code = [file.read_bytes() for file in repository_files() if file.suffix != ".md"]
    words = set(re.findall(rb"\w+", b" ".join(code)))
    assert not {name for name in names if name.encode() not in words}


def test_the_picture_of_the_rooms_is_true() -> None:
    """It is what its script draws; what its boxes name is there, and no room is missing."""
    script = ROOT / "docs/images/architecture.py"
    drawing = runpy.run_path(str(script))
    picture = drawing["draw"]()
    assert script.with_suffix(".svg").read_text("utf-8") == picture.svg(drawing["TITLE"]), (
        f"run python {script.relative_to(ROOT)}"
    )
    assert len(picture.paths) > 30
    assert not [path for path in picture.paths if not (ROOT / path).exists()]
    files = [file.relative_to(ROOT) for file in repository_files()]
    rooms = {
        "/".join(file.parts[: depth + 1])
        for file in files
        for top, depth in (("csrc", 1), ("fastdigit", 1), ("fastdigit/compiler", 2))
        if file.as_posix().startswith(f"{top}/") and len(file.parts) > depth + 1
    }
    inside = {"fastdigit/compiler", "fastdigit/data", "fastdigit/models"}  # one side, and no code
    named = {*picture.paths, *(path.rpartition("/")[0] for path in picture.paths)}
    assert {"csrc/kernels", "fastdigit/serve", "fastdigit/compiler/passes"} <= rooms
    assert rooms - inside - {"csrc/cmake"} <= named
