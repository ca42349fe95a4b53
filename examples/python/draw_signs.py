"""Draws pictures of traffic signs to train a network on.

    python examples/python/draw_signs.py signs

makes ``signs/train/<class>/*.png`` and ``signs/test/<class>/*.png``: RGB, 40x40 pixels, one of
seven signs, somewhere, of some size and angle, on some background, in more or less light. The same
seed gives the same pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE, CANVAS = 40, 64
RED, BLUE, YELLOW, WHITE, BLACK = "#b5121b", "#1d4e9e", "#f2b705", "#f2f2f2", "#141414"
DISC = (4, 4, 60, 60)


def give_way(draw: ImageDraw.ImageDraw) -> None:
    draw.polygon([(3, 8), (61, 8), (32, 58)], RED)
    draw.polygon([(16, 16), (48, 16), (32, 43)], WHITE)


def left(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse(DISC, BLUE)
    draw.polygon([(10, 32), (28, 16), (28, 26), (53, 26), (53, 38), (28, 38), (28, 48)], WHITE)


def right(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse(DISC, BLUE)
    draw.polygon([(54, 32), (36, 16), (36, 26), (11, 26), (11, 38), (36, 38), (36, 48)], WHITE)


def limit(text: str) -> Callable[[ImageDraw.ImageDraw], None]:
    def sign(draw: ImageDraw.ImageDraw) -> None:
        draw.ellipse(DISC, WHITE, RED, width=6)
        draw.text((32, 32), text, BLACK, ImageFont.load_default(32), anchor="mm")

    return sign


def no_entry(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse(DISC, RED)
    draw.rectangle((12, 26, 52, 38), WHITE)


def priority(draw: ImageDraw.ImageDraw) -> None:
    draw.polygon([(32, 2), (62, 32), (32, 62), (2, 32)], WHITE)
    draw.polygon([(32, 10), (54, 32), (32, 54), (10, 32)], YELLOW)


SIGNS: dict[str, Callable[[ImageDraw.ImageDraw], None]] = {
    "give_way": give_way,
    "left": left,
    "limit_30": limit("30"),
    "limit_80": limit("80"),
    "no_entry": no_entry,
    "priority": priority,
    "right": right,
}


def picture(name: str, random: np.random.Generator) -> Image.Image:
    """A sign as a camera might see it: RGB, `SIZE` x `SIZE`."""
    sign = Image.new("RGBA", (CANVAS, CANVAS))
    SIGNS[name](ImageDraw.Draw(sign))
    sign = sign.rotate(random.uniform(-12, 12), Image.Resampling.BICUBIC)
    size = int(random.integers(28, SIZE + 1))
    sign = sign.resize((size, size), Image.Resampling.LANCZOS)
    # A background of some blots of some colours.
    blots = random.integers(0, 256, (4, 4, 3), np.uint8)
    scene = Image.fromarray(blots).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    x, y = (int(v) for v in random.integers(0, SIZE - size + 1, 2))
    scene.paste(sign, (x, y), sign)
    light, noise = random.uniform(0.4, 1.1), random.normal(0, 10, (SIZE, SIZE, 3))
    return Image.fromarray((np.asarray(scene) * light + noise).clip(0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw pictures of traffic signs to train on.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=200, metavar="N", help="of each sign (200)")
    parser.add_argument("--test", type=int, default=50, metavar="N", help="of each sign (50)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    for part, count in (("train", options.train), ("test", options.test)):
        for name in SIGNS:
            folder = options.folder / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture(name, random).save(folder / f"{number:04}.png")
    total = len(SIGNS) * (options.train + options.test)
    print(f"{options.folder}: {total:,} pictures of {len(SIGNS)} signs")


if __name__ == "__main__":
    main()
