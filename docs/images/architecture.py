"""Draws the rooms of the house: ``python docs/images/architecture.py`` writes architecture.svg.

Boxes name folders and files of this repository; tests/test_documents.py sees to it that they are
there, that no room is missing, and that the picture is what this script draws.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
WIDTH, HEIGHT = 1000, 612

#: The picture carries its own background, so it can be read on a page of either colour.
STYLE: Final = """
text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif;
       font-size: 12.5px; fill: #24292f; }
.head { font-size: 14px; font-weight: 600; }
.name { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-weight: 600; }
.note { fill: #57606a; }
.page { fill: #ffffff; stroke: #d0d7de; }
.frame { fill: none; stroke: #afb8c1; stroke-dasharray: 4 4; }
.python { fill: #ddf0ff; stroke: #4c96cf; }
.c { fill: #e3f4e1; stroke: #57a455; }
.file { fill: #fff1d0; stroke: #c49a2c; }
.outside { fill: #f3f4f6; stroke: #9aa4af; }
.arrow { fill: none; stroke: #57606a; stroke-width: 1.6; }
.tip { fill: #57606a; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .note { fill: #9da7b1; }
  .page { fill: #0d1117; stroke: #30363d; }
  .frame { stroke: #484f58; }
  .python { fill: #10304a; stroke: #4c96cf; }
  .c { fill: #14351a; stroke: #57a455; }
  .file { fill: #3d2f0a; stroke: #c49a2c; }
  .outside { fill: #1c2128; stroke: #6e7681; }
  .arrow { stroke: #9da7b1; }
  .tip { fill: #9da7b1; }
}
"""

LEFT, LEFT_WIDTH = 36, 268
RIGHT, RIGHT_WIDTH = 464, 500
STEP, BOX = 62, 48


class Picture:
    """An SVG that grows, and the paths that its boxes name."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.paths: list[str] = []

    def box(
        self, kind: str, x: float, y: float, width: float, name: str, note: str, *paths: str
    ) -> None:
        """Draw a room: its name, and below it what happens there."""
        assert max(7.7 * len(name), 6.4 * len(note)) <= width - 14, f"no room for {name}: {note}"
        self.paths += paths
        self.parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{BOX}" rx="6"/>'
        )
        self.text(x + 10, y + 20, name, "name")
        self.text(x + 10, y + 38, note, "note")

    def text(self, x: float, y: float, words: str, kind: str) -> None:
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>')

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        self.parts.append(
            f'<rect class="frame" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
            'rx="10"/>'
        )

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw a line through points, with a tip at the last one."""
        (x0, y0), (x, y) = points[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        line = " ".join(f"{a:g},{b:g}" for a, b in (*points[:-1], (x - 5 * dx, y - 5 * dy)))
        self.parts.append(f'<polyline class="arrow" points="{line}"/>')
        tip = (
            (x, y),
            (x - 8 * dx - 4.5 * dy, y - 8 * dy - 4.5 * dx),
            (x - 8 * dx + 4.5 * dy, y - 8 * dy + 4.5 * dx),
        )
        self.parts.append(
            f'<polygon class="tip" points="{" ".join(f"{a:g},{b:g}" for a, b in tip)}"/>'
        )

    def svg(self, title: str) -> str:
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img">\n<title>{escape(title)}</title>\n'
            f"<style>{STYLE}</style>\n"
            f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" '
            f'rx="12"/>\n{body}\n</svg>\n'
        )


def draw() -> Picture:
    """Draw everything."""
    picture = Picture()
    compiling(picture)
    running(picture)
    between(picture)
    return picture


def compiling(p: Picture) -> None:
    """From a network to a file, downwards."""
    p.frame(20, 20, LEFT_WIDTH + 32, HEIGHT - 40)
    p.text(LEFT, 44, "Compiling: fastdigit/compiler/", "head")
    p.text(LEFT, 62, "from a network to a file", "note")

    def modules(*names: str) -> tuple[str, ...]:
        return tuple(f"fastdigit/compiler/{name}" for name in names)

    stages = [
        ("python", "export/", "trains the networks that ship", ("export",)),
        ("outside", "Keras, ONNX, TFLite, SavedModel", "yours, or what export/ trained", ()),
        ("python", "frontends/", "read a source, node by node", modules("frontends")),
        ("python", "passes/", "graph to graph, checked after each", modules("passes")),
        ("python", "backends/", "write .fdm, one C file, or ONNX", modules("backends")),
        (
            "python",
            "verify · driver",
            "run source and result: same outputs?",
            modules("verify.py", "driver.py"),
        ),
    ]
    for number, (kind, name, note, paths) in enumerate(stages):
        y = 80 + number * STEP
        p.box(kind, LEFT, y, LEFT_WIDTH, name, note, *paths)
        if number:
            p.arrow((LEFT + LEFT_WIDTH / 2, y - STEP + BOX), (LEFT + LEFT_WIDTH / 2, y))
    shared = [
        (
            "ir · ops/ · spec",
            "the graph, its shapes, what is valid",
            modules("ir.py", "ops", "spec.py"),
        ),
        (
            "activations · axes · limits",
            "tables and rules that all of them share",
            modules("activations.py", "axes.py", "limits.py"),
        ),
    ]
    for number, (name, note, paths) in enumerate(shared, len(stages)):
        p.box("python", LEFT, 80 + number * STEP, LEFT_WIDTH, name, note, *paths)


def running(p: Picture) -> None:
    """What runs it: each row uses those below."""
    p.frame(RIGHT - 16, 20, RIGHT_WIDTH + 32, HEIGHT - 40)
    p.text(RIGHT, 44, "Running: fastdigit/ and csrc/", "head")
    p.text(RIGHT, 62, "each row uses the rows below it, never one above", "note")
    gap = 8
    quarter = (RIGHT_WIDTH - 3 * gap) / 4

    def row(number: int, *boxes: tuple[str, float, str, str, tuple[str, ...]]) -> None:
        x: float = RIGHT
        for kind, width, name, note, paths in boxes:
            p.box(kind, x, 80 + number * STEP, width, name, note, *paths)
            x += width + gap

    def several(count: float) -> float:
        return count * quarter + (count - 1) * gap

    row(
        0,
        ("python", quarter, "bench/", "fastdigit-bench", ("fastdigit/bench",)),
        ("python", quarter, "serve/", "HTTP, a page", ("fastdigit/serve",)),
        (
            "python",
            quarter,
            "commands/",
            "and cli.py",
            ("fastdigit/commands", "fastdigit/cli.py"),
        ),
        ("python", quarter, "ray.py", "clusters", ("fastdigit/ray.py",)),
    )
    row(
        1,
        (
            "python",
            several(3),
            "model · images · reader · datasets · sdk",
            "the Python API; needs NumPy alone",
            (
                "fastdigit/images",
                "csrc/image",
                "fastdigit/reader",
                *(
                    f"fastdigit/{name}.py"
                    for name in ("__init__", "model", "datasets", "threads", "sdk")
                ),
            ),
        ),
        ("outside", quarter, "your program", "C, C++, Rust", ()),
    )
    row(
        2,
        (
            "python",
            several(3),
            "_core.pyx",
            "buffers to pointers, without the GIL; exceptions",
            ("fastdigit/_core.pyx",),
        ),
    )
    row(
        3,
        (
            "c",
            RIGHT_WIDTH,
            "include/fastdigit.h",
            "the C API: models, contexts, runs; a plan describes itself",
            ("csrc/include/fastdigit.h",),
        ),
    )
    row(
        4,
        (
            "c",
            RIGHT_WIDTH,
            "model/",
            "load, place, plan, open; contexts, execution, scheduling, threads",
            ("csrc/model",),
        ),
    )
    row(
        5,
        (
            "c",
            RIGHT_WIDTH,
            "ops/",
            "a family of operators is one file: check, plan, run, describe",
            ("csrc/ops",),
        ),
    )
    row(
        6,
        ("c", quarter, "cpu/", "which ISA runs", ("csrc/cpu",)),
        ("c", quarter, "isa/", "a file each", ("csrc/isa",)),
        ("c", quarter, "kernels/", "the loops", ("csrc/kernels",)),
        ("c", quarter, "simd/", "vocabulary", ("csrc/simd",)),
    )
    row(
        7,
        ("c", several(2), "format/", "the bytes of a file; panels", ("csrc/format",)),
        ("c", several(2), "base/", "status, memory, arithmetic", ("csrc/base",)),
    )
    x = RIGHT + several(3) + gap + quarter / 2
    p.arrow((x, 80 + STEP + BOX), (x, 80 + 3 * STEP))


def between(p: Picture) -> None:
    """The file, from one side to the other."""
    left, right = LEFT + LEFT_WIDTH, RIGHT
    width, middle, y = 96, (left + right) / 2, 80 + 4 * STEP + BOX / 2
    p.arrow((left, y), (middle - width / 2, y))
    p.parts.append(
        f'<rect class="file" x="{middle - width / 2:g}" y="{y - BOX / 2:g}" width="{width}" '
        f'height="{BOX}" rx="6"/>'
    )
    p.text(middle - width / 2 + 10, y - 4, "model.fdm", "name")
    p.text(middle - width / 2 + 10, y + 14, "FORMAT.md", "note")
    p.paths.append("csrc/FORMAT.md")
    p.arrow((middle + width / 2, y), (right, y))


TITLE: Final = "The rooms of fastdigit: a compiler writes model.fdm, a C engine runs it"


def main() -> None:
    (HERE / "architecture.svg").write_text(draw().svg(TITLE), encoding="utf-8")


if __name__ == "__main__":
    main()
