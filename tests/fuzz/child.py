"""``python -m tests.fuzz.child TARGET OPTIONS``: a target in Python, in a process of its
own, by Atheris if it is installed. OPTIONS are libFuzzer's."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import random
import re
import sys
from pathlib import Path

#: What a target reaches. It is imported first of all: Atheris counts only what it saw imported.
PACKAGES = ("fastdigit.compiler", "fastdigit.images")
MODULES = ("fastdigit.meta", "fastdigit.model", "fastdigit.serve.protocol")


def _import_all() -> None:
    for package in PACKAGES:
        folder = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(folder, f"{package}."):
            importlib.import_module(module.name)
    for name in MODULES:
        importlib.import_module(name)


def main() -> None:
    name, *options = sys.argv[1:]
    if importlib.util.find_spec("atheris") is None:
        from tests.fuzz.engines import loop

        given = dict(re.fullmatch(r"-?([^=]*)=?(.*)", option).groups() for option in options)  # type: ignore[union-attr,misc]
        folder = Path(given["artifact_prefix"])
        tried = loop(name, float(given["max_total_time"]), folder, int(given["seed"]) - 1)
        print(f"stat::number_of_executed_units: {tried}")
        return
    import atheris

    with atheris.instrument_imports(include=["fastdigit"]):
        _import_all()

    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        return target.mutate(data, random.Random(seed))[:most]

    atheris.Setup([sys.argv[0], *options], target.try_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
