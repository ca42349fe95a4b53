"""The ``fastdigit`` command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from fastdigit import __version__
from fastdigit.errors import FastDigitError, VerificationError

__all__ = ["COMMANDS", "main"]

#: Each is a module of fastdigit.commands with add_arguments(parser) and run(options) -> status.
COMMANDS = {
    "compile": "make a model file from a Keras or ONNX file, and verify it",
    "inspect": "show what a model file holds",
    "verify": "hold a model file against its source again",
}

NOT_VERIFIED = 1
OTHER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments
        Command line without the program's name; default: that of the process.

    Returns
    -------
    int
        0; 1 if a compiled model differs from its source; 2 for any other error; 130 when
        interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="fastdigit",
        description="Compile and run small convolutional networks on the CPU.",
        epilog="Exit status: 0; 1 if a compiled model differs from its source; 2 for any other "
        "error.",
    )
    parser.add_argument("--version", action="version", version=f"fastdigit {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        child = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name in given[:1]:  # the others' modules, and what they import, are not needed
            _module(name).add_arguments(child)
    options = parser.parse_args(given)
    try:
        status: int = _module(options.command).run(options)
    except VerificationError as error:
        print(f"fastdigit {options.command}: {error}; nothing was written", file=sys.stderr)
        return NOT_VERIFIED
    except (FastDigitError, OSError) as error:
        print(f"fastdigit {options.command}: {error}", file=sys.stderr)
        return OTHER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _module(name: str) -> Any:
    return importlib.import_module(f"fastdigit.commands.{name}")


if __name__ == "__main__":
    sys.exit(main())
