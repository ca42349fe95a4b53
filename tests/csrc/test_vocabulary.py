"""The words of each vector vocabulary that runs here, one by one, against scalar code.

simd_generic.h says what each means. The kernels' tests run every ISA's loops on every machine; what
they can't run elsewhere is this page of intrinsics. The generic vocabulary is held to its
definition at the widths that those loops have as well.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT, native

F32 = np.float32
MAX, TINY = np.finfo(F32).max, np.finfo(F32).tiny
LEAST = np.finfo(F32).smallest_subnormal

#: What a word might treat in its own way.
SPECIAL = np.array(
    [
        *(0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, MAX, -MAX, TINY, -TINY, LEAST, -LEAST),
        *(TINY - LEAST, 1.5, 2.5, -0.5, 1 + 2**-23, 1 - 2**-24, 3.0, 1 / 3, 1e-20, -1e20, 2**23),
    ],
    F32,
)

NAMES = [isa for isa in native.ISAS if isa in native.USABLE]
FLOATS = [pytest.param((isa, None), id=isa) for isa in NAMES if isa in native.FLOAT_ISAS]
FLOATS += [pytest.param(("generic", n), id=f"generic-of-{n}") for n in (8, 16)]
FLOATS += [pytest.param(("generic", n, True), id=f"generic-fused-of-{n}") for n in (8, 16)]
BYTES = [pytest.param((isa, None), id=isa) for isa in NAMES if isa in native.BYTE_ISAS]
BYTES += [pytest.param(("generic", n), id=f"generic-of-{n}") for n in (8, 16)]

floats = pytest.mark.parametrize("words", FLOATS, indirect=True)
bytes_ = pytest.mark.parametrize("words", BYTES, indirect=True)


@pytest.fixture(scope="module")
def words(request: pytest.FixtureRequest) -> Any:
    return native.Words(*request.param)


@pytest.fixture
def fused(request: pytest.FixtureRequest) -> bool:
    isa, *more = request.node.callspec.params["words"]
    return isa != "generic" or more[1:] == [True]


def vectors(values: Any, n: int) -> Iterator[Any]:
    """Slices of n values, the last one filled up with the first ones."""
    values = np.asarray(values)
    whole = np.resize(values, -(-len(values) // n) * n)
    yield from whole.reshape(-1, n)


def tuples(n: int, count: int, seed: int) -> list[Any]:
    """Arrays of operands: all tuples of SPECIAL, or many of them, and random floats of any size."""
    rng = np.random.default_rng(seed)
    every = list(itertools.product(range(len(SPECIAL)), repeat=n))
    if len(every) > count:
        every = [every[i] for i in rng.choice(len(every), count, replace=False)]
    special = SPECIAL[np.array(every)]
    exponents = rng.integers(-20, 20, (count, n))
    random = np.ldexp(rng.normal(size=(count, n)), exponents).astype(F32)
    bits = rng.integers(0, 2**32, (count, n), dtype=np.uint32).view(F32)
    return list(np.concatenate([special, random, bits]).T)


def same(got: Any, want: Any) -> None:
    """The same bits, but for which NaN it is."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got[~nan].view(np.int32), want[~nan].view(np.int32))


def apply(words: Any, name: str, *operands: Any) -> Any:
    """A word on all elements of some arrays."""
    n = words.floats()
    size = len(operands[0])
    results = []
    for parts in zip(*(vectors(operand, n) for operand in operands), strict=True):
        out = np.full(n, 77, F32)
        getattr(words, name)(*(np.ascontiguousarray(part) for part in parts), out)
        results.append(out)
    return np.concatenate(results)[:size]


@floats
@pytest.mark.parametrize("name", ["load", "keep"])
def test_load_store_keep(words: Any, name: str) -> None:
    same(apply(words, name, SPECIAL), SPECIAL)
    # Any alignment.
    n = words.floats()
    memory = np.zeros(4 * n + 8, np.uint8)
    for offset in range(8):
        source = memory[offset : offset + 4 * n].view(np.uint8)
        source[:] = np.arange(4 * n)
        out = np.zeros(n, F32)
        words.load(np.frombuffer(source, F32), out)
        assert out.tobytes() == source.tobytes()


@floats
def test_set1(words: Any) -> None:
    for x in SPECIAL:
        out = np.zeros(words.floats(), F32)
        words.set1(float(x), out)
        same(out, np.full(out.size, x))


@floats
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_arithmetic(words: Any, name: str) -> None:
    a, b = tuples(2, 600, 1)
    numpy = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[name]
    with np.errstate(all="ignore"):
        same(apply(words, name, a, b), numpy(a, b))


def rounded(exact: Fraction) -> Any:
    """The nearest float32, ties to even."""
    with np.errstate(over="ignore"):
        near = F32(float(exact))
        if not np.isfinite(near):
            return near
        around = [np.nextafter(near, F32(-np.inf)), near, np.nextafter(near, F32(np.inf))]
    finite = [x for x in around if np.isfinite(x)]
    return min(finite, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.int32)) & 1))


@floats
def test_fma(words: Any, fused: bool) -> None:
    """Rounded once, but by the generic vocabulary, unless tests want it to."""
    a, b, c = tuples(3, 700, 2)
    with np.errstate(all="ignore"):
        twice = a * b + c
        want = twice.copy()
        if fused:
            wide = a.astype(np.float64) * b + c  # the product is exact
            want = wide.astype(F32)
            for i in np.flatnonzero(np.isfinite(a) & np.isfinite(b) & np.isfinite(c)):
                exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
                if exact:
                    want[i] = rounded(exact)
            assert (want.view(np.int32) != twice.view(np.int32)).sum() > 100, "no case tells"
    same(apply(words, "fma", a, b, c), want)


@floats
@pytest.mark.parametrize("name", ["max", "min"])
def test_max_min(words: Any, name: str) -> None:
    """The second operand for equals, which 0 and -0 are, and for NaN."""
    a, b = tuples(2, 600, 3)
    same(apply(words, name, a, b), np.where(a > b if name == "max" else a < b, a, b))


@floats
def test_if_positive(words: Any) -> None:
    x, a, b = tuples(3, 600, 4)
    same(apply(words, "if_positive", x, a, b), np.where(x > 0, a, b))


@floats
def test_all_within(words: Any) -> None:
    n = words.floats()
    for lane, (x, lo, hi) in itertools.product(range(n), itertools.product(SPECIAL, repeat=3)):
        values, low, high = (np.full(n, v, F32) for v in (0.5, 0.0, 1.0))
        values[lane], low[lane], high[lane] = x, lo, hi
        assert words.all_within(values, low, high) == (lo <= x <= hi)
    inside = np.linspace(0, 1, n, dtype=F32)
    assert words.all_within(inside, np.zeros(n, F32), np.ones(n, F32)) == 1


@floats
def test_round(words: Any) -> None:
    """Ties to even; the sign of a zero is left open."""
    rng = np.random.default_rng(5)
    halves = np.arange(-1000, 1000, dtype=F32) / 2
    ends = np.array([2**22 - 0.5, -(2**22) + 0.5, 2**22 - 1, LEAST, -LEAST, 0.0, -0.0], F32)
    near = np.concatenate([np.nextafter(halves, F32(np.inf)), np.nextafter(halves, F32(-np.inf))])
    random = (rng.uniform(-1, 1, 500) * 2.0 ** rng.integers(0, 22, 500)).astype(F32)
    x = np.concatenate([halves, near, ends, random])
    np.testing.assert_array_equal(apply(words, "round", x), np.rint(x))


@floats
def test_scale2(words: Any) -> None:
    powers = np.arange(-126, 128, dtype=F32)
    x, n = (grid.ravel() for grid in np.meshgrid(SPECIAL, powers))
    with np.errstate(all="ignore"):
        same(apply(words, "scale2", x, n), x * np.ldexp(F32(1), n.astype(np.int32)))


@floats
def test_exponent(words: Any) -> None:
    rng = np.random.default_rng(9)
    powers = np.ldexp(F32(1), np.arange(-126, 128)).astype(F32)
    random = (rng.uniform(1, 2, 500) * 2.0 ** rng.integers(-126, 127, 500)).astype(F32)
    x = np.concatenate([powers, np.nextafter(powers[1:], F32(0)), random, [F32(3.4e38)]])
    np.testing.assert_array_equal(apply(words, "exponent", x), np.frexp(x)[1] - 1)


@floats
def test_sqrt(words: Any) -> None:
    rng = np.random.default_rng(10)
    random = (rng.uniform(1, 2, 500) * 2.0 ** rng.integers(-126, 127, 500)).astype(F32)
    with np.errstate(invalid="ignore"):
        x = np.concatenate([random, SPECIAL])
        same(apply(words, "sqrt", x), np.sqrt(x))


@floats
def test_sum(words: Any) -> None:
    """In one order: halves are added to halves."""
    rng = np.random.default_rng(11)
    for _ in range(200):
        x = (rng.normal(size=words.floats()) * 10.0 ** rng.integers(-3, 4)).astype(F32)
        lanes = x
        while len(lanes) > 1:
            lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
        assert words.sum(x) == lanes[0]


@floats
def test_put_nonzero(words: Any) -> None:
    n, rng = words.floats(), np.random.default_rng(6)
    for case in range(300):
        x = rng.choice(SPECIAL, n)
        x[rng.random(n) < (case % 5) / 4] = rng.choice([0.0, -0.0])
        values, indices = np.zeros(n, F32), np.zeros(n, np.uint32)
        count = words.put_nonzero(values, indices, x, 1000)
        where = np.flatnonzero(x != 0)
        assert count == len(where)
        same(values[:count], x[where])
        np.testing.assert_array_equal(indices[:count], where + 1000)


@floats
def test_load_f16(words: Any) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    bits = bits[np.isfinite(bits.view(np.float16))]
    same(apply(words, "load_f16", bits), bits.view(np.float16).astype(F32))


@floats
def test_load_i8(words: Any) -> None:
    every = np.arange(-128, 128).astype(np.int8)
    same(apply(words, "load_i8", every), every.astype(F32))


class Fenced:
    """Memory between pages that nobody may touch: who does ends the process."""

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self._map = mmap.mmap(-1, 3 * page)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._protect(0)
        self.memory = np.frombuffer(self._map, np.uint8, page, page)

    def _protect(self, mode: int) -> None:
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for page in (0, 2):
            assert protect(self._address + page * mmap.PAGESIZE, mmap.PAGESIZE, mode) == 0

    def ends(self, dtype: Any, count: int) -> tuple[Any, Any]:
        """Its first and its last `count` values."""
        size = count * np.dtype(dtype).itemsize
        return self.memory[:size].view(dtype), self.memory[self.memory.size - size :].view(dtype)


@floats
def test_tails_touch_nothing_outside(words: Any) -> None:
    """Every length, at both ends of what may be touched: loaded lanes beyond are 0."""
    n, fenced = words.floats(), Fenced()
    whole = np.arange(1, n + 1, dtype=F32)
    for count in range(n):
        for end in fenced.ends(F32, count):
            end[:] = whole[:count]
            out = np.full(n, 77, F32)
            words.load_n(end, count, out)
            same(out, np.concatenate([whole[:count], np.zeros(n - count, F32)]))
        for end in fenced.ends(F32, count):
            fenced.memory[:] = 0xAB
            words.store_n(whole, count, end)
            same(end, whole[:count])
            assert (fenced.memory == 0xAB).sum() >= fenced.memory.size - end.nbytes
    # A tail keeps whatever floats there are.
    for values in vectors(SPECIAL, n):
        out = np.zeros(n, F32)
        words.store_n(np.ascontiguousarray(values), n - 1, out)
        same(out[:-1], values[:-1])


@bytes_
def test_whole_vectors_touch_nothing_outside(words: Any) -> None:
    n, fenced = words.floats(), Fenced()
    out, integers = np.zeros(n, F32), np.zeros(n, np.int32)
    fenced.memory[:] = 0
    for dtype, count, word in (
        (F32, n, lambda end: words.load(end, out)),
        (F32, n, lambda end: words.load(out, end)),
        (np.uint16, n, lambda end: words.load_f16(end, out)),
        (np.int8, n, lambda end: words.load_i8(end, out)),
        (np.int32, n, lambda end: words.iload(end, integers)),
        (np.uint8, n, lambda end: words.store_bytes(out, end)),
        (F32, n, lambda end: words.put_nonzero(out, integers.view(np.uint32), end, 0)),
        (np.uint8, 4, lambda end: words.dot(integers, end, np.zeros(4 * n, np.int8), integers)),
        (np.int8, 4 * n, lambda end: words.dot(integers, np.zeros(4, np.uint8), end, integers)),
    ):
        for end in fenced.ends(dtype, count):
            word(end)


@bytes_
@pytest.mark.parametrize("name", ["iadd", "isub", "imul"])
def test_integer_arithmetic(words: Any, name: str) -> None:
    n, rng = words.floats(), np.random.default_rng(7)
    limit = 46340 if name == "imul" else 2**30 - 1
    ends = np.array([0, 1, -1, limit, -limit])
    a, b = (grid.ravel() for grid in np.meshgrid(ends, ends))
    a, b = (np.append(x, rng.integers(-limit, limit, 500)).astype(np.int32) for x in (a, b))
    want = {"iadd": a + b, "isub": a - b, "imul": a * b}[name]
    for x, y, z in zip(vectors(a, n), vectors(b, n), vectors(want, n), strict=True):
        out = np.zeros(n, np.int32)
        getattr(words, name)(x, y, out)
        np.testing.assert_array_equal(out, z)


@bytes_
def test_integers_in_and_out(words: Any) -> None:
    n, rng = words.floats(), np.random.default_rng(8)
    ties = [2**24 + 1, 2**24 + 3, 2**25 + 2, 2**25 + 6, -(2**24) - 1, 2**31 - 1, -(2**31)]
    values = np.array([0, 1, -1, 255, *ties, *rng.integers(-(2**31), 2**31, 1000)], np.int32)
    for part in vectors(values, n):
        out, converted = np.zeros(n, np.int32), np.zeros(n, F32)
        words.iload(part, out)
        np.testing.assert_array_equal(out, part)
        words.from_int(part, converted)
        same(converted, part.astype(F32))
        words.iset1(int(part[0]), out)
        np.testing.assert_array_equal(out, np.full(n, part[0]))


@bytes_
def test_store_bytes(words: Any) -> None:
    n = words.floats()
    for part in vectors(np.arange(-(2**15) + 1, 2**15, dtype=F32), n):
        out = np.zeros(n, np.uint8)
        words.store_bytes(part, out)
        np.testing.assert_array_equal(out, part.astype(np.int32).astype(np.uint8))


@bytes_
def test_dot(words: Any) -> None:
    """Inputs signed or not, as the vocabulary has them; every pair of a byte and a weight."""
    n, least, rng = words.floats(), words.dot_min(), np.random.default_rng(9)
    assert least in (-128, 0)
    every = np.arange(least, least + 256)
    inputs = list(itertools.product((least, least + 255), repeat=4))  # the greatest sums of pairs
    inputs += [tuple(rng.permutation([x, *rng.choice(every, 3)])) for x in every]
    for four in inputs:
        x = np.array(four, np.int64)
        weights = rng.integers(-127, 128, (256, 4))
        weights[:255, rng.integers(4)] = rng.permutation(np.arange(-127, 128))
        weights[:16] = list(itertools.product((-127, 127), repeat=4))
        acc = rng.integers(-(2**29), 2**29, 256).astype(np.int32)
        want = acc + weights @ x
        got = []
        for w, a in zip(weights.reshape(-1, n, 4), acc.reshape(-1, n), strict=True):
            out = np.zeros(n, np.int32)
            words.dot(a, x.astype(np.uint8), w.astype(np.int8).ravel(), out)
            got.append(out)
        np.testing.assert_array_equal(np.concatenate(got), want)


# ---- Nothing is left out ----

#: Words that a vocabulary is made of, and parts of words that are no words themselves.
PARTS = {"v_mask_n", "v_select", "v_even_bytes"}


def defined(*files: str) -> set[str]:
    text = "".join((ROOT / "csrc/simd" / file).read_text(encoding="utf-8") for file in files)
    return set(re.findall(r"^static inline [\w ]+?\*?(v_\w+)\(", text, re.MULTILINE)) - PARTS


def test_every_word_is_defined_by_every_isa_and_tested() -> None:
    generic = defined("simd_generic.h", "put_nonzero.h", "dot_generic.h")
    text = (ROOT / "csrc/simd/simd_generic.h").read_text(encoding="utf-8")
    described = set(re.findall(r"\bv_[a-z]\w*", text[: text.index("#ifndef FD_SIMD_H")]))
    assert described == generic
    used = (native.HERE / "words.c").read_text(encoding="utf-8")
    assert set(re.findall(r"\bv_[a-z]\w*", used)) == generic
    for isa in native.ISAS:
        _, owner, dots = next(row for row in native.ROWS if row[0] == isa)
        files = [f"simd_{owner}.h", f"dot_{dots}.h"]
        source = (ROOT / "csrc/simd" / files[0]).read_text(encoding="utf-8")
        files += ["put_nonzero.h"] * ("put_nonzero.h" in source)
        assert defined(*files) == generic, isa
    tests = (ROOT / "tests/csrc/test_vocabulary.py").read_text(encoding="utf-8")
    for word in native.declarations.words():
        assert re.search(rf"\b{word.removeprefix('word_')}\b", tests), f"{word} is not tested"
