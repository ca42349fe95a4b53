"""How ``fastdigit read`` prints what was read: JSON, CSV, text, a table."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from fastdigit.errors import MissingExtraError, pip_install, printable

if TYPE_CHECKING:
    from fastdigit.reader import Reading

__all__ = ["COLUMNS", "PageRead", "console", "print_csv", "print_json", "print_table", "print_text"]

#: Of CSV.
COLUMNS: Final = (
    *("file", "page", "line", "field", "text", "probability"),
    *("top", "bottom", "left", "right"),
)
#: Of a table that is not for a terminal: nothing in it is folded.
WIDE: Final = 10_000


@dataclass(frozen=True)
class PageRead:
    """A page, and what was read on it.

    Attributes
    ----------
    file
        As it was named on the command line, or below a folder that was.
    number, count
        Of the page, from 1, and of the file's pages.
    shape
        Height and width in pixels, which boxes are measured in.
    reading
        What was read.
    """

    file: str
    number: int
    count: int
    shape: tuple[int, int]
    reading: Reading


def print_json(page: PageRead) -> None:
    """Print one object in one line."""
    height, width = page.shape
    head = {"file": page.file, "page": page.number, "pages": page.count}
    size = {"height": height, "width": width, "text": page.reading.text}
    print(json.dumps({**head, **size, **asdict(page.reading)}))


def print_csv(page: PageRead) -> None:
    """Print a row a field; a page without digits has one of its own, with an empty text."""
    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    rows: list[tuple[object, ...]] = [
        (page.file, page.number, line, place, field.text, f"{field.probability:.6f}", *field.box)
        for line, fields in enumerate(page.reading.lines, 1)
        for place, field in enumerate(fields, 1)
    ]
    for row in rows or [(page.file, page.number, *[""] * (len(COLUMNS) - 2))]:
        write(row)


def print_text(page: PageRead) -> None:
    """Print the digits alone; a page ends with an empty line if others follow."""
    print(page.reading.text)
    if page.number < page.count:
        print()


def console(stderr: bool = False) -> Any:
    """A rich console; :class:`MissingExtraError` without rich."""
    try:
        module = importlib.import_module("rich.console")
    except ImportError as error:
        raise MissingExtraError(
            f"the table needs rich: {pip_install('images')}; or give --json, --csv or --text"
        ) from error
    made = module.Console(stderr=stderr, highlight=False)
    if not stderr and not made.is_terminal:
        made = module.Console(highlight=False, width=WIDE)
    return made


def print_table(pages: Sequence[PageRead], to: Any) -> None:
    """Print a row a field, for people.

    Parameters
    ----------
    pages
        What was read.
    to
        A :func:`console`.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    several = any(page.count > 1 for page in pages)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("file", overflow="fold")
    for name in (*["page"] * several, "line", "field"):
        table.add_column(name, justify="right")
    table.add_column("text", overflow="fold")
    table.add_column("probability", justify="right")
    last: tuple[str, int] | None = None
    for page in pages:
        where = page.file, page.number
        for line, fields in enumerate(page.reading.lines, 1):
            for place, field in enumerate(fields, 1):
                # The name once, and where it changes.
                head = [printable(page.file) if last is None or page.file != last[0] else ""]
                head += [str(page.number) if where != last else ""] * several
                last = where
                row = (*head, str(line), str(place), field.text, f"{field.probability:.1%}")
                table.add_row(*map(Text, row))
        if not page.reading.lines:
            head = [printable(page.file), *[str(page.number)] * several]
            table.add_row(*map(Text, (*head, "", "", "no digits", "")), style="dim")
            last = where
    # Printed here: rich has an end of its own for a pipe that nobody reads.
    with to.capture() as captured:
        to.print(table)
    sys.stdout.write(captured.get())
