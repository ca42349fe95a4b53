# Every target works from a fresh clone: it makes .venv, builds and installs what it needs, and does nothing twice.
#
#   make bench    run fastdigit beside ONNX Runtime on the 10,000 MNIST test digits
#   make test     run all tests           (PYTEST_ARGS='-m "not slow"' for the fast ones)
#   make lint     ruff, mypy, clang-format (make format mends what can be mended)
#   make model    train, export and compile the default model again (some hours)
#   make clean    forget all of it
#
# PYTHON=python3.12 chooses an interpreter, CC=clang a compiler.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check
C_FILES := $(shell find csrc examples tests -name '*.c' -o -name '*.h' -o -name '*.def')
# What the extension is made of; the Python files of an editable install need no building.
SOURCES := setup.py pyproject.toml csrc/build.json csrc/cmake/fastdigit.pc.in $(C_FILES) $(wildcard fastdigit/*.pyx)

BENCH_ARGS ?=
PYTEST_ARGS ?=

.PHONY: bench test lint format model clean

bench: $(STAMPS)/bench
	$(BIN)/fastdigit-bench $(BENCH_ARGS)

test: $(STAMPS)/test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMPS)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

format: $(STAMPS)/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

model: $(STAMPS)/test
	$(BIN)/python -m export.build

clean:
	rm -rf $(VENV) build *.egg-info fastdigit/*.so fastdigit/include fastdigit/lib

# A stamp an extra: its packages are installed and the extension is built from what lies here.
$(STAMPS)/bench $(STAMPS)/test: $(STAMPS)/%: $(SOURCES) | $(STAMPS)
	$(PIP) install --quiet --no-build-isolation --editable '.[$*]'
	touch $@

$(STAMPS):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fastdigit needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try PYTHON=python3.12 make ..." >&2; exit 1; }
	@command -v $(firstword $(CC)) >/dev/null || \
	  { echo "fastdigit is built from C and finds no compiler '$(CC)'. Install gcc or clang (Debian, Ubuntu: apt install gcc), or set CC." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip 'setuptools>=77' 'cython>=3.1'
	mkdir -p $@
