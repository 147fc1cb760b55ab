"""ML Metadata on real servers: the same records, two nodes at once, a connection that is lost in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from components.lineage.reader import Lineage
from components.lineage.store import connection_config, open_store, without_password
from runners.local.records import Records
from schemas.config import MetadataConfig
from schemas.errors import MetadataError
from tests.runners.kubeflow.servers import PASSWORD, PASSWORD_ENV, SERVERS, Server, find
from tests.runners.kubeflow.test_node import Cluster
from tests.runners.local.desk import Desk
from tests.workbench import REPOSITORY


@pytest.fixture(scope="module", params=list(SERVERS))
def server(request) -> Iterator[Server]:
    kind, programs = SERVERS[request.param]
    missing = [name for name in programs if find(name) is None]
    if missing:
        pytest.skip(f"{request.param} is not installed: no {', '.join(missing)}")
    os.environ[PASSWORD_ENV] = PASSWORD
    started = kind()
    yield started
    started.close()
    del os.environ[PASSWORD_ENV]


def config(server: Server, **changes: object) -> MetadataConfig:
    return MetadataConfig.model_validate(server.section(**changes))


@pytest.fixture(scope="module")
def cluster(server: Server, tmp_path_factory) -> Cluster:
    """The tiny pipeline, whose records are on the server."""
    made = Cluster(tmp_path_factory.mktemp(server.kind))
    made.desk.metadata = config(server)
    made.desk.store = open_store(made.desk.metadata)
    return made


def started(cluster: Cluster, name: str, run_id: str) -> subprocess.Popen[str]:
    """A node's container as a process of its own."""
    words = [sys.executable, "-m", "runners.kubeflow.node", "node", "--name", name, "--run-id", run_id]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [*words, "--job", cluster.job(name)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_two_nodes_at_once(cluster: Cluster) -> None:
    """On either server: each leaves its execution, its output and its place in the run."""
    cluster.open("first")
    assert cluster.run("Numbers", "first") == (0, {"state": "ran"})
    both = {name: started(cluster, name, "first") for name in ("Judge", "Report")}
    for name, process in both.items():
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, f"{name}: {output}"
    records = Records(cluster.desk.store)
    for node in cluster.desk.graph("first").nodes:
        if node.id in ("Numbers", "Judge", "Report"):
            assert records.outputs_of(records.execution_of(node)), node.id
    run, nodes = cluster.close("first")
    assert run.runner == "kubeflow"
    assert {name for name, one in nodes.items() if one.state == "ran"} == {"Numbers", "Judge", "Report"}


def test_a_connection_that_is_lost_fails_the_node_and_the_next_attempt_goes_on(
    cluster: Cluster, server: Server, capsys
) -> None:
    """The message names the store and never the password; what was recorded before is there afterwards."""
    assert cluster.run("Numbers", "second")[0] == 0
    server.stop()
    try:
        assert cluster.run("Judge", "second")[0] == 1
        said = capsys.readouterr().err
        assert f"metadata.{server.kind} at 127.0.0.1:{server.port}: cannot be opened as a metadata store" in said
        assert "horse" not in said
    finally:
        server.start()
    assert cluster.run("Judge", "second") == (0, {"state": "cached"})
    cluster.desk.store = open_store(cluster.desk.metadata)  # a lost connection does not come back by itself
    lineage = Lineage(cluster.desk.metadata, "tiny", cluster.desk.store)
    assert set(lineage.executions("second")) == {"Numbers", "Judge"}


@pytest.mark.parametrize("changes", [{"user": "nobody"}, {"database": "elsewhere"}, {"port": 1}], ids=str)
def test_what_cannot_be_opened_is_named(server: Server, changes) -> None:
    with pytest.raises(MetadataError, match="cannot be opened as a metadata store") as caught:
        open_store(config(server, **changes))
    assert "horse" not in str(caught.value)
    assert str(changes.get("port", server.port)) in str(caught.value)


def test_a_wrong_password_and_one_that_is_not_there(server: Server, monkeypatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "wrong")
    with pytest.raises(MetadataError, match="cannot be opened"):
        open_store(config(server))
    monkeypatch.delenv(PASSWORD_ENV)
    with pytest.raises(MetadataError, match=f"the environment variable {PASSWORD_ENV}"):
        open_store(config(server))


def test_a_password_is_written_nowhere(server: Server) -> None:
    """A connection that goes into a file has none."""
    connection = connection_config(config(server))
    assert getattr(connection, server.kind).password.replace("\\", "").strip("'") == PASSWORD.replace("\\", "")
    assert not getattr(without_password(connection), server.kind).password
    assert str(server.port) in str(without_password(connection))


def test_the_desk_of_the_tests_is_another_store(tmp_path) -> None:
    """A SQLite store needs no password, and is read as before."""
    desk = Desk(tmp_path)
    assert without_password(desk.connection) == desk.connection
