"""fastdigit.ray on a real Ray: two worker processes on this machine, one of which may be killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
import fastdigit.ray
from fastdigit import datasets
from fastdigit.errors import InputError, MissingExtraError, UnsupportedError
from fastdigit.ray import Predictor, predict
from tests.support import need
from tests.support.networks import packed, small_networks
from tests.support.ray_processes import processes_called

IMAGES, _ = datasets.load_mnist_test()


# ---- What a worker does, without Ray ----


def test_predictor_adds_what_is_asked_for() -> None:
    batch = {"image": IMAGES[:50], "id": np.arange(50)}
    want = fastdigit.predict_proba(IMAGES[:50])
    labels = Predictor()(batch)
    assert list(labels) == ["id", "label"]
    assert labels["label"].dtype == np.int64 and list(labels["label"]) == list(want.argmax(axis=1))
    both = Predictor(probabilities="p", label="digit", keep_images=True)(batch)
    assert list(both) == ["image", "id", "p", "digit"]
    assert both["p"].tobytes() == want.tobytes() and list(both["digit"]) == list(labels["label"])
    alone = Predictor(probabilities="p", label=None)(batch)
    assert list(alone) == ["id", "p"] and alone["p"].tobytes() == want.tobytes()


def test_predictor_takes_another_column_and_model() -> None:
    model = fastdigit.Model(packed(small_networks()["lenet"]))
    images = np.random.default_rng(1).random((9, *model.input_shape), np.float32)
    got = Predictor(model, column="x", label="y")({"x": images})
    assert list(got) == ["y"] and list(got["y"]) == list(model.predict(images))


def test_predictor_reads_shared_memory_where_it_lies() -> None:
    """Ray's batches are views of read-only memory: they must be taken as they are."""
    memory = np.frombuffer(IMAGES[:5].tobytes(), np.uint8).reshape(5, 28, 28)
    assert not memory.flags.writeable
    assert list(Predictor()({"image": memory})["label"]) == list(fastdigit.predict(IMAGES[:5]))


@pytest.mark.parametrize(
    "batch, message",
    [
        ({"pixels": IMAGES[:1]}, r"no column 'image' among \['pixels'\]"),
        ({"image": IMAGES[:1], "label": np.zeros(1)}, "a column 'label' already"),
        ({"image": IMAGES[:1, :27]}, "shape"),
        ({"image": np.array([IMAGES[0], IMAGES[1, :5]], dtype=object)}, "shape"),
    ],
)
def test_predictor_refuses(batch: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Predictor()(batch)


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "fastdigit\[ray\]"'):
        predict(None)  # type: ignore[arg-type]


# ---- On a cluster ----


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = need("ray")
    from ray.data import DataContext

    ray.init(
        num_cpus=2, object_store_memory=150 << 20, include_dashboard=False, log_to_driver=False
    )
    DataContext.get_current().enable_progress_bars = False
    # Else the first worker may have done everything before the second one is there.
    DataContext.get_current().wait_for_min_actors_s = 120
    yield
    ray.shutdown()


def numbered(n: int, blocks: int) -> Any:
    """A dataset of n images with their numbers, in blocks."""
    import ray

    repeated = np.resize(IMAGES, (n, 28, 28))
    parts = zip(np.array_split(repeated, blocks), np.array_split(np.arange(n), blocks), strict=True)
    return ray.data.from_blocks([_block(images, ids) for images, ids in parts])


def _block(images: np.ndarray, ids: np.ndarray) -> Any:
    import pyarrow
    from ray.data.extensions import ArrowTensorArray

    return pyarrow.table({"image": ArrowTensorArray.from_numpy(images), "id": ids})


def check_all(rows: dict[str, np.ndarray], n: int) -> None:
    """Every row once, with its label."""
    order = np.argsort(rows["id"], kind="stable")
    assert np.array_equal(rows["id"][order], np.arange(n)), "a row is lost, or doubled"
    want = np.resize(fastdigit.predict(IMAGES), n)
    assert np.array_equal(rows["label"][order], want)


def collected(dataset: Any) -> dict[str, np.ndarray]:
    batches = list(dataset.iter_batches(batch_size=None, batch_format="numpy"))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def spy(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Workers take their time, and note where their images lie and who worked on them."""

    class Spy(Predictor):  # in a function, so that it travels to the workers by value
        def __call__(self, batch: Any) -> dict[str, np.ndarray]:
            images = batch["image"]
            view = not images.flags.owndata and not images.flags.writeable
            time.sleep(seconds)
            n = len(images)
            return {
                **super().__call__(batch),
                "view": np.full(n, view and images.flags.c_contiguous),
                "process": np.full(n, os.getpid()),
            }

    monkeypatch.setattr(fastdigit.ray, "Predictor", Spy)


class TestCluster:
    pytestmark = pytest.mark.slow

    def test_labels_and_probabilities(self, cluster: None) -> None:
        rows = collected(predict(numbered(3000, 6), probabilities="p", workers=2))
        assert set(rows) == {"id", "label", "p"}
        check_all(rows, 3000)
        want = fastdigit.predict_proba(IMAGES[:3000])
        assert rows["p"].dtype == np.float32
        assert rows["p"][np.argsort(rows["id"])].tobytes() == want.tobytes()

    def test_several_processes_and_no_copies(
        self, cluster: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spy(monkeypatch, 0.2)  # so that one worker alone can't have taken all
        rows = collected(predict(numbered(2000, 10), workers=2))
        assert rows["view"].all()
        assert len(set(rows["process"])) == 2 and os.getpid() not in rows["process"]
        check_all(rows, 2000)

    def test_defaults_and_batches(self, cluster: None) -> None:
        """As many workers as there are CPUs, which leaves some to what comes before."""
        dataset = numbered(1000, 4).map_batches(lambda batch: batch, num_cpus=1)
        rows = collected(predict(dataset, batch_size=64, keep_images=True))
        check_all(rows, 1000)
        assert np.array_equal(rows["image"][np.argsort(rows["id"])], IMAGES[:1000])

    def test_from_parquet_to_parquet(self, cluster: None, tmp_path: Path) -> None:
        import ray

        numbered(1500, 3).write_parquet(str(tmp_path / "images"))
        images = ray.data.read_parquet(str(tmp_path / "images"))
        predict(images, workers=1).write_parquet(str(tmp_path / "labels"))
        rows = collected(ray.data.read_parquet(str(tmp_path / "labels")))
        assert set(rows) == {"id", "label"}
        check_all(rows, 1500)

    def test_a_model_travels(self, cluster: None, tmp_path: Path) -> None:
        import ray

        path = tmp_path / "lenet.fdm"
        path.write_bytes(packed(small_networks()["lenet"]))
        model = fastdigit.load(path)
        images = np.random.default_rng(2).random((64, *model.input_shape), np.float32)
        dataset = ray.data.from_blocks([_block(images, np.arange(64))])
        for given in (path, model):
            rows = collected(predict(dataset, model=given, workers=1))
            assert list(rows["label"]) == list(model.predict(images))

    def test_a_killed_worker_loses_nothing(
        self, cluster: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SIGKILL in the middle: another takes its place, and does again what it had begun."""
        spy(monkeypatch, 0.1)
        n, blocks, killed = 6000, 60, 0
        parts: list[dict[str, np.ndarray]] = []
        for batch in predict(numbered(n, blocks), workers=2).iter_batches(
            batch_size=None, batch_format="numpy", prefetch_batches=0
        ):
            parts.append(batch)
            if len(parts) == 6:
                workers = processes_called("MapWorker")
                assert len(workers) == 2, workers
                killed = workers[0]
                os.kill(killed, signal.SIGKILL)
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        processes = set(rows["process"])
        assert killed in processes and len(processes) == 3, "it died too late, or too early"
        check_all(rows, n)

    def test_bad_images_fail_the_execution(self, cluster: None) -> None:
        import ray

        floats = np.zeros((10, 28, 28), np.float32)
        floats[7, 3, 3] = np.nan
        dataset = ray.data.from_blocks([_block(floats, np.arange(10))])
        with pytest.raises(Exception, match="of image 7 is not finite") as failure:
            collected(predict(dataset, workers=1))
        assert "InputError" in str(failure.value)

    @pytest.mark.parametrize(
        "options, error, message",
        [
            ({"label": None}, ValueError, "nothing to make"),
            ({"label": "image"}, ValueError, "same name"),
            ({"probabilities": "label"}, ValueError, "same name"),
            ({"workers": 0}, ValueError, "workers is 0"),
            ({"workers": (3, 2)}, ValueError, r"workers is \(3, 2\)"),
            ({"model": "none.fdm"}, OSError, "none.fdm"),
        ],
    )
    def test_mistakes(
        self, cluster: None, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            predict(numbered(10, 1), **options)

    def test_a_network_without_softmax(self, cluster: None) -> None:
        graphs = small_networks().values()
        models = (fastdigit.Model(packed(graph)) for graph in graphs)
        model = next(model for model in models if not model.info()["has_softmax"])
        with pytest.raises(UnsupportedError, match="softmax"):
            predict(numbered(10, 1), model=model, probabilities="p")
