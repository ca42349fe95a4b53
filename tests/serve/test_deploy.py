"""Dockerfile and manifests: linted, valid, and in agreement with each other.

Nothing here runs a container; deploy/README.md says what was run instead.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

import fastdigit
from tests.support import ROOT, missing, need

PORT, USER = 8080, 65532
READY, LIVE = "/v2/health/ready", "/v2/health/live"
ARGS = ["serve", "--host", "0.0.0.0", "--port", str(PORT)]


def tool(name: str) -> str:
    """A program of an installed distribution, or skip."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        missing(name)
    return found


def documents(name: str) -> list[dict[str, Any]]:
    yaml = need("yaml")
    return list(yaml.safe_load_all((ROOT / "deploy" / name).read_text(encoding="utf-8")))


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as pairs of an instruction and its words."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def final_stage() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, words in instructions():
        if name == "FROM":
            found = {}
        found.setdefault(name, []).append(words)
    return found


def copied() -> list[str]:
    """What the build stage copies from the repository."""
    return [
        source
        for name, words in instructions()
        if name == "COPY"
        for source in shlex.split(words)[:-1]
    ]


# ---- The image ----


@pytest.mark.slow
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [tool("hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_without_rights() -> None:
    stage = final_stage()
    assert stage["USER"] == [f"{USER}:{USER}"]
    order = [name for name, _ in instructions()]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name == "RUN")
    assert stage["EXPOSE"] == [str(PORT)]
    assert json.loads(stage["ENTRYPOINT"][0]) == ["fastdigit"]
    assert json.loads(stage["CMD"][0]) == ARGS
    assert "PYTHONDONTWRITEBYTECODE=1" in stage["ENV"][0]


def test_the_health_check_finds_a_server_that_is_well_or_not() -> None:
    """Its command, run here, against the port where nothing or something answers."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    (check,) = final_stage()["HEALTHCHECK"]
    command = json.loads(check[check.index("CMD") + 3 :])
    assert command[:2] == ["python", "-c"]
    assert f"http://127.0.0.1:{PORT}{READY}" in command[2]
    asked: list[str] = []
    status = 200

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    code = command[2].replace(f":{PORT}/", f":{server.server_port}/")

    def run() -> int:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
        return done.returncode

    try:
        assert run() == 0 and asked == [READY]
        status = 503
        assert run() != 0
    finally:
        server.shutdown()
        server.server_close()
    assert run() != 0


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert set(copied()) == allowed
    for name in copied():
        assert (ROOT / name).exists(), name
        assert not any(fnmatch(name, rule) for rule in rules[1:] if not rule.startswith("!"))


# ---- What is installed in it ----


def locked(name: str) -> dict[str, list[str]]:
    """The versions of each distribution in a file of `make lock`, all of which have digests."""
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        distribution, version, rest = re.fullmatch(r"([a-z\d-]+)==(\S+)(.*)", line).groups()
        assert re.fullmatch(r"( ; [^;]+?)?( +--hash=sha256:[\da-f]{64})+ *", rest), distribution
        found.setdefault(distribution, []).append(version)
    return found


def test_what_is_locked_is_what_is_required() -> None:
    """By pyproject.toml: all of it, in versions that it allows."""
    import tomllib

    requirements = need("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    direct = [*project["project"]["dependencies"], *extras["serve"]]
    for name, lines in (
        ("requirements.lock", direct),
        ("build.lock", project["build-system"]["requires"]),
    ):
        versions = locked(name)
        for line in lines:
            wanted = requirements.Requirement(line)
            if wanted.name != "fastdigit":
                assert all(map(wanted.specifier.contains, versions[wanted.name])), line
    assert {"anyio", "h11", "click"} <= locked("requirements.lock").keys()


def test_each_package_that_is_locked_has_its_licence_told() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    table = text[text.index("| package | licence |") :].partition("\n\n")[0]
    named = {
        name for line in table.splitlines()[2:] for name in line.split("|")[1].strip().split(", ")
    }
    assert named == set(locked("requirements.lock"))


def test_both_stages_are_built_on_one_image_that_the_builder_may_name() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (name,) = [line.partition("=")[2] for line in lines if line.startswith("ARG PYTHON_IMAGE=")]
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", name)
    assert [line for line in lines if line.startswith("FROM")] == [
        "FROM ${PYTHON_IMAGE} AS build",
        "FROM ${PYTHON_IMAGE}",
    ]


# ---- The manifests ----


@pytest.mark.parametrize("name", ["kubernetes.yaml", "kserve.yaml"])
def test_yamllint_has_nothing_to_say(name: str) -> None:
    config = "{extends: default, rules: {document-start: disable, line-length: {max: 120}}}"
    done = subprocess.run(
        [tool("yamllint"), "--strict", "--config-data", config, str(ROOT / "deploy" / name)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_the_manifest_is_valid() -> None:
    validation = need("kubernetes_validate")
    version = validation.latest_version()
    kinds = []
    for document in documents("kubernetes.yaml"):
        validation.validate(document, version, strict=True)
        kinds.append(document["kind"])
    assert kinds == [
        *("Deployment", "Service", "PodDisruptionBudget"),
        *("HorizontalPodAutoscaler", "NetworkPolicy"),
    ]
    wrong = documents("kubernetes.yaml")[0]
    wrong["spec"]["replica"] = 2
    with pytest.raises(validation.ValidationError):
        validation.validate(wrong, version, strict=True)


def built(value: Any, type_: str, where: str = "") -> Any:
    """A part of a manifest as the class that KServe's or Kubernetes' Python package has for it.

    Those are generated from the schemas of the resources. Unknown fields and wrong types fail here,
    fields that are required and missing in the constructors.
    """
    from kserve import models
    from kubernetes.client import models as kubernetes

    if one := re.fullmatch(r"list\[(.*)\]", type_, re.IGNORECASE):
        assert isinstance(value, list), where
        return [built(item, one[1], f"{where}[{i}]") for i, item in enumerate(value)]
    if one := re.fullmatch(r"dict[(\[]str, (.*)[)\]]", type_, re.IGNORECASE):
        assert isinstance(value, dict), where
        return {key: built(item, one[1], f"{where}.{key}") for key, item in value.items()}
    simple = {"str": str, "int": int, "bool": bool, "object": (str, int)}
    if type_ in simple:
        assert isinstance(value, simple[type_]), f"{where} is {value!r}, not {type_}"
        assert isinstance(value, bool) == (type_ == "bool"), where
        return value
    made = getattr(models, type_, None) or getattr(kubernetes, type_)
    names = {field: name for name, field in made.attribute_map.items()}
    assert isinstance(value, dict), where
    assert set(value) <= set(names), f"{where} has unknown fields {set(value) - set(names)}"
    types = {names[field]: made.openapi_types[names[field]] for field in value}
    return made(
        **{
            names[field]: built(part, types[names[field]], f"{where}.{field}")
            for field, part in value.items()
        }
    )


@pytest.mark.slow
def test_the_inference_service_is_valid() -> None:
    need("kserve")
    validation = need("kubernetes_validate")
    from kubernetes.client import V1PodSpec

    (service,) = documents("kserve.yaml")
    assert (service["apiVersion"], service["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    predictor = built(service, "V1beta1InferenceService").spec.predictor
    assert (predictor.min_replicas, predictor.scale_metric, predictor.scale_target) == (
        1,
        "cpu",
        70,
    )
    # A predictor is a pod, and how many of it.
    fields = set(V1PodSpec.attribute_map.values())
    pod = {field: part for field, part in service["spec"]["predictor"].items() if field in fields}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
    validation.validate(manifest, validation.latest_version(), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda predictor: predictor.update(minReplica=1), "unknown fields {'minReplica'}"),
        (lambda predictor: predictor.update(minReplicas="1"), "minReplicas is '1', not int"),
        (lambda predictor: predictor["containers"][0].pop("name"), r"V1Container\nname|`name`"),
        (lambda predictor: predictor["containers"][0]["ports"][0].update(port=1), "'port'"),
    ],
)
def test_a_wrong_inference_service_is_not(change: Any, message: str) -> None:
    need("kserve")
    (service,) = documents("kserve.yaml")
    change(service["spec"]["predictor"])
    with pytest.raises((AssertionError, ValueError), match=message):
        built(service, "V1beta1InferenceService")


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "kubernetes.yaml", documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]
    yield "kserve.yaml", documents("kserve.yaml")[0]["spec"]["predictor"]


def test_pods_are_confined() -> None:
    for name, pod in pods():
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert pod["automountServiceAccountToken"] is False
        assert not pod.get("volumes")
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}


def test_pods_have_the_memory_that_their_server_may_take() -> None:
    """Server and reader take some 75 and 50 MB before anything has come; pictures come on top."""
    from fastdigit.serve import Settings

    settings = Settings()
    needed = (100 << 20) + settings.readers * ((64 << 20) + settings.reading_memory_bytes)
    for name, pod in pods():
        (container,) = pod["containers"]
        assert not {arg for arg in container["args"] if arg.startswith(("--reader", "--reading"))}
        memory = container["resources"]["limits"]["memory"]
        assert memory.endswith("Mi") and int(memory[:-2]) << 20 >= needed, name


def test_pods_run_what_the_image_has() -> None:
    for name, pod in pods():
        (container,) = pod["containers"]
        assert container["image"] == f"registry.example.com/fastdigit:{fastdigit.__version__}"
        assert container["args"][: len(ARGS)] == ARGS, name
        (port,) = container["ports"]
        assert port["containerPort"] == PORT
        for probe, path in (("readinessProbe", READY), ("livenessProbe", LIVE)):
            assert container[probe]["httpGet"]["path"] == path
            assert container[probe]["httpGet"]["port"] in (PORT, port.get("name"))
    drain = float(container["args"][container["args"].index("--drain-delay") + 1])
    deployment = documents("kubernetes.yaml")[0]
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain + 10


def test_kserve_runs_the_same_container() -> None:
    (_, plain), (_, kserve) = pods()
    for key in ("image", "args", "resources", "securityContext"):
        assert plain["containers"][0][key] == kserve["containers"][0][key], key


def test_labels_select_the_pods() -> None:
    deployment, service, budget, scaler, policy = documents("kubernetes.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert policy["spec"]["egress"] == []


def test_the_documents_say_that_it_was_not_run() -> None:
    text = (ROOT / "deploy/README.md").read_text(encoding="utf-8")
    assert "None of this has been run in a container" in text
