"""Networks of several inputs and outputs, in the engine and in `Model`."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fastdigit
from fastdigit import Model
from fastdigit.compiler import unpack
from fastdigit.compiler.backends.fdm.listing import listing
from fastdigit.compiler.ir import Graph
from fastdigit.errors import InputError, UnsupportedError
from tests.support import reference
from tests.support.networks import chain, conv, packed, seed_network, two_headed

GRAPH = two_headed()
DATA = packed(GRAPH, input_range=[(0.0, 1.0), (-5.0, 5.0)], u8_divisor=[255, 0])


def batch(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {
        "image": rng.random((n, 8, 8, 1), np.float32),
        "meta": rng.uniform(-5, 5, (n, 4)).astype(np.float32),
    }


@pytest.fixture(scope="module", params=[1, 2, 3])
def model(request: pytest.FixtureRequest) -> Model:
    return Model(DATA, threads=request.param)


@pytest.mark.parametrize("n", [1, 2, 33, 70])
def test_results_are_those_of_float64(model: Model, n: int) -> None:
    given = batch(n)
    got = model.run(given)
    want = reference.run_outputs(GRAPH, list(given.values()))
    assert list(got) == list(GRAPH.outputs)
    for result, expected in zip(got.values(), want, strict=True):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_no_images(model: Model) -> None:
    shapes = [result.shape for result in model.run(batch(0)).values()]
    assert shapes == [(0, 10), (0, 1), (0, 8, 8, 2), (0, 8, 8, 8), (0, 10)]
    assert model.predict(batch(0)).shape == (0,)


def test_a_row_has_the_same_bits_in_any_batch(model: Model) -> None:
    given = batch(70)
    whole = model.run(given)
    alone = Model(DATA)
    for i in (0, 31, 32, 69):
        row = alone.run({name: images[i : i + 1] for name, images in given.items()})
        for name, result in row.items():
            np.testing.assert_array_equal(result[0], whole[name][i])


def test_bytes_for_the_input_that_takes_them(model: Model) -> None:
    given = batch(5)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    as_bytes = model.run((pixels, given["meta"]))
    as_floats = model.run((pixels / np.float32(255), given["meta"]))
    for name, result in as_bytes.items():
        np.testing.assert_array_equal(result, as_floats[name])
    with pytest.raises(InputError, match="input 'meta': the batch is uint8"):
        model.run((pixels, given["meta"].astype(np.uint8)))


def test_each_output_is_what_it_is(model: Model) -> None:
    given = batch(9)
    results = model.run(given)
    np.testing.assert_array_equal(model.predict(given), results["digit"].argmax(1))
    np.testing.assert_array_equal(model.predict_proba(given), results["digit"])
    np.testing.assert_array_equal(model.logits(given), results["scores"])
    np.testing.assert_array_equal(
        model.predict(given, output="flag"), results["flag"][:, 0] > np.float32(0.5)
    )
    np.testing.assert_array_equal(model.predict_proba(given, output="flag"), results["flag"])
    np.testing.assert_array_equal(
        model.predict(given, output="flag", threshold=0.45), results["flag"][:, 0] > 0.45
    )
    np.testing.assert_array_equal(
        model.logits(given, output="mask"), results["mask"].reshape(9, -1)
    )
    assert model.classes == tuple("0123456789")
    assert model.classes_of("flag") == ("0", "1")
    with pytest.raises(UnsupportedError, match="probabilities"):
        model.predict_proba(given, output="scores")
    with pytest.raises(UnsupportedError, match="no label"):
        model.predict(given, output="mask")
    with pytest.raises(InputError, match="there is no output 'age'; the model has 'digit', 'flag'"):
        model.predict(given, output="age")


def test_a_model_loaded_for_an_output() -> None:
    given = batch(9)
    flag = Model(DATA, output="flag")
    assert (flag.output_shape, flag.classes) == ((1,), ("0", "1"))
    np.testing.assert_array_equal(flag.predict(given), Model(DATA).predict(given, output="flag"))
    assert list(flag.run(given)) == list(GRAPH.outputs)
    again = pickle.loads(pickle.dumps(flag))
    np.testing.assert_array_equal(again.predict_proba(given), flag.predict_proba(given))
    with pytest.raises(InputError, match="there is no output 'age'"):
        Model(DATA, output="age")


def test_one_input_and_several_outputs_take_the_short_way() -> None:
    rng = np.random.default_rng(1)
    graph = chain((6, 5, 1), [conv(rng, (3, 3), 1, 4, pad=(1, 1, 1, 1)), conv(rng, (3, 3), 4, 7)])
    graph = Graph(graph.inputs, ("v2", "v1"), graph.nodes, graph.shapes)
    data = packed(graph)
    x = rng.random((40, 6, 5), np.float32)
    results = Model(data).run(x)
    want = reference.run_outputs(graph, [x[..., np.newaxis]])
    for name, result in zip(("v2", "v1"), want, strict=True):
        np.testing.assert_allclose(results[name], result, atol=1e-5)
        chosen = Model(data, output=name)
        np.testing.assert_array_equal(chosen.logits(x), results[name].reshape(40, -1))
        out = np.empty((40, results[name][0].size), np.float32)
        assert chosen.logits(x, out=out) is out
        np.testing.assert_array_equal(out, results[name].reshape(40, -1))


def test_results_go_where_they_are_wanted(model: Model) -> None:
    given = batch(3)
    mask = np.empty((3, 8, 8, 2), np.float32)
    results = model.run(given, out={"mask": mask})
    assert results["mask"] is mask
    np.testing.assert_array_equal(mask, model.run(given)["mask"])
    with pytest.raises(InputError, match="out is to be a dict"):
        model.run(given, out={"age": mask})
    with pytest.raises(InputError, match="out is to be a dict"):
        model.run(given, out=mask)
    with pytest.raises(InputError, match="out is float32 of shape"):
        model.run(given, out={"digit": mask})


def test_what_is_said_of_it(model: Model) -> None:
    assert model.inputs == {"image": (8, 8, 1), "meta": (4,)}
    assert model.outputs == {
        "digit": (10,),
        "flag": (1,),
        "mask": (8, 8, 2),
        "features": (8, 8, 8),
        "scores": (10,),
    }
    facts = model.info()
    assert facts["inputs"]["meta"] == {"shape": (4,), "range": (-5.0, 5.0), "accepts_u8": False}
    assert facts["heads"]["flag"] == {
        "shape": (1,),
        "has_softmax": False,
        "has_sigmoid": True,
        "has_log_softmax": False,
        "ctc_blank": None,
    }
    assert facts["has_softmax"] and not facts["has_sigmoid"]
    assert "(8, 8, 1), (4,) -> 10, 1, 128, 512, 10" in repr(model)
    text = listing(unpack(DATA))
    assert "input 'meta', -5 to 5" in text and "output 'scores'" in text
    digits = fastdigit.load()
    assert (digits.inputs, digits.outputs) == ({"input": (28, 28, 1)}, {"output": (10,)})


def test_wrong_batches(model: Model) -> None:
    given = batch(3)
    image, meta = given.values()
    for wrong, said in (
        (image, "expected a dict of arrays by name, or a tuple of them in order"),
        ((image,), "the model has 2 inputs"),
        ({"image": image}, r"the batch is for inputs \['image'\]"),
        ({"image": image, "mata": meta}, "expected an array for each of 'image', 'meta'"),
        ((image, meta[:2]), "have 3, 2 images, expected as many of each"),
        ((meta, image), r"input 'image': the batch has shape \(3, 4\)"),
        ((image, 9 * meta), "of input 'meta' is outside the input range -5 to 5"),
    ):
        with pytest.raises(InputError, match=said):
            model.run(wrong)


def test_the_first_bad_value_is_named() -> None:
    image, meta = batch(70).values()
    meta[40, 3], image[41, 0, 0] = np.nan, 2.0
    for threads in (1, 2):
        with pytest.raises(InputError, match="value nan at element 3 of image 40 of input 'meta'"):
            Model(DATA, threads=threads).run((image, meta))


def test_one_input_by_its_name() -> None:
    model = Model(packed(seed_network()))
    x = np.random.default_rng(0).random((2, 28, 28), np.float32)
    np.testing.assert_array_equal(model.run({"input": x}), model.run(x))
