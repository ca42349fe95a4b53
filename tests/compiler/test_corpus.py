"""The tool that compiles a corpus of model files, and the list of ours."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import corpus
from tests.support import need

onnx = need("onnx")
need("onnxruntime")

HEADER = "kind\tname\trepository\tcommit\tpath\tbytes\tsha256\tpurpose\toptions\n"


def dense(path: Path, op: str = "Relu") -> None:
    """Write a dense layer and an operator behind it."""
    image, result = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", size])
        for name, size in (("image", 6), ("result", 4))
    )
    weights = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("MatMul", ["image", "weights"], ["sums"]),
        onnx.helper.make_node(op, ["sums"], ["result"]),
    ]
    initializers = [onnx.numpy_helper.from_array(weights, "weights")]
    graph = onnx.helper.make_graph(nodes, "dense", [image], [result], initializers)
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def test_each_file_has_its_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "models"
    (folder / "a").mkdir(parents=True)
    dense(folder / "a" / "good.onnx")
    dense(folder / "a" / "strict.onnx")
    dense(folder / "a" / "odd.onnx", "Sin")
    (folder / "a" / "notes.txt").write_text("no model")
    digest = hashlib.sha256((folder / "a" / "strict.onnx").read_bytes()).hexdigest()
    tsv = tmp_path / "list.tsv"
    tsv.write_text(
        HEADER
        + f"onnx\ta/strict.onnx\to/r\t-\tp\t1\t{digest}\t\t--tolerance 1e-30\n"
        + "onnx\ta/odd.onnx\to/r\t-\tp\t1\t00\t\t\n"
    )
    report = tmp_path / "report.json"
    assert corpus.main([str(folder), "--list", str(tsv), "--report", str(report)]) == 1
    found = json.loads(report.read_text())
    assert (
        found["counts"]["onnx"].items()
        >= {"taken": 1, "refused": 1, "wrong": 1, "crashed": 0}.items()
    )
    files = {file["name"]: file for file in found["files"]}
    assert files["a/good.onnx"]["state"] == "taken"
    assert files["a/strict.onnx"]["state"] == "wrong"
    assert "tolerance" in files["a/strict.onnx"]["message"]
    assert files["a/odd.onnx"]["state"] == "refused" and "Sin" in files["a/odd.onnx"]["message"]
    printed = capsys.readouterr().out
    assert "a/odd.onnx is another file than the listed one" in printed
    assert "strict.onnx is another" not in printed
    assert sorted(path.name for path in tmp_path.rglob("*.fdm")) == []


def test_a_file_that_does_not_end_in_time_has_crashed(tmp_path: Path) -> None:
    dense(tmp_path / "good.onnx")
    outcome = corpus.compile_one("onnx", tmp_path / "good.onnx", "good.onnx", "", 0.01)
    assert (outcome.state, outcome.message) == ("crashed", "no end within 0.01 s")


@pytest.mark.parametrize(
    ("status", "errors", "state"),
    [
        (0, "", "taken"),
        (2, "fastdigit compile: no", "refused"),
        (1, "fastdigit compile: differs", "wrong"),
        (1, "Traceback (most recent call last):\n  ...\nValueError: x", "crashed"),
        (-11, "", "crashed"),
        (None, "", "crashed"),
    ],
)
def test_outcomes_are_told_apart(status: int | None, errors: str, state: str) -> None:
    assert corpus.classify(status, errors) == state


def test_models_are_found_by_kind(tmp_path: Path) -> None:
    for name in ("b.hdf5", "a.H5", "s/saved_model.pb", "s/variables/x", "m.onnx", "m.onnx.data"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [(kind, path.relative_to(tmp_path).as_posix()) for kind, path in corpus.find(tmp_path)]
    assert found == [("onnx", "m.onnx"), ("h5", "a.H5"), ("h5", "b.hdf5"), ("savedmodel", "s")]


def test_reasons_are_the_same_for_all_files() -> None:
    messages = (
        "fastdigit compile: /x/one.onnx: layer 'c1' has 3 inputs, opset 12",
        "fastdigit compile: two.onnx: layer 'c2' has 14 inputs, opset 9",
    )
    names = ("x/one.onnx", "x/two.onnx")
    reasons = {
        corpus.reason(corpus.Outcome("onnx", name, "refused", 0.0, message))
        for name, message in zip(names, messages, strict=True)
    }
    assert reasons == {"FILE: layer '...' has N inputs, opset N"}


def test_the_list_is_whole() -> None:
    with corpus.LIST.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names)
    models = {row["name"] for row in rows if row["kind"] != "beside"}
    assert {row["kind"] for row in rows} == {*corpus.KINDS.values(), "beside"}
    for row in rows:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", row["repository"]), row
        assert re.fullmatch(r"[0-9a-f]{40}", row["commit"]), row
        assert re.fullmatch(r"[0-9a-f]{64}", row["sha256"]) and int(row["bytes"]) > 0, row
        if row["kind"] == "beside":
            folder = row["name"].split("/")[:2]
            assert any(
                model.split("/")[:2] == folder or row["name"] == f"{model}.json" for model in models
            ), row
        else:
            assert row["purpose"], row
    assert len(corpus.read_list()) == len(models)
