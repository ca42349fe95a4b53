"""Where C programs find the header and the library that the package carries.

``fastdigit-config --cflags --libs`` prints what a compiler needs; pkg-config finds the same through
the ``pkg_config`` entry point of the package `pkgconf`. docs/c-api.md is the guide.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

__all__ = ["get_include", "get_library", "main"]

_PACKAGE: Final = os.path.dirname(os.path.abspath(__file__))


def get_include() -> str:
    """Folder of ``fastdigit.h``, for a C compiler's ``-I``.

    Raises
    ------
    FileNotFoundError
        The package was built without it.
    """
    return os.path.dirname(_installed("include", "fastdigit.h"))


def get_library() -> str:
    """Path of the C library, to load (``ctypes``, ``dlopen``) or to link with.

    It is the one that this package runs on; its name ends in the version of its ABI.

    Raises
    ------
    FileNotFoundError
        The package was built without it.
    """
    folder = _installed("lib")
    for name in sorted(os.listdir(folder)):
        if name.startswith("libfastdigit."):
            return os.path.join(folder, name)
    raise FileNotFoundError(_missing(os.path.join(folder, "libfastdigit.so.*")))


def _installed(*parts: str) -> str:
    path = os.path.join(_PACKAGE, *parts)
    if not os.path.exists(path):
        raise FileNotFoundError(_missing(path))
    return path


def _missing(path: str) -> str:
    return f"{path} does not exist: it is made when fastdigit is built; install fastdigit again"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``fastdigit-config``."""
    import argparse
    import shlex

    from fastdigit import _core

    parser = argparse.ArgumentParser(
        prog="fastdigit-config",
        description="Options to compile and link C programs with the library of this package, in "
        "the words of a compiler driver (gcc, clang).",
    )
    parser.add_argument("--version", action="store_true", help="version of the library")
    parser.add_argument("--includedir", action="store_true", help="folder of fastdigit.h")
    parser.add_argument("--library", action="store_true", help="path of the library")
    parser.add_argument("--pkgconfigdir", action="store_true", help="folder for PKG_CONFIG_PATH")
    parser.add_argument("--cflags", action="store_true", help="options to compile with")
    parser.add_argument(
        "--libs",
        action="store_true",
        help="options to link with; the program will find the library where it lies now",
    )
    chosen = parser.parse_args(arguments)
    lines = []
    if chosen.version:
        lines.append(_core.version())
    if chosen.includedir:
        lines.append(get_include())
    if chosen.library:
        lines.append(get_library())
    if chosen.pkgconfigdir:
        lines.append(os.path.dirname(_installed("lib", "pkgconfig", "fastdigit.pc")))
    words = [f"-I{get_include()}"] if chosen.cflags else []
    if chosen.libs:
        library = get_library()
        words += [library, f"-Wl,-rpath,{os.path.dirname(library)}"]
    if words:
        lines.append(shlex.join(words))
    if not lines:
        parser.error("nothing was asked for: see --help")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
