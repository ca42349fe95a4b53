"""Errors, and the commands that their messages give."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from fastdigit.errors import pip_install
from tests.support import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish", "pwsh"])
def test_a_shell_takes_the_command_as_it_stands(shell: str, tmp_path: Path) -> None:
    """Even where a file lies about that brackets match: unquoted, one of them would be it."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "fastdigits").touch()
    (tmp_path / "fastdigitr").touch()
    command = pip_install("serve", "ray").replace("pip install", "echo")
    done = subprocess.run(
        [shell, "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("fastdigit[serve,ray]", "")


def test_cmd_takes_the_command_too() -> None:
    """cmd.exe knows double quotes, and nothing else."""
    assert pip_install("serve") == 'pip install "fastdigit[serve]"'


def test_commands_are_written_by_one_function() -> None:
    """No message spells a command itself, and what documents say is quoted the same."""
    sources = [*(ROOT / "fastdigit").rglob("*.py"), *(ROOT / "export").rglob("*.py")]
    asked = set()
    for file in sources:
        text = file.read_text("utf-8")
        for words in re.findall(r"pip_install\((.*?)\)", text):
            asked.update(re.findall(r"""["']([a-z-]+)["']""", words))
        if file.name != "errors.py":
            code = re.sub(r'""".*?"""', "", text, flags=re.DOTALL)
            assert not re.search(r"pip install \S*\[", code), file
    assert {"compile", "serve", "ray"} <= asked <= set(EXTRAS)
    documents = [ROOT / "README.md", ROOT / "Dockerfile", *(ROOT / "docs").rglob("*.md")]
    commands = [
        line
        for file in (*sources, *documents)
        for line in re.findall(r"pip (?:install|wheel)[^\n]*\[[^\n]*", file.read_text("utf-8"))
    ]
    assert len(commands) > 5
    for command in commands:
        extras = re.search(r'"(?:\.|fastdigit)\[([a-z,{}"(). -]+)\]"', command)
        assert extras, f"quoted otherwise: {command}"
        if "{" not in command:
            assert set(extras[1].split(",")) <= set(EXTRAS), command
