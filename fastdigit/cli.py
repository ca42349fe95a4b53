"""The ``fastdigit`` command.

A subcommand is a module with ``add_arguments(parser)`` and ``run(options, parser) -> int``, which
is imported when it is asked for.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from fastdigit import __version__
from fastdigit.commands.shell import OutputError, abandon_output, ending_on_interrupt, writing
from fastdigit.errors import FastDigitError, VerificationError, in_words, printable

__all__ = ["main"]

NOT_VERIFIED: Final = 1
ERROR: Final = 2
INTERRUPTED: Final = 130
NOT_WRITTEN: Final = 1
#: As a shell tells of a program that SIGPIPE ended.
BROKEN_PIPE: Final = 141

#: Characters of an error.
LONGEST: Final = 1200

#: Name, module, and what `fastdigit --help` says.
COMMANDS: Final = {
    "compile": ("fastdigit.commands.compile", "make a model file from a model of another library"),
    "check": ("fastdigit.commands.check", "say what of a model is supported, without compiling"),
    "inspect": ("fastdigit.commands.inspect", "show what a model file holds"),
    "verify": ("fastdigit.commands.verify", "hold a model file against its source again"),
    "predict": (
        "fastdigit.commands.predict",
        "say what image files show: the digit, or the label of your own network",
    ),
    "read": (
        "fastdigit.commands.read",
        "read all digits of pictures, scans and PDF files: fields, lines, pages",
    ),
    "serve": ("fastdigit.serve.command", "serve models over HTTP, with a page to draw digits on"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments
        Command line without the program's name; default: that of the process.

    Returns
    -------
    int
        0; 1 if the subcommand did its work and found something wrong, or what it prints cannot be
        written; 2 for any other error; 130 when interrupted; 141 if nobody reads what it prints.
    """
    if sys.stderr is None:  # or errors would be printed among results
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="fastdigit", description="Recognise digits, or run any small convolutional network."
    )
    parser.add_argument("--version", action="version", version=f"fastdigit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name in arguments[:1]:
            with ending_on_interrupt():  # a traceback of an import helps nobody
                import_module(module).add_arguments(command)
            command.set_defaults(module=module, parser=command)
    options = parser.parse_args(arguments)
    try:
        status: int = import_module(options.module).run(options, options.parser)
        with writing():
            pass  # what is still in the buffer
    except VerificationError as error:
        _complain(options.command, f"{error}; nothing was written")
        return NOT_VERIFIED
    except FastDigitError as error:
        _complain(options.command, str(error))
        return ERROR
    except BrokenPipeError:
        abandon_output()
        return BROKEN_PIPE
    except OutputError as error:
        abandon_output()
        _complain(options.command, str(error))
        return NOT_WRITTEN
    except OSError as error:
        _complain(options.command, in_words(error))
        return ERROR
    except MemoryError as error:
        _complain(options.command, f"out of memory: {error}")
        return ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _complain(command: str, text: str) -> None:
    """Print an error in one line; those of other libraries have many, and whole configurations."""
    line = printable(" ".join(text.split()))
    if len(line) > LONGEST:
        line = f"{line[:LONGEST]} ... ({len(line):,} characters)"
    print(f"fastdigit {command}: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
