"""`satisfice deploy render`: what it says, what it refuses, and that it imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.workbench import REPOSITORY, satisfice


def test_render(fresh_taxi, tmp_path):
    """Text, JSON, a second time, and with an override."""
    output = tmp_path / "out"
    answer = satisfice("deploy", "render", fresh_taxi.config, "-o", output)
    assert answer.code == 0, answer.err
    assert "written  tf_serving/models.config" in answer.out
    assert "taxi serves the newest version" in answer.out
    assert (output / "kubernetes" / "servers.yaml").is_file()
    answer = satisfice("deploy", "render", fresh_taxi.config, "-o", output, "--json", "--set", "serving.instances=4")
    document = answer.json
    changed = {one["path"] for one in document["files"] if one["written"]}
    assert {"compose.yaml", "kubernetes/servers.yaml", "haproxy/haproxy.cfg"} <= changed
    assert "tf_serving/models.config" not in changed
    assert (document["model"], document["versions"], document["labels"]) == ("taxi", "newest", {})
    fresh_taxi.edit(lambda raw: raw.update(serving={"kubernetes": {"claim": "models"}}))
    answer = satisfice("deploy", "render", fresh_taxi.config, "-o", output)
    assert "removed  kubernetes/volume.yaml" in answer.out


TRAINING = (
    "training.cluster=kubernetes",
    "training.strategy=multi_worker_mirrored",
    "training.workers=2",
    "training.kubernetes={image: 'registry/satisfice:1', volume: {claim: satisfice}}",
)


def test_render_training(fresh_taxi, tmp_path):
    """Beside what serves; and what trains on this machine has none."""
    output = tmp_path / "out"
    words = ("deploy", "render", fresh_taxi.config, "-o", output, "--training")
    told = [word for override in TRAINING for word in ("--set", override)]
    answer = satisfice(*words, *told)
    assert answer.code == 0, answer.err
    assert "written  kubernetes/job.yaml" in answer.out
    assert (output / "training" / "rendered_not_run" / "jobset.yaml").is_file()
    assert not any(one["written"] for one in satisfice(*words, *told, "--json").json["files"])
    answer = satisfice(*words)
    assert (answer.code, "training.cluster: is not kubernetes" in answer.err) == (2, True)
    answer = satisfice(*words, *told, "--set", "training.kubernetes.port=80")
    assert (answer.code, "training.kubernetes.port" in answer.err) == (2, True)


@pytest.mark.parametrize(
    ("override", "code", "words"),
    [
        ("serving.labels={stable: 4}", 2, "serving.labels.stable: names version 4, which is not in"),
        ("serving.canary={share: 0.1}", 2, "serving.canary.label: the label 'canary' names no version"),
        ("serving.instances=0", 2, "serving.instances"),
        ("serving.tls={key: k, certificate: c, authority: a, server_name: n}", 2, "serving.tls.key"),
    ],
)
def test_what_it_refuses(fresh_taxi, tmp_path, override, code, words):
    """Before anything is written."""
    answer = satisfice("deploy", "render", fresh_taxi.config, "-o", tmp_path / "out", "--set", override)
    assert (answer.code, words in answer.err, (tmp_path / "out").exists()) == (code, True, False), answer.err


def test_what_was_edited(fresh_taxi, tmp_path):
    """Is not overwritten unless told."""
    output = tmp_path / "out"
    satisfice("deploy", "render", fresh_taxi.config, "-o", output)
    (output / "compose.yaml").write_text("mine")
    answer = satisfice("deploy", "render", fresh_taxi.config, "-o", output)
    assert (answer.code, "not as they were rendered: compose.yaml" in answer.err) == (1, True)
    assert (output / "compose.yaml").read_text() == "mine"
    assert satisfice("deploy", "render", fresh_taxi.config, "-o", output, "--force").code == 0
    assert (output / "compose.yaml").read_text() != "mine"


def test_it_imports_nothing_heavy(fresh_taxi, tmp_path):
    """Neither TensorFlow nor TFX nor gRPC."""
    code = (
        "import sys\nfrom runners.cli import app\n"
        f"app(['deploy', 'render', {str(fresh_taxi.config)!r}, '-o', {str(tmp_path / 'out')!r}], standalone_mode=False)\n"
        "print(sorted({'tensorflow', 'tfx', 'grpc', 'numpy', 'ml_metadata'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
