"""How a model does on digits that are not quite MNIST's: ``python -m export.robustness MODEL.fdm``.

Accuracy against the severity of nine perturbations of the test digits; accuracy on digits of
another origin; and how confident the model is of images that show no digit. Nothing here is used to
train or to choose a model: it says where one ends.

The perturbations follow Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (2019), and Mu and Gilmer, "MNIST-C" (2019), in kind; the severities
are our own. All are functions of the images and a seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdigit.datasets import load_mnist, load_mnist_test
from fastdigit.errors import FastDigitError, pip_install

if TYPE_CHECKING:
    import numpy.typing as npt

    Images = npt.NDArray[np.float32]
    Labels = npt.NDArray[np.integer[Any]]

    #: Images (N, 28, 28) in [0, 1] to probabilities (N, classes).
    Predict = Callable[[Images], npt.NDArray[np.float32]]

__all__ = [
    "PERTURBATIONS",
    "Perturbation",
    "draw",
    "evaluate",
    "load_optdigits",
    "load_pieces",
    "main",
    "table",
]

SEED = 0
#: Of confidence.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Images of noise.
NOISE = 10_000
#: Pieces of photographs, and how many of their pixels, in each direction, become one.
PIECES = 2000
COARSENESS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Perturbation:
    """One way to change images.

    Parameters
    ----------
    name
        For people.
    unit
        What a severity counts.
    severities
        Ascending; `neutral` among them.
    neutral
        The severity that changes nothing.
    apply
        (images, severity, random generator) -> images, all float32 (N, 28, 28) in [0, 1].
    """

    name: str
    unit: str
    severities: tuple[float, ...]
    neutral: float
    apply: Callable[[Images, float, np.random.Generator], Images]


def _shift(images: Images, pixels: float, random: np.random.Generator) -> Images:
    """Move each image up, down, left or right, and fill with background."""
    moved, distance = np.zeros_like(images), int(pixels)
    direction = random.integers(4, size=len(images))
    side = images.shape[1]
    near, far = slice(0, side - distance), slice(distance, side)
    whole = slice(None)
    ways = [(near, whole), (far, whole), (whole, near), (whole, far)]
    for index, target in enumerate(ways):
        source = ways[index ^ 1]
        chosen = direction == index
        moved[(chosen, *target)] = images[(chosen, *source)]
    return moved


def _warp(images: Images, matrix: npt.NDArray[np.float64]) -> Images:
    """Map each pixel about the centre by `matrix` to where its value is read, bilinearly."""
    from scipy import ndimage

    centre = (np.array(images.shape[1:]) - 1) / 2
    whole = np.eye(3)
    whole[1:, 1:] = matrix
    offset = np.array([0.0, *(centre - matrix @ centre)])
    warped: Images = ndimage.affine_transform(images, whole, offset, order=1, mode="constant")
    return warped


def _rotate(images: Images, degrees: float, random: np.random.Generator) -> Images:
    """Turn half of the images one way and half the other."""
    turned, clockwise = images.copy(), random.random(len(images)) < 0.5
    for chosen, angle in ((clockwise, degrees), (~clockwise, -degrees)):
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        turned[chosen] = _warp(images[chosen], np.array([[c, -s], [s, c]]))
    return turned


def _scale(images: Images, factor: float, random: np.random.Generator) -> Images:
    return _warp(images, np.eye(2) / factor)


def _noise(images: Images, deviation: float, random: np.random.Generator) -> Images:
    noise = random.standard_normal(images.shape, np.float32)
    return np.clip(images + np.float32(deviation) * noise, 0, 1)


def _salt_and_pepper(images: Images, share: float, random: np.random.Generator) -> Images:
    """Make a share of the pixels black or white, with equal chances."""
    draw = random.random(images.shape, np.float32)
    white, black = draw < share / 2, draw >= 1 - share / 2
    return np.where(white, np.float32(1), np.where(black, np.float32(0), images))


def _blur(images: Images, deviation: float, random: np.random.Generator) -> Images:
    from scipy import ndimage

    blurred: Images = ndimage.gaussian_filter(images, (0, deviation, deviation), mode="constant")
    return blurred


def _thicken(images: Images, pixels: float, random: np.random.Generator) -> Images:
    """Widen strokes by a maximum over a window that is one pixel larger, or narrow them by a
    minimum."""
    from scipy import ndimage

    size = (1, int(abs(pixels)) + 1, int(abs(pixels)) + 1)
    change = ndimage.grey_dilation if pixels > 0 else ndimage.grey_erosion
    changed: Images = change(images, size=size, mode="constant", cval=0.0)
    return changed


def _contrast(images: Images, factor: float, random: np.random.Generator) -> Images:
    """Bring ink and background nearer to mid-grey."""
    return np.float32(0.5) + np.float32(factor) * (images - np.float32(0.5))


def _invert(images: Images, inverted: float, random: np.random.Generator) -> Images:
    return np.float32(1) - images if inverted else images


PERTURBATIONS = (
    Perturbation("shift", "pixels", (0, 1, 2, 3, 4, 5, 6), 0, _shift),
    Perturbation("rotation", "degrees", (0, 10, 20, 30, 45, 60), 0, _rotate),
    Perturbation("scale", "factor", (0.5, 0.6, 0.75, 0.9, 1.0, 1.1, 1.25, 1.4), 1, _scale),
    Perturbation("Gaussian noise", "standard deviation", (0, 0.1, 0.2, 0.3, 0.5, 0.7), 0, _noise),
    Perturbation(
        "salt and pepper", "share of pixels", (0, 0.02, 0.05, 0.1, 0.2, 0.3), 0, _salt_and_pepper
    ),
    Perturbation("blur", "standard deviation, pixels", (0, 0.5, 1, 1.5, 2, 3), 0, _blur),
    Perturbation("thickness", "pixels added to a stroke", (-2, -1, 0, 1, 2, 3), 0, _thicken),
    Perturbation("contrast", "factor", (0.1, 0.2, 0.3, 0.5, 0.75, 1.0), 1, _contrast),
    Perturbation("inverted polarity", "0: as is, 1: inverted", (0, 1), 0, _invert),
)


def load_optdigits() -> tuple[Images, npt.NDArray[np.int64]]:
    """Return the digits that scikit-learn has, in the form of MNIST's.

    1,797 digits of 13 writers (Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits",
    UCI, 1998; the test part): 8x8 counts, 0 to 16, of ink in 4x4 blocks of a 32x32 bitmap that
    the digit was stretched to fill. As MNIST's were, they are brought to 20x20 pixels (bilinear,
    grey-levels divided by 16) and placed in 28x28 with their centre of mass at the centre. The
    stretching stays: a 1 is wider than MNIST's.

    Returns
    -------
    tuple
        Images, float32 (1797, 28, 28) in [0, 1], and labels, int64 (1797,).
    """
    from scipy import ndimage
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    small = (small.reshape(-1, 8, 8) / 16).astype(np.float32)
    large = ndimage.zoom(small, (1, 2.5, 2.5), order=1, mode="grid-constant", grid_mode=True)
    return _centred(np.clip(large, 0, 1), 28), labels.astype(np.int64)


def _centred(images: Images, side: int) -> Images:
    """Place images (N, rows, columns) in larger ones, so that the centre of mass is the centre, to
    the nearest pixel."""
    n, rows, columns = images.shape
    mass = np.maximum(images.sum(axis=(1, 2)), 1e-6)
    row = (images.sum(axis=2) * np.arange(rows)).sum(axis=1) / mass
    column = (images.sum(axis=1) * np.arange(columns)).sum(axis=1) / mass
    top = np.clip(np.rint((side - 1) / 2 - row), 0, side - rows).astype(int)
    left = np.clip(np.rint((side - 1) / 2 - column), 0, side - columns).astype(int)
    placed = np.zeros((n, side, side), images.dtype)
    r = top[:, None, None] + np.arange(rows)[None, :, None]
    c = left[:, None, None] + np.arange(columns)[None, None, :]
    placed[np.arange(n)[:, None, None], r, c] = images
    return placed


def load_pieces(n: int, side: int, random: np.random.Generator) -> Images:
    """Return pieces of the two photographs that scikit-learn has, of a temple and of a flower.

    Parameters
    ----------
    n
        How many.
    side
        Rows and columns of each.
    random
        Decides where they are cut out, and how coarse they are (:data:`COARSENESS`).

    Returns
    -------
    ndarray
        Mean of the colours, float32 (n, side, side) in [0, 1].
    """
    from sklearn.datasets import load_sample_images

    photographs = [image.mean(axis=2) / 255 for image in load_sample_images().images]
    pieces = np.empty((n, side, side), np.float32)
    for piece in pieces:
        photograph = photographs[random.integers(len(photographs))]
        coarse = int(random.choice(COARSENESS))
        top, left = (int(random.integers(size - side * coarse + 1)) for size in photograph.shape)
        cut = photograph[top : top + side * coarse, left : left + side * coarse]
        piece[:] = cut.reshape(side, coarse, side, coarse).mean(axis=(1, 3))
    return pieces


def evaluate(
    predict: Predict, images: npt.NDArray[np.uint8], labels: Labels, *, seed: int = SEED
) -> dict[str, Any]:
    """Run a model on everything.

    Parameters
    ----------
    predict
        Images, float32 (N, 28, 28) in [0, 1], to probabilities (N, 10).
    images
        Test digits, uint8 (N, 28, 28).
    labels
        Theirs, (N,).
    seed
        Of what is random.

    Returns
    -------
    dict
        Plain data, for JSON: ``images`` and ``seed``; ``perturbations``, a list of name, unit,
        neutral, and severities with accuracy and mean confidence for each; ``optdigits``, with
        images, accuracy and mean confidence; ``without_digits``, for uniform noise, images of one
        grey each and pieces of photographs, with quantiles of the confidence and the share above
        0.9. Recipes may train on images of the first two kinds (:mod:`export.outliers`), none
        on those of the third.
    """
    clean = images.astype(np.float32) / np.float32(255)
    curves = []
    for number, perturbation in enumerate(PERTURBATIONS):
        points = []
        for severity in perturbation.severities:
            changed = clean
            if severity != perturbation.neutral:
                random = np.random.default_rng([seed, number])
                changed = np.clip(perturbation.apply(clean, severity, random), 0, 1)
            points.append(_score(predict(changed), labels))
        curves.append(
            {
                "name": perturbation.name,
                "unit": perturbation.unit,
                "neutral": perturbation.neutral,
                "severities": list(perturbation.severities),
                "accuracy": [point["accuracy"] for point in points],
                "confidence": [point["confidence"] for point in points],
            }
        )
    others, their_labels = load_optdigits()
    noise = np.random.default_rng(seed).random((NOISE, *clean.shape[1:]), np.float32)
    greys = np.broadcast_to(
        np.linspace(0, 1, 256, dtype=np.float32)[:, None, None], (256, *clean.shape[1:])
    )
    pieces = load_pieces(PIECES, clean.shape[1], np.random.default_rng(seed))
    return {
        "images": len(images),
        "seed": seed,
        "perturbations": curves,
        "optdigits": {"images": len(others), **_score(predict(others), their_labels)},
        "without_digits": {
            "uniform noise": _confidence(predict(noise)),
            "one grey": _confidence(predict(np.ascontiguousarray(greys))),
            "pieces of photographs": _confidence(predict(pieces)),
        },
    }


def _score(probabilities: npt.NDArray[np.float32], labels: Labels) -> dict[str, float]:
    return {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "confidence": float(probabilities.max(axis=1).mean(dtype=np.float64)),
    }


def _confidence(probabilities: npt.NDArray[np.float32]) -> dict[str, Any]:
    top = probabilities.max(axis=1).astype(np.float64)
    return {
        "images": len(top),
        "quantiles": {str(q): float(np.quantile(top, q)) for q in QUANTILES},
        "above_0.9": float((top > 0.9).mean()),
    }


def table(result: Mapping[str, Any]) -> str:
    """Return what :func:`evaluate` returned as Markdown tables."""
    lines = ["| perturbation | severity: accuracy, % |", "|---|---|"]
    for curve in result["perturbations"]:
        points = zip(curve["severities"], curve["accuracy"], strict=True)
        text = " · ".join(f"{severity:g}: {100 * accuracy:.2f}" for severity, accuracy in points)
        lines.append(f"| {curve['name']} ({curve['unit']}) | {text} |")
    other = result["optdigits"]
    lines += ["", "| digits of another origin | images | accuracy, % | mean confidence |"]
    lines += ["|---|---:|---:|---:|"]
    lines += [
        f"| optdigits, 8x8 brought to 28x28 | {other['images']:,} | {100 * other['accuracy']:.2f} "
        f"| {other['confidence']:.3f} |"
    ]
    quantiles = " | ".join(f"{100 * q:g} %" for q in QUANTILES)
    lines += ["", f"| confidence where there is no digit | images | {quantiles} | above 0.9, % |"]
    lines += ["|---|---:" + "|---:" * (len(QUANTILES) + 1) + "|"]
    for name, facts in result["without_digits"].items():
        values = " | ".join(f"{facts['quantiles'][str(q)]:.3f}" for q in QUANTILES)
        lines += [f"| {name} | {facts['images']:,} | {values} | {100 * facts['above_0.9']:.2f} |"]
    return "\n".join(lines) + "\n"


def draw(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Plot accuracy against severity, a panel for each perturbation and a line for each model.

    Parameters
    ----------
    results
        For the name of each model, what :func:`evaluate` returned.
    path
        The suffix is the format.
    """
    from matplotlib.figure import Figure

    from export.figures import save

    curves: Sequence[Mapping[str, Any]] = next(iter(results.values()))["perturbations"]
    columns = 3
    figure = Figure(figsize=(9.0, 2.5 * -(-len(curves) // columns)), layout="constrained")
    panels = figure.subplots(-(-len(curves) // columns), columns, sharey=True, squeeze=False)
    for axes in panels.flat[len(curves) :]:
        axes.set_axis_off()
    for index, (axes, curve) in enumerate(zip(panels.flat, curves, strict=False)):
        for name, result in results.items():
            line = result["perturbations"][index]
            accuracy = 100 * np.array(line["accuracy"])
            axes.plot(line["severities"], accuracy, marker=".", label=name)
        axes.axvline(curve["neutral"], color="#bbbbbb", linewidth=0.8, zorder=0)
        axes.set(title=curve["name"], xlabel=curve["unit"], ylim=(0, 102))
        axes.grid(alpha=0.3)
        if index % columns == 0:
            axes.set_ylabel("accuracy, %")
    if len(results) > 1:
        panels[0, 0].legend()
    save(figure, path)


def main(arguments: list[str] | None = None) -> int:
    import fastdigit

    parser = argparse.ArgumentParser(
        prog="python -m export.robustness",
        description="Evaluate a compiled model on changed digits, others, and no digits at all.",
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL.fdm")
    add("--output", type=Path, required=True, help="directory; made if missing")
    add("--data", type=Path, help="test digits; default: those in the package")
    options = parser.parse_args(arguments)
    try:
        model = fastdigit.load(options.model, threads="auto")
        images, labels = load_mnist(options.data)[1] if options.data else load_mnist_test()
        result = evaluate(model.predict_proba, images, labels)
        options.output.mkdir(parents=True, exist_ok=True)
        stem = options.output / f"{options.model.stem}-robustness"
        text = json.dumps(result, indent=1) + "\n"
        stem.with_suffix(".json").write_text(text, encoding="utf-8")
        stem.with_suffix(".md").write_text(table(result), encoding="utf-8")
        draw({options.model.stem: result}, stem.with_suffix(".svg"))
    except (FastDigitError, OSError) as error:
        print(f"export.robustness: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(
            f"export.robustness: {error}; it needs: {pip_install('export')}",
            file=sys.stderr,
        )
        return 1
    print(table(result), end="")
    print(f"\n{stem}.json, .md and .svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
