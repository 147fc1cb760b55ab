"""What the data gate makes of TFDV's anomalies: one record for each reason, in an order that a reader wants."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from components.data_gate.judge import anomalies_of, decide
from components.data_gate.validate import validate_statistics
from schemas.config import ValidateConfig
from schemas.decision import Anomaly
from tests.workbench import REPOSITORY

BLOCK, WARN = ValidateConfig(anomalies="block"), ValidateConfig(anomalies="warn")


def found(text: str) -> Any:
    return text_format.Parse(text, anomalies_pb2.Anomalies())


def anomaly(feature: str = "fare", split: str = "train", kind: str = "K", severity: str = "block") -> Anomaly:
    return Anomaly(split=split, feature=feature, kind=kind, reason="is odd", severity=severity)  # type: ignore[arg-type]


def test_data_without_an_anomaly_has_no_records() -> None:
    """An Anomalies proto always comes; it may be empty."""
    assert anomalies_of("train", anomalies_pb2.Anomalies(), "block") == []


def test_each_reason_is_a_record() -> None:
    """With TFDV's name of it and its words on one line, in the order of the features; the data set as a whole last."""
    given_by_tfdv = found("""
        anomaly_info { key: "tips" value {
            description: "all of it"
            reason { type: FEATURE_TYPE_LOW_FRACTION_PRESENT description: "too few\\n  values" }
            reason { type: FEATURE_TYPE_NOT_PRESENT description: "gone" } } }
        anomaly_info { key: "fare" value { reason { type: ENUM_TYPE_UNEXPECTED_STRING_VALUES description: "new" } } }
        dataset_anomaly_info { reason { type: DATASET_LOW_NUM_EXAMPLES description: "few rows" } }
    """)
    records = anomalies_of("eval", given_by_tfdv, "warn")
    assert [(one.feature, one.kind, one.reason) for one in records] == [
        ("fare", "ENUM_TYPE_UNEXPECTED_STRING_VALUES", "new"),
        ("tips", "FEATURE_TYPE_LOW_FRACTION_PRESENT", "too few values"),
        ("tips", "FEATURE_TYPE_NOT_PRESENT", "gone"),
        ("", "DATASET_LOW_NUM_EXAMPLES", "few rows"),
    ]
    assert {(one.split, one.severity) for one in records} == {("eval", "warn")}


def test_a_reason_without_words_takes_those_of_the_feature() -> None:
    """And an anomaly without a reason is still an anomaly."""
    records = anomalies_of("train", found("""
        anomaly_info { key: "a" value { description: "of the feature" reason { type: INVALID_SCHEMA_SPECIFICATION } } }
        anomaly_info { key: "b" value { description: "no reason given" } }
    """), "block")  # fmt: skip
    assert [(one.kind, one.reason) for one in records] == [
        ("INVALID_SCHEMA_SPECIFICATION", "of the feature"),
        ("UNKNOWN_TYPE", "no reason given"),
    ]


def test_anomalies_block_where_the_configuration_says_so() -> None:
    """The reasons name feature, split, words and kind; `warn` lets the run go on and keeps the record."""
    odd = anomaly()
    blocked = decide([odd], {"train": 7, "eval": 2}, BLOCK)
    assert (blocked.outcome, blocked.anomalies) == ("block", (odd,))
    assert blocked.rows == {"train": 7, "eval": 2}
    assert blocked.reasons == ("fare (train): is odd [K]",)

    mild = anomaly(severity="warn")
    warned = decide([mild], {"train": 7}, WARN)
    assert (warned.outcome, warned.anomalies, warned.reasons) == ("proceed", (mild,), ())


def test_under_warn_nothing_blocks() -> None:
    """Whatever the anomalies say of themselves."""
    assert decide([anomaly(severity="block")], {}, WARN).outcome == "proceed"


def test_what_is_only_a_warning_never_blocks() -> None:
    """Each anomaly has its own severity; one that blocks is enough."""
    assert decide([anomaly(severity="warn")], {}, BLOCK).outcome == "proceed"
    assert decide([anomaly(severity="warn"), anomaly()], {}, BLOCK).outcome == "block"
    assert decide([], {}, BLOCK).outcome == "proceed"


def test_an_anomaly_of_the_whole_data_set_is_named_so() -> None:
    """It has no feature."""
    assert decide([anomaly(feature="")], {}, BLOCK).reasons == ("the data set (train): is odd [K]",)


def test_what_blocks_comes_first_then_by_feature_split_and_kind() -> None:
    """In whatever order the splits were looked at."""
    ordered = [
        anomaly("fare", "eval", "A"),
        anomaly("fare", "train", "A"),
        anomaly("fare", "train", "B"),
        anomaly("tips", "eval", "A"),
        anomaly("area", "eval", "A", "warn"),
        anomaly("zone", "eval", "A", "warn"),
    ]
    decision = decide(ordered[::-1], {}, BLOCK)
    assert list(decision.anomalies) == ordered
    assert len(decision.reasons) == 4


@given(st.lists(st.sampled_from(["block", "warn"])), st.sampled_from([BLOCK, WARN]))
def test_one_anomaly_less_never_turns_a_go_into_a_block(severities: list[str], config: ValidateConfig) -> None:
    """The gate is monotone, and it forgets nothing."""
    anomalies = [anomaly(str(number), severity=severity) for number, severity in enumerate(severities)]
    decision = decide(anomalies, {}, config)
    assert len(decision.anomalies) == len(anomalies)
    if decision.outcome == "proceed":
        for left_out in anomalies:
            rest = [one for one in anomalies if one is not left_out]
            assert decide(rest, {}, config).outcome == "proceed"


SCHEMA = """
    feature { name: "n" type: INT presence { min_fraction: 1.0 min_count: 1 } }
    feature { name: "word" type: BYTES domain: "words" presence { min_fraction: 0.5 } }
    string_domain { name: "words" value: "yes" value: "no" }
"""


def statistics(*, missing: int = 0, words: tuple[str, ...] = ("yes", "no"), column: str = "n") -> Any:
    """Statistics of ten rows of one whole number and one word."""
    values = " ".join(
        f'buckets {{ low_rank: {rank} high_rank: {rank} label: "{w}" sample_count: 5 }}' for rank, w in enumerate(words)
    )
    top = " ".join(f'top_values {{ value: "{word}" frequency: 5 }}' for word in words)
    common = "min_num_values: 1 max_num_values: 1 avg_num_values: 1"
    return text_format.Parse(
        f"""datasets {{ num_examples: 10
            features {{ path {{ step: "{column}" }} type: INT num_stats {{
                common_stats {{ num_non_missing: {10 - missing} num_missing: {missing} {common} tot_num_values: {10 - missing} }}
                min: 1 max: 2 }} }}
            features {{ path {{ step: "word" }} type: STRING string_stats {{
                common_stats {{ num_non_missing: 10 {common} tot_num_values: 10 }}
                unique: {len(words)} {top} rank_histogram {{ {values} }} }} }} }}""",
        statistics_pb2.DatasetFeatureStatisticsList(),
    )


@pytest.mark.parametrize(
    ("given_statistics", "kinds"),
    [
        (statistics(), []),
        (statistics(missing=3), [("n", "FEATURE_TYPE_LOW_FRACTION_PRESENT")]),
        (statistics(words=("yes", "maybe")), [("word", "ENUM_TYPE_UNEXPECTED_STRING_VALUES")]),
        (statistics(column="m"), [("m", "SCHEMA_NEW_COLUMN"), ("n", "SCHEMA_MISSING_COLUMN")]),
    ],
    ids=["as the schema says", "missing values", "a new word", "another column"],
)
def test_what_tfdv_finds_is_told(given_statistics: Any, kinds: list[tuple[str, str]]) -> None:
    """Feature, kind and words of real anomalies, held against a schema by TFDV itself."""
    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    records = anomalies_of("train", validate_statistics(given_statistics, schema), "block")
    assert [(record.feature, record.kind) for record in records] == kinds
    assert all(record.reason for record in records)
    assert decide(records, {"train": 10}, BLOCK).outcome == ("block" if kinds else "proceed")


@pytest.mark.parametrize("schema", ["taxi", "penguin"])
def test_anomalies_are_those_of_tfdv_itself(schema: str) -> None:
    """Though its package is not imported: of real statistics against a schema that they meet, and one that they do not."""
    import tfx  # noqa: F401  # first: it stands in for a module of tfx_bsl that TFDV imports and that is gone
    import tensorflow_data_validation as tfdv  # isort: skip

    text = (REPOSITORY / f"schemas/{schema}/schema.pbtxt").read_text()
    parsed = text_format.Parse(text, schema_pb2.Schema())
    for found in (statistics(), statistics(missing=3)):
        assert validate_statistics(found, parsed) == tfdv.validate_statistics(found, parsed)


def test_tfdvs_compiled_module_is_loaded_once() -> None:
    """Without TensorFlow; a TFDV that is imported after it takes the same, and the process ends as it should."""
    code = (
        "import sys, components.data_gate.validate as v; first = v._extension(); light = 'tensorflow' not in sys.modules;"
        "import tfx, tensorflow_data_validation.api.validation_api as api; second = v._extension();"
        "print(light, first is second, first.validation is api.pywrap_tensorflow_data_validation)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True True True"


def test_imports_neither_tfx_nor_tensorflow() -> None:
    """What judges is pure."""
    code = "import sys, components.data_gate.work; print([m for m in ('tensorflow', 'tfx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
