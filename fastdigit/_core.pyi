from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from numpy.typing import NDArray

class Facts(TypedDict):
    isa: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    outputs: int
    has_softmax: bool
    range: tuple[float, float]
    accepts_u8: bool
    multiply_adds: int
    weight_bytes: int
    file_bytes: int
    context_bytes: int
    meta: str

class Input(TypedDict):
    name: str
    shape: tuple[int, ...]
    range: tuple[float, float]
    accepts_u8: bool

class Output(TypedDict):
    name: str
    shape: tuple[int, ...]
    elements: int
    has_softmax: bool
    has_sigmoid: bool

class Op(TypedDict):
    op: str
    label: str
    kernel: str
    algorithm: str
    arithmetic: str
    precision: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    multiply_adds: int
    executed: int
    weight_bytes: int
    scratch_bytes: int

VALUES: int
LOGITS: int
LABELS: int

def version() -> str: ...
def isas() -> list[tuple[str, bool]]: ...
def selected_isa() -> str: ...
def xxhash64(data: bytes | bytearray | memoryview, seed: int = 0) -> int: ...

PROBE_FMA: int
PROBE_DOT: int
PROBE_READ: int

def probe(isa: str, kind: int, rounds: int, memory: Any | None = None) -> int: ...
def default_limits() -> dict[str, int]: ...
def remember_main_thread(ident: int) -> None: ...

class Core:
    def __init__(
        self, source: bytes | str, threads: int, limits: Mapping[str, int] | None = None
    ) -> None: ...
    def usage(self) -> dict[str, int]: ...
    def idle_contexts(self) -> int: ...
    def facts(self) -> Facts: ...
    def inputs(self) -> list[Input]: ...
    def outputs(self) -> list[Output]: ...
    def choose_output(self, i: int) -> None: ...
    def plan(self) -> list[Op]: ...
    def to_bytes(self) -> bytes: ...
    def run(
        self,
        input: Any,
        u8: bool,
        n: int,
        values: Any | None,
        logits: Any | None,
        labels: Any | None,
        timeout: int = 0,
    ) -> None: ...
    def run_all(
        self,
        inputs: Sequence[tuple[Any, bool]],
        n: int,
        outputs: Sequence[tuple[Any | None, Any | None, Any | None]],
        timeout: int = 0,
    ) -> None: ...
    def batch_runner(
        self, shapes: tuple[tuple[int, ...], ...]
    ) -> Callable[[Any, Any | None, int], NDArray[Any] | None]: ...
    def profile(self, input: Any, calls: int, n: int, nanoseconds: Any) -> None: ...
