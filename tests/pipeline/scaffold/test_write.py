"""The files of a new pipeline: they load, they fit the data, and nothing of a person's is written over."""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from pipeline.check import check
from pipeline.scaffold.write import Written, init_pipeline
from schemas.errors import ConfigError, DataError, MissingColumnError
from schemas.load import load_config

ROWS = 60
COLUMNS: dict[str, list[Any]] = {
    'the "size"': [n * 1.5 for n in range(ROWS)],
    "it's": [None if n % 7 == 0 else n for n in range(ROWS)],
    "home town": [None if n % 5 == 0 else f"Ö-{n % 4}, {{x}}" for n in range(ROWS)],
    "#: {a}": [n % 3 for n in range(ROWS)],
    "name": [f"Ann {n}" for n in range(ROWS)],
    "kind $of": [["oak", 'a "fir"', "it's"][n % 3] for n in range(ROWS)],
}
"""Names and values with what YAML, Python and templates mistake for their own."""


def write(file: Path, columns: dict[str, list[Any]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return file


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    """Takes back what a test imports and appends to the path."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.endswith("_model"):
            del sys.modules[name]


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Written]:
    """The pipeline on the columns above, beside its data."""
    data = write(tmp_path / "da[1]ta.csv", COLUMNS)
    return tmp_path / "My Trees", init_pipeline(tmp_path / "My Trees", data, "kind $of")


def module_of(folder: Path, name: str) -> ModuleType:
    sys.path.append(str(folder))
    return importlib.import_module(name)


def schema_of(folder: Path) -> dict[str, Any]:
    schema = text_format.Parse((folder / "schema.pbtxt").read_text(encoding="utf-8"), schema_pb2.Schema())
    return {feature.name: feature for feature in schema.feature}


def test_what_is_written(trees: tuple[Path, Written]) -> None:
    """Three files, named by the folder; and what the model does not use, with the reason."""
    folder, written = trees
    assert sorted(file.name for file in folder.iterdir()) == ["my_trees_model.py", "satisfice.yaml", "schema.pbtxt"]
    assert sorted(written.files) == sorted(folder.iterdir())
    assert written.task == "multiclass"
    assert written.ignored == {"name": "its 60 different texts among 60 look like names or free text"}


def test_the_pipeline_has_no_fault(trees: tuple[Path, Written]) -> None:
    """Configuration, data, schema and module fit each other, whatever the names."""
    folder, _ = trees
    loaded = load_config(folder / "satisfice.yaml")
    module = check(loaded, folder / "pipelines")
    assert (loaded.config.name, loaded.config.model.label) == ("my_trees", "kind $of")
    assert module.name == "my_trees_model"


def test_the_gates_are_a_start(trees: tuple[Path, Written]) -> None:
    """The model must beat what always answers the most frequent class, be of some size, and serve what was trained."""
    gates = load_config(trees[0] / "satisfice.yaml").config.gates
    assert gates.optimize.metric == "sparse_categorical_accuracy"
    floor, *payload = gates.satisfy
    assert [gate.metric for gate in payload] == ["size_mb", "max_abs_difference", "feature_skew"]
    assert (floor.metric, floor.min) == ("sparse_categorical_accuracy", pytest.approx(1 / 3, abs=0.001))


def test_the_schema_holds_what_the_data_hold(trees: tuple[Path, Written]) -> None:
    """A column without a missing value must stay so; the classes of the label are closed."""
    features = schema_of(trees[0])
    assert list(features) == list(COLUMNS)
    types = schema_pb2.FeatureType
    assert [features[name].type for name in COLUMNS] == [
        types.FLOAT, types.INT, types.BYTES, types.INT, types.BYTES, types.BYTES,
    ]  # fmt: skip
    assert features['the "size"'].presence.min_fraction == 1.0
    assert features['the "size"'].shape.dim[0].size == 1
    assert not features["it's"].HasField("presence")
    assert not features["it's"].HasField("shape")
    assert sorted(features["kind $of"].string_domain.value) == ['a "fir"', "it's", "oak"]
    assert not features["home town"].HasField("string_domain")


def test_the_module_names_the_columns(trees: tuple[Path, Written]) -> None:
    """Numbers, categories, label and classes, as they stand in the data."""
    module = module_of(trees[0], "my_trees_model")
    assert module.NUMBERS == ['the "size"', "it's"]
    assert module.CATEGORIES == ["home town", "#: {a}"]
    assert module.LABEL == "kind $of"
    assert module.CLASSES == ['a "fir"', "it's", "oak"]
    assert "'name' is not used" in (trees[0] / "my_trees_model.py").read_text(encoding="utf-8")


def test_keys_are_names_that_tensorflow_takes(trees: tuple[Path, Written]) -> None:
    """And differ where the columns do."""
    module = module_of(trees[0], "my_trees_model")
    keys = [module.key(name) for name in [*COLUMNS, "größe", "grüße"]]
    assert len(set(keys)) == len(keys)
    assert all(key.isascii() and key.replace("_", "").isalnum() for key in keys)


@pytest.mark.parametrize(
    ("label", "task", "metric", "floor"),
    [
        ([n % 2 for n in range(ROWS)], "binary", "auc", {"metric": "binary_accuracy", "min": 0.5}),
        ([float(n) for n in range(ROWS)], "regression", "mean_squared_error", {"metric": "mean_squared_error"}),
    ],
)
def test_tasks(tmp_path, label, task, metric, floor) -> None:
    """Each has a metric to optimize and a floor that guessing does not reach."""
    data = write(tmp_path / "data.csv", {"x": [n * 1.5 for n in range(ROWS)], "y": label})
    written = init_pipeline(tmp_path / task, data, "y")
    assert written.task == task
    gates = load_config(tmp_path / task / "satisfice.yaml").config.gates
    assert gates.optimize.metric == metric
    gate, *others = gates.satisfy
    assert [other.metric for other in others] == ["size_mb", "max_abs_difference", "feature_skew"]
    assert floor.items() <= gate.model_dump().items()
    if task == "regression":
        assert gate.max == pytest.approx(sum((n - 29.5) ** 2 for n in range(ROWS)) / ROWS, rel=0.01)
        assert not hasattr(module_of(tmp_path / task, f"{task}_model"), "CLASSES")


def test_parquet(tmp_path) -> None:
    """The format follows the name of the file."""
    file = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(
        pa.table({"x": [n * 1.5 for n in range(ROWS)], "y": [n % 2 for n in range(ROWS)]}), file
    )
    init_pipeline(tmp_path / "parquet_new", file, "y")
    loaded = load_config(tmp_path / "parquet_new" / "satisfice.yaml")
    assert (loaded.config.data.source.format, loaded.config.data.source.path) == ("parquet", str(file))
    check(loaded, tmp_path / "root")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Trees", "trees"),
        ("my.trees-2", "my_trees_2"),
        ("2024", "pipeline_2024"),
        ("größe", "gr_e"),
        ("__", "pipeline"),
        ("a" * 70, "a" * 63),
    ],
)
def test_the_name_is_made_from_the_folder(tmp_path, folder, name) -> None:
    """Whatever the folder is called."""
    data = write(tmp_path / "data.csv", {"x": [n * 1.5 for n in range(ROWS)], "y": [n % 2 for n in range(ROWS)]})
    init_pipeline(tmp_path / folder, data, "y")
    assert load_config(tmp_path / folder / "satisfice.yaml").config.name == name
    assert (tmp_path / folder / f"{name}_model.py").is_file()


def test_a_name_that_is_given(tmp_path) -> None:
    """It is the pipeline's; hyphens become what Python takes. One that is none is refused, and nothing is written."""
    data = write(tmp_path / "data.csv", {"x": [n * 1.5 for n in range(ROWS)], "y": [n % 2 for n in range(ROWS)]})
    init_pipeline(tmp_path / "new", data, "y", "my-trees")
    assert load_config(tmp_path / "new" / "satisfice.yaml").config.name == "my-trees"
    assert (tmp_path / "new" / "my_trees_model.py").is_file()
    with pytest.raises(ConfigError, match="first of them a letter"):
        init_pipeline(tmp_path / "newer", data, "y", "My Trees!")
    assert not (tmp_path / "newer").exists()


def test_a_folder_that_is_not_empty(tmp_path) -> None:
    """It is left as it is; an empty one is taken."""
    data = write(tmp_path / "data.csv", {"x": [n * 1.5 for n in range(ROWS)], "y": [n % 2 for n in range(ROWS)]})
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="DIR: is not empty; expected a new or an empty folder"):
        init_pipeline(full, data, "y")
    assert [file.name for file in full.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    init_pipeline(tmp_path / "empty", data, "y")


def test_a_folder_that_cannot_be_made(tmp_path) -> None:
    """One below a file, or a file itself."""
    data = write(tmp_path / "data.csv", {"x": [n * 1.5 for n in range(ROWS)], "y": [n % 2 for n in range(ROWS)]})
    for folder in (data / "new", data):
        with pytest.raises(ConfigError, match="DIR: cannot be made"):
            init_pipeline(folder, data, "y")


@pytest.mark.parametrize(
    ("data", "label", "kind"), [("nix.csv", "y", DataError), ("data.csv", "z", MissingColumnError)]
)
def test_bad_data_leave_no_folder(tmp_path, data, label, kind) -> None:
    """What cannot be begun leaves nothing behind."""
    write(tmp_path / "data.csv", {"x": [n * 1.5 for n in range(ROWS)], "y": [n % 2 for n in range(ROWS)]})
    with pytest.raises(kind):
        init_pipeline(tmp_path / "new", tmp_path / data, label)
    assert not (tmp_path / "new").exists()
