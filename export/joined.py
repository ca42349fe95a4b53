"""Train the network that reads digits which touch or overlap without cutting them apart.

    python -m export.joined --data DIR --writers FILE --output runs/joined

Fields are made of training digits (:mod:`export.fields`), found as the reader finds them in any
page, and drawn as strips (:mod:`fastdigit.reader.strips`); the network learns their digits from
left to right with CTC. The last epoch counts; validation is on fields of held-out writers' digits.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import fastdigit
from export.fields import OTHER, field
from export.reader import carry_out, options_of
from export.segments import owner_of, proposed
from fastdigit.images.ink import INK
from fastdigit.reader.strips import STRIP, WINDOW

if TYPE_CHECKING:
    from collections.abc import Mapping

    import keras
    from numpy.typing import NDArray

    from fastdigit.compiler.driver import Compiled

    Examples = tuple[NDArray[np.uint8], NDArray[np.uint8]]
    Strips = tuple[list[NDArray[np.uint8]], list[list[int]]]

__all__ = ["Recipe", "build", "examples", "main"]

#: How digits of its fields stand: those that share ink more often than on forms.
SPACINGS: Final = {
    "wide": 0.08,
    "close": 0.20,
    "touching": 0.32,
    "overlapping": 0.32,
    "boxes": 0.04,
    "comb": 0.04,
}
# A digit is in a strip if so much of its ink is. A strip with some of one, but less, is left out.
INSIDE, OUTSIDE = 0.75, 0.1
# Widths that a batch's strips are filled up to.
WIDTHS: Final = (64, 96, 128, WINDOW)
# Two strips that make one: columns between them, from where ink meets ink.
BETWEEN: Final = (-5, 6)
#: Classes: nothing; the digits; what is none.
BLANK: Final = 0
NO_DIGIT: Final = 11


@dataclass(frozen=True)
class Recipe:
    """What is trained.

    Parameters
    ----------
    fields, validation_fields
        How many are made with each seed, of training and of held-out writers' digits.
    seeds
        Of the fields.
    pairs
        The part of a batch's strips that are two of them, joined.
    epochs, batch_size, learning_rate, weight_decay
        Of AdamW, whose learning rate falls as a cosine.
    warm_up
        Batches until it is at its highest.
    shift
        Rows that a strip is moved by at most, up or down.
    seed
        Of everything random but the fields.
    """

    fields: int = 7000
    validation_fields: int = 300
    seeds: tuple[int, ...] = (2, 3)
    pairs: float = 0.2
    epochs: int = 14
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warm_up: int = 100
    shift: int = 2
    seed: int = 1


def build() -> keras.Model:
    """The network: 32 rows of bytes in, scores of 12 classes for every second column out."""
    import keras

    layers = keras.layers

    def convolved(filters: int) -> keras.Layer:
        return layers.Conv2D(
            filters, 3, padding="same", activation="relu", kernel_initializer="he_normal"
        )

    # On large images, normalization takes as long as the convolutions.
    def normalized(filters: int, size: tuple[int, int]) -> list[keras.Layer]:
        return [
            layers.ZeroPadding2D((0, size[1] // 2)),
            layers.Conv2D(filters, size, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.15),
        ]

    return keras.Sequential(
        [
            keras.Input((STRIP, None, 1)),
            layers.Rescaling(1 / 255),
            convolved(12),
            layers.MaxPooling2D(2),
            convolved(24),
            layers.MaxPooling2D((2, 1)),
            convolved(48),
            layers.MaxPooling2D((2, 1)),
            *normalized(80, (4, 3)),
            *normalized(80, (1, 5)),
            layers.Conv2D(NO_DIGIT + 1, (1, 3), padding="same"),
            layers.Reshape((-1, NO_DIGIT + 1)),
        ],
        name="joined",
    )


def examples(digits: Examples, count: int, random: np.random.Generator) -> Strips:
    """Strips of ``count`` fields.

    Parameters
    ----------
    digits
        Images, uint8 (N, 28, 28), and labels (N,).
    count
        How many fields.
    random
        Where the randomness comes from.

    Returns
    -------
    strips, classes
        uint8 (32, width) each; and of each the classes from left to right: 1 to 10 for digits, 11
        for what is none.
    """
    from fastdigit.reader.strips import strip_of

    strips: list[NDArray[np.uint8]] = []
    classes: list[list[int]] = []
    for _ in range(count):
        made = field(*digits, random, SPACINGS)
        fields, factor = proposed(made)
        candidates = [candidate for one in fields for candidate in one.candidates]
        if not candidates:
            continue
        owner, whole = owner_of(made, candidates, factor)
        for one in fields:
            seen = np.zeros(owner.shape, bool)
            for piece in one.pieces:
                own = seen[piece.top : piece.bottom, piece.left : piece.right]
                own |= piece.ink > INK
            owners = owner[seen]
            found = np.bincount(owners[owners >= 0], minlength=len(whole))
            part = found / np.maximum(whole, 1)
            inside = part >= INSIDE
            if inside.any() and not (~inside & (part > OUTSIDE)).any():
                strips.append(strip_of(one.pieces, one.height).pixels)
                labels = [made.labels[number] for number in np.flatnonzero(inside)]
                classes.append([NO_DIGIT if label == OTHER else label + 1 for label in labels])
    return strips, classes


def joined(left: NDArray[np.uint8], right: NDArray[np.uint8], gap: int) -> NDArray[np.uint8]:
    """Two strips side by side, with so many columns between their ink where they are closest."""
    before, behind = left > 100, right > 100
    both = before.any(1) & behind.any(1)
    free = before[:, ::-1].argmax(1) + behind.argmax(1)
    start = left.shape[1] - (int(free[both].min()) if both.any() else 0) + gap
    start = max(start, 3)
    out = np.zeros((len(left), max(left.shape[1], start + right.shape[1])), np.uint8)
    out[:, : left.shape[1]] = left
    own = out[:, start : start + right.shape[1]]
    np.maximum(own, right, out=own)
    return out


def batches_of(strips: Strips, recipe: Recipe, random: np.random.Generator) -> Any:
    """Batches of strips of about the same width, in another order in each epoch."""
    import keras

    kept = [n for n, strip in enumerate(strips[0]) if strip.shape[1] <= WINDOW]
    most = 2 * max(len(strips[1][n]) for n in kept)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.on_epoch_end()

        def on_epoch_end(self) -> None:
            made: list[tuple[NDArray[np.uint8], list[int]]] = []
            for number in random.permutation(kept).tolist():
                pixels, told = strips[0][number], strips[1][number]
                if random.random() < recipe.pairs:
                    other = int(random.choice(kept))
                    two = joined(pixels, strips[0][other], int(random.integers(*BETWEEN)))
                    if two.shape[1] <= WINDOW:
                        pixels, told = two, told + strips[1][other]
                made.append((pixels, told))
            self.batches: list[tuple[int, list[tuple[NDArray[np.uint8], list[int]]]]] = []
            waiting: dict[int, list[tuple[NDArray[np.uint8], list[int]]]] = {w: [] for w in WIDTHS}
            for one in made:
                width = next(w for w in WIDTHS if w >= one[0].shape[1])
                waiting[width].append(one)
                if len(waiting[width]) == recipe.batch_size:
                    self.batches.append((width, waiting[width]))
                    waiting[width] = []
            # As many in each epoch: the learning rate counts them.
            self.batches = self.batches[: len(self)]

        def __len__(self) -> int:
            return max(1, len(kept) // recipe.batch_size - len(WIDTHS))

        def __getitem__(self, number: int) -> Any:
            width, some = self.batches[number]
            images = np.zeros((len(some), STRIP, width, 1), np.float32)
            told = np.zeros((len(some), most), np.int32)
            for at, (pixels, classes) in enumerate(some):
                left = random.integers(0, width - pixels.shape[1] + 1)
                rows = int(random.integers(-recipe.shift, recipe.shift + 1))
                images[at, :, left : left + pixels.shape[1], 0] = np.roll(pixels, rows, 0)
                told[at, : len(classes)] = classes
            return images, told

    return Batches()


def train(
    recipe: Recipe, strips: Strips, held: Strips, output: Path, start: Path | None = None
) -> dict[str, Any]:
    """Train on the first strips, validate on the second; write the model and return its history.

    ``start`` is a network to go on with: its weights, not the state of its optimizer.
    """
    import keras

    from fastdigit import decode_ctc

    keras.utils.set_random_seed(recipe.seed)
    batches = batches_of(strips, recipe, np.random.default_rng(recipe.seed))
    model = build() if start is None else keras.models.load_model(start, compile=False)
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4,
        max(1, recipe.epochs * len(batches) - recipe.warm_up),
        alpha=0.01,
        warmup_target=recipe.learning_rate,
        warmup_steps=recipe.warm_up,
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, clipnorm=5.0),
        keras.losses.CTC(),
        jit_compile=False,
    )
    fitting = [n for n, strip in enumerate(held[0]) if strip.shape[1] <= WINDOW]
    seen = np.zeros((len(fitting), STRIP, WINDOW, 1), np.float32)
    for at, number in enumerate(fitting):
        seen[at, :, : held[0][number].shape[1], 0] = held[0][number]
    names = ["", *"0123456789", "x"]
    texts = ["".join(names[label] for label in held[1][number]) for number in fitting]
    right: list[float] = []

    def told(epoch: int, logs: Any) -> None:
        read = decode_ctc(model.predict(seen, verbose=0), blank=BLANK, classes=names)
        right.append(float(np.mean([a == b for a, b in zip(read, texts, strict=True)])))
        print(f"epoch {epoch + 1}: loss {logs['loss']:.3f}, right {right[-1]:.3f}", flush=True)
        model.save(output / "joined.keras")

    output.mkdir(parents=True, exist_ok=True)
    history = model.fit(
        batches,
        epochs=recipe.epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=told)],
    )
    return {"loss": [float(value) for value in history.history["loss"]], "right": right}


def compiled(output: Path, provenance: Mapping[str, Any]) -> Compiled:
    """Compile the network that was trained in ``output``, beside it."""
    return fastdigit.compile(
        output / "joined.keras",
        output / "joined.fdm",
        name="joined",
        input_shape=(STRIP, WINDOW, 1),
        classes=["", *"0123456789", "x"],
        ctc_blank=BLANK,
        provenance=provenance,
    )


def main(arguments: list[str] | None = None) -> int:
    parser = options_of("joined", __doc__, Recipe)
    parser.add_argument(
        "--start", metavar="FILE", type=Path, help="a network to go on with: .keras"
    )
    options = parser.parse_args(arguments)
    recipe = Recipe(fields=options.fields, epochs=options.epochs, seed=options.seed)

    def trained(own: Examples, held: Examples) -> dict[str, Any]:
        strips: Strips = ([], [])
        for seed in recipe.seeds:
            some = examples(own, recipe.fields, np.random.default_rng([seed, 7]))
            strips[0].extend(some[0])
            strips[1].extend(some[1])
        random = np.random.default_rng([recipe.seed, 7])
        validation = examples(held, recipe.validation_fields, random)
        return train(recipe, strips, validation, options.output, options.start)

    return carry_out("joined", options, recipe, trained, compiled)


if __name__ == "__main__":
    sys.exit(main())
