import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdigit._core import xxhash64
from tests.support import need

xxhash = need("xxhash")


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_published_vectors(data, digest):
    assert xxhash64(data) == digest


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1))
def test_agrees_with_the_reference_implementation(data, seed):
    assert xxhash64(data, seed) == xxhash.xxh64_intdigest(data, seed)


def test_a_long_input():
    data = bytes(range(251)) * 4001
    assert xxhash64(data) == xxhash.xxh64_intdigest(data)


def test_accepts_any_buffer():
    data = bytearray(b"0123456789" * 10)
    assert xxhash64(memoryview(data)) == xxhash64(data) == xxhash64(bytes(data))
