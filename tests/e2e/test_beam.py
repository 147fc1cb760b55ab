"""The taxi pipeline on an engine whose workers are processes of their own: nothing that they need is in ours alone."""

from __future__ import annotations

import logging
import shutil

import pytest

from components.evaluator import executor as evaluator
from components.evaluator.fit import Unsupported
from tests.runners.beam_cluster import Cluster
from tests.workbench import REPOSITORY, taxi_bench

pytestmark = pytest.mark.slow

ROWS = 400


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"), REPOSITORY)
    yield made
    made.close()


def test_every_beam_node_runs_in_processes_that_share_nothing_with_ours(
    cluster: Cluster, tmp_path, monkeypatch, caplog
) -> None:
    """Ingest, stock Transform with the user's own functions, TFMA: no row is lost, and the figures are of all rows.

    The engine's own part is Beam's reference job server, addressed as Flink's is.
    """

    def unsupported(*_: object) -> None:
        raise Unsupported("the test has Beam do it")

    monkeypatch.setattr(evaluator, "_evaluate", unsupported)
    caplog.set_level(logging.WARNING, logger="components")
    bench = taxi_bench(tmp_path, rows=ROWS)
    shutil.copy(REPOSITORY / "tests/resources/largest_fare.py", bench.folder / "largest_fare.py")
    bench.edit(lambda raw: raw["model"].update(module="largest_fare"))
    bench.edit(lambda raw: raw.update(beam={"runner": "flink", "args": cluster.arguments}))
    bench.edit(lambda raw: raw.update(gates={"satisfy": [{"metric": "auc", "min": 0.01}]}))
    answer = bench.run("training.epochs=1", options=("--runner", "tfx-local"))
    assert answer.code == 0, answer.err[-3000:] or answer.json["error"]
    rows = answer.json["data_decision"]["rows"]
    assert sum(rows.values()) == ROWS
    (auc,) = [one for one in answer.json["decision"]["gates"] if one["metric"] == "auc"]
    assert auc["n"] == rows["eval"]
    assert any(one.startswith("Transform runs on Beam, through stock TFX: the analyzer ") for one in caplog.messages)
    assert any(one.startswith("Evaluating with TFMA on Beam") for one in caplog.messages)
    assert cluster.workers >= 3
