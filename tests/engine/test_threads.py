"""How many threads a call may use."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastdigit
from fastdigit import threads
from fastdigit.errors import InputError
from fastdigit.threads import available_cpus, cpu_quota, resolve_threads, usable_cpus


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTDIGIT_NUM_THREADS", raising=False)


def test_default_is_one() -> None:
    assert resolve_threads(None) == 1
    assert fastdigit.load().threads == 1


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("7", 7), ("256", 256), ("auto", None)])
def test_variable(text: str, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDIGIT_NUM_THREADS", text)
    assert resolve_threads(None) == (expected or available_cpus())
    assert resolve_threads(3) == 3, "an argument outranks the environment"


@pytest.mark.parametrize(
    "text", ["", "0", "257", "-1", "+2", "2.0", " 2", "2 ", "two", "٢", "AUTO"]
)
def test_wrong_variable(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDIGIT_NUM_THREADS", text)
    with pytest.raises(InputError, match="FASTDIGIT_NUM_THREADS is"):
        fastdigit.load()
    assert fastdigit.load(threads=1).threads == 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, InputError),
        (-1, InputError),
        (257, InputError),
        (1.0, TypeError),
        (True, TypeError),
        ("2", TypeError),
    ],
)
def test_wrong_threads(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="threads is"):
        fastdigit.load(threads=value)  # type: ignore[arg-type]


def test_auto_is_affinity_within_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cpus", lambda: list(range(8)))
    for quota, expected in ((None, 8), (3.0, 3), (2.9, 2), (0.5, 1), (99.0, 8)):
        monkeypatch.setattr(threads, "cpu_quota", lambda quota=quota: quota)
        assert resolve_threads("auto") == expected
    assert len(usable_cpus()) >= 1


def version_1(group: str, quota: int) -> dict[str, str]:
    return {f"{group}/cpu.cfs_quota_us": str(quota), f"{group}/cpu.cfs_period_us": "100000"}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {}, None),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "300000 100000"}, 2.0),
        ("0::/a/b", {"a/cpu.max": "max 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
        # A container that sees the host's path, but has only its own group mounted.
        ("0::/kubepods/pod7/x", {"cpu.max": "400000 100000"}, 4.0),
        ("4:cpu,cpuacct:/g\n3:memory:/h", version_1("cpu,cpuacct/g", 70000), 0.7),
        ("4:cpu,cpuacct:/g", version_1("cpu/g", -1), None),
        ("", {}, None),
    ],
)
def test_quota(
    tmp_path: Path, membership: str, files: dict[str, str], expected: float | None
) -> None:
    root = write(tmp_path / "cgroup", files) if files else tmp_path
    (tmp_path / "membership").write_text(membership)
    assert cpu_quota(str(root), str(tmp_path / "membership")) == expected


def test_no_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(str(tmp_path), str(tmp_path / "missing")) is None
