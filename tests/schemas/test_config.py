"""The sections: what each accepts, what it refuses, and that each survives the way to a component and back."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import config as sections
from schemas.config import GatesConfig, MetadataConfig, PipelineConfig, SatisfyGate, config_digest
from schemas.errors import ConfigError
from schemas.load import parse_config
from schemas.metrics import PROFILED, QUALITY
from tests.strategies import configurations

MINIMAL = {
    "name": "taxi",
    "data": {"source": {"format": "csv", "path": "data/*.csv"}, "schema": "schema.pbtxt"},
    "model": {"module": "taxi", "label": "tips"},
    "gates": {"satisfy": [{"metric": "auc", "min": 0.7}]},
    "push": {"serving": {"base_path": "models"}},
}


def faults(**change):
    with pytest.raises(ConfigError) as caught:
        parse_config(MINIMAL | change)
    return [str(fault) for fault in caught.value.faults]


def gate_faults(**gate):
    return [fault.split("; got ")[0] for fault in faults(gates={"satisfy": [gate]})]


@given(configurations())
def test_each_section_survives_the_way_to_a_component(raw):
    """A component takes its section as one JSON parameter, and the same model reads it back."""
    config = parse_config(raw)
    for name in type(config).model_fields:
        section = getattr(config, name)
        if isinstance(section, sections.Section):
            assert type(section).model_validate_json(section.model_dump_json()) == section
            assert type(section).model_validate_json(section.model_dump_json(by_alias=True)) == section


def test_configuration_is_frozen():
    """Nobody changes a configuration after it has been checked."""
    config = parse_config(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        config.name = "other"
    with pytest.raises(ValidationError, match="frozen"):
        config.training.epochs = 3


def test_canonical_uses_the_words_of_the_file():
    """The stored configuration spells the keys as the file does, every default included."""
    canonical = parse_config(MINIMAL).canonical()
    assert set(canonical["data"]) == {"source", "splits", "schema", "validate"}
    assert canonical["training"]["global_batch_size"] == 1024
    assert parse_config(canonical).canonical() == canonical


def test_digest_of_a_section():
    """A section has a digest of its own, which another section's change leaves as it is."""
    one, other = parse_config(MINIMAL), parse_config(MINIMAL | {"training": {"epochs": 3}})
    assert config_digest(one.data) == config_digest(other.data)
    assert config_digest(one.training) != config_digest(other.training)
    assert len(config_digest(one)) == 64


def test_models_used_without_the_loader_speak_plainly():
    """A component that parses its section itself gets the same words."""
    with pytest.raises(ValidationError, match="holds no gate; expected optimize, or at least one entry of satisfy"):
        GatesConfig.model_validate_json("{}")


@pytest.mark.parametrize("name", ["taxi", "a", "a-1_b", "a" * 63])
def test_names(name):
    """A name can be part of a file name, a Kubernetes object and a metric."""
    assert parse_config(MINIMAL | {"name": name}).name == name


@pytest.mark.parametrize("name", ["", "Taxi", "1a", "-a", "a b", "a/b", "ä", "a" * 64, "a\n", None, 1])
def test_names_that_are_none(name):
    """The rule stands in the message in words."""
    (fault,) = faults(name=name)
    assert fault.startswith(
        "name: is not valid; expected at most 63 small letters a-z, digits, hyphens and underscores, the first of them "
        "a letter; got "
    )


@pytest.mark.parametrize("module", ["models/taxi.py", "a..b", ".a", "a b", "1a", ""])
def test_modules_that_are_none(module):
    """The path of a file is no module."""
    (fault,) = faults(model={"module": module, "label": "tips"})
    assert fault == (
        "model.module: is not valid; expected the dotted name of a Python module, such as 'pipeline.models.taxi'; "
        f"got {module!r}"
    )


@given(st.permutations(["train", "validate", "eval"]))
def test_splits_have_one_order(order):
    """Splits are in one order, however the file gives them."""
    raw = MINIMAL | {"data": MINIMAL["data"] | {"splits": dict.fromkeys(order, 1)}}
    assert list(parse_config(raw).data.splits) == ["train", "validate", "eval"]


# --- gates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["min", "max", "max_gap", "max_drop"])
def test_condition(condition):
    """The condition is the one key that is set."""
    gate = SatisfyGate(metric="auc", slice_by=("hour",), **{condition: 0.5})
    assert gate.condition == condition


def test_condition_of_zero_is_one():
    """A limit of nought is a limit."""
    assert SatisfyGate(metric="auc", max_drop=0.0).condition == "max_drop"
    assert SatisfyGate(metric="mean_squared_error", max_ratio_to_champion=1.0).condition == "max_ratio_to_champion"


@pytest.mark.parametrize(
    ("gate", "fault"),
    [
        ({}, "has no condition; expected exactly one of min, max, max_gap, max_drop, max_ratio_to_champion"),
        ({"min": 0.1, "max": 0.2}, "has 2 conditions: min, max; expected exactly one of min, max, max_gap, max_drop"),
        ({"min": 0.1, "min_examples": 9}, "min_examples is given without slice_by; expected both, or neither"),
        ({"max_gap": 0.1}, "max_gap is a difference between slices; expected slice_by beside it"),
        (
            {"max_ratio_to_champion": 2},
            "max_ratio_to_champion is for what should be small; auc is not; expected max_drop",
        ),
        (
            {"min": 0.1, "batch_size": 1},
            "batch_size says nothing of auc; expected batch_size left",
        ),
        (
            {"min": 0.1, "against": "trained"},
            "against says nothing of auc; expected against left",
        ),
        (
            {"metric": "calibration", "max_drop": 1},
            "calibration is neither better when higher nor when lower; expected m",
        ),
        (
            {"metric": "size_mb", "max": 1, "batch_size": 8},
            "batch_size says nothing of size_mb; expected batch_size left",
        ),
        (
            {"metric": "max_abs_difference", "max": 1},
            "max_abs_difference is a difference to something; expected against beside it",
        ),
        (
            {"metric": "class_agreement", "against": "trained", "max_drop": 0.1},
            "class_agreement is measured of the candidate alone; expected min, max or max_gap",
        ),
        (
            {"metric": "arena_mb", "max": 1},
            "arena_mb is a figure of a .tflite file; expected payload: tflite beside it",
        ),
        (
            {"metric": "feature_skew", "max_ratio_to_champion": 1},
            "feature_skew is measured of the candidate alone; expected min, max or max_gap",
        ),
        (
            {"metric": "size_mb", "max": 1, "slice_by": ["a"]},
            "size_mb is a figure of the payload and has no slices; ex",
        ),
    ],
)
def test_gates_that_cannot_be_judged(gate, fault):
    """A gate that says too little, too much or what has no meaning is refused when it is read."""
    found = gate_faults(**{"metric": "auc"} | gate)
    assert found[0].startswith(f"gates.satisfy.0: {fault}")


def test_no_gates():
    """A configuration without gates is refused, in each way of having none."""
    without = {key: value for key, value in MINIMAL.items() if key != "gates"}
    with pytest.raises(
        ConfigError, match="gates: is missing; expected a mapping with the keys optimize, approval, intervals, satisfy"
    ):
        parse_config(without)
    for gates in ({}, {"satisfy": []}, {"optimize": None}):
        (fault,) = faults(gates=gates)
        assert fault.startswith("gates: holds no gate; expected optimize, or at least one entry of satisfy")


@pytest.mark.parametrize("metric", [*QUALITY, *PROFILED, "acu", "AUC", ""])
def test_optimizing_metric(metric):
    """The optimizing metric is one of quality that has a direction."""
    gates = {"optimize": {"metric": metric}}
    if metric in QUALITY and QUALITY[metric].better != "neither":
        assert parse_config(MINIMAL | {"gates": gates}).gates.optimize.metric == metric
        return
    (fault,) = faults(gates=gates)
    words = {True: "is a figure of the payload", False: "unknown metric"}[metric in PROFILED]
    words = "is neither better when higher nor when lower" if metric in QUALITY else words
    assert fault.startswith(f"gates.optimize.metric: {words}")


def test_metric_that_was_probably_meant():
    """A misspelled metric is answered with the known one, upper case or lower."""
    (fault,) = faults(gates={"optimize": {"metric": "AUC"}})
    assert fault.endswith("got 'AUC' (did you mean 'auc'?)")


@pytest.mark.parametrize(("name", "meant"), [("rmse", "root_mean_squared_error"), ("Acc", "binary_accuracy")])
def test_metric_by_the_name_that_others_give_it(name, meant):
    """A short name is answered with the one that is used here."""
    (fault,) = faults(gates={"optimize": {"metric": name}})
    assert fault.endswith(f"got {name!r} (did you mean {meant!r}?)")


# --- metadata, spans --------------------------------------------------------------------------------------------------


def test_one_metadata_store():
    """None is refused, and so are two; the default is a SQLite file."""
    assert parse_config(MINIMAL).metadata == MetadataConfig(sqlite=sections.SqliteConfig(path="metadata.db"))
    (fault,) = faults(metadata={})
    assert fault == "metadata: has no store; expected exactly one of sqlite, mysql, postgresql, grpc; got {}"
    found = faults(metadata={"sqlite": {}, "grpc": {"host": "metadata", "port": 8080}})
    assert found[0].startswith("metadata: has 2 stores: sqlite, grpc; expected exactly one of")


def source_faults(**source):
    return faults(data={**MINIMAL["data"], "source": {"format": "csv", **source}})


def test_spans_of_a_source():
    """A window and a span go with a path that has spans; `last_span` is the span's number, also of a date."""
    dated = {"format": "csv", "path": "{YYYY}{MM}{DD}.csv"}
    assert sections.SourceConfig(**dated, window={"last_spans": "all"}, span="1970-01-08").last_span == 7
    assert sections.SourceConfig(format="csv", path="{SPAN:3}", span=7).last_span == 7
    assert sections.SourceConfig(format="csv", path="{SPAN:3}").last_span is None


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (
            {"path": "{SPAN}/{SPAN}"},
            "data.source.path: names {SPAN} more than once; expected each placeholder once; got",
        ),
        ({"path": "{SPAN:0}"}, "data.source.path: {SPAN:0} has no width; expected a whole number from 1 to 18; got"),
        (
            {"path": "a", "window": {"last_spans": 3}},
            "data.source: window is given, but the path has no spans; expected",
        ),
        (
            {"path": "a", "span": 3},
            "data.source: span is given, but the path has no spans; expected {SPAN}, or {YYYY},",
        ),
        (
            {"path": "{SPAN}", "span": "2026-11-03"},
            "data.source: span '2026-11-03' is no span of this path; expected a",
        ),
        (
            {"path": "{YYYY}{MM}{DD}", "span": 7},
            "data.source: span 7 is no span of this path; expected a date as YYYY-MM",
        ),
        ({"path": "{YYYY}{MM}{DD}", "span": "2026-02-30"}, "data.source: span '2026-02-30' is no date"),
        ({"path": "{SPAN}", "span": True}, "data.source.span: is not valid; expected a span's number, or its date"),
        ({"path": "{SPAN}", "window": {"last_spans": 0}}, "data.source.window.last_spans: "),
        ({"path": "{SPAN}", "window": {"last_spans": "al"}}, "data.source.window.last_spans: "),
    ],
)
def test_faults_of_spans(source, fault):
    """Each names its key, and what was expected."""
    (found,) = source_faults(**source)
    assert found.startswith(fault)


def test_every_section_is_public():
    """Every section that a component may take is importable by its name."""
    assert set(sections.__all__) <= set(vars(sections))
    assert PipelineConfig.__name__ in sections.__all__


def test_yaml_words_for_truth():
    """`yes` is true in YAML 1.1, and text in quotes is not."""
    raw = yaml.safe_load("schedule: {triggers: {changed_data: yes}, any: no}")
    schedule = parse_config(MINIMAL | raw).schedule
    assert schedule is not None
    assert (schedule.triggers.changed_data, schedule.any) == (True, False)
    raw["schedule"]["any"] = "no"
    assert faults(**raw)[0].startswith("schedule.any: is not valid; expected true or false; got 'no'")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"triggers": {"cron": "0 3 * *"}}, "schedule.triggers.cron: is no cron expression: has 4 fields"),
        ({"triggers": {}}, "schedule.triggers: has no trigger; expected at least one of cron, new_span, changed_data,"),
        (
            {"triggers": {"changed_data": True}, "time_zone": "Europe/Berln"},
            "schedule.time_zone: is no time zone; expected a name of the IANA database, such as 'Europe/Berlin'",
        ),
        (
            {"triggers": {"changed_data": True}, "quiet_hours": ["22-6"]},
            "schedule.quiet_hours.0: is not valid; expected a span of a day in quotes",
        ),
        ({"triggers": {"changed_data": True}, "every": "0m"}, "schedule.every: is no time at all"),
        ({"triggers": {"drift": True}}, "(file): schedule.triggers.drift is given without limits"),
    ],
)
def test_schedules_that_could_not_run(given, told):
    """Each fault names its key and what is expected."""
    assert [fault for fault in faults(schedule=given) if fault.startswith(told)]
