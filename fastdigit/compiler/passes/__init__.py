"""From the graph that a front end built to one that the model file can express.

Each pass is a function from graph to graph in a file of its own and leaves the network's results as
they are. This module says in which order they run.
"""

from __future__ import annotations

from collections.abc import Callable

from fastdigit.compiler.ir import Graph
from fastdigit.compiler.passes.absorb_padding import absorb_padding
from fastdigit.compiler.passes.cancel_transposes import cancel_transposes
from fastdigit.compiler.passes.canonicalize_input import canonicalize_input, unflatten_input
from fastdigit.compiler.passes.commute_pooling import commute_pooling
from fastdigit.compiler.passes.fit_ranks import fit_ranks
from fastdigit.compiler.passes.fold_batchnorm import fold_batchnorm
from fastdigit.compiler.passes.fuse_activations import fuse_activations
from fastdigit.compiler.passes.fuse_epilogue import fuse_epilogue
from fastdigit.compiler.passes.merge_crops import merge_crops
from fastdigit.compiler.passes.merge_eltwise import merge_eltwise
from fastdigit.compiler.passes.move_baseline import move_baseline
from fastdigit.compiler.passes.put_vectors_last import put_vectors_last
from fastdigit.compiler.passes.remove_dead_units import remove_dead_units
from fastdigit.compiler.passes.remove_identities import remove_identities
from fastdigit.compiler.passes.sink_joined_moves import sink_joined_moves
from fastdigit.compiler.passes.sink_reshapes import sink_reshapes
from fastdigit.compiler.passes.split_moves import merge_moves, split_moves
from fastdigit.compiler.spec import verify, verify_ports, verify_program
from fastdigit.errors import UnsupportedError

__all__ = ["FUSE", "SIMPLIFY", "Pass", "optimize"]

Pass = Callable[[Graph], Graph]

#: Repeated until none of them changes the graph. What canonicalize_input puts behind the input must
#: meet its inverse before split_moves makes several of that, so cancel_transposes and sink_reshapes
#: come first.
SIMPLIFY: tuple[Pass, ...] = (
    remove_identities,
    cancel_transposes,
    sink_reshapes,
    split_moves,
    sink_joined_moves,
    canonicalize_input,
    merge_crops,
    absorb_padding,
    merge_eltwise,
    fuse_activations,
    fold_batchnorm,
    commute_pooling,
    remove_dead_units,
)
#: Last: what is fused can no longer be folded.
FUSE: tuple[Pass, ...] = (
    merge_moves,
    fuse_epilogue,
    move_baseline,
    remove_identities,
    put_vectors_last,
)

#: Operators that the passes of `SIMPLIFY` may look at, in all rounds together: a network as large
#: as a file can hold takes sixty rounds, where five are usual.
MAX_WORK = 1 << 22


def optimize(
    graph: Graph,
    observe: Callable[[str, Graph], None] | None = None,
    *,
    compact: bool = True,
) -> Graph:
    """Run all passes, verifying the graph after each.

    Parameters
    ----------
    graph
        As built by a front end; nodes that nothing reads are allowed.
    observe
        Called with the name of each pass that changed the graph, and the new graph.
    compact
        Whether `remove_dead_units` is one of them.

    Returns
    -------
    Graph
        One that :func:`fastdigit.compiler.backends.fdm.pack.pack` accepts.

    Raises
    ------
    UnsupportedError
        If the model file cannot express the network.
    """
    simplify = tuple(step for step in SIMPLIFY if compact or step is not remove_dead_units)
    verify_ports(graph)
    graph = remove_identities(graph)
    verify(graph)
    graph = _run(fit_ranks, graph, observe)
    graph = _run(unflatten_input, graph, observe)
    graph = _simplify(graph, simplify, observe)
    for step in FUSE:
        graph = _run(step, graph, observe)
    verify_program(graph)
    return graph


def _simplify(
    graph: Graph, steps: tuple[Pass, ...], observe: Callable[[str, Graph], None] | None
) -> Graph:
    # Real networks take a few rounds; a round carries something past one operator at least.
    work = 0
    for _ in range(100 + 10 * len(graph.nodes)):
        before = graph
        for step in steps:
            work += len(graph.nodes)
            if work > MAX_WORK:
                raise UnsupportedError(
                    f"the network has {len(graph.nodes)} operators that move what they are given "
                    "past one another, too many to simplify; export it with fewer transposes, "
                    "reshapes, paddings and crops"
                )
            graph = _run(step, graph, observe)
        if graph is before:
            return graph
    raise AssertionError("the passes do not come to an end: two of them undo each other")


def _run(step: Pass, graph: Graph, observe: Callable[[str, Graph], None] | None) -> Graph:
    changed = step(graph)
    if changed is not graph:
        verify(changed, graph)
        if observe is not None:
            observe(step.__name__, changed)
    return changed
