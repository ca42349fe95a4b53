"""Ray's processes on this machine, for tests that kill one."""

from __future__ import annotations

import os
from pathlib import Path


def processes_called(word: str) -> list[int]:
    """Descendants of this process whose title begins with ``ray::`` and has `word`."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            titles[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            status = (folder / "stat").read_text()
        except OSError:  # it ended meanwhile
            continue
        parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])

    def ours(pid: int) -> bool:
        while pid > 1:
            if pid == os.getpid():
                return True
            pid = parents.get(pid, 0)
        return False

    return [
        pid
        for pid, title in sorted(titles.items())
        if title.startswith("ray::") and word in title and ours(pid)
    ]
