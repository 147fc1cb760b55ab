"""Parameters of a run, jobs, and places on the volume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runners.kubeflow.job import NodeJob, Source, TellJob, pack, unpack
from runners.kubeflow.places import in_containers
from runners.kubeflow.values import schema_file, value_at, with_values
from schemas.config import MetadataConfig, SqliteConfig
from schemas.errors import ConfigError, SatisficeError
from tests.runners.kubeflow.samples import on_kubeflow
from tests.workbench import taxi_bench

STORE = MetadataConfig(sqlite=SqliteConfig(path="/satisfice/metadata.db"))


@pytest.fixture
def source(tmp_path) -> Source:
    config = in_containers(on_kubeflow(taxi_bench(tmp_path, rows=5))).config
    return Source(
        config=json.dumps(config.canonical()),
        file="/satisfice/satisfice.yaml",
        schema_text="feature {}",
        fingerprints=("a", "b"),
        code="c",
        libraries={},
    )


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("training.epochs", "7", 7),
        ("training.epochs", "7.0", 7),  # Kubeflow's numbers are doubles
        ("training.jit_compile", "false", False),
        ("data.source.path", "/satisfice/10: new.csv", "/satisfice/10: new.csv"),
        ("gates.satisfy.0.min", "0.7", 0.7),
        ("model.module", "1", None),
    ],
)
def test_a_value_goes_to_its_key(source, key, text, value) -> None:
    """Text stays text whatever it looks like; what does not fit is refused with its key."""
    if value is None:
        with pytest.raises(ConfigError, match=key):
            with_values(source, {key: text})
    else:
        assert value_at(with_values(source, {key: text}), key) == value


def test_no_values_change_nothing(source) -> None:
    assert with_values(source, {}).canonical() == json.loads(source.config)
    defaults = {"training.epochs": "4", "data.source.path": "/satisfice/data.csv"}
    assert with_values(source, defaults).canonical() == json.loads(source.config)


def test_the_schema_is_a_file_for_the_while(source) -> None:
    with schema_file(source) as file:
        assert Path(file).read_text() == "feature {}"
    assert not Path(file).exists()


def test_a_job_survives_its_packing() -> None:
    """And the same job is the same text, of letters that no shell or template touches."""
    job = NodeJob(node="Gate", folder="/satisfice", metadata=STORE, ir="aGk=", takes_values=True)
    assert unpack(NodeJob, pack(job)) == job
    assert pack(job) == pack(job.model_copy())
    assert set(pack(job)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


@pytest.mark.parametrize("text", ["", "%", "aGk=", pack(TellJob(pipeline="p", metadata=STORE, root="/r"))])
def test_what_is_no_job_is_refused(text) -> None:
    with pytest.raises(SatisficeError, match="is no NodeJob of this version"):
        unpack(NodeJob, text)


def test_the_folder_is_the_volume(tmp_path) -> None:
    """What is below the configuration's folder is below the mount path; what is there already stays."""
    bench = taxi_bench(tmp_path, rows=5)
    bench.edit(lambda raw: raw["push"]["serving"].update(base_path="/satisfice/models"))
    moved = in_containers(on_kubeflow(bench))
    config = moved.config
    assert str(moved.file) == "/satisfice/satisfice.yaml"
    assert config.data.source.path == "/satisfice/data.csv"
    assert config.data.schema_path == "/satisfice/schema.pbtxt"
    assert config.push.serving.base_path == "/satisfice/models"
    assert config.metadata.sqlite is not None
    assert config.metadata.sqlite.path == "/satisfice/metadata.db"
