"""The walk-throughs of CONTRIBUTING.md are true: what each lists is there, and nothing is left out.

Each names an example, a change that was made once, by a ``git grep`` command.
What that command finds today are the files which such a change touches: every one of them must be
in the list, and every row of the list must be among them, but for those that begin with "If".
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import NamedTuple

import pytest

from tests.support import ROOT
from tests.support.repository import git, repository_files

DOCUMENT = ROOT / "CONTRIBUTING.md"

#: Where everything may be named: the page itself, what was, and what belongs to no change.
ANYWHERE = ("CONTRIBUTING.md", "CHANGELOG.md", "docs/notes/*.md", "docs/images/*")


class Walk(NamedTuple):
    """A walk-through: its rows (pattern of paths, text) and the commands of its examples."""

    rows: list[tuple[str, str]]
    commands: list[str]


def walks() -> dict[str, Walk]:
    """Sections with an example, by their headings."""
    found = {}
    for section in DOCUMENT.read_text("utf-8").split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        commands = re.findall(r"`(git (?:grep|ls-files) [^`]+)`", text)
        if not commands:
            continue
        rows = [
            (path, words)
            for cell, words in re.findall(r"^\| (`[^|]+) \| (.+) \|$", text, re.MULTILINE)
            for path in re.findall(r"`([^`]+)`", cell)
        ]
        found[heading] = Walk(rows, commands)
    return found


@cache
def tracked() -> tuple[str, ...]:
    return tuple(path.relative_to(ROOT).as_posix() for path in repository_files())


def matches(pattern: str, path: str) -> bool:
    """Whether a path fits a pattern, in which words in capitals stand for any name."""
    plain = re.sub(r"(?<![A-Za-z])[A-Z]{3,}(?!\.md|\.in(?![a-z])|[A-Za-z])", "*", pattern)
    return re.fullmatch(re.escape(plain).replace(r"\*", "[^/]*"), path) is not None


def examples(walk: Walk) -> set[str]:
    """Files that the examples touch."""
    found = set()
    for command in walk.commands:
        _, subcommand, *rest = shlex.split(command)
        # New files count before they are added.
        new = ["--untracked"] if subcommand == "grep" else ["--cached", "--others"]
        paths = git(subcommand, *new, "--exclude-standard", *rest).splitlines()
        assert paths, f"{command} finds nothing"
        found |= {path for path in paths if not any(matches(p, path) for p in ANYWHERE)}
    return found


def test_the_common_changes_are_there() -> None:
    assert list(walks()) == [
        "Adding an operator",
        "Adding an ISA",
        "Adding a front end",
        "Adding a figure to the benchmark's report",
        "Fixing the server's protocol",
    ]


@pytest.mark.parametrize("heading", walks())
def test_what_a_list_names_is_there(heading: str) -> None:
    rows = walks()[heading].rows
    assert len(rows) >= 4
    for pattern, _ in rows:
        assert any(matches(pattern, path) for path in tracked()), f"there is no {pattern}"


@pytest.mark.parametrize("heading", walks())
def test_a_list_leaves_nothing_out(heading: str) -> None:
    walk = walks()[heading]
    missing = [
        path
        for path in sorted(examples(walk))
        if not any(matches(pattern, path) for pattern, _ in walk.rows)
    ]
    assert not missing, f"{heading}: {walk.commands} also finds {missing}"


@pytest.mark.parametrize("heading", walks())
def test_a_list_has_no_more_than_its_examples_touch(heading: str) -> None:
    walk = walks()[heading]
    found = examples(walk)
    idle = [
        pattern
        for pattern, words in walk.rows
        if not words.startswith("If ") and not any(matches(pattern, path) for path in found)
    ]
    assert not idle, f"{heading}: {walk.commands} finds no {idle}"


def test_patterns() -> None:
    assert matches("csrc/ops/FAMILY.c", "csrc/ops/pooling.c")
    assert matches("csrc/isa/isa_NAME.c", "csrc/isa/isa_avx2.c")
    assert not matches("csrc/ops/FAMILY.c", "csrc/ops/deep/pooling.c")
    assert matches("csrc/FORMAT.md", "csrc/FORMAT.md") and matches("README.md", "README.md")
    assert not matches("README.md", "CHANGELOG.md")
