"""What the benchmark runs on: a description for the report, and the CPUs to pin to."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np

from fastdigit.errors import InputError
from fastdigit.threads import cpu_quota, usable_cpus

__all__ = [
    "Machine",
    "cache_sizes",
    "choose_cpus",
    "describe",
    "load_average",
    "pin",
    "pinned",
]

SYSFS_CPU = Path("/sys/devices/system/cpu")

#: Data cache sizes, bytes, where the system doesn't tell: those of most CPUs at least.
ASSUMED_CACHES = {"L1": 32 << 10, "L2": 512 << 10, "L3": 8 << 20}
SYSCONF_CACHES = {
    "L1": "SC_LEVEL1_DCACHE_SIZE",
    "L2": "SC_LEVEL2_CACHE_SIZE",
    "L3": "SC_LEVEL3_CACHE_SIZE",
}


class Machine(TypedDict):
    """The machine as the JSON report names it."""

    cpu: str
    architecture: str
    cpus: int
    cpu_quota: float | None
    isa: str
    isas_available: list[str]
    system: str
    python: str
    numpy: str
    load_average: float | None


def describe() -> Machine:
    """Describe this machine; ``load_average`` is that of the last minute, before the run."""
    import fastdigit

    config = fastdigit.config()
    return Machine(
        cpu=_cpu_model(),
        architecture=platform.machine(),
        cpus=len(usable_cpus()),
        cpu_quota=cpu_quota(),
        isa=str(config["isa"]),
        isas_available=[name for name, usable in config["isas"].items() if usable],
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        numpy=np.__version__,
        load_average=load_average(),
    )


def load_average() -> float | None:
    """Return the load average of the last minute, None where the system has none."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def choose_cpus(count: int) -> list[int]:
    """Choose the CPUs that every worker is pinned to.

    Prefers fast cores, then one hardware thread a core, so that on hybrid CPUs and with SMT
    the threads of one runtime don't share a core while another stands idle.

    Parameters
    ----------
    count
        Number of CPUs, at least 1.

    Returns
    -------
    list of int
        `count` different CPU numbers.

    Raises
    ------
    InputError
        This process may use fewer than `count` CPUs.
    """
    cpus = usable_cpus()
    if count > len(cpus):
        raise InputError(
            f"{count} threads need {count} CPUs, but this process may use only {len(cpus)}; "
            f"ask for at most --threads {len(cpus)}"
        )
    siblings_before: dict[str, int] = {}
    ranked = []
    for cpu in cpus:
        core = _read(SYSFS_CPU / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        siblings_before[core] = siblings_before.get(core, -1) + 1
        frequency = int(_read(SYSFS_CPU / f"cpu{cpu}/cpufreq/cpuinfo_max_freq") or 0)
        ranked.append((siblings_before[core], -frequency, cpu))
    return [cpu for _, _, cpu in sorted(ranked)[:count]]


def pin(cpus: list[int], thread: int = 0) -> bool:
    """Pin a thread (0: the calling one) to `cpus`; return whether this system can."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(thread, cpus)
    return True


@contextlib.contextmanager
def pinned(cpus: list[int]) -> Iterator[None]:
    """Pin the calling thread to `cpus` for a while, where this system can."""
    before = usable_cpus()
    if not pin(cpus):
        yield
        return
    try:
        yield
    finally:
        pin(before)


def cache_sizes(cpu: int) -> tuple[dict[str, int], str]:
    """Find the data caches of a CPU.

    Returns
    -------
    sizes
        Bytes by level, the nearest first: "L1", "L2" and so on.
    source
        Who said so: "sysfs", "sysconf", or "assumed" if neither knows.
    """
    sizes = {}
    for cache in sorted(SYSFS_CPU.glob(f"cpu{cpu}/cache/index*")):
        size = _read(cache / "size") or ""
        if _read(cache / "type") in ("Data", "Unified") and size[-1:] == "K":
            sizes[f"L{_read(cache / 'level')}"] = int(size[:-1]) << 10
    if sizes:
        return dict(sorted(sizes.items())), "sysfs"
    for level, name in SYSCONF_CACHES.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            if (size_ := os.sysconf(name)) > 0:
                sizes[level] = size_
    return (sizes, "sysconf") if sizes else (dict(ASSUMED_CACHES), "assumed")


def _cpu_model() -> str:
    text = _read(Path("/proc/cpuinfo")) or ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
