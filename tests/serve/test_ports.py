"""Models of several outputs in the server; those of several inputs are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastdigit import Model
from fastdigit.compiler.ir import Graph
from fastdigit.errors import UnsupportedError
from fastdigit.serve import protocol
from fastdigit.serve.metrics import Metrics
from fastdigit.serve.served import Served
from fastdigit.serve.settings import Settings
from tests.support.networks import chain, conv, packed, two_headed


def test_all_outputs_are_answered() -> None:
    rng = np.random.default_rng(0)
    graph = chain((6, 5, 1), [conv(rng, (3, 3), 1, 4), conv(rng, (3, 3), 4, 2)])
    graph = Graph(graph.inputs, ("v2", "v1"), graph.nodes, graph.shapes)
    model = Model(packed(graph))
    served = Served("heads", model, Settings(), Metrics())
    assert [entry["shape"] for entry in served.signature.metadata()["outputs"]] == [
        [-1, 2, 1, 2],
        [-1, 4, 3, 4],
    ]
    images = rng.random((3, 6, 5, 1), np.float32)
    want = model.run(images)
    values = served._run_all(images)
    for wanted in (("v2", "v1"), ("v1",)):
        request = protocol.Inference(None, images, tuple((name, False) for name in wanted))
        parts = protocol.encode(request, served.signature, values, model.labels_of)
        answer = json.loads(b"".join(part.body for part in parts))
        assert [output["name"] for output in answer["outputs"]] == list(wanted)
        for output in answer["outputs"]:
            got = np.array(output["data"], np.float32).reshape(output["shape"])
            np.testing.assert_array_equal(got, want[output["name"]])


def test_several_inputs_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="model heads has 2 inputs"):
        Served("heads", Model(packed(two_headed())), Settings(), Metrics())
