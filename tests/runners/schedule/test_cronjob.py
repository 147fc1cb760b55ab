"""The CronJob that is rendered: what Kubernetes takes, that it runs a tick, and what it refuses to render."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from runners.schedule.cronjob import cron_of
from schemas.errors import ConfigError
from tests.runners.kubeflow.samples import IMAGE, SECTION
from tests.workbench import Answer, Bench, satisfice, taxi_bench

VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A pipeline with a schedule and a section for Kubeflow."""
    made = taxi_bench(tmp_path / "taxi", rows=5)
    schedule = {"triggers": {"changed_data": True}, "every": "30m", "time_zone": "Europe/Berlin"}
    made.edit(lambda raw: raw.update(schedule=schedule, kubeflow={**SECTION, "namespace": "models"}))
    return made


def rendered(bench: Bench, *options: str) -> dict[str, Any]:
    answer = ask(bench, *options)
    assert answer.code == 0, answer.out + answer.err
    return dict(yaml.safe_load((bench.folder / "kubernetes" / "cronjob.yaml").read_text()))


def ask(bench: Bench, *options: str) -> Answer:
    return satisfice("schedule", bench.config, "--cronjob", "-o", bench.folder / "kubernetes", *options)


def test_kubernetes_takes_it(bench: Bench) -> None:
    """Strictly, in each version; and a key that it does not know would be found."""
    document = rendered(bench)
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)
    broken = {**document, "spec": {**document["spec"], "concurrency": "Forbid"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


def test_it_ticks(bench: Bench) -> None:
    """One at a time, by the clock of the schedule, with the volume at the place where the configuration lies."""
    document = rendered(bench, "--set", "training.epochs=2")
    spec = document["spec"]
    assert document["metadata"]["namespace"] == "models"
    assert (spec["schedule"], spec["timeZone"]) == ("*/30 * * * *", "Europe/Berlin")
    assert (spec["concurrencyPolicy"], spec["startingDeadlineSeconds"]) == ("Forbid", 1800)
    job = spec["jobTemplate"]["spec"]
    assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (0, 3600)
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    command = ["satisfice", "watch", "/satisfice/satisfice.yaml", "--once", "--set", "training.epochs=2"]
    assert container["command"] == command
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert {one["mountPath"] for one in container["volumeMounts"]} == {"/satisfice", "/tmp", "/dev/shm", "/keys"}
    secret = {"name": "STORE_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "store", "key": "password"}}}
    assert container["env"] == [{"name": "LEVEL", "value": "high"}, secret]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["terminationGracePeriodSeconds"] == 600
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_another_rhythm(bench: Bench) -> None:
    """Is given with --cron, of five fields."""
    assert rendered(bench, "--cron", "0 4 * * mon")["spec"]["schedule"] == "0 4 * * mon"
    answer = ask(bench, "--cron", "0 0 4 * * *")
    assert answer.code == 2
    assert "--cron: is no cron expression: has 6 fields" in answer.err


@pytest.mark.parametrize("every", ["7m", "45s", "90m", "5h", "2d"])
def test_no_rhythm_of_cron(every: str) -> None:
    """Is refused, with what there is."""
    with pytest.raises(ConfigError, match="is no rhythm that cron has; expected minutes that divide an hour"):
        cron_of(every)


def test_what_is_missing(bench: Bench) -> None:
    """All of it is named, and nothing is written."""
    bench.edit(lambda raw: raw.update(kubeflow={**SECTION, "image": "satisfice:latest"}))
    assert "kubeflow.image: 'latest' names other bytes tomorrow" in ask(bench).err
    bench.edit(lambda raw: raw.pop("kubeflow"))
    assert "kubeflow: is missing" in ask(bench).err
    both = ask(bench, "--kubeflow")
    assert both.code == 2
    assert "--cronjob: is given beside --kubeflow" in both.err
    assert not (bench.folder / "kubernetes").exists()


def test_a_training_as_pods(bench: Bench) -> None:
    """Is asked for as the account that is named, which the pod then has a token of; by a kubeconfig it needs neither."""
    assert pod(bench)["automountServiceAccountToken"] is False
    pods = {"image": IMAGE, "volume": SECTION["volume"]}
    asked = {"strategy": "multi_worker_mirrored", "workers": 2, "cluster": "kubernetes", "kubernetes": pods}
    bench.edit(lambda raw: raw["training"].update(asked))
    answer = ask(bench)
    assert answer.code == 2
    assert "kubeflow.service_account: is missing: with training.cluster: kubernetes" in answer.err
    bench.edit(lambda raw: raw["kubeflow"].update(service_account="trainer"))
    told = pod(bench)
    assert (told["serviceAccountName"], told["automountServiceAccountToken"]) == ("trainer", True)
    bench.edit(lambda raw: raw["kubeflow"].pop("service_account"))
    bench.edit(lambda raw: raw["kubeflow"]["env"].update(KUBECONFIG="/keys/kubeconfig"))
    assert pod(bench)["automountServiceAccountToken"] is False


def pod(bench: Bench) -> dict[str, Any]:
    """Of the CronJob that is rendered."""
    return dict(rendered(bench)["spec"]["jobTemplate"]["spec"]["template"]["spec"])
