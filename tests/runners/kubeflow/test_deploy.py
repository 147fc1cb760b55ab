"""What is in `deploy/`: the image's recipe, whose steps are run without docker, and the manifests."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from schemas.load import load_config
from tests.runners.kubeflow.samples import SECTION
from tests.workbench import REPOSITORY, taxi_bench

DEPLOY = REPOSITORY / "deploy"
MANIFESTS = DEPLOY / "kubernetes"
UV = REPOSITORY / ".tools" / "bin" / "uv"
VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())


def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with what follows it."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def stage(number: int) -> list[tuple[str, str]]:
    """The instructions of one stage."""
    starts = [index for index, (word, _) in enumerate(steps()) if word == "FROM"]
    return steps()[starts[number] : [*starts[1:], None][number]]


def test_the_image_holds_the_wheel_and_runs_as_a_number() -> None:
    """Two stages; nothing of the repository in the second; what is beside a process is not imported."""
    last = stage(-1)
    copied = [rest for word, rest in last if word == "COPY"]
    assert copied == ["--from=build /opt/satisfice /opt/satisfice"]
    (user,) = [rest for word, rest in last if word == "USER"]
    assert all(part.isdecimal() and int(part) > 0 for part in user.split(":"))
    variables = " ".join(rest for word, rest in last if word == "ENV")
    assert "PYTHONSAFEPATH=1" in variables
    assert last[-1][0] == "RUN"
    assert "import runners.kubeflow.node" in last[-1][1]


def test_everything_is_installed_as_locked() -> None:
    """No step resolves anything; only the tool that installs is named with a version of its own, the Makefile's."""
    runs = [rest for word, rest in stage(0) if word == "RUN"]
    synced = [rest for rest in runs if "uv sync" in rest]
    assert len(synced) == 2
    assert all("--frozen" in rest for rest in synced)
    assert all("--no-deps" in rest for rest in runs if "uv pip install" in rest)
    version = re.search(r"^UV_VERSION := (\S+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert version
    assert ("ARG", f"UV_VERSION={version[1]}") in steps()


def test_what_is_copied_is_let_in() -> None:
    """The ignore file lets in all that a step copies."""
    let_in = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = {name for word, rest in stage(0) if word == "COPY" for name in rest.split()[:-1]}
    assert copied == let_in
    assert all((REPOSITORY / name).exists() for name in copied)


@pytest.mark.slow
def test_the_steps_run_without_docker(tmp_path: Path) -> None:
    """The same commands, with other folders; compiled to bytecode is what docker keeps, and left out here."""
    if not UV.exists():
        pytest.skip("no .tools/bin/uv: `make setup` installs it")
    places = {"/opt/uv/bin/uv": str(UV), "/opt/": f"{tmp_path}/opt/", " --compile-bytecode": ""}
    build, work = tmp_path / "build", tmp_path / "work"
    build.mkdir()
    work.mkdir()
    # uv takes what the environment of the tests was made of from its cache; nothing is downloaded.
    env = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": os.environ["HOME"], "UV_OFFLINE": "1",
           "UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": sys.executable}  # fmt: skip
    for word, rest in stage(0):
        if word == "COPY":
            *names, place = rest.split()
            for name in names:
                _copy(REPOSITORY / name, build / place / (name if place == "./" else ""))
        elif word == "RUN" and "pip install --no-cache-dir uv==" not in rest:
            done = _shell(rest, places, build, env)
            if done.returncode and "offline" in done.stderr.lower():
                pytest.skip(f"not in uv's cache: {done.stderr.strip().splitlines()[-1]}")
            assert done.returncode == 0, f"{rest}\n{done.stdout}{done.stderr}"
    variables = dict(pair.split("=", 1) for word, rest in stage(-1) if word == "ENV" for pair in rest.split())
    last = {**variables, "PATH": variables["PATH"].replace("/opt/", f"{tmp_path}/opt/"), "HOME": str(tmp_path)}
    (check,) = [rest for word, rest in stage(-1) if word == "RUN"]
    done = _shell(check, {}, work, last)
    assert done.returncode == 0, done.stderr
    where = "import runners, kfp; print(runners.__file__)"
    found = _shell(f"python -c '{where}'", {}, work, last).stdout
    assert found.startswith(f"{tmp_path}/opt/satisfice/lib/")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _shell(command: str, places: dict[str, str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for there, here in places.items():
        command = command.replace(there, here)
    return subprocess.run(["sh", "-ec", command], cwd=folder, env=env, capture_output=True, text=True)


def documents() -> list[dict[str, Any]]:
    """The manifests as kustomize reads them, with its own additions left out."""
    named = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    return [one for name in named for one in yaml.safe_load_all((MANIFESTS / name).read_text())]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifests_are_what_kubernetes_takes(version: str) -> None:
    """Strictly: no key that it does not know."""
    for document in documents():
        kubernetes_validate.validate(document, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**documents()[0], "specs": {}}, version, strict=True)


def test_no_pod_is_root_or_holds_a_password() -> None:
    """And each container says what it needs."""
    pods = [one["spec"]["template"]["spec"] for one in documents() if one["kind"] == "StatefulSet"]
    pods += [one["spec"]["jobTemplate"]["spec"]["template"]["spec"] for one in documents() if one["kind"] == "CronJob"]
    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert {"requests", "limits"} <= set(container["resources"])
    assert "Secret" not in [one["kind"] for one in documents()]
    assert not (MANIFESTS / "store.env").exists() or "store.env" in (REPOSITORY / ".gitignore").read_text()


def test_the_configuration_in_the_comments_is_one(tmp_path: Path) -> None:
    """What the manifest of the store tells to write into the configuration is accepted, and names what is there."""
    lines = (MANIFESTS / "store.yaml").read_text().splitlines()
    said = yaml.safe_load("\n".join(line.removeprefix("#   ") for line in lines if line.startswith("#   ")))
    bench = taxi_bench(tmp_path, rows=5)
    bench.edit(lambda raw: raw.update(metadata=said["metadata"], kubeflow={**SECTION, **said["kubeflow"]}))
    config = load_config(bench.config).config
    services = {one["metadata"]["name"] for one in documents() if one["kind"] == "Service"}
    assert config.metadata.postgresql is not None
    assert config.metadata.postgresql.host in services
    assert config.kubeflow is not None
    secret = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["secretGenerator"][0]["name"]
    assert [one.name for one in config.kubeflow.secrets] == [secret]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl, whose kustomize puts the manifests together")
def test_kustomize_puts_them_together(tmp_path: Path) -> None:
    """With the secret from a file that is not committed, everything in one namespace, and the image by its tag."""
    shutil.copytree(MANIFESTS, tmp_path / "kubernetes")
    folder = tmp_path / "kubernetes"
    shutil.copy(folder / "store.env.example", folder / "store.env")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = list(yaml.safe_load_all(done.stdout))
    for document in found:
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
    assert {one["metadata"]["namespace"] for one in found} == {"kubeflow"}
    assert sorted(one["kind"] for one in found) == [
        "CronJob", "PersistentVolumeClaim", "Secret", "Service", "ServiceAccount", "StatefulSet"
    ]  # fmt: skip
    (job,) = [one for one in found if one["kind"] == "CronJob"]
    text = json.dumps(job)
    assert '"image": "registry.example/satisfice:0.1.0"' in text
