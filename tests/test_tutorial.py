"""docs/tutorial.md, done as it says: its blocks are the files and commands of this test."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

import fastdigit
from tests.support import ROOT, need
from tests.support.serving import WAIT, Server, wait_until_it_listens

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
DEFAULT_URL = "http://127.0.0.1:8000"

need("keras", "tensorflow", "tf2onnx", "onnxruntime", "PIL", "starlette", "uvicorn")


@dataclass
class Reader:
    """Somebody who saves the Python blocks and types the shell blocks, in order."""

    folder: Path
    blocks: list[tuple[str, str]]
    printed: dict[str, str] = field(default_factory=dict)
    url: str = DEFAULT_URL
    serve: str = ""

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "2"}

    def install(self) -> None:
        """The `python` and `fastdigit` of this test, whatever the shell would find."""
        (self.folder / "bin").mkdir()
        for name, arguments in (("python", ""), ("fastdigit", "-m fastdigit.cli")):
            script = self.folder / "bin" / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            script.chmod(0o755)
        # The root of a clone, after `pip install --editable`: Python finds `fastdigit` there first.
        for name in ("fastdigit", "examples"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.folder / name, ignore=ignore)

    def read_on(self) -> str:
        """Do all blocks up to the one that starts the server, and return that; "" at the end."""
        while self.blocks:
            kind, text = self.blocks.pop(0)
            if text.startswith("fastdigit serve"):
                return text.strip()
            if kind == "python":
                name = re.match(r"# (\w+\.py)\n", text)
                assert name, f"a block does not say what it is saved as: {text}"
                text = text.replace(DEFAULT_URL, self.url)
                (self.folder / name[1]).write_text(text, encoding="utf-8")
            else:
                self.type(text)
        return ""

    def type(self, command: str) -> None:
        done = subprocess.run(
            ["sh", "-e", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}{done.stdout}{done.stderr}"
        self.printed[command.strip()] = done.stdout

    def output_of(self, start: str) -> str:
        (found,) = [text for command, text in self.printed.items() if command.startswith(start)]
        return found


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert {kind for kind, _ in blocks} == {"python", "sh"}
    reader = Reader(tmp_path_factory.mktemp("tutorial"), blocks)
    reader.install()
    reader.serve = reader.read_on()
    return reader


def percent(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def test_it_is_done_in_the_root_of_a_clone(reader: Reader) -> None:
    assert "pip install --editable" in PAGE and "root folder of the clone" in PAGE
    (reader.folder / "where.py").write_text("import fastdigit; print(fastdigit.__file__)")
    reader.type("python where.py")
    where = Path(reader.output_of("python where.py").strip())
    assert where == (reader.folder / "fastdigit/__init__.py").resolve()


def test_the_network_learns(reader: Reader) -> None:
    claimed = percent(r"gets more than (\d+) % of the test pictures right", PAGE)
    assert (
        percent(r"accuracy on the test pictures: ([\d.]+)%", reader.output_of("python train"))
        > claimed
    )


def test_what_is_compiled_is_what_was_trained(reader: Reader) -> None:
    import keras

    compiled = reader.output_of("fastdigit compile")
    assert "labels agree on 100.00%" in compiled
    accuracy = percent(r"accuracy ([\d.]+)%, of", compiled)
    assert accuracy == percent(r"of the source ([\d.]+)%", compiled)
    trained = percent(r"test pictures: ([\d.]+)%", reader.output_of("python train"))
    assert abs(accuracy - trained) <= 0.1
    assert "computes what signs.keras does" in reader.output_of("fastdigit verify")

    images = np.load(reader.folder / "test-images.npy")
    assert images.shape == (350, 32, 32, 3)
    assert images.dtype == np.uint8
    model = fastdigit.load(reader.folder / "signs.fdm")
    assert model.classes == tuple(sorted(p.name for p in (reader.folder / "signs/test").iterdir()))
    want = keras.saving.load_model(reader.folder / "signs.keras").predict(images / 255, verbose=0)
    np.testing.assert_allclose(model.run(images), want, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(model.predict(images), want.argmax(axis=1))


def test_figures_of_the_page_are_those_of_the_network(reader: Reader) -> None:
    """The sample output but for what depends on machine and versions."""
    size = re.search(r"signs\.fdm: ([\d,]+) bytes", PAGE)
    assert size
    written = (
        (reader.folder / "signs.fdm").stat().st_size
    )  # META's figures have more or less digits
    assert abs(int(size[1].replace(",", "")) - written) <= 256
    images = len(np.load(reader.folder / "test-labels.npy"))
    assert f"{images} images, compared with the source in float64" in PAGE
    listed = fastdigit.load(reader.folder / "signs.fdm").classes
    drawn = list((reader.folder / "signs").glob("*/*/*.png"))
    assert "seven classes, 250 pictures of each" in PAGE
    assert (len(listed), len(drawn)) == (7, 7 * 250)


def test_using_it_prints_a_class_for_each_picture(reader: Reader) -> None:
    lines = reader.output_of("python use.py").splitlines()
    found = [re.fullmatch(r"signs/test/(\w+)/0000.png: (\w+) \([\d.]+%\)", line) for line in lines]
    assert len(found) == 7
    assert all(found)
    right = sum(match[1] == match[2] for match in found if match)
    assert right >= 6  # of 7, by a network that is right in 95 % of cases


def test_it_does_not_import_keras(reader: Reader) -> None:
    code = "import runpy, sys; sys.argv[1:] = ['signs/test/left/0000.png']; "
    code += "runpy.run_path('use.py'); "
    code += "assert not {'keras', 'tensorflow', 'onnx', 'onnxruntime'} & set(sys.modules)"
    reader.type(f'PYTHONPATH=. python -c "{code}"')


def test_the_server_answers_what_the_model_does(reader: Reader) -> None:
    log = reader.folder / "serve.log"
    with log.open("wb") as file:
        # Some other port: 8000 may not be free.
        process = subprocess.Popen(
            ["sh", "-c", f"exec {reader.serve} --port 0"],
            cwd=reader.folder,
            env=reader.environment,
            stdout=file,
            stderr=file,
        )
    server = Server(process, log)
    try:
        wait_until_it_listens(server)
        reader.url = server.url
        assert reader.read_on() == ""
        path = reader.folder / "signs/test/limit_30/0000.png"
        model = fastdigit.load(reader.folder / "signs.fdm")
        images = np.load(reader.folder / "test-images.npy")
        first = 50 * model.classes.index("limit_30")
        probabilities = model.run(images[first])[0]
        name = model.classes[int(probabilities.argmax())]
        assert path.exists()
        assert reader.output_of("python ask.py") == f"{name} ({probabilities.max():.1%})\n"

        # All pictures, to the last bit.
        tensor = {"name": "input", "datatype": "UINT8", "shape": list(images.shape)}
        body = json.dumps({"inputs": [{**tensor, "data": images.ravel().tolist()}]}).encode()
        with urlopen(Request(f"{server.url}/v2/models/signs/infer", body), timeout=WAIT) as answer:
            outputs = {one["name"]: one["data"] for one in json.load(answer)["outputs"]}
        got = np.array(outputs["probabilities"], np.float32).reshape(-1, 7)
        assert got.tobytes() == model.run(images).tobytes()
        assert outputs["label"] == model.predict(images).tolist()
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(WAIT)
    assert status == 0, log.read_text()
