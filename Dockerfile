# syntax=docker/dockerfile:1
# An image of `fastdigit serve`: docker build -t fastdigit . Deploying it: deploy/README.md.

# A tag may name another image tomorrow: `docker build $(make --silent base-image) .` builds on the one it names today,
# by its digest.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

# ---- Wheels: ours, which needs a compiler, and what it depends on ----
FROM ${PYTHON_IMAGE} AS build
# Versions of Debian's packages are those of the base image's release, and go with the next update of it.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Each version is one that was chosen, and each file has the digest that it had then (make lock).
COPY deploy/requirements.lock deploy/build.lock deploy/
RUN pip wheel --no-cache-dir --require-hashes --wheel-dir /wheels -r deploy/requirements.lock \
    && pip install --no-cache-dir --require-hashes -r deploy/build.lock
COPY pyproject.toml setup.py MANIFEST.in README.md CHANGELOG.md LICENSE ./
COPY csrc csrc
COPY fastdigit fastdigit
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

# ---- The image: no compiler, no pip cache, a user without rights ----
FROM ${PYTHON_IMAGE}
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index /wheels/*.whl

# Nothing is written: it runs with a read-only root file system, and without /tmp.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/v2/health/ready', timeout=2)"]
ENTRYPOINT ["fastdigit"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
