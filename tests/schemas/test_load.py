"""Reading, overriding and resolving: what a file becomes, and what a person reads where it cannot."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.config import config_digest
from schemas.errors import ConfigError
from schemas.load import _Dumper, _fault, as_yaml, load_config, parse_config
from tests.strategies import configurations, json_values, names, shuffled, texts

ROOT = Path(__file__).parents[2]
MINIMAL = """
name: taxi
data: {source: {format: csv, path: data/*.csv}, schema: schema.pbtxt}
model: {module: taxi, label: tips}
gates: {satisfy: [{metric: auc, min: 0.7}]}
push: {serving: {base_path: models}}
"""

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def load(tmp_path):
    """Writes a text as a configuration file and loads it with overrides."""

    def load_text(text=MINIMAL, *overrides):
        file = tmp_path / "pipeline.yaml"
        file.write_text(text, encoding="utf-8")
        return load_config(file, overrides)

    return load_text


@pytest.fixture
def faults(load):
    """The faults of a text with overrides, each as a person reads it."""

    def of(text=MINIMAL, *overrides):
        with pytest.raises(ConfigError) as caught:
            load(text, *overrides)
        return [str(fault) for fault in caught.value.faults]

    return of


# --- the file ---------------------------------------------------------------------------------------------------------


def test_smallest_configuration(load, tmp_path):
    """Five sections are enough; the rest has defaults, and the paths are absolute."""
    loaded = load()
    assert loaded.file == tmp_path / "pipeline.yaml"
    assert loaded.folder == tmp_path
    assert loaded.digest == config_digest(loaded.config)
    assert loaded.config.data.splits == {"train": 7, "validate": 1, "eval": 2}
    assert loaded.config.metadata.sqlite.path == str(tmp_path / "metadata.db")


def test_shipped_configuration():
    """The configuration in the repository is without fault."""
    assert load_config(ROOT / "satisfice.yaml").config.name == "taxi"


def test_loading_is_light():
    """All modules and a whole load bring neither TensorFlow nor TFX, nor anything else that takes long to import."""
    script = """
import sys
import schemas.availability, schemas.config, schemas.decision, schemas.errors, schemas.metrics, schemas.user_model
from schemas.load import load_config
load_config("satisfice.yaml")
heavy = {"apache_beam", "keras", "ml_metadata", "numpy", "pyarrow", "tensorflow", "tf_keras", "tfx"}
print(*sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "(file): is not a configuration; expected a mapping of keys to values; got null"),
        ("- a\n- b", '(file): is not a configuration; expected a mapping of keys to values; got ["a", "b"]'),
        ("taxi", "(file): is not a configuration; expected a mapping of keys to values; got 'taxi'"),
        (
            "name: taxi\ndata:\n\tsource: 1",
            "(file): is not valid YAML at line 3, column 1: while scanning for the next token, found character '\\t' "
            "that cannot start any token (a tab cannot indent: use spaces)",
        ),
        ("name: a\nname: b", "(file): is not valid YAML at line 2, column 1: the key 'name' is given twice"),
        ("a: {x: 1, x: 2}", "(file): is not valid YAML at line 1, column 11: the key 'x' is given twice"),
        ("? [a]\n: 1", "(file): is not valid YAML at line 1, column 3: a key must be text"),
        ("a: &a [*a]", "(file): is not valid YAML at line 1, column 4: found unconstructable recursive node"),
        (
            "a: 1\n---\nb: 2",
            "(file): is not valid YAML at line 2, column 1: expected a single document in the stream, ",
        ),
        ("name: \x00", "(file): is not valid YAML at character 6: special characters are not allowed"),
        ("a: !!python/name:os.system x", "(file): is not valid YAML at line 1, column 4: could not determine a constr"),
        ("a: !!int x", "(file): is not valid YAML: invalid literal for int()"),
        pytest.param("a: " + "9" * 5000, "(file): is not valid YAML: Exceeds the limit", id="too many digits"),
        pytest.param("a: " + "[" * 5000, "(file): is not valid YAML: maximum recursion depth exceeded", id="too deep"),
    ],
)
def test_text_that_is_no_configuration(faults, text, fault):
    """What cannot be read as a mapping is one fault with line and column, and never a traceback."""
    (found,) = faults(text)
    assert found.startswith(fault)


def test_no_such_file(tmp_path):
    """A file that is not there is named as it was typed, with the name that was probably meant."""
    (tmp_path / "satisfice.yaml").write_text(MINIMAL)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "satisfise.yaml")
    assert "satisfise.yaml: 1 fault" in str(caught.value)
    assert "there is no such file; expected a YAML file (did you mean 'satisfice.yaml'?)" in str(caught.value)
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "no" / "satisfice.yaml")


def test_file_that_cannot_be_read(tmp_path):
    """A directory and bytes that are no text are refused in words."""
    with pytest.raises(ConfigError, match="cannot be read: Is a directory; expected a YAML file"):
        load_config(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="is not UTF-8 text: invalid start byte"):
        load_config(tmp_path / "binary")


def test_plain_scalars_mean_what_they_say(load):
    """An exponent needs no point to be a number; a date is text; yes and no are true and false."""
    text = MINIMAL.replace(
        "label: tips",
        "label: tips, hyperparameters: {rate: 1e-3, big: 2.5E3, since: 2020-01-01, bias: no, sha: 12e45678}",
    )
    assert load(text).config.model.hyperparameters == {
        "rate": 0.001,
        "big": 2500.0,
        "since": "2020-01-01",
        "bias": False,
        "sha": "12e45678",
    }


def test_anchors_and_merges(load):
    """`<<` takes in another mapping, whose keys may be given again; an override of one alias leaves the other."""
    text = MINIMAL.replace(
        "label: tips", "label: tips, hyperparameters: {a: &a {x: 1, y: 2}, b: *a, c: {<<: *a, y: 3}}"
    )
    assert load(text).config.model.hyperparameters["c"] == {"x": 1, "y": 3}
    changed = load(text, "model.hyperparameters.a.x=9").config.model.hyperparameters
    assert (changed["a"]["x"], changed["b"]["x"]) == (9, 1)


# --- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("training.epochs=2", "training.epochs", 2),
        (" training.epochs = 2", "training.epochs", 2),
        ("training.early_stopping.patience=1", "training.early_stopping.patience", 1),
        ("training.early_stopping=", "training.early_stopping", None),
        ("gates.satisfy.0.min=0.9", "gates.satisfy.0.min", 0.9),
        ("gates.satisfy.1={metric: auc, max: 1}", "gates.satisfy.1.max", 1.0),
        ("model.hyperparameters.units=[64, 32]", "model.hyperparameters.units", [64, 32]),
        ("model.hyperparameters.a.b=x, y", "model.hyperparameters.a.b", "x, y"),
        ("model.hyperparameters.a='it''s'", "model.hyperparameters.a", "it's"),
        ('model.hyperparameters.a="1"', "model.hyperparameters.a", "1"),
        ("model.hyperparameters.a=b=c", "model.hyperparameters.a", "b=c"),
        ("model.hyperparameters.a=1e-4", "model.hyperparameters.a", 1e-4),
        ("model.hyperparameters.a=", "model.hyperparameters.a", None),
        ("name=other", "name", "other"),
    ],
)
def test_override(load, override, path, value):
    """A key, an entry of a list or one past its end is set to a YAML value; what lies on the way is made."""
    here = load(MINIMAL, override).config.canonical()
    for key in path.split("."):
        here = here[int(key) if isinstance(here, list) else key]
    assert here == value


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("training.epochs", "--set training.epochs: is not an override; expected KEY.PATH=VALUE"),
        ("=1", "--set =1: is not an override; expected KEY.PATH=VALUE"),
        ("a..b=1", "--set a..b=1: is not an override; expected KEY.PATH=VALUE"),
        (
            "data.source.path=*.csv",
            "--set data.source.path: the value is not valid YAML at line 1, column 2: while scanning an alias, expected "
            "alphabetic or numeric character, but found '.' (text that starts with an asterisk must be in quotes); "
            "expected a YAML value; got *.csv",
        ),
        ("name.first=x", "--set name.first: name is a single value, 'taxi', and has no key 'first'"),
        (
            "gates.satisfy.7.min=1",
            "--set gates.satisfy.7.min: gates.satisfy is a list, and '7' is no index into it; expected 0 to 0 for an "
            "entry, or 1 to append",
        ),
        ("gates.satisfy.-1.min=1", "--set gates.satisfy.-1.min: gates.satisfy is a list, and '-1' is no index into it"),
        ("gates.satisfy.²=1", "--set gates.satisfy.²: gates.satisfy is a list, and '²' is no index into it"),
        ("trainig.epochs=1", "trainig: unknown key; expected one of name, data, "),
        ("training.epoch=3", "training.epoch: unknown key; expected one of backend, "),
        ("name=", "name: is not valid; expected at most 63 small letters"),
        ("model.hyperparameters={a: 1, a: 2}", "--set model.hyperparameters: the value is not valid YAML at line 1"),
    ],
)
def test_override_that_cannot_be(faults, override, fault):
    """An override that leads nowhere is one fault, named by the override itself."""
    (found,) = faults(MINIMAL, override)
    assert found.startswith(fault)


def test_empty_list_can_only_be_appended_to(faults):
    """Where a list has no entry, only its first index is offered."""
    text = MINIMAL.replace("label: tips", "label: tips, hyperparameters: {units: []}")
    (fault,) = faults(text, "model.hyperparameters.units.1=64")
    assert fault.endswith("expected 0 to append")


def test_all_faults_at_once(faults):
    """Bad overrides, unknown keys, wrong values and keys of later versions stand in one list, in each other's company."""
    found = faults(
        MINIMAL + "edge: {}\nserving: {instances: 0}",
        "epochs",
        "training.epochs=two",
        "push.edge=x",
        "data.source.format=avro",
    )
    assert [fault.split(":")[0] for fault in found] == [
        "--set epochs",
        "training.epochs",
        "push.edge",
        "serving.instances",
        "edge",
        "data.source.format",
    ]


# --- faults in words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("training.epochs=two", "training.epochs: is not valid; expected a whole number; got 'two'"),
        ("training.epochs=2.5", "training.epochs: is not valid; expected a whole number; got 2.5"),
        ("training.epochs=true", "training.epochs: is not valid; expected a whole number; got true"),
        ("training.epochs=0", "training.epochs: is not valid; expected at least 1; got 0"),
        (f"training.epochs={10**30}", f"training.epochs: is not valid; expected at most 2147483647; got {10**30}"),
        ("training.epochs={a: 1}", 'training.epochs: is not valid; expected a whole number; got {"a": 1}'),
        ("training.jit_compile=1", "training.jit_compile: is not valid; expected true or false; got 1"),
        (
            "training.mixed_precision=1",
            "training.mixed_precision: is not valid; expected false, true, 'bfloat16' or 'float16'; got 1",
        ),
        ("training=3", "training: is not valid; expected a mapping of keys to values; got 3"),
        ("training=", "training: is not valid; expected a mapping of keys to values; got null"),
        (
            "model.hyperparameters=[1]",
            "model.hyperparameters: is not valid; expected a mapping of keys to values; got [1]",
        ),
        ("model.label=3", "model.label: is not valid; expected text, in quotes; got 3"),
        ("model.label=", "model.label: is not valid; expected text; got null"),
        ("model.label=''", "model.label: is not valid; expected text that is not empty; got ''"),
        ("gates.satisfy={}", "gates.satisfy: is not valid; expected a list; got {}"),
        ("gates.satisfy.0.min=high", "gates.satisfy.0.min: is not valid; expected a number; got 'high'"),
        ("gates.satisfy.0.min=.nan", "gates.satisfy.0.min: is not valid; expected a finite number; got NaN"),
        (
            "model.hyperparameters={a: [.inf]}",
            "model.hyperparameters.a.0: is not valid; expected a finite number; got Inf",
        ),
        (
            "model.hyperparameters={1: 2}",
            "model.hyperparameters.1: the key is not text; expected the key in quotes; got 1",
        ),
        (
            "model.hyperparameters=!!set {a}",
            "model.hyperparameters: is not valid; expected text, a number, true, false,",
        ),
        ('model.label="\\ud800"', "model.label: is not valid; expected text in Unicode; got "),
        (
            "data.schem=x",
            "data.schem: unknown key; expected one of source, splits, schema, validate; got 'x' (did you mean",
        ),
        (
            "data.schema_path=x",
            "data.schema_path: unknown key; expected one of source, splits, schema, validate; got 'x'",
        ),
        (
            "data.source.format=CSV",
            "data.source.format: is not one of the known words; expected 'csv', 'parquet', 'arrow', 'tfrecord', 'avro' or "
            "'bigquery'; got 'CSV' (did you mean 'csv'?)",
        ),
        (
            "data.splits={training: 8, validate: 1, eval: 1}",
            "data.splits.training: unknown key; expected one of train, validate, eval; got 'training' (did you mean 'train'?)",
        ),
        (
            "data.splits={train: 1}",
            "data.splits: lacks validate, eval; expected a share for each of train, validate and eval; got",
        ),
        (
            "gates.satisfy.0.metric=acu",
            "gates.satisfy.0.metric: unknown metric; expected a known metric, such as 'auc' or",
        ),
        ("gates.satisfy.0.colour=1", "gates.satisfy.0.colour: unknown key; expected one of metric, payload, slice_by"),
    ],
)
def test_fault_in_words(faults, override, fault):
    """Path as the file spells it, what is wrong, what is expected, what came: in a person's words."""
    (found,) = faults(MINIMAL, override)
    assert found.startswith(fault)


def test_missing_keys(faults):
    """A missing section names its keys; a missing value is said to be one."""
    assert faults("name: taxi\ndata: {source: {format: csv}}\ngates: {}\npush: {serving: {base_path: x}}") == [
        "data.source.path: is missing; expected a value",
        "data.schema: is missing; expected a value",
        "model: is missing; expected a mapping with the keys module, label, hyperparameters",
        "gates: holds no gate; expected optimize, or at least one entry of satisfy; got {}",
    ]


def test_unions_are_one_fault(faults):
    """A value that fits no branch of a union is one fault whose path ends at the key."""
    wrong = "kubeflow={image: x, resources: {Trainer: {cpu: [1], gpu: 2}}}"
    assert faults(MINIMAL, "training.devices=all", "push.serving.confirm={instances: []}", wrong) == [
        "training.devices: is not valid; expected 'auto' or a whole number, at least 1; got 'all'",
        "push.serving.confirm.instances: is not valid; expected at least 1 in the list; got []",
        "kubeflow.resources.Trainer.cpu: is not valid; expected a whole number, or text as Kubernetes has it, such as "
        "'8Gi' or '500m'; got [1]",
        "kubeflow.resources.Trainer.gpu: unknown key; expected one of cpu, memory, accelerator, shared_memory, "
        "node_selector, tolerations, retries, back_off_s, timeout_s; got 2 (did you mean 'cpu'?)",
    ]


def test_bounds_of_other_sections(faults):
    """Limits are said with their number."""
    found = faults(
        MINIMAL,
        "export.tflite.pruning.final_sparsity=0",
        "gates.satisfy.0={metric: mean_squared_error, max_ratio_to_champion: 0}",
        "data.validate.drift={a: {jensen_shannon: 2}}",
    )
    assert "export.tflite.pruning.final_sparsity: is not valid; expected more than 0.0; got 0" in found
    assert "gates.satisfy.0.max_ratio_to_champion: is not valid; expected more than 0.0; got 0" in found
    assert "data.validate.drift.a.jensen_shannon: is not valid; expected at most 1.0; got 2" in found
    (fault,) = faults(MINIMAL, "export.tflite.pruning.final_sparsity=1")[:1]
    assert fault == "export.tflite.pruning.final_sparsity: is not valid; expected less than 1.0; got 1"


def test_key_that_is_spelled_like_pydantics_marks(faults):
    """`[key]` is how pydantic marks a key; as a key of the file it is one like any other."""
    found = faults(MINIMAL, "data.validate.drift={'[key]': 3}")
    assert found[0] == "data.validate.drift.[key]: is not valid; expected a mapping of keys to values; got 3"


def test_nested_too_deeply():
    """Nesting beyond what JSON readers take is refused, and is no traceback."""
    raw = yaml.safe_load(MINIMAL)
    deep = []
    for _ in range(300):
        deep = [deep]
    raw["model"]["hyperparameters"] = {"deep": deep}
    with pytest.raises(ConfigError, match=r"\(file\): is not valid; expected lists and mappings that are nested less"):
        parse_config(raw)


def test_unforeseen_findings_of_pydantic_are_passed_on():
    """A kind of finding that has no words here keeps pydantic's."""
    fault = _fault({"type": "new_kind", "loc": ("a", "b"), "msg": "Input should be {new}", "input": 1})
    assert str(fault) == "a.b: is not valid; expected Input should be {new}; got 1"


# --- paths ------------------------------------------------------------------------------------------------------------


def test_paths_become_absolute(load, tmp_path, monkeypatch):
    """Relative to the file, whatever the working directory; `~` is the user's home; `..` is resolved."""
    monkeypatch.setenv("HOME", "/home/person")
    monkeypatch.chdir("/")
    config = load(MINIMAL, "data.schema=../schema.pbtxt", "push.serving.base_path=~/models").config
    assert config.data.source.path == str(tmp_path / "data/*.csv")
    assert config.data.schema_path == str(tmp_path.parent / "schema.pbtxt")
    assert config.push.serving.base_path == "/home/person/models"


def test_paths_in_memory_stay():
    """A configuration that is held in memory has no folder: its paths stay as they are."""
    assert parse_config(yaml.safe_load(MINIMAL)).data.source.path == "data/*.csv"


def test_paths_that_cannot_be(faults, tmp_path):
    """A directory for a file, a file for a directory, and the home of nobody are faults."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert faults(
        MINIMAL,
        "data.source.path=folder",
        "data.schema=~nobody-has-this-name/schema.pbtxt",
        "push.serving.base_path=file",
        "metadata.sqlite.path=folder",
    ) == [
        "data.source.path: is a directory; expected a file, or a pattern such as 'data/*.csv'; got 'folder'",
        "data.schema: names a user who has no home here; expected a file; got '~nobody-has-this-name/schema.pbtxt'",
        "push.serving.base_path: is a file; expected a directory, or a path where nothing is; got 'file'",
        "metadata.sqlite.path: is a directory; expected a file, or a path where nothing is; got 'folder'",
    ]


@pytest.mark.parametrize("key", ["data.source.path", "data.schema", "push.serving.base_path"])
def test_remote_paths(faults, key):
    """A URI is never taken for a relative path: it is refused as long as nothing reads it."""
    (fault,) = faults(MINIMAL, f"{key}=s3://bucket/taxi")
    assert fault.startswith(f"{key}: not available yet: remote ")
    assert "; expected a path on this machine" in fault
    assert fault.endswith("; got 's3://bucket/taxi'")


def test_a_bucket_of_versions(tmp_path):
    """Is no path of this machine."""
    file = tmp_path / "satisfice.yaml"
    file.write_text(MINIMAL)
    loaded = load_config(file, ["push.serving.base_path=gs://bucket/taxi"])
    assert loaded.config.push.serving.base_path == "gs://bucket/taxi"


def test_certificates_of_instances(tmp_path):
    """Are relative to the file, wherever in the list they stand."""
    file = tmp_path / "satisfice.yaml"
    file.write_text(MINIMAL)
    instances = "[{grpc: 'a:1'}, {grpc: 'b:1', rest: 'b:2', ca: ca.pem}]"
    loaded = load_config(file, [f"push.serving.confirm={{instances: {instances}}}"])
    assert [one.ca for one in loaded.config.push.serving.confirm.instances] == [None, str(tmp_path / "ca.pem")]


# --- properties -------------------------------------------------------------------------------------------------------


@given(configurations())
@same_folder
def test_round_trip(tmp_path, raw):
    """A configuration, written as YAML with every default and read back, is equal and has an equal digest."""
    file = tmp_path / "round.yaml"
    file.write_text(as_yaml(raw), encoding="utf-8")
    first = load_config(file)
    file.write_text(as_yaml(first.config), encoding="utf-8")
    second = load_config(file)
    assert second.config == first.config
    assert second.digest == first.digest
    assert parse_config(json.loads(first.config.model_dump_json())) == first.config


@given(st.dictionaries(texts, json_values, max_size=4))
@same_folder
def test_yaml_keeps_every_value(tmp_path, values):
    """Text that looks like a number, a date or a word of YAML comes back as text, and numbers as they were."""
    raw = yaml.safe_load(MINIMAL)
    raw["model"]["hyperparameters"] = values | {"text": "1e-3", "word": "yes", "date": "2020-01-01"}
    file = tmp_path / "values.yaml"
    file.write_text(as_yaml(raw), encoding="utf-8")
    found = load_config(file).config.model.hyperparameters
    assert json.dumps(found) == json.dumps(raw["model"]["hyperparameters"])


@given(st.data())
def test_digest_is_independent_of_the_order_of_keys(data):
    """Two layouts of one configuration have one digest."""
    raw = data.draw(configurations())
    other = data.draw(shuffled(raw))
    assert config_digest(parse_config(other)) == config_digest(parse_config(raw))


@given(configurations(), configurations())
def test_digest_tells_configurations_apart(one, other):
    """Different configurations have different digests."""
    first, second = parse_config(one), parse_config(other)
    assert (config_digest(first) == config_digest(second)) == (json.dumps(one) == json.dumps(other) or first == second)


OVERRIDES = st.one_of(
    st.tuples(st.just("name"), names),
    st.tuples(st.just("training.epochs"), st.integers(1, 99)),
    st.tuples(st.just("training.early_stopping"), st.none() | st.just({"metric": "val_auc"})),
    st.tuples(names.map("model.hyperparameters.{}".format), json_values),
    st.tuples(st.just("gates.satisfy.0"), st.just({"metric": "auc", "min": 0.5})),
    st.tuples(st.just("gates.satisfy.0.on_inconclusive"), st.just("block")),
)


@given(configurations(), OVERRIDES)
@same_folder
def test_an_override_equals_editing_the_file(tmp_path, raw, override):
    """`--set key=value` gives what the file gives with that value in that place."""
    key, value = override
    file = tmp_path / "edited.yaml"
    file.write_text(as_yaml(raw), encoding="utf-8")
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=math.inf)
    overridden = load_config(file, [f"{key}={text}"])
    *sections, last = key.split(".")
    here = raw
    for section in sections:
        here = here[int(section)] if isinstance(here, list) else here.setdefault(section, {})
    here[int(last) if isinstance(here, list) else last] = value
    file.write_text(as_yaml(raw), encoding="utf-8")
    assert overridden.digest == load_config(file).digest


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.dates() | texts,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts | st.integers(), inner, max_size=3),
    )
)
def test_any_value_is_either_a_configuration_or_a_list_of_faults(value):
    """Whatever stands in a section, nothing but ConfigError comes of it, and each fault has a path and a problem."""
    for section in ("data", "gates", "training", "kubeflow", "push"):
        try:
            parse_config(yaml.safe_load(MINIMAL) | {section: value})
        except ConfigError as error:
            faults = error.faults
        else:
            faults = ()
        assert all(fault.path.split(".")[0] == section and fault.problem for fault in faults)
