"""Train the network that tells the reader what is one whole digit.

    python -m export.segments --data DIR --writers FILE --output runs/segments

Fields are made of training digits (:mod:`export.fields`), the reader cuts them up as it does any
page (:mod:`fastdigit.reader.proposals`), and the owners of the pixels say of each candidate whether
it is one digit, and which, or a part of one, several, a letter, a dash. Digits of MNIST as they are
come to these. The last epoch counts; validation is on fields of held-out writers' digits.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import fastdigit
from export.fields import NOTHING, OTHER, Field, field
from export.reader import carry_out, options_of
from fastdigit.images.ink import INK
from fastdigit.reader.candidates import images_of
from fastdigit.reader.proposals import propose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import keras
    from numpy.typing import NDArray

    from fastdigit.compiler.driver import Compiled
    from fastdigit.reader.candidates import Candidate, Candidates
    from fastdigit.reader.proposals import Proposals

    Examples = tuple[NDArray[np.uint8], NDArray[np.uint8]]

__all__ = ["Recipe", "build", "examples", "main"]

# A candidate is a digit if it has so much of the digit's ink and so little of anything else; what
# has less than the others is none; what lies between teaches nothing.
WHOLE, PURE = 0.9, 0.88
PARTLY, IMPURE = 0.72, 0.75
DOUBTFUL: Final = 255


@dataclass(frozen=True)
class Recipe:
    """What is trained.

    Parameters
    ----------
    fields, validation_fields
        How many are made, of training and of held-out writers' digits.
    digits
        Of MNIST as they are, beside.
    kept
        Of what is no digit, which there is much more of.
    epochs, batch_size, learning_rate, weight_decay
        Of AdamW, whose learning rate falls as a cosine.
    shift
        Pixels that a batch is moved by at most, in each direction.
    seed
        Of everything random.
    """

    fields: int = 8000
    validation_fields: int = 400
    digits: int = 40_000
    kept: float = 0.55
    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    shift: int = 2
    seed: int = 1


def build() -> keras.Model:
    """The network: 28x28 bytes in, eleven probabilities out, 61,307 parameters."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(48, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(96, activation="relu"),
            layers.Dense(OTHER + 1, activation="softmax"),
        ],
        name="segments",
    )


def examples(digits: Examples, count: int, kept: float, random: np.random.Generator) -> Examples:
    """Cut ``count`` fields up.

    Parameters
    ----------
    digits
        Images, uint8 (N, 28, 28), and labels (N,).
    count
        How many fields.
    kept
        The part of what is no digit that is kept.
    random
        Where the randomness comes from.

    Returns
    -------
    images, labels
        uint8 (M, 28, 28) and (M,); the label of what is no digit is 10.
    """
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    for _ in range(count):
        made = field(*digits, random)
        fields, factor = proposed(made)
        owner, whole = owner_of(made, [c for f in fields for c in f.candidates], factor)
        for proposals in fields:
            told = _told(made.labels, owner, whole, proposals.candidates)
            keep = (told < OTHER) | ((told == OTHER) & (random.random(len(told)) < kept))
            images.append(images_of(proposals.candidates)[keep])
            labels.append(told[keep])
    return np.concatenate(images), np.concatenate(labels)


def proposed(made: Field) -> tuple[list[Proposals], int]:
    """What the reader proposes for a field, and how wide and high a pixel of it is in the field's;
    nothing, if that is not the same of all, or the field was straightened."""
    proposals = [one for line in propose(made.grey / 255.0) for one in line]
    factors = {one.factor * one.block for one in proposals}
    if len(factors) > 1 or any(one.straightened is not None for one in proposals):
        return [], 1
    return proposals, max(factors, default=1)


def owner_of(
    made: Field, candidates: Sequence[Candidate], factor: int
) -> tuple[NDArray[np.int16], NDArray[np.intp]]:
    """Of each pixel as the reader sees it the digit that it belongs to; and how much ink of each
    digit the reader found at all."""
    height, width = (-(-n // factor) for n in made.owner.shape)
    owner = np.full((height, width), NOTHING, np.int16)
    sampled = made.owner[factor // 2 :: factor, factor // 2 :: factor]
    owner[: sampled.shape[0], : sampled.shape[1]] = sampled
    inked = np.zeros(owner.shape, bool)
    for candidate in candidates:
        top, bottom, left, right = candidate.box
        inked[top:bottom, left:right] |= candidate.ink > INK
    found = owner[inked]
    return owner, np.bincount(found[found != NOTHING], minlength=len(made.labels))


def _told(
    labels: Sequence[int],
    owner: NDArray[np.int16],
    whole: NDArray[np.intp],
    candidates: Candidates,
) -> NDArray[np.uint8]:
    """The label of each candidate, or DOUBTFUL."""
    told = np.full(len(candidates), DOUBTFUL, np.uint8)
    for number, candidate in enumerate(candidates):
        top, bottom, left, right = candidate.box
        inked = candidate.ink > INK
        owners = owner[top:bottom, left:right][inked]
        shares = np.bincount(owners[owners != NOTHING], minlength=len(labels))
        most = int(shares.argmax())
        covered = shares[most] / max(int(whole[most]), 1)
        pure = shares[most] / max(int(inked.sum()), 1)
        if covered >= WHOLE and pure >= PURE:
            told[number] = labels[most]
        elif covered < PARTLY or pure < IMPURE:
            told[number] = OTHER
    return told


def train(recipe: Recipe, parts: tuple[Examples, Examples], output: Path) -> dict[str, Any]:
    """Train on fields of the first part, validate on the second; write model and result."""
    import keras

    keras.utils.set_random_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    own, held = parts
    cut = examples(own, recipe.fields, recipe.kept, random)
    validation = examples(held, recipe.validation_fields, recipe.kept, random)
    chosen = random.permutation(len(own[0]))[: recipe.digits]
    images = np.concatenate([cut[0], own[0][chosen]])
    labels = np.concatenate([cut[1], own[1][chosen]])
    print(f"{len(labels)} examples, {np.count_nonzero(labels == OTHER)} of them no digit")

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.on_epoch_end()

        def on_epoch_end(self) -> None:
            self.order = random.permutation(len(images))

        def __len__(self) -> int:
            return len(images) // recipe.batch_size

        def __getitem__(self, number: int) -> Any:
            start = number * recipe.batch_size
            some = self.order[start : start + recipe.batch_size]
            by = random.integers(-recipe.shift, recipe.shift + 1, 2)
            moved = np.roll(images[some], tuple(by), (1, 2))
            return moved[..., None].astype(np.float32), labels[some]

    model = build()
    batches = Batches()
    rate = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate, recipe.epochs * len(batches)
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    seen = validation[0][..., None].astype(np.float32), validation[1]
    history = model.fit(batches, epochs=recipe.epochs, validation_data=seen, verbose=2)
    output.mkdir(parents=True, exist_ok=True)
    model.save(output / "segments.keras")
    return {name: [float(value) for value in values] for name, values in history.history.items()}


def compiled(output: Path, provenance: Mapping[str, Any]) -> Compiled:
    """Compile the network that was trained in ``output``, beside it."""
    return fastdigit.compile(
        output / "segments.keras",
        output / "segments.fdm",
        name="segments",
        classes=[*map(str, range(OTHER)), "no digit"],
        precision="fp16",
        provenance=provenance,
    )


def main(arguments: list[str] | None = None) -> int:
    options = options_of("segments", __doc__, Recipe).parse_args(arguments)
    recipe = Recipe(fields=options.fields, epochs=options.epochs, seed=options.seed)

    def trained(own: Examples, held: Examples) -> dict[str, Any]:
        return train(recipe, (own, held), options.output)

    return carry_out("segments", options, recipe, trained, compiled)


if __name__ == "__main__":
    sys.exit(main())
