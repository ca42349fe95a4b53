"""gcc's sanitizers: how the core is built for them, and how a program with one is started."""

from __future__ import annotations

import functools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.c_build import COVERED, NATIVE, Toolchain, run

# -O0: with optimisation gcc takes up to a minute for the checks in the unrolled kernels. Without,
# its intrinsics are macros, which warn of their own conversions.
MEMORY = Toolchain(
    flags=(
        *("-O0", "-g1", "-Wno-sign-conversion"),
        *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    )
)
#: Networks are shared among threads however small.
SHARED = ("-DFD_WAKE_WORK=1", "-DFD_UNIT_WORK=1", "-DFD_GAIN_LOSSES=0")
# The kernels know nothing of threads, so one ISA will do.
THREADS = Toolchain(flags=("-O1", "-g1", "-fsanitize=thread", *SHARED), isas=("generic",))

# Where reach is counted (`make coverage`), these programs are counted, and not sanitized.
if NATIVE == COVERED:
    MEMORY = COVERED
    THREADS = replace(COVERED, flags=(*COVERED.flags, *SHARED), isas=THREADS.isas)

#: Damaged sizes may ask for any amount of memory: that is an answer of malloc, and no error.
OPTIONS = {
    "ASAN_OPTIONS": "allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}

#: Ways to start a sanitized program; the first that works is taken. Without address space
#: randomisation, because gcc's sanitizers want places that a kernel with vm.mmap_rnd_bits above 28
#: may give away; without looking for leaks where a process may not trace itself.
WAYS = (
    ("setarch", "-R"),
    (),
    ("env", f"ASAN_OPTIONS={OPTIONS['ASAN_OPTIONS']}:detect_leaks=0"),
)


@functools.cache
def sanitizer(toolchain: Toolchain, folder: Path) -> tuple[str, ...]:
    """The words to put before a sanitized program so that it starts; skip if there are none."""
    toolchain.require()
    source, program = folder / "hello.c", folder / "hello"
    source.write_text("int main(void) { return 0; }\n")
    built = run([toolchain.compiler, *toolchain.flags, source, "-o", program])
    if built.returncode != 0:
        pytest.skip(f"{toolchain.compiler} has no such sanitizer: {built.stderr.strip()[-300:]}")
    said = ""
    for way in WAYS:
        if way and shutil.which(way[0]) is None:
            continue
        done = run([*way, program], **OPTIONS)
        if done.returncode == 0:
            return way
        said = said or done.stderr.strip()[-300:]
    pytest.skip(f"the sanitizer does not run here: {said}")
