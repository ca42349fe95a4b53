"""The programs in examples/python do what they say."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from tests.support import ROOT, need

EXAMPLES = ROOT / "examples" / "python"
IMAGES, LABELS = (part[:300] for part in load_mnist_test())


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_fastapi() -> None:
    need("fastapi")
    Image = need("PIL.Image")
    testclient = need("fastapi.testclient")
    with testclient.TestClient(example("fastapi_app").app) as client:
        rows = IMAGES[:5].reshape(5, 784)
        response = client.post("/digits", json={"pixels": rows.tolist()})
        assert response.status_code == 200, response.text
        want = fastdigit.predict_proba(rows)
        assert [one["label"] for one in response.json()] == want.argmax(1).tolist()
        assert [one["probability"] for one in response.json()] == want.max(1).tolist()
        for wrong in ([], [[0] * 783], [[256] * 784], [["x"] * 784]):
            assert client.post("/digits", json={"pixels": wrong}).status_code == 422
        file = io.BytesIO()
        Image.fromarray(255 - IMAGES[0].repeat(9, 0).repeat(9, 1)).save(file, "PNG")
        assert client.post("/digit", content=file.getvalue()).json()["label"] == LABELS[0]
        assert client.post("/digit", content=b"x").status_code == 400
        assert client.post("/digit", content=bytes(5 << 20)).status_code == 413


def test_draw_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image = need("PIL.Image")
    draw = example("draw_signs")
    for folder, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        options = ["--train", "3", "--test", "1", "--seed", seed]
        monkeypatch.setattr(sys, "argv", ["draw_signs.py", str(tmp_path / folder), *options])
        draw.main()

    def drawn(folder: str) -> dict[str, np.ndarray]:
        files = sorted((tmp_path / folder).glob("*/*/*.png"))
        return {
            str(file.relative_to(tmp_path / folder)): np.asarray(Image.open(file)) for file in files
        }

    first, again, other = drawn("a"), drawn("b"), drawn("c")
    assert len(first) == 7 * (3 + 1)
    assert {picture.shape for picture in first.values()} == {(40, 40, 3)}
    assert first.keys() == again.keys() == other.keys()
    for name, picture in first.items():
        assert np.array_equal(picture, again[name])
        assert not np.array_equal(picture, other[name])
    # No two alike: nothing of the training pictures is among those that test.
    assert len({picture.tobytes() for picture in first.values()}) == len(first)


@pytest.mark.slow
def test_batch_job(tmp_path: Path) -> None:
    need("rich")
    pyarrow = need("pyarrow")
    from pyarrow import parquet

    rows = IMAGES.reshape(-1, 784)
    floats = (rows / np.float32(255)).tolist()
    want = fastdigit.predict_proba(IMAGES)
    np.save(tmp_path / "bytes.npy", IMAGES)
    np.save(tmp_path / "none.npy", IMAGES[:0])
    for name, column in (
        ("lists", pyarrow.array(rows.tolist())),
        ("packed", pyarrow.array([row.tobytes() for row in rows])),
        (
            "floats",
            pyarrow.array(floats, pyarrow.list_(pyarrow.float32())),
        ),
    ):
        parquet.write_table(pyarrow.table({"image": column}), tmp_path / f"{name}.parquet")
    files = sorted(tmp_path.iterdir())
    out = tmp_path / "out"
    command = [sys.executable, EXAMPLES / "batch_job.py", "--out", out, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "300/300" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == [path.name for path in files]
    for path in out.iterdir():
        if path.suffix == ".npy":
            table = np.load(path)
            labels, got = table["label"], table["probabilities"]
        else:
            columns = parquet.read_table(path)
            labels = columns["label"].to_numpy()
            got = np.array(columns["probabilities"].to_pylist(), np.float32)
        expected = want[:0] if path.stem == "none" else want
        np.testing.assert_array_equal(labels, expected.argmax(1))
        if path.stem == "floats":
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
        else:
            assert got.tobytes() == expected.tobytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_sklearn_estimator() -> None:
    need("sklearn")
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    Classifier = example("sklearn_estimator").FastDigitClassifier
    rows = IMAGES.reshape(-1, 784)
    want = fastdigit.predict_proba(IMAGES)
    classifier = clone(Classifier(threads=2)).fit(rows, LABELS)
    assert classifier.predict_proba(rows).tobytes() == want.tobytes()
    np.testing.assert_array_equal(classifier.predict(rows), want.argmax(1))
    assert classifier.score(rows, LABELS) == (want.argmax(1) == LABELS).mean()
    floats = classifier.predict_proba(rows.astype(float))
    np.testing.assert_allclose(floats, want, rtol=0, atol=1e-6)
    scores = cross_val_score(Classifier(), rows, LABELS, cv=3)
    assert scores.mean() > 0.98
    halves = make_pipeline(FunctionTransformer(lambda x: x / 255), Classifier(scale=1))
    assert halves.fit(rows, LABELS).score(rows, LABELS) > 0.98
    with pytest.raises(ValueError, match="takes 784"):
        Classifier().fit(rows[:, :100])
    with pytest.raises(ValueError, match=r"0\.\.9"):
        Classifier().fit(rows, LABELS + 5)
    with pytest.raises(ValueError, match="outside"):
        Classifier(scale=1).fit(rows).predict(rows.astype(float))
