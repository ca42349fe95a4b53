"""Pictures of a training run, and of what a model does, for people to look at. The suffix of the
path is the format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from export.calibration import Reliability, RiskCoverage

__all__ = [
    "draw_architecture",
    "draw_confusion",
    "draw_curves",
    "draw_misread",
    "draw_predictions",
    "draw_reliability",
    "draw_risk_coverage",
    "save",
]

# Fill of a layer's box by what it does; anything else is white.
_COLOURS = {
    "Conv2D": "#cfe3f7",
    "Dense": "#d6efd3",
    "BatchNormalization": "#fbe3c0",
    "MaxPooling2D": "#f5d0d4",
}


def draw_architecture(model: keras.Model, path: Path) -> None:
    """Draw one box a layer, top to bottom: name, kind, output shape, parameters."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    rows = [("input", "Input", model.input_shape[1:], "")]
    rows += [
        (layer.name, _describe(layer), layer.output.shape[1:], f"{layer.count_params():,}")
        for layer in model.layers
    ]
    figure = Figure(figsize=(7.0, 0.42 * len(rows) + 0.9))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0.0, 7.0), ylim=(len(rows) + 0.6, -1.2))
    axes.set_axis_off()
    columns = ((0.45, "left"), (1.5, "left"), (5.2, "right"), (6.55, "right"))
    titles = ("name", "layer", "output shape", "parameters")
    for (x, side), title in zip(columns, titles, strict=True):
        axes.text(x, -0.65, title, ha=side, va="center", size=9, color="#666666")
    for y, (name, kind, shape, parameters) in enumerate(rows):
        if y:
            axes.annotate(
                "", (3.5, y - 0.32), (3.5, y - 0.68), arrowprops={"arrowstyle": "->", "lw": 0.9}
            )
        axes.add_patch(
            FancyBboxPatch(
                (0.3, y - 0.26),
                6.4,
                0.52,
                boxstyle="round,pad=0.04",
                facecolor=_COLOURS.get(kind.split()[0], "white"),
                edgecolor="#444444",
                linewidth=0.8,
            )
        )
        texts = (name, kind, " × ".join(map(str, shape)), parameters)  # noqa: RUF001
        for (x, side), text in zip(columns, texts, strict=True):
            axes.text(x, y, text, ha=side, va="center", size=9)
    axes.text(
        6.55, len(rows) - 0.1, f"{model.count_params():,}", ha="right", va="center", size=9,
        weight="bold",
    )  # fmt: skip
    save(figure, path)


def _describe(layer: keras.Layer) -> str:
    config = layer.get_config()
    words = [type(layer).__name__]
    if "kernel_size" in config:
        words += ["×".join(map(str, config["kernel_size"])), config["padding"]]  # noqa: RUF001
    if "pool_size" in config:
        words += ["×".join(map(str, config["pool_size"]))]  # noqa: RUF001
    if words[0] == "ZeroPadding2D":
        words += [str(config["padding"][0][0])]
    if words[0] == "BatchNormalization":
        words += [f"axis={config['axis']}"]
    if words[0] == "Dropout":
        words += [str(config["rate"])]
    if "activation" in config:
        words += [config["activation"]]
    return " ".join(words)


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plot loss and accuracy by epoch, of the training and of the validation images, if any."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    epochs = np.arange(1, len(history) + 1)
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((metric, "training (with dropout)"), (f"val_{metric}", "validation")):
            if key not in history[0]:
                continue
            axes.plot(epochs, [epoch[key] for epoch in history], label=label, marker=".", ms=4)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.axes[0].set_yscale("log")
    save(figure, path)


def draw_predictions(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float32],
    path: Path,
) -> None:
    """Show the first six of `images` (N, 28, 28), in two rows, with label and prediction."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 4.4), layout="constrained")
    predictions = probabilities.argmax(axis=1)
    panels = figure.subplots(2, 3).flat
    for axes, image, label, prediction in zip(panels, images, labels, predictions, strict=False):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(f"Actual: {label} Pred: {prediction}")
        axes.set_axis_off()
    save(figure, path)


def draw_confusion(matrix: npt.NDArray[np.integer], classes: Sequence[str], path: Path) -> None:
    """Show how often each class (row) was read as each (column); colour is for what is wrong."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axes = figure.subplots()
    wrong = matrix.astype(float)
    np.fill_diagonal(wrong, np.nan)
    axes.imshow(wrong, cmap="Reds", vmin=0, vmax=max(1.0, 1.5 * float(np.nanmax(wrong))))
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "#999999" if row == column else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", size=8, color=colour)
    ticks = range(len(classes))
    axes.set(xlabel="read as", ylabel="label")
    axes.set_xticks(ticks, classes)
    axes.set_yticks(ticks, classes)
    save(figure, path)


def draw_misread(
    images: npt.NDArray[np.uint8],
    labels: Sequence[str],
    predictions: Sequence[str],
    confidences: Sequence[float],
    path: Path,
) -> None:
    """Lay out `images` (N, rows, columns), N > 0, as a contact sheet, each with what it is, what it
    was read as, and how confidently."""
    from matplotlib.figure import Figure

    n, height, width = images.shape
    columns = min(10, n)
    rows = -(-n // columns)
    caption = 9  # pixels of room below an image
    sheet = np.zeros((rows * (height + caption), columns * (width + 2)), np.uint8)
    figure = Figure(figsize=(0.8 * columns + 0.2, 1.0 * rows + 0.2), layout="constrained")
    axes = figure.subplots()
    facts = zip(images, labels, predictions, confidences, strict=True)
    for index, (image, label, prediction, confidence) in enumerate(facts):
        top, left = index // columns * (height + caption), index % columns * (width + 2)
        sheet[top : top + height, left : left + width] = image
        text = f"{label} → {prediction}  {confidence:.2f}"
        axes.text(left + width / 2, top + height + 3, text, ha="center", va="center", size=7)
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    save(figure, path)


def draw_reliability(reliability: Reliability, path: Path) -> None:
    """Plot accuracy against confidence, bin by bin, above the number of images in each bin."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left, widths = reliability.edges[:-1], np.diff(reliability.edges)
    filled = reliability.counts > 0
    above.plot((0, 1), (0, 1), color="#999999", linewidth=0.8)
    above.bar(
        left[filled], reliability.accuracy[filled], widths[filled], align="edge",
        color="#cfe3f7", edgecolor="#444444", linewidth=0.6,
    )  # fmt: skip
    above.plot(reliability.confidence[filled], reliability.accuracy[filled], "k.", markersize=4)
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    above.set_title(f"expected calibration error {reliability.error:.4f}", size=9)
    below.bar(left, reliability.counts, widths, align="edge", color="#d6efd3", edgecolor="#444444")
    below.set(xlabel="confidence", ylabel="images", yscale="log")
    save(figure, path)


def draw_risk_coverage(curve: RiskCoverage, path: Path) -> None:
    """Plot the share of misread images against the share that is labelled at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(100 * curve.coverage, 100 * curve.risk, drawstyle="steps-post")
    # What is surest is hardly ever wrong: begin where the risk begins to rise.
    rising = curve.coverage[curve.risk > 0.02 * curve.risk[-1]]
    left = max(0.0, np.floor(100 * rising[0]) - 1) if len(rising) else 0.0
    axes.set(xlabel="labelled, %", ylabel="misread of these, %", xlim=(left, 100))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Save so that the same picture gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context(
        {"svg.hashsalt": "fastdigit", "svg.fonttype": "none", "savefig.dpi": 110}
    ):
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata)
