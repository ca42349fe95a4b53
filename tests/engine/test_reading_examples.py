"""The examples that read pictures read what they draw."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import ROOT, need

need("PIL.Image")
EXAMPLES = ROOT / "examples" / "python"


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> object:
    """Run an example in an empty folder, as a shell would; its module and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(name: str, *arguments: str) -> tuple[ModuleType, str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        for module in (name, "handwriting"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        module = __import__(name)
        assert not module.main()
        return module, capsys.readouterr().out

    return run


def test_zip_codes(run) -> None:
    module, printed = run("read_zip_codes")
    want = [f"zip-{n}.png: {code}" for n, (_, code) in enumerate(module.ENVELOPES)]
    assert printed.splitlines() == want
    assert run("read_zip_codes", "zip-1.png")[1] == f"{want[1]}\n"


def test_exam_sheet(run) -> None:
    module, printed = run("read_exam_sheet")
    for line, (number, *points) in zip(printed.splitlines(), module.ROWS, strict=True):
        found = line.split()
        assert found[:5] == [module.with_check_digit(number), *points]
        assert found[6] == str(sum(map(int, points)))


def test_water_meter(run) -> None:
    module, printed = run("read_water_meter")
    assert printed.startswith(f"meter.png: {int(module.READING) / 1000:.3f} m3 (")
    window = ",".join(map(str, module.WINDOW))
    assert run("read_water_meter", "meter.png", window)[1] == printed


def test_sudoku(run) -> None:
    module, printed = run("read_sudoku")
    read, solved = printed.split("\n\n")
    assert read.replace(" ", "") == module.GIVEN
    grid = [[int(digit) for digit in line.split()] for line in solved.splitlines()]
    every = set(range(1, 10))
    assert all(set(line) == every for line in [*grid, *zip(*grid, strict=True)])
    for n in range(9):
        top, left = n // 3 * 3, n % 3 * 3
        assert {grid[top + k // 3][left + k % 3] for k in range(9)} == every
    given, full = (re.sub(r"\s", "", text) for text in (module.GIVEN, solved))
    assert all(a in (".", b) for a, b in zip(given, full, strict=True))


def test_a_sudoku_without_solution_is_told(run, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = run("read_sudoku")
    grid = [[5, 5, *[0] * 7], *[[0] * 9 for _ in range(8)]]
    monkeypatch.setattr(module, "grid_of", lambda *_: grid)
    assert module.main() == 1
