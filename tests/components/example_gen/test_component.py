"""ExampleGen through TFX: what its parameters, its cache and its readers see."""

import json
import os

import pytest

from schemas.config import SourceConfig
from schemas.errors import ConfigError

WEIGHTS = {"train": 7, "validate": 1, "eval": 2}
SCHEMA = 'feature { name: "n" type: INT }\n'


def source(path, format="csv"):
    return SourceConfig(format=format, path=str(path))


@pytest.fixture
def run(tmp_path):
    """Runs a pipeline of the given nodes below tmp_path; gives the connection to its store."""
    from tfx.orchestration import metadata, pipeline
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    connection = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.db"))

    def one(*nodes):
        built = pipeline.Pipeline(
            pipeline_name="test",
            pipeline_root=str(tmp_path / "root"),
            components=list(nodes),
            enable_cache=True,
            metadata_connection_config=connection,
            beam_pipeline_args=["--runner=FnApiRunner"],
        )
        LocalDagRunner().run(built)
        return connection

    return one


def newest(connection, type_name):
    """The artifacts of a type, newest last, and the executions of ExampleGen by their state."""
    from ml_metadata.metadata_store import MetadataStore
    from ml_metadata.proto.metadata_store_pb2 import Execution

    store = MetadataStore(connection)
    executions = store.get_executions_by_type("components.example_gen.component.ExampleGen")
    states = [Execution.State.Name(execution.last_known_state) for execution in executions]
    return store.get_artifacts_by_type(type_name), states, executions


@pytest.fixture
def schema_path(tmp_path):
    path = tmp_path / "schema.pbtxt"
    path.write_text(SCHEMA)
    return str(path)


def test_the_parameters_are_plain_and_complete(schema_path):
    """Sections as JSON, the schema's content and not its path; the id is the class's name."""
    from components.code import code_fingerprint
    from components.example_gen.component import ExampleGen

    node = ExampleGen(source("data/*.csv"), WEIGHTS, schema_path)
    assert node.id == "ExampleGen"
    assert SourceConfig.model_validate_json(node.exec_properties["source"]) == source("data/*.csv")
    assert list(json.loads(node.exec_properties["splits"]).items()) == list(WEIGHTS.items())
    assert node.exec_properties["schema"] == 'feature {\n  name: "n"\n  type: INT\n}\n'
    assert node.exec_properties["code_fingerprint"] == code_fingerprint("components.example_gen", "schemas")
    assert list(node.outputs) == ["examples"]


def test_a_bad_schema_or_format_is_refused_when_the_graph_is_built(tmp_path, schema_path):
    """Before anything runs."""
    from components.example_gen.component import ExampleGen

    with pytest.raises(ConfigError, match=r"cannot be read \(.*No such file.*\); expected a schema\.pbtxt"):
        ExampleGen(source("a.csv"), WEIGHTS, str(tmp_path / "gone.pbtxt"))
    with pytest.raises(
        ConfigError, match="format: is not read by ExampleGen; expected csv or parquet or arrow or tfrecord; got avro"
    ):
        ExampleGen(source("a.avro", "avro"), WEIGHTS, schema_path)


def test_the_fingerprint_is_of_names_and_contents(tmp_path):
    """Times and folders do not enter; a name, a byte and a file more do."""
    from components.example_gen.fingerprint import content_fingerprint

    (tmp_path / "x").mkdir()
    one, two, same = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "x" / "a.csv"
    for file in (one, two, same):
        file.write_text("n\n1\n")
    os.utime(same, (0, 0))
    first = content_fingerprint([one])
    assert content_fingerprint([same]) == first
    assert content_fingerprint([one, two]) == content_fingerprint([two, one])
    assert len({first, content_fingerprint([two]), content_fingerprint([one, two])}) == 3
    one.write_text("n\n2\n")
    assert content_fingerprint([one]) != first


def test_the_cache_sees_content_and_not_times(tmp_path, schema_path, run):
    """Same content, another time: cached. Same size and time, another content: read again."""
    from components.example_gen.component import ExampleGen

    file = tmp_path / "rows.csv"
    file.write_text("n\n" + "".join(f"{n}\n" for n in range(100, 200)))
    times = (1_600_000_000, 1_600_000_000)
    os.utime(file, times)
    run(ExampleGen(source(file), WEIGHTS, schema_path))
    file.touch()
    run(ExampleGen(source(file), WEIGHTS, schema_path))
    file.write_text(file.read_text().replace("150\n", "999\n"))
    os.utime(file, times)
    artifacts, states, executions = newest(run(ExampleGen(source(file), WEIGHTS, schema_path)), "Examples")
    assert states == ["COMPLETE", "CACHED", "COMPLETE"]
    first, _, third = (execution.custom_properties["input_fingerprint"].string_value for execution in executions)
    assert first != third  # TFX records what a driver adds on executions that ran, and on no cached one
    assert [a.custom_properties["input_fingerprint"].string_value for a in artifacts] == [first, third]


def test_the_cache_sees_spans(tmp_path, schema_path, run):
    """A window that holds what it held is cached; a span more, one that arrives late, or a new version is not.

    The driver looks when the node is launched: so does a container on Kubeflow, whose graph was compiled before.
    """
    from components.example_gen.component import ExampleGen

    def arrive(name, first):
        (tmp_path / name).write_text("n\n" + "".join(f"{n}\n" for n in range(first, first + 60)))

    spans = SourceConfig(format="csv", path=str(tmp_path / "{SPAN}-v{VERSION}.csv"), window={"last_spans": 3})
    arrive("4-v1.csv", 100)
    arrive("5-v1.csv", 200)
    for late in ("", "", "7-v1.csv", "6-v1.csv", "6-v2.csv"):
        if late:
            arrive(late, 300)  # equal bytes: another span all the same
        connection = run(ExampleGen(spans, WEIGHTS, schema_path))
    artifacts, states, _ = newest(connection, "Examples")
    assert states == ["COMPLETE", "CACHED", "COMPLETE", "COMPLETE", "COMPLETE"]
    told = [
        {name: getattr(value, value.WhichOneof("value")) for name, value in artifact.custom_properties.items()}
        for artifact in artifacts
    ]
    assert [(one["span"], one["version"], one["spans"], one["missing_spans"]) for one in told] == [
        (5, 1, "4 v1, 5 v1", ""),
        (7, 1, "5 v1, 7 v1", "6"),
        (7, 1, "5 v1, 6 v1, 7 v1", ""),
        (7, 1, "5 v1, 6 v2, 7 v1", ""),
    ]
    assert [one["rows_read"] for one in told] == [120, 60, 0, 0]
    assert [artifact.properties["span"].int_value for artifact in artifacts] == [5, 7, 7, 7]


def test_a_fault_of_the_data_reaches_the_caller(tmp_path, schema_path, run):
    """As our own error with the line, whatever TFX wraps around it; no examples are published."""
    from components.example_gen.component import ExampleGen
    from schemas.errors import BadValueError, find_cause

    file = tmp_path / "rows.csv"
    file.write_text("n\n1\nx\n")
    with pytest.raises(Exception, match="line 3, column 'n'") as caught:
        run(ExampleGen(source(file), WEIGHTS, schema_path))
    assert isinstance(find_cause(caught.value), BadValueError)


def test_stock_components_read_all_the_rows(taxi_csv, taxi_schema, tmp_path, run):
    """StatisticsGen, which knows nothing of us, counts the 15,002 rows and the 5,140 without a company."""
    from tensorflow_metadata.proto.v0 import statistics_pb2
    from tfx.components.statistics_gen.component import StatisticsGen

    from components.example_gen.component import ExampleGen

    path = tmp_path / "schema.pbtxt"
    path.write_text(taxi_schema)
    examples = ExampleGen(source(taxi_csv), WEIGHTS, str(path))
    statistics = StatisticsGen(examples=examples.outputs["examples"])
    connection = run(examples, statistics)

    (artifact,), states, _ = newest(connection, "Examples")
    assert states == ["COMPLETE"]
    assert json.loads(artifact.properties["split_names"].string_value) == list(WEIGHTS)
    given = artifact.custom_properties
    assert given["payload_format"].string_value == "FORMAT_TF_EXAMPLE"
    assert given["rows_in"].int_value == 15_002
    assert given["span"].int_value == 0

    (found,), _, _ = newest(connection, "ExampleStatistics")
    without_company = 0
    for split in WEIGHTS:
        with open(f"{found.uri}/Split-{split}/FeatureStats.pb", "rb") as file:
            dataset = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read()).datasets[0]
        assert dataset.num_examples == given[f"rows_{split}"].int_value
        (company,) = (f for f in dataset.features if f.path.step == ["company"])
        without_company += company.string_stats.common_stats.num_missing
        # TFDV counts a feature's missing values among the examples of the split.
        assert company.string_stats.common_stats.num_non_missing < dataset.num_examples
    assert sum(given[f"rows_{split}"].int_value for split in WEIGHTS) == 15_002
    assert without_company == 5_140
