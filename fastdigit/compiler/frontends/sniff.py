"""What a file is, by its content: names lie, and downloads are often something else.

A front end says in its record how its own files look, with the properties of :class:`Content`.
Here is what people give besides: files that are no model, or none that can be read, and what to do
about each. Nothing in a file is run or unpickled, and little of it is read.
"""

from __future__ import annotations

import json
import mmap
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastdigit.errors import FastDigitError, ModelFormatError, UnsupportedError

__all__ = [
    *("DIRECTORIES", "KINDS", "LENGTH", "VARINT", "Content", "Directory", "Kind"),
    *("what_directory_is", "what_is"),
]

HEAD = 1 << 12
#: JSON beyond this is not looked at.
MAX_JSON = 1 << 26
#: A file of Protocol Buffers with more parts than this is not looked at further.
MAX_FIELDS = 1 << 20

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Content:
    """The content of a file, looked at as far as needed."""

    path: Path

    @cached_property
    def head(self) -> bytes:
        """The first bytes."""
        with self.path.open("rb") as file:
            return file.read(HEAD)

    @cached_property
    def tail(self) -> bytes:
        """The last bytes."""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - HEAD))
            return file.read(HEAD)

    @cached_property
    def text(self) -> str | None:
        """The first characters, without blanks before them; None if this is no text."""
        for cut in range(4 if len(self.head) == HEAD else 1):  # it may end within a character
            try:
                text = self.head[: len(self.head) - cut].decode("utf-8-sig")
            except UnicodeDecodeError:
                continue
            return text.lstrip() if _is_text(text) else None
        return None

    @property
    def is_zip(self) -> bool:
        """Whether this begins as a zip archive does."""
        return self.head.startswith((b"PK\3\4", b"PK\5\6"))

    @property
    def is_tar(self) -> bool:
        """Whether this is a tar archive that is not compressed."""
        return self.head[257:262] == b"ustar"

    @cached_property
    def is_hdf5(self) -> bool:
        """Whether this is HDF5.

        Its specification allows a block of the user's before it, of 512 bytes, 1024 and so on. In
        an archive what begins there is one of the files in it.
        """
        signature = b"\x89HDF\r\n\x1a\n"
        if self.head.startswith(signature):
            return True
        if self.is_zip or self.is_tar:
            return False
        with self.path.open("rb") as file:
            size, place = self.path.stat().st_size, 512
            while place + 8 <= size and place <= 1 << 16:
                file.seek(place)
                if file.read(8) == signature:
                    return True
                place *= 2
        return False

    @cached_property
    def members(self) -> frozenset[str]:
        """Names of the files in a zip archive; empty if this is none."""
        if not self.is_zip:
            return frozenset()
        try:
            with zipfile.ZipFile(self.path) as archive:
                return frozenset(archive.namelist())
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError):
            return frozenset()

    @cached_property
    def json(self) -> Any:
        """What JSON says; None if this is none."""
        if not (self.text or "").startswith(("{", "[", '"')):
            return None
        if self.path.stat().st_size > MAX_JSON:
            return None
        try:
            return json.loads(self.path.read_bytes())
        except (ValueError, RecursionError):
            return None

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the JSON object that this is; empty if it is none."""
        return frozenset(self.json) if isinstance(self.json, dict) else frozenset()

    @cached_property
    def fields(self) -> Mapping[int, int]:
        """Numbers of the outermost fields of a message of Protocol Buffers, each with its wire
        type; empty if this is none. Most other files are none."""
        if self.path.stat().st_size < 2:
            return {}
        with (
            self.path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _fields(data, len(data)) or {}


def _is_text(text: str) -> bool:
    return all(char.isprintable() or char in "\t\n\r\f" for char in text)


def _fields(data: Any, size: int) -> dict[int, int] | None:
    """Walk a message; None if it is none: it does not end where the data does, or a field has two
    types. See https://protobuf.dev/programming-guides/encoding/."""
    found: dict[int, int] = {}
    place = 0

    def varint() -> int | None:
        nonlocal place
        value = shift = 0
        while place < size and shift < 70:
            byte = int(data[place])
            place, value, shift = place + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value
        return None

    for _ in range(MAX_FIELDS):
        if place == size:
            return found
        key = varint()
        if key is None or not 0 < key >> 3 < 1 << 29:
            return None
        number, kind = key >> 3, key & 7
        if found.setdefault(number, kind) != kind:
            return None
        length: int | None
        if kind == VARINT:
            length = None if varint() is None else 0
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(kind, varint() if kind == LENGTH else None)
        if length is None or length > size - place:
            return None
        place += length
    return None


@dataclass(frozen=True)
class Kind:
    """A kind of file that no front end reads.

    Parameters
    ----------
    what
        It is, with an article.
    advice
        What to do, as a clause.
    matches
        Whether a file is one.
    error
        What it is an error of.
    """

    what: str
    advice: str
    matches: Callable[[Content], bool]
    error: type[FastDigitError] = UnsupportedError


def what_is(content: Content) -> Kind | None:
    """Return what a file is that no front end reads; None if that is not known."""
    return next((kind for kind in KINDS if kind.matches(content)), None)


def _begins(*signatures: bytes, at: int = 0) -> Callable[[Content], bool]:
    return lambda content: content.head[at:].startswith(signatures)


def _text_begins(*words: str) -> Callable[[Content], bool]:
    return lambda content: (content.text or "").lower().startswith(words)


def _has_keys(*keys: str) -> Callable[[Content], bool]:
    return lambda content: bool(content.keys & set(keys))


def _holds(*endings: str) -> Callable[[Content], bool]:
    return lambda content: any(name.endswith(endings) for name in content.members)


def _is_message(required: Mapping[int, int], allowed: Iterable[int]) -> Callable[[Content], bool]:
    def matches(content: Content) -> bool:
        fields = content.fields
        return required.items() <= fields.items() and set(fields) <= {*required, *allowed}

    return matches


_TO_ONNX = "torch.onnx.export(model.eval(), images, 'model.onnx')"
_FROM_TORCH = f"load it in PyTorch, with the code of its network, and export it: {_TO_ONNX}"
_FROM_TFJS = (
    "convert it: tensorflowjs_converter --input_format tfjs_layers_model --output_format keras "
    "model.json model.h5"
)
_RAW = "download the file itself (on GitHub and Hugging Face: its raw or download link)"
_PICTURES = (
    *(b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM"),
    *(b"II*\0", b"MM\0*"),
)

#: Most telling first.
KINDS: tuple[Kind, ...] = (
    Kind(
        "a git-lfs pointer, not the file itself",
        "run `git lfs pull`, or " + _RAW,
        _begins(b"version https://git-lfs"),
    ),
    Kind(
        "an HTML page, saved in place of the file",
        _RAW,
        _text_begins("<!doctype html", "<html", "<head"),
    ),
    Kind(
        "a model that fastdigit has compiled already",
        "use it: fastdigit.load(path)",
        _begins(b"\x89FDM\r\n\x1a\n"),
    ),
    # ---- other libraries ----
    Kind(
        "a model in ONNX Runtime's own format",
        "compile the .onnx file that it was made from",
        _begins(b"ORTM", at=4),
    ),
    Kind(
        "a TorchScript archive of PyTorch",
        "load it with torch.jit.load and export it: " + _TO_ONNX,
        _holds("/constants.pkl"),
    ),
    Kind(
        "a program exported by PyTorch (torch.export)",
        "load it with torch.export.load and export it: " + _TO_ONNX,
        _holds("serialized_exported_program.json", "models/model.json"),
    ),
    Kind("a PyTorch file", _FROM_TORCH, _holds("data.pkl")),
    Kind(
        "a PyTorch file",
        _FROM_TORCH,
        lambda content: b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" in content.head[:16],
    ),
    Kind(
        "a Python pickle, which could run any code and is not opened",
        "load it where it was made and export it to ONNX (torch.onnx.export, or skl2onnx.to_onnx)",
        _begins(*(bytes([128, protocol]) for protocol in range(2, 6))),
    ),
    Kind(
        "weights in the format safetensors, without a network",
        _FROM_TORCH,
        lambda content: content.head[8:10] == b'{"' and b'"data_offsets"' in content.head,
    ),
    Kind(
        "NumPy arrays",
        "give a model; weights alone don't say what the network is",
        lambda content: (
            bool(content.members) and all(name.endswith(".npy") for name in content.members)
        ),
    ),
    Kind(
        "a NumPy array, not a model",
        "give a model; images to verify with go with --calibrate",
        _begins(b"\x93NUMPY"),
    ),
    Kind(
        "a Core ML package",
        "compile the model that it was converted from",
        _holds("com.apple.CoreML/model.mlmodel", ".mlpackage/Manifest.json"),
    ),
    Kind(
        "a checkpoint of TensorFlow: weights without a network",
        "load it with the program that made it, and save the model: model.save('model.keras')",
        lambda content: (
            content.tail.endswith(b"\x57\xfb\x80\x8b\x24\x75\x47\xdb")
            or content.path.suffix.startswith(".data-0")
            or (content.text or "").startswith("model_checkpoint_path:")
        ),
    ),
    Kind(
        "a model of a language, in GGUF",
        "this compiler is for small image networks",
        _begins(b"GGUF"),
    ),
    # ---- JSON and other text ----
    Kind(
        "a Jupyter notebook", "run it, and compile the model that it saves", _has_keys("nbformat")
    ),
    Kind(
        "a TensorFlow.js model",
        _FROM_TFJS,
        _has_keys("modelTopology", "weightsManifest"),
    ),
    Kind(
        "the architecture of a Keras model, without weights",
        "compile the file of its weights, and give this one with --architecture",
        lambda content: (
            {"class_name", "config"} <= content.keys
            or (isinstance(content.json, str) and '"class_name"' in content.json)
        ),
    ),
    Kind(
        "JSON, but no model",
        "give the file that has the network and its weights",
        lambda content: content.json is not None,
    ),
    Kind(
        "an OpenVINO model",
        "compile the model that it was converted from",
        _text_begins('<?xml version="1.0"?>\n<net ', '<?xml version="1.0" ?>\n<net ', "<net "),
    ),
    Kind("XML, but no model", _RAW, _text_begins("<?xml")),
    Kind(
        "an ncnn network", "compile the model that it was converted from", _text_begins("7767517")
    ),
    Kind("a PDF document, not a model", "give the file that has the network", _begins(b"%PDF-")),
    Kind(
        "a text file, not a model",
        "give the file that has the network and its weights",
        lambda content: content.text is not None,
    ),
    # ---- pictures and archives ----
    Kind(
        "a picture, not a model",
        "to read the digit in it: fastdigit predict FILE",
        lambda content: (
            content.head.startswith(_PICTURES)
            or (content.head[:4] == b"RIFF" and content.head[8:12] == b"WEBP")
        ),
    ),
    Kind(
        "a zip archive",
        "unpack it, and compile the model in it",
        lambda content: bool(content.members),
    ),
    Kind(
        "a zip archive that is cut off or damaged",
        "download or copy it again",
        _begins(b"PK\3\4"),
        ModelFormatError,
    ),
    Kind(
        "a compressed archive",
        "unpack it, and compile the model in it",
        lambda content: (
            content.head.startswith(
                (
                    b"\x1f\x8b",
                    b"BZh",
                    b"\xfd7zXZ\0",
                    b"7z\xbc\xaf\x27\x1c",
                    b"Rar!",
                    b"\x28\xb5\x2f\xfd",
                )
            )
            or content.is_tar
        ),
    ),
    # ---- messages of Protocol Buffers, which say least of themselves ----
    Kind(
        "the saved_model.pb of a SavedModel",
        "give the directory that it lies in",
        _is_message({1: VARINT, 2: LENGTH}, ()),
    ),
    Kind(
        "a frozen graph of TensorFlow 1",
        "convert it: python -m tf2onnx.convert --graphdef FILE --inputs x:0 --outputs y:0 "
        "--output model.onnx",
        _is_message({1: LENGTH}, (2, 3, 4, 5)),
    ),
    Kind(
        "a Core ML model",
        "compile the model that it was converted from",
        lambda content: content.fields.get(1) == VARINT and max(content.fields) >= 200,
    ),
    Kind(
        "a Caffe model",
        "convert it to ONNX, and compile that",
        lambda content: bool({100, 2} & set(content.fields)) and content.fields.get(1) == LENGTH,
    ),
)


@dataclass(frozen=True)
class Directory:
    """A kind of directory that no front end reads: the files that tell, and as in :class:`Kind`."""

    files: tuple[str, ...]
    what: str
    advice: str


#: Most telling first.
DIRECTORIES: tuple[Directory, ...] = (
    Directory(
        ("config.json", "model.weights.h5"),
        "an unpacked .keras file",
        "zip these files again, or save the model anew: model.save('model.keras')",
    ),
    Directory(
        ("checkpoint",),
        "a directory of TensorFlow checkpoints: weights without a network",
        "load them with the program that made them, and save the model: model.save('model.keras')",
    ),
    Directory(
        ("Manifest.json", "Data"),
        "a Core ML package",
        "compile the model that it was converted from",
    ),
    Directory(("model.json",), "a TensorFlow.js model", _FROM_TFJS),
    Directory(("variables",), "a SavedModel without its saved_model.pb", "copy all of it"),
    Directory(("data.pkl",), "an unpacked PyTorch file", _FROM_TORCH),
)


def what_directory_is(path: Path) -> Directory | None:
    """As :func:`what_is`."""
    found = (kind for kind in DIRECTORIES if all((path / name).exists() for name in kind.files))
    return next(found, None)
