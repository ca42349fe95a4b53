"""What several subcommands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.verify import Verification
from fastdigit.errors import InputError
from fastdigit.limits import Limits

__all__ = [
    "add_architecture",
    "add_choice",
    "add_limits",
    "add_samples",
    "choice_of",
    "limits_of",
    "load_array",
    "print_verification",
    "samples_of",
]


def add_architecture(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what network a file of weights is of."""
    parser.add_argument(
        "--architecture",
        metavar="JSON",
        type=Path,
        help="of a source that has weights alone: what model.to_json() of Keras gives",
    )


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which outputs to keep, and the shape of images."""
    parser.add_argument(
        "--keep",
        metavar="NAME",
        action="append",
        help="an output to keep, of several; may be given again (default: all)",
    )
    parser.add_argument(
        "--input-shape",
        metavar=("HEIGHT", "WIDTH", "CHANNELS"),
        type=int,
        nargs=3,
        help="of images, for a network that takes any height and width",
    )


def choice_of(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments for the compiler that :func:`add_choice` stands for."""
    return {
        "outputs": options.keep and tuple(options.keep),
        "input_shape": options.input_shape and tuple(options.input_shape),
    }


def add_samples(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to verify with."""
    parser.add_argument(
        "--calibrate",
        metavar="NPY",
        type=Path,
        help="images (N, height, width[, channels]) to compare on: real ones, if you can "
        "(default: 64 generated ones)",
    )
    parser.add_argument(
        "--labels", metavar="NPY", type=Path, help="their right outputs (N,): measures accuracy"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        help="largest error allowed (default: that of the precision, see docs/compiler.md)",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what a model file may ask for."""
    parser.add_argument(
        "--limit",
        metavar="NAME=NUMBER",
        action="append",
        default=[],
        help="what the model may ask for, such as operations=1e11, if that is more than what is "
        "safe for files from anywhere; may be given again (see docs/limits.md)",
    )


def limits_of(options: argparse.Namespace) -> Limits:
    """The limits that :func:`add_limits` stands for."""
    return Limits.parsed(options.limit)


def samples_of(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments for the compiler that :func:`add_samples` stands for."""
    return {
        "samples": None if options.calibrate is None else load_array(options.calibrate),
        "labels": None if options.labels is None else load_array(options.labels),
        "tolerance": options.tolerance,
    }


def load_array(path: Path) -> NDArray[Any]:
    """Read a ``.npy`` file; never unpickles.

    Raises
    ------
    InputError
        If it is not one.
    OSError
        If it can't be read.
    """
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except ValueError as error:
        raise InputError(f"{path} is not a .npy file of numbers: {error}") from error


def print_verification(found: Verification) -> None:
    """Print the distribution of errors and what agrees."""
    median, q90, q99 = found.error_quantiles
    print(f"{found.samples:,} images, compared with {found.reference}:")
    print(f"  labels agree on {found.label_agreement:.2%}")
    print(
        f"  largest error of an image: median {median:.2g}, 90 % below {q90:.2g}, "
        f"99 % below {q99:.2g}, greatest {found.max_error:.2g}"
    )
    if found.exact_error is not None:
        print(
            f"  against float64: {found.exact_error:.2g}, of {found.reference} "
            f"{found.reference_error:.2g}; float32 can attain {found.attainable_error:.2g}"
        )
    if found.beyond_float32:
        print("  more than 1e-05, as plain sums in float32 are in this network")
    if found.source_accuracy is not None and found.accuracy is not None:
        print(f"  accuracy {found.accuracy:.2%}, of the source {found.source_accuracy:.2%}")
