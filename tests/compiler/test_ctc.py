"""Networks that read text (CTC): from the source, through the file, to what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit.cli import main
from fastdigit.errors import InputError, UnsupportedError
from tests.support import need
from tests.support.compiler_cases import OnnxNet

onnx = need("onnx")
need("onnxruntime")

#: The row of a pixel is its class, and its column the step.
CLASSES, STEPS = 5, 7


def reader(folder: Path, softmax: str = "Softmax", heads: bool = False) -> Path:
    """A network whose pictures say themselves which class is the best at each step."""
    net = OnnxNet(("N", 1, CLASSES, STEPS))
    net.add("Reshape", None, np.array([0, CLASSES, STEPS])).add("Transpose", perm=[0, 2, 1])
    net.add("Mul", None, np.float32(20)).add(softmax, axis=-1)
    model = net.model()
    if heads:
        again = onnx.helper.make_node("Neg", [model.graph.output[0].name], ["again"])
        model.graph.node.append(again)
        model.graph.output.append(
            onnx.helper.make_tensor_value_info("again", 1, ["N", STEPS, CLASSES])
        )
    path = folder / "reader.onnx"
    onnx.save(model, path)
    return path


def pictures(*rows: list[int]) -> np.ndarray:
    images = np.zeros((len(rows), CLASSES, STEPS, 1), np.uint8)
    for image, row in zip(images, rows, strict=True):
        image[row, range(STEPS), 0] = 255
    return images


#: With the last class as the blank: "abba", "d", and with the first: "abb", "".
ROWS = [[0, 4, 1, 4, 1, 1, 0], [4, 4, 3, 3, 3, 4, 4]]


@pytest.mark.parametrize("softmax", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("classes", ["abcd", ["a", "b", "c", "d", ""]])
def test_text_by_what_the_model_knows(softmax: str, classes: Any, tmp_path: Path) -> None:
    source = reader(tmp_path, softmax)
    result = fastdigit.compile(source, None, ctc_blank=-1, classes=classes)
    assert (result.meta["ctc_blank"], result.meta["classes"]) == (4, [*"abcd", ""])
    model = fastdigit.Model(result.data)
    assert model.info()["ctc_blank"] == 4
    assert model.predict_text(pictures(*ROWS)) == ["abba", "d"]
    assert model.classes == (*"abcd", "")  # of each step
    assert model.predict_text(pictures(*ROWS), classes="wxyz") == ["wxxw", "z"]
    assert model.predict_text(pictures(ROWS[0]), blank=1, classes="pqrs") == ["pssp"]
    assert model.predict_text(pictures()[:0]) == []


def test_of_several_outputs_the_first_is_read(tmp_path: Path) -> None:
    source = reader(tmp_path, heads=True)
    model = fastdigit.Model(fastdigit.compile(source, None, ctc_blank=0, classes="wxyz").data)
    first, second = model.outputs
    assert model.predict_text(pictures(*ROWS)) == ["zwzw", "zyz"]
    assert model.predict_text(pictures(*ROWS), output=first) == ["zwzw", "zyz"]
    with pytest.raises(InputError, match="which class of this model stands for nothing"):
        model.predict_text(pictures(*ROWS), output=second)


def test_what_is_not_known_is_asked_for(tmp_path: Path) -> None:
    source = reader(tmp_path)
    model = fastdigit.Model(fastdigit.compile(source, None).data)
    assert model.info()["ctc_blank"] is None
    with pytest.raises(InputError, match=r"give blank= \(--ctc-blank\), -1 for .* Keras"):
        model.predict_text(pictures(*ROWS))
    with pytest.raises(InputError, match="what the classes of this model are written as"):
        model.predict_text(pictures(*ROWS), blank=-1)
    assert model.predict_text(pictures(*ROWS), blank=-1, classes="abcd") == ["abba", "d"]
    with pytest.raises(UnsupportedError, match=r"Model.run, or Model.predict_text if it reads"):
        model.predict(pictures(*ROWS))
    with pytest.raises(UnsupportedError, match=r"text is read of \(steps, classes\)"):
        fastdigit.load().predict_text(np.zeros((1, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ctc_blank": 5}, "ctc_blank is 5, expected the index of one of 5 classes"),
        ({"ctc_blank": True}, "ctc_blank is True"),
        ({"ctc_blank": -1, "classes": "abc"}, "3 classes given, expected 5, or 4 without"),
        ({"classes": "abcd"}, r"classes given, the network returns shape .*--ctc-blank"),
    ],
    ids=str,
)
def test_refuses_what_does_not_fit(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        fastdigit.compile(reader(tmp_path), None, **options)


def test_refuses_a_blank_where_there_are_no_steps(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(OnnxNet(("N", 4)).gemm(4, 3).model(), path)
    with pytest.raises(InputError, match=r"ctc_blank given, but the network returns shape \(3,\)"):
        fastdigit.compile(path, None, ctc_blank=0)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = need("PIL.Image")
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path, pixels in zip(paths, pictures(*ROWS), strict=True):
        image.fromarray(pixels[..., 0]).save(path)

    def said(command: str, *arguments: object, status: int = 0) -> list[str]:
        assert main([command, *map(str, arguments)]) == status
        shown = capsys.readouterr()
        return (shown.err if status else shown.out).splitlines()

    source, model = reader(tmp_path), tmp_path / "captcha.fdm"
    said("compile", source, "-o", model, "--ctc-blank", -1, "--classes", "abcd")
    for options in ([], ["--ctc"]):
        lines = said("predict", "--model", model, *options, *paths)
        assert lines == [f"{paths[0]}: abba", f"{paths[1]}: d"]
    (line,) = said("predict", "--model", model, "--json", paths[0])
    assert json.loads(line) == {"image": str(paths[0]), "text": "abba"}

    letters = tmp_path / "letters.txt"
    letters.write_text("4\n7\n,\n \n", encoding="utf-8")
    lines = said("predict", "--model", model, "--labels", letters, *paths)
    assert lines == [f"{paths[0]}: 4774", f"{paths[1]}:  "]
    said("compile", source, "-o", model, "--ctc-blank", -1, "--classes", f"@{letters}")
    assert said("predict", "--model", model, paths[0]) == [f"{paths[0]}: 4774"]

    said("compile", source, "-o", model)  # nothing is known of it
    (line,) = said("predict", "--model", model, "--ctc", "missing.png", status=2)
    assert "give blank= (--ctc-blank)" in line
    (line,) = said("predict", "--model", model, "--ctc-blank", -1, "missing.png", status=2)
    assert "classes= (--classes)" in line
    options = "--ctc-blank", -1, "--labels", letters
    assert said("predict", "--model", model, *options, paths[0]) == [f"{paths[0]}: 4774"]
    with pytest.raises(SystemExit):
        main(["predict", "--model", str(model), "--ctc", "--top", "3", str(paths[0])])
    assert "--top is for labels, and this model reads text" in capsys.readouterr().err
