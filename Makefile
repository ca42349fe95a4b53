# Every target works from a fresh clone: it makes .venv, builds and installs what it needs, and does nothing twice.
#
#   make bench    run fastdigit beside ONNX Runtime on the 10,000 MNIST test digits
#   make test     run the tests; PYTEST_ARGS='-k conv2d' chooses
#   make test-all run the tests that it leaves out: they need TensorFlow, Ray, a browser, other compilers, or time
#   make lint     ruff, mypy, clang-format (make format mends what can be mended)
#   make model    train, export and compile the default model again (some hours)
#   make fuzz     hostile input for all that reads bytes from anywhere; MINUTES=2, FUZZ_ARGS='onnx --seed 7' chooses
#   make coverage what tests and corpora reach of the C core, file by file; fails below floors
#   make analyze  static analysis of the C files by gcc -fanalyzer and clang-tidy (which has clang's analyzer)
#   make lock     renew the versions that the container installs; make sbom: what those are, as CycloneDX JSON
#   make base-image  the digest of the image that the container is built on, as an option of docker build
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
SOURCES := setup.py pyproject.toml csrc/build.json $(wildcard csrc/cmake/*.in fastdigit/*.pxd fastdigit/*.pyx fastdigit/*/*.pyx) $(filter csrc/%,$(C_FILES))

BENCH_ARGS ?=
PYTEST_ARGS ?=
MINUTES ?= 2
FUZZ_ARGS ?=
# On all CPUs. Each worker takes a run of neighbours, which share their fixtures; one that is done takes half of the
# other's rest. What pyproject.toml lists for these tests is installed: nothing may be skipped for want of a package.
PYTEST := FASTDIGIT_TEST_COMPLETE=1 $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=worksteal \
  --durations=25

.PHONY: bench test test-all fuzz coverage lint format analyze lock sbom base-image model clean

bench: $(STAMPS)/built $(STAMPS)/bench
	$(BIN)/fastdigit-bench $(BENCH_ARGS)

test: $(STAMPS)/built $(STAMPS)/test
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: $(STAMPS)/built $(STAMPS)/test-all
	$(PYTEST) -m slow $(PYTEST_ARGS)

fuzz: $(STAMPS)/built $(STAMPS)/test $(STAMPS)/fuzz
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(FUZZ_ARGS)

coverage: $(STAMPS)/built $(STAMPS)/test
	$(BIN)/python -m tests.csrc.coverage

lint: $(STAMPS)/built $(STAMPS)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

format: $(STAMPS)/built $(STAMPS)/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

# Python's part of static analysis is ruff's rules S, in `make lint`.
CORE_FILES := $(wildcard csrc/base/*.c csrc/cpu/*.c csrc/ops/*.c csrc/model/*.c csrc/image/*.c)
ANALYZED := -std=c11 -ffp-contract=off -pthread -Icsrc -Icsrc/include -DFD_HAVE_GENERIC
analyze: $(STAMPS)/built $(STAMPS)/lint
	echo $(CORE_FILES) | xargs -n 1 -P 4 gcc $(ANALYZED) -O1 -fanalyzer -Werror -S -o /dev/null
	echo $(CORE_FILES) | xargs -n 8 -P 4 sh -c '$(BIN)/clang-tidy --quiet "$$@" -- $(ANALYZED)' clang-tidy

# Of what `pip install fastdigit[serve]` takes, for every platform and for Python 3.11 and newer.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock: | $(STAMPS)
	$(PIP) install --quiet uv
	( echo '# What the container installs beside fastdigit: made by `make lock` from pyproject.toml.'; \
	  $(BIN)/$(LOCK) --extra serve --no-emit-package fastdigit pyproject.toml ) >deploy/requirements.lock
	( echo '# What the container builds fastdigit with: made by `make lock`.'; \
	  $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(BIN)/$(LOCK) - ) >deploy/build.lock

# The registry's digest of the image that the Dockerfile builds on, as an option of `docker build`.
PYTHON_IMAGE := $(shell sed -n 's/^ARG PYTHON_IMAGE=//p' Dockerfile)
base-image:
	@digest=$$(docker buildx imagetools inspect $(PYTHON_IMAGE) --format '{{.Manifest.Digest}}') && \
	  echo --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)@$$digest

# Of an environment that has what the container's has, but for what the image of Python brings.
sbom: | $(STAMPS)
	$(PIP) install --quiet cyclonedx-bom
	rm -rf build/sbom && $(BIN)/python -m venv --without-pip build/sbom
	$(PIP) --python build/sbom/bin/python install --quiet --require-hashes -r deploy/requirements.lock
	$(PIP) --python build/sbom/bin/python install --quiet --no-deps .
	$(BIN)/cyclonedx-py environment --output-reproducible --output-file build/sbom.json build/sbom/bin/python

model: $(STAMPS)/built $(STAMPS)/export
	$(BIN)/python -m export.build

clean:
	rm -rf $(VENV) build *.egg-info fastdigit/*.so fastdigit/images/*.so fastdigit/reader/*.so fastdigit/include fastdigit/lib

# The extension is built from what lies here, once for all targets.
$(STAMPS)/built: $(SOURCES) | $(STAMPS)
	$(PIP) install --quiet --no-build-isolation --editable .
	touch $@

# A stamp an extra: its packages are installed beside it.
$(addprefix $(STAMPS)/,bench export fuzz lint test test-all): $(STAMPS)/%: pyproject.toml | $(STAMPS)/built
	$(PIP) install --quiet 'fastdigit[$*]'
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
