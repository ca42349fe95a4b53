"""A program in C that uses the library, and what the library is to export."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import fastdigit
from tests.support import ROOT
from tests.support.c_build import run_checked, setup_py

HEADER = ROOT / "csrc/include/fastdigit.h"
DECLARED = set(re.findall(r"^FD_API .*?\b(fd_\w+)\(", HEADER.read_text(encoding="utf-8"), re.M))
ABI: str = setup_py()["abi_version"](fastdigit.__version__)
PEDANTIC = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror")


#: Opens a model, labels a blank image, and says which version it was linked with.
PROGRAM = """
#include <fastdigit.h>
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    fd_model *model = NULL;
    fd_context *context = NULL;
    fd_model_info info;
    fd_error error;
    fd_outputs out = {NULL, NULL, NULL};
    int64_t label = -1;
    if (argc != 2 || fd_model_open(argv[1], &model, &error) != FD_OK) return 1;
    if (fd_context_create(model, 1, &context, &error) != FD_OK) return 2;
    fd_model_get_info(model, &info);
    unsigned char *blank = (unsigned char *)calloc(info.input_elements, 1);
    out.labels = &label;
    if (fd_run(model, context, blank, FD_INPUT_U8, 1, &out, NULL, &error) != FD_OK) return 3;
    printf("%s %d.%d %d\\n", fd_version(), FD_VERSION_MAJOR, FD_VERSION_MINOR, (int)label);
    free(blank);
    fd_context_free(context);
    fd_model_close(model);
    return 0;
}
"""
SEED = ROOT / "fastdigit/models/seed.fdm"


def wanted() -> str:
    label = fastdigit.load("seed").predict(np.zeros((28, 28), np.uint8))[0]
    major, minor, _ = fastdigit.__version__.split(".")
    return f"{fastdigit.__version__} {major}.{minor} {label}"


def build_and_run(folder: Path, words: list[str], compiler: str = "gcc", **environment: str) -> str:
    """What PROGRAM prints, compiled with options `words`."""
    source = folder / ("program.cpp" if compiler.endswith("++") else "program.c")
    source.write_text(PROGRAM)
    run_checked([compiler, *PEDANTIC, source, *words, "-o", folder / "program"])
    return run_checked([folder / "program", SEED], **environment).strip()


def exported(path: Path | str, *options: str) -> set[str]:
    lines = run_checked(["nm", "--defined-only", "--extern-only", *options, path]).splitlines()
    # Not the name of their version itself, an absolute symbol.
    return {line.split()[-1].partition("@")[0] for line in lines if re.search(r" [B-Z] ", line)}
