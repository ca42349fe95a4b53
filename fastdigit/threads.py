"""How many threads a call may use: what was asked for, the environment, or what this process may
have."""

from __future__ import annotations

import os
from typing import Final, Literal

from fastdigit.errors import InputError

__all__ = [
    "MAX_THREADS",
    "Threads",
    "available_cpus",
    "cpu_quota",
    "resolve_threads",
    "usable_cpus",
]

MAX_THREADS: Final = 256
VARIABLE: Final = "FASTDIGIT_NUM_THREADS"

Threads = int | Literal["auto"]


def resolve_threads(threads: Threads | None) -> int:
    """Number of threads that a model uses.

    Parameters
    ----------
    threads
        A number, ``"auto"`` for as many as :func:`available_cpus`, or None for what
        ``FASTDIGIT_NUM_THREADS`` says, which is 1 if it is not set.

    Raises
    ------
    TypeError
        It is neither a number nor "auto".
    InputError
        The number is not in 1..256, or the variable is neither such a number nor "auto".
    """
    if threads is None:
        text = os.environ.get(VARIABLE)
        if text is None:
            return 1
        if text != "auto" and not (
            text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_THREADS
        ):
            raise InputError(f"{VARIABLE} is {text!r}, expected 1 to {MAX_THREADS} or 'auto'")
        threads = "auto" if text == "auto" else int(text)
    if threads == "auto":
        return available_cpus()
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads is {threads!r}, expected an int or 'auto'")
    if not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads is {threads}, expected 1 to {MAX_THREADS}")
    return threads


def available_cpus() -> int:
    """CPUs this process may keep busy: its affinity, and its quota rounded down; at least 1."""
    quota = cpu_quota()
    cpus = len(usable_cpus())
    if quota is not None:
        cpus = min(cpus, int(quota))
    return max(1, min(cpus, MAX_THREADS))


def usable_cpus() -> list[int]:
    """Numbers of the CPUs this process may run on, in ascending order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cpu_quota(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> float | None:
    """CPUs that the control groups of this process grant: the least of its group and all above it.

    Parameters
    ----------
    root
        Where the control groups are mounted.
    membership
        The file that says in which this process is.

    Returns
    -------
    float or None
        None without a limit, or where there are no control groups.

    Notes
    -----
    Version 2 has ``cpu.max``, version 1 ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``; see the
    kernel's Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst.
    """
    quotas = []
    for line in (_read(membership) or "").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base, read = root, _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = os.path.join(root, controllers), _quota_v1
            if not os.path.isdir(base):
                base = os.path.join(root, "cpu")
        else:
            continue
        # In a container the path may be the host's, while only its own group is mounted.
        group = path.strip("/")
        while True:
            quota = read(os.path.join(base, group))
            if quota is not None:
                quotas.append(quota)
            if not group:
                break
            group = os.path.dirname(group)
    return min(quotas, default=None)


def _quota_v2(folder: str) -> float | None:
    quota, _, period = (_read(os.path.join(folder, "cpu.max")) or "max").partition(" ")
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: str) -> float | None:
    quota = _read(os.path.join(folder, "cpu.cfs_quota_us"))
    period = _read(os.path.join(folder, "cpu.cfs_period_us"))
    return None if quota is None or period is None or int(quota) < 0 else int(quota) / int(period)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return None
