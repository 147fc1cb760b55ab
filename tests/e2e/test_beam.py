"""The taxi pipeline on engines whose workers are processes of their own: nothing that they need is in ours alone."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.evaluator import executor as evaluator
from components.evaluator.fit import Unsupported
from tests.runners.beam_cluster import Cluster, FlinkCluster
from tests.workbench import REPOSITORY, Answer, Bench, taxi_bench

pytestmark = pytest.mark.slow

ROWS = 400
MADE = ("pipelines", "metadata.db", "serving_models")


class _Heard(logging.Handler):
    """Keeps what the components log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@dataclass(frozen=True)
class Ran:
    """A run of the whole pipeline on a cluster, and the folder with what it made."""

    cluster: Cluster
    made: Path
    answer: Answer
    messages: list[str]

    def files(self, *patterns: str) -> dict[str, bytes]:
        """What nodes have written, by its path below the pipeline root."""
        root = self.made / "pipelines/taxi"
        return {str(path.relative_to(root)): path.read_bytes() for each in patterns for path in root.glob(each)}

    def figures(self) -> dict[str, float | None]:
        """What was evaluated: the values, by all that is told of them but the digest of the model's bytes."""
        (text,) = self.files("Evaluator/evaluation/*/figures.json").values()
        told = [(one.pop("value"), {**one, "digest": ""}) for one in json.loads(text)["figures"]]
        return {json.dumps(rest, sort_keys=True): value for value, rest in told}


def run_on(cluster: Cluster, bench: Bench, made: Path) -> Ran:
    """Ingest, stock Transform with the user's own functions, TFMA: all on Beam; what it makes goes into a folder."""

    def unsupported(*_: object) -> None:
        raise Unsupported("the test has Beam do it")

    heard, logger = _Heard(), logging.getLogger("components")
    for name in MADE:  # by a try that failed
        if (bench.folder / name).exists():
            shutil.move(bench.folder / name, made / f"before-{name}")
    bench.edit(lambda raw: raw.update(beam={"runner": "flink", "args": cluster.arguments}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "_evaluate", unsupported)
        patch.setattr(logger, "disabled", False)
        logger.addHandler(heard)
        try:
            answer = bench.run("training.epochs=1", options=("--runner", "tfx-local"))
        finally:
            logger.removeHandler(heard)
    assert answer.code == 0, answer.err[-3000:] or answer.json["error"]
    for name in MADE:
        shutil.move(bench.folder / name, made / name)
    return Ran(cluster, made, answer, heard.messages)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    """The one folder from which all run: a process takes a user's module from one place alone."""
    bench = taxi_bench(tmp_path_factory.mktemp("bench"), rows=ROWS)
    shutil.copy(REPOSITORY / "tests/resources/largest_fare.py", bench.folder / "largest_fare.py")
    slices = {"metric": "binary_accuracy", "slice_by": ["payment_type"], "min": 0.01}
    bench.edit(lambda raw: raw["model"].update(module="largest_fare"))
    bench.edit(lambda raw: raw.update(gates={"satisfy": [{"metric": "auc", "min": 0.01}, slices]}))
    return bench


@pytest.fixture(scope="module")
def reference(bench: Bench, tmp_path_factory) -> Iterator[Ran]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), REPOSITORY)
    try:
        yield run_on(cluster, bench, tmp_path_factory.mktemp("reference"))
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def flink_job_server(tmp_path_factory) -> Iterator[FlinkCluster]:
    """Beam's job server for Flink, with Flink in it; skipped where its jars are not."""
    if why := FlinkCluster.missing():
        pytest.skip(why)
    cluster = FlinkCluster(tmp_path_factory.mktemp("flink"), REPOSITORY)
    yield cluster
    cluster.close()


def test_every_beam_node_runs_in_processes_that_share_nothing_with_ours(reference: Ran) -> None:
    """No row is lost, and the figures are of all rows; the engine's own part is Beam's reference, addressed as Flink's is."""
    _is_whole(reference)
    assert reference.cluster.workers >= 3


def test_flink_does_the_same(flink_job_server: FlinkCluster, reference: Ran, bench: Bench, tmp_path) -> None:
    """On a Flink for real: a job per node, a pushed model, and rows, statistics, vocabularies and figures alike."""
    before = flink_job_server.jobs
    ran = run_on(flink_job_server, bench, tmp_path)
    _is_whole(ran)
    assert flink_job_server.jobs == before + 3
    assert flink_job_server.workers >= 3
    alike = (
        "ExampleGen/examples/*/Split-*/*",
        "StatisticsGen/statistics/*/Split-*/FeatureStats.pb",
        "Transform/transform_graph/*/transform_fn/assets/*",
    )
    written = ran.files(*alike)
    assert len(written) >= 3 + 3 + 1
    assert written == reference.files(*alike)
    figures = ran.figures()
    assert len(figures) >= 8
    assert figures == pytest.approx(
        reference.figures(), abs=0.005
    )  # training in several threads differs in the last bits


def _is_whole(ran: Ran) -> None:
    rows = ran.answer.json["data_decision"]["rows"]
    assert sum(rows.values()) == ROWS
    (auc,) = [one for one in ran.answer.json["decision"]["gates"] if one["metric"] == "auc"]
    assert auc["n"] == rows["eval"]
    assert ran.answer.json["push"]["outcome"] == "pushed"
    assert any(one.startswith("Transform runs on Beam, through stock TFX: the analyzer ") for one in ran.messages)
    assert any(one.startswith("Evaluating with TFMA on Beam") for one in ran.messages)
