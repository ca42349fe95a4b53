"""From MNIST to ONNX: the recipe is the network of 2017, runs repeat, both graphs match Keras."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from export import figures, recipes, to_onnx, train
from export.batches import network_input
from export.parity import TOLERANCE
from export.recipes import RECIPES, Recipe, build_model
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import FastDigitError, UnsupportedError, VerificationError
from tests.support import need
from tests.support.keras_models import randomize_all

if TYPE_CHECKING:
    import keras

SHORT = dataclasses.replace(RECIPES["seed"], epochs=3, batch_size=50)


@pytest.fixture(scope="module")
def digits() -> tuple:
    """MNIST in small: 500 digits to train on (a part of them to validate), 60 to test on."""
    images, labels = load_mnist_test()
    return (images[:500], labels[:500]), (images[-60:], labels[-60:])


# Recipes


def test_seed_recipe_is_that_of_2017() -> None:
    recipe = RECIPES["seed"]
    assert (recipe.activation, recipe.optimizer, recipe.learning_rate) == ("relu", "adadelta", 1.0)
    assert (recipe.epochs, recipe.batch_size, recipe.validation_split) == (50, 64, 0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "tanh"}, "activation is 'tanh', expected one of"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd', expected one of"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"validation_split": 1.0}, "validation_split is 1.0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "expected 0"),
    ],
)
def test_impossible_recipe(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(name="impossible", **change)


def test_command_line_changes_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Recipe] = []

    def stop(recipe: Recipe, *arguments: object, **options: object) -> None:
        seen.append(recipe)
        raise KeyboardInterrupt

    digits = np.zeros((10, 28, 28), np.uint8), np.zeros(10, np.uint8)
    monkeypatch.setattr(train, "load_mnist", lambda path: (digits, digits))
    monkeypatch.setattr(train, "train", stop)
    assert train.main(["--optimizer", "adam", "--activation", "selu", "--epochs", "2"]) == 130
    assert train.main(["--batch-size", "7", "--seed", "3"]) == 130
    assert seen == [
        Recipe("seed", activation="selu", optimizer="adam", learning_rate=0.001, epochs=2),
        Recipe("seed", optimizer="adadelta", learning_rate=1.0, batch_size=7, seed=3),
    ]
    assert train.main(["--epochs", "0"]) == 1


def test_files_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = np.zeros((10, 28, 28), np.uint8), np.zeros(10, np.uint8)
    monkeypatch.setattr(train, "load_mnist", lambda path: (digits, digits))
    for option in ("--teachers", "--start"):
        missing = str(tmp_path / "missing")
        assert train.main(["--output", str(tmp_path), option, missing]) == 1
        assert missing in capsys.readouterr().err


@pytest.fixture(scope="module")
def keras_module() -> Any:
    need("tensorflow")
    return need("keras")


@pytest.fixture(scope="module")
def seed_model(keras_module: Any) -> keras.Model:
    return build_model(RECIPES["seed"])


@pytest.mark.slow
class TestNetwork:
    def test_parameters(self, seed_model: keras.Model) -> None:
        counts = [layer.count_params() for layer in seed_model.layers]
        assert [n for n in counts if n] == [320, 13_872, 52, 12_352, 28, 1_827_936, 31_690]
        assert seed_model.count_params() == 1_886_250
        assert sum(np.prod(w.shape) for w in seed_model.trainable_weights) == 1_886_210

    def test_shapes(self, seed_model: keras.Model) -> None:
        shapes = {layer.name: layer.output.shape[1:] for layer in seed_model.layers}
        assert shapes["pool1"] == (13, 13, 32)
        assert shapes["conv2"] == shapes["bn2"] == (13, 13, 48)
        assert shapes["conv3"] == shapes["bn3"] == (7, 7, 64)
        assert shapes["pool3"] == (3, 3, 64)
        assert shapes["dense2"] == (10,)

    def test_normalization_is_of_rows(self, seed_model: keras.Model) -> None:
        for name in ("bn2", "bn3"):
            config = seed_model.get_layer(name).get_config()
            assert (config["axis"], config["epsilon"]) == (1, 1e-6)

    def test_deep(self, keras_module: Any) -> None:
        model = build_model(RECIPES["deep"])
        shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
        assert shapes["conv1_2"] == (24, 24, 32)
        assert shapes["conv1_down"] == (12, 12, 32)
        assert shapes["conv2_down"] == (4, 4, 64)
        assert shapes["dense2"] == (10,)
        assert model.count_params() == 326_826
        kinds = [type(layer).__name__ for layer in model.layers]
        assert kinds.count("BatchNormalization") == kinds.count("Activation") == 7
        assert kinds.count("Dropout") == 3
        draws = {layer.seed for layer in model.layers if type(layer).__name__ == "Dropout"}
        assert len(draws) == 3  # masks of their own

    @pytest.mark.parametrize("optimizer", ["adadelta", "rmsprop", "adam"])
    @pytest.mark.parametrize("activation", ["relu", "selu"])
    def test_options(self, keras_module: Any, optimizer: str, activation: str) -> None:
        model = build_model(Recipe("seed", activation=activation, optimizer=optimizer))
        assert type(model.optimizer).__name__.lower() == optimizer
        expected = 1.0 if optimizer == "adadelta" else 0.001
        assert float(model.optimizer.learning_rate) == pytest.approx(expected)
        for name in ("conv1", "conv2", "conv3", "dense1"):
            assert model.get_layer(name).get_config()["activation"] == activation

    def test_another_network_is_refused(
        self, keras_module: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(recipes.SEED_PARAMETERS, "bn2", 96)  # as if it were of channels
        with pytest.raises(AssertionError, match="'bn2': 52"):
            build_model(RECIPES["seed"])


# Training


def state(model: keras.Model) -> list[np.ndarray]:
    """Weights, statistics and the optimizer's variables: every number that training changes."""
    return [v.numpy() for v in (*model.weights, *model.optimizer.variables)]


def same(left: keras.Model, right: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(state(left), state(right), strict=True))


class Interrupted(Exception):
    pass


def interrupt_after(last: int) -> Callable[[int], None]:
    def after_epoch(epoch: int) -> None:
        if epoch == last:
            raise Interrupted

    return after_epoch


@pytest.mark.slow
@pytest.mark.usefixtures("keras_module")
class TestTraining:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"optimizer": "adam", "learning_rate": 0.001},
            {"network": "deep", "augmentation": recipes.Augmentation()},
            {"sharpness": 0.1, "outliers": 0.1},
        ],
    )
    def test_runs_repeat_and_resume(self, tmp_path: Path, digits: tuple, changes: dict) -> None:
        recipe = dataclasses.replace(SHORT, **changes)
        first = train.train(recipe, digits, tmp_path / "first")
        assert same(first, train.train(recipe, digits, tmp_path / "second"))

        for last in (1, 2):
            with pytest.raises(Interrupted):
                train.train(recipe, digits, tmp_path / "third", after_epoch=interrupt_after(last))
        assert same(first, train.train(recipe, digits, tmp_path / "third"))
        histories = [
            [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in train.read_json(path)]
            for path in sorted(tmp_path.glob("*/history.json"))
        ]
        assert len(histories) == 3
        assert len(histories[0]) == 3
        assert histories[0] == histories[1] == histories[2]

        other = dataclasses.replace(recipe, seed=1, epochs=1)
        assert not same(first, train.train(other, digits, tmp_path / "other"))

    def test_history_has_means_over_all_images(self, tmp_path: Path, digits: tuple) -> None:
        recipe = dataclasses.replace(
            SHORT, epochs=1, outliers=1.0, optimizer="adam", learning_rate=1e-12
        )
        train.train(recipe, digits, tmp_path)
        (epoch,) = train.read_json(tmp_path / "history.json")
        # Nothing is learned; were they sums over twice the images, the loss would be above 4.6.
        assert np.log(10) - 0.2 < epoch["loss"] < 3.5

    def test_finished_run_is_not_trained_further(self, tmp_path: Path, digits: tuple) -> None:
        recipe = dataclasses.replace(SHORT, epochs=1)
        model = train.train(recipe, digits, tmp_path)
        again = train.train(recipe, digits, tmp_path, after_epoch=interrupt_after(1))
        assert same(model, again)

    def test_epoch_whose_checkpoint_was_lost(self, tmp_path: Path, digits: tuple) -> None:
        with pytest.raises(Interrupted):
            train.train(SHORT, digits, tmp_path, after_epoch=interrupt_after(1))
        history = train.read_json(tmp_path / "history.json")
        train.write_json(tmp_path / "history.json", [*history, {"loss": 0.0, "seconds": 0.0}])
        train.train(SHORT, digits, tmp_path)
        resumed = train.read_json(tmp_path / "history.json")
        assert len(resumed) == SHORT.epochs
        assert resumed[1]["loss"] > 0.0

    def test_validation_digits_are_the_last_and_never_trained_on(
        self, tmp_path: Path, digits: tuple
    ) -> None:
        recipe = dataclasses.replace(SHORT, epochs=1)
        (images, labels), test = digits
        model = train.train(recipe, digits, tmp_path / "a")
        changed = labels.copy()
        changed[400:] = (changed[400:] + 1) % 10
        blind = train.train(recipe, ((images, changed), test), tmp_path / "b")
        assert same(model, blind)
        changed = labels.copy()
        changed[399] = (changed[399] + 1) % 10
        seeing = train.train(recipe, ((images, changed), test), tmp_path / "c")
        assert not same(model, seeing)

    def test_checkpoint_of_another_run(self, tmp_path: Path, digits: tuple) -> None:
        with pytest.raises(Interrupted):
            train.train(SHORT, digits, tmp_path, after_epoch=interrupt_after(1))
        other = dataclasses.replace(SHORT, seed=4, epochs=1)
        with pytest.raises(FastDigitError, match="checkpoint of another run"):
            train.train(other, digits, tmp_path)
        (images, labels), test = digits
        with pytest.raises(FastDigitError, match="checkpoint of another run"):
            train.train(SHORT, ((images[::-1], labels[::-1]), test), tmp_path)
        fresh = train.train(other, digits, tmp_path, fresh=True)
        assert same(fresh, train.train(other, digits, tmp_path / "elsewhere"))

    @pytest.mark.parametrize("file", ["checkpoint.keras", "history.json", "run.json"])
    def test_damaged_output(self, tmp_path: Path, digits: tuple, file: str) -> None:
        with pytest.raises(Interrupted):
            train.train(SHORT, digits, tmp_path, after_epoch=interrupt_after(1))
        data = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(data[: len(data) // 2])
        with pytest.raises(FastDigitError, match="--fresh"):
            train.train(SHORT, digits, tmp_path)

    def test_command(
        self,
        tmp_path: Path,
        digits: tuple,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        keras_module: Any,
    ) -> None:
        monkeypatch.setattr(train, "load_mnist", lambda path: digits)
        output = tmp_path / "run"
        assert train.main(["--epochs", "2", "--output", str(output)]) == 0
        printed = capsys.readouterr().out
        assert "epoch   2/2  accuracy" in printed
        assert "seed.keras   test accuracy" in printed or "seed.keras   test loss" in printed
        assert "seed.h5 " in printed
        assert "DIFFERS" not in printed

        # The record says what the saved model does.
        result = json.loads((output / "result.json").read_text())
        assert result["recipe"]["epochs"] == result["epochs"] == 2
        assert set(result["versions"]) == {"python", "tensorflow", "keras", "numpy"}
        images, labels = digits[1]
        for name in ("seed.keras", "seed.h5"):
            model = keras_module.saving.load_model(output / name)
            probabilities = model.predict(network_input(images), verbose=0)
            accuracy = np.mean(probabilities.argmax(axis=1) == labels)
            loss = -np.mean(np.log(probabilities[np.arange(len(labels)), labels]))
            assert result["test"][name]["accuracy"] == pytest.approx(accuracy)
            assert result["test"][name]["loss"] == pytest.approx(loss, rel=1e-4)

        summary = (output / "summary.txt").read_text()
        for count in ("1,827,936", "1,886,250", "1,886,210"):
            assert count in summary
        svg = ElementTree.parse(output / "architecture.svg")
        text = " ".join("".join(svg.getroot().itertext()).split())
        for layer in model.layers:
            assert layer.name in text
        assert "1,827,936" in text
        for name in ("curves.png", "predictions.png"):
            assert (output / name).read_bytes().startswith(b"\x89PNG")

        # Not trained or saved again: what started from these bytes would be another run.
        before = {path.name: path.read_bytes() for path in output.iterdir()}
        assert train.main(["--epochs", "2", "--output", str(output)]) == 0
        assert "finished before" in capsys.readouterr().out
        assert {path.name: path.read_bytes() for path in output.iterdir()} == before
        assert train.main(["--epochs", "3", "--output", str(output)]) == 1
        assert "checkpoint of another run" in capsys.readouterr().err
        (output / "seed.h5").unlink()
        result["reloads"] = False
        for damage in ({}, result):
            if damage:
                (output / "result.json").write_text(json.dumps(damage))
            assert train.main(["--epochs", "2", "--output", str(output)]) == 0
            assert "finished before" not in capsys.readouterr().out
            assert (output / "seed.h5").exists()
            assert json.loads((output / "result.json").read_text())["reloads"] is True


# Figures


def test_predictions_have_titles(tmp_path: Path) -> None:
    need("matplotlib")
    images, labels = load_mnist_test()
    probabilities = np.eye(10, dtype=np.float32)[(labels[:50] + 1) % 10]
    figures.draw_predictions(images, labels, probabilities, tmp_path / "predictions.svg")
    texts = "".join(ElementTree.parse(tmp_path / "predictions.svg").getroot().itertext())
    for label in labels[:6]:
        assert f"Actual: {label} Pred: {(label + 1) % 10}" in texts
    assert texts.count("Actual") == 6


def test_curves_repeat(tmp_path: Path) -> None:
    need("matplotlib")
    history = [
        {"loss": 1 / n, "accuracy": 1 - 0.1 / n, "val_loss": 2 / n, "val_accuracy": 1 - 0.2 / n}
        for n in (1, 2, 3)
    ]
    for name in ("a.svg", "b.svg"):
        figures.draw_curves(history, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    texts = "".join(ElementTree.parse(tmp_path / "a.svg").getroot().itertext())
    assert "validation" in texts


def test_curves_without_validation(tmp_path: Path) -> None:
    need("matplotlib")
    figures.draw_curves([{"loss": 0.5, "accuracy": 0.9}] * 2, tmp_path / "all.svg")
    texts = "".join(ElementTree.parse(tmp_path / "all.svg").getroot().itertext())
    assert "training" in texts and "validation" not in texts


# ONNX


@pytest.fixture(scope="module")
def onnx_modules(keras_module: Any) -> None:
    need("onnx", "onnxruntime", "tf2onnx")


@pytest.fixture(scope="module")
def model(keras_module: Any) -> keras.Model:
    return randomize_all(build_model(RECIPES["seed"]), seed=0)


@pytest.mark.slow
@pytest.mark.usefixtures("onnx_modules")
class TestOnnx:
    @pytest.mark.parametrize("layout", ["nhwc", "nchw"])
    def test_command(
        self,
        model: keras.Model,
        layout: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        import onnx

        assert (model.get_layer("bn2").gamma.numpy() < 0).any()
        model.save(tmp_path / "random.keras")
        output = tmp_path / "random.onnx"
        arguments = [str(tmp_path / "random.keras"), str(output), "--layout", layout]
        assert to_onnx.main(arguments) == 0
        assert "labels of 10000 test digits identical" in capsys.readouterr().out
        written = onnx.load(output)
        (source,), (result,) = written.graph.input, written.graph.output
        shape = [d.dim_param or d.dim_value for d in source.type.tensor_type.shape.dim]
        assert shape == {"nhwc": ["N", 28, 28, 1], "nchw": ["N", 1, 28, 28]}[layout]
        assert (source.name, result.name) == ("input", "probabilities")
        assert next(o.version for o in written.opset_import if not o.domain) == 18
        operators = [node.op_type for node in written.graph.node]
        assert operators.count("Conv") == 3
        assert ("Transpose" in operators) == (layout == "nhwc")

    @pytest.mark.parametrize("layout", ["nhwc", "nchw"])
    @pytest.mark.parametrize("activation", ["relu", "selu"])
    def test_random_weights(self, layout: str, activation: str) -> None:
        convert = {"nhwc": to_onnx.convert_nhwc, "nchw": to_onnx.convert_nchw}[layout]
        images, _ = load_mnist_test()
        for seed in (1, 2):
            model = randomize_all(build_model(Recipe("seed", activation=activation)), seed)
            assert to_onnx.verify(convert(model), model, images[:500]) <= TOLERANCE

    @pytest.mark.parametrize("axis", [1, 2, 3, -1])
    @pytest.mark.parametrize("padding", ["valid", "same"])
    def test_relative_of_lenet(self, keras_module: Any, axis: int, padding: str) -> None:
        layers = keras_module.layers
        model = keras_module.Sequential(
            [
                keras_module.Input((28, 28, 1)),
                layers.Conv2D(6, (4, 3), padding=padding, strides=(1, 2), use_bias=False),
                layers.BatchNormalization(axis=axis),
                layers.MaxPooling2D((3, 2), strides=(2, 1)),
                layers.ZeroPadding2D(((1, 0), (2, 3))),
                layers.Conv2D(5, 3, activation="selu", dilation_rate=2),
                layers.Flatten(),
                layers.Dense(20, activation="relu", use_bias=False),
                layers.BatchNormalization(),
                layers.Dropout(0.5),
                layers.Dense(10, activation="softmax"),
            ]
        )
        images, _ = load_mnist_test()
        randomize_all(model, seed=3)
        assert to_onnx.verify(to_onnx.convert_nchw(model), model, images[:400]) <= 1e-5

    def test_other_networks(self, keras_module: Any) -> None:
        """Whatever the compiler reads has an NCHW form."""
        import onnxruntime

        layers = keras_module.layers
        conv = layers.Conv2D
        source = keras_module.Input((28, 28, 1))
        models = [keras_module.Model(source, layers.Add()([source, source]))]
        for body in (
            [layers.GlobalAveragePooling2D()],
            [conv(4, 3, activation="tanh")],
            [conv(4, 3, activation="softmax")],
            [layers.ZeroPadding2D(), layers.MaxPooling2D()],
            [layers.ZeroPadding2D(), conv(4, 3, padding="same")],
            [layers.MaxPooling2D(padding="same")],
            [layers.Dense(3)],
            [layers.BatchNormalization(scale=False)],
        ):
            models.append(keras_module.Sequential([keras_module.Input((28, 28, 1)), *body]))
        x = np.random.default_rng(4).random((5, 28, 28, 1), np.float32)
        for model in models:
            randomize_all(model, seed=5)
            data = to_onnx.convert_nchw(model).SerializeToString()
            session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            (got,) = session.run(None, {"input": x.transpose(0, 3, 1, 2)})
            got = got.transpose(0, 2, 3, 1) if got.ndim == 4 else got
            np.testing.assert_allclose(got, model.predict(x, verbose=0), rtol=0, atol=1e-5)

    def test_unsupported_networks(self, keras_module: Any) -> None:
        layers = keras_module.layers
        source = keras_module.Input((28, 28, 1))
        unknown = keras_module.Model(source, layers.UnitNormalization(name="u")(source))
        with pytest.raises(UnsupportedError, match="'u' \\(UnitNormalization\\) is not supported"):
            to_onnx.convert_nchw(unknown)

    @pytest.mark.parametrize("layout", ["nhwc", "nchw"])
    def test_difference_is_found_and_nothing_written(
        self,
        model: keras.Model,
        layout: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        keras_module: Any,
    ) -> None:
        name = f"convert_{layout}"
        convert = getattr(to_onnx, name)

        def convert_another(model: keras.Model) -> Any:
            other = keras_module.models.clone_model(model)
            other.set_weights(model.get_weights())
            bias = other.get_layer("dense2").bias
            bias.assign(bias.numpy() + np.float32(1e-3) * np.arange(10, dtype=np.float32))
            return convert(other)

        monkeypatch.setattr(to_onnx, name, convert_another)
        model.save(tmp_path / "random.keras")
        output = tmp_path / "random.onnx"
        arguments = [str(tmp_path / "random.keras"), str(output), "--layout", layout]
        assert to_onnx.main(arguments) == 1
        assert "ONNX Runtime and Keras differ on" in capsys.readouterr().err
        assert not list(tmp_path.glob("random.onnx*"))

    def test_invalid_onnx_is_found(self, model: keras.Model) -> None:
        converted = to_onnx.convert_nchw(model)
        converted.graph.node[0].input[0] = "nowhere"
        with pytest.raises(VerificationError, match="no valid ONNX"):
            to_onnx.verify(converted, model, load_mnist_test()[0][:5])

    def test_missing_model(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert to_onnx.main([str(tmp_path / "no.keras"), str(tmp_path / "no.onnx")]) == 1
        assert "no.keras" in capsys.readouterr().err
