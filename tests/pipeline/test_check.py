"""All that can be known before a run is said before it, at once, and nothing is made."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from pipeline.check import check, check_beside, read_schema
from schemas.errors import ConfigError, Fault
from schemas.load import LoadedConfig, load_config
from tests.workbench import Bench

SCHEMA = 'feature { name: "a" type: INT } feature { name: "b" type: FLOAT } feature { name: "label" type: BYTES }\n'
MODULE = "def preprocessing_fn(inputs): ...\ndef build_model(keras, features, hyperparameters): ...\n"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Bench]:
    """A configuration with nothing wrong in it."""
    bench = Bench(tmp_path / "small")
    bench.folder.mkdir()
    bench.data.write_text("a,b,label\n1,2,yes\n")
    (bench.folder / "schema.pbtxt").write_text(SCHEMA)
    (bench.folder / "small_checked_model.py").write_text(MODULE)
    bench.config.write_text(
        """
name: small
data: {source: {format: csv, path: data.csv}, schema: schema.pbtxt}
model: {module: small_checked_model, label: label}
gates: {satisfy: [{metric: auc, min: 0.5}]}
push: {serving: {base_path: serving}}
"""
    )
    path = list(sys.path)
    yield bench
    sys.path[:] = path
    sys.modules.pop("small_checked_model", None)


def loaded(bench: Bench, *overrides: str) -> LoadedConfig:
    return load_config(bench.config, overrides)


def faults(bench: Bench, *overrides: str, root: Path | None = None) -> list[Fault]:
    """The faults of a configuration; at least one."""
    with pytest.raises(ConfigError) as refusal:
        check(loaded(bench, *overrides), root or bench.folder / "root")
    return list(refusal.value.faults)


def fault(bench: Bench, *overrides: str, root: Path | None = None) -> Fault:
    (one,) = faults(bench, *overrides, root=root)
    return one


def test_nothing_wrong(small: Bench) -> None:
    """The user's module comes back, and nothing was made."""
    before = sorted(small.folder.iterdir())
    module = check(loaded(small), small.folder / "root")
    assert (module.name, module.file) == ("small_checked_model", small.folder / "small_checked_model.py")
    assert [file for file in sorted(small.folder.iterdir()) if file.name != "__pycache__"] == before


@pytest.mark.parametrize(("serving", "edge"), [("m", "../small/m"), ("gs://bucket/m", "gs://bucket/m/")])
def test_files_for_devices_have_a_base_path_of_their_own(small: Bench, serving: str, edge: str) -> None:
    """However it is spelled: a server would take them for the newest version."""
    gates = "gates.satisfy=[{metric: auc, min: 0.5}, {metric: auc, payload: tflite, min: 0.5}]"
    push = ["export.tflite.variants=[float32]", gates, f"push.serving.base_path={serving}"]
    one = fault(small, *push, f"push.edge.base_path={edge}")
    assert (one.path, one.expected) == ("push.edge.base_path", "another place")
    assert one.problem.startswith("is push.serving.base_path: ")
    check(loaded(small, *push, f"push.edge.base_path={edge}/edge"), small.folder / "root")


SPANS = "data.source={format: csv, path: 'days/{SPAN}.csv', window: {last_spans: 2}}"


def test_faults_of_spans(small: Bench) -> None:
    """The files of the window alone are looked at; what is no span is named, and a span that is not there."""
    (small.folder / "days").mkdir()
    one = fault(small, SPANS)
    assert one.path == "data.source.path"
    assert one.problem.endswith("{SPAN}.csv has no span: no file matches")
    for number in (1, 2, 3):
        (small.folder / "days" / f"{number}.csv").write_text("a,b,label\n1,2,yes\n")
    (small.folder / "days" / "1.csv").write_text("")
    check(loaded(small, SPANS), small.folder / "root")
    (small.folder / "days" / "3.csv").write_text("a,b\n1,2\n")
    assert "3.csv lacks the column 'label'" in fault(small, SPANS).problem
    one = fault(small, SPANS, "data.source.span=9")
    assert (one.problem, one.got) == ("span 9 has no data", "nearest to it: 1, 2, 3")
    (small.folder / "days" / "x.csv").touch()
    assert fault(small, SPANS).problem.endswith("x.csv matches the pattern, but has no number for {SPAN}")
    raw = {"data": {"source": {"path": "days/{SPAN}.csv"}, "schema": "schema.pbtxt"}}
    assert [one.got for one in check_beside(raw, small.folder)] == ["'x'"]
    raw["data"]["source"]["path"] = "days/{SPAN}/{SPAN}.csv"  # which is a fault of the configuration itself
    assert check_beside(raw, small.folder) == []


def test_faults_of_every_kind_come_together(small: Bench) -> None:
    """Data, slices, places and the module."""
    (small.folder / "file").touch()
    found = faults(
        small,
        "data.source.path=nix.csv",
        "gates.satisfy.0.slice_by=[labl]",
        "push.serving.base_path=file/serving",
        "model.module=nix_model",
    )
    assert [one.path for one in found] == [
        "data.source.path",
        "gates.satisfy.0.slice_by",
        "push.serving.base_path",
        "model.module",
    ]


# --- files and columns ------------------------------------------------------------------------------------------------


def test_no_file_matches(small: Bench) -> None:
    """The nearest name in the folder is offered; a folder that a pattern matches is no file."""
    one = fault(small, "data.source.path=dta.csv")
    assert (one.problem, one.close_match) == ("no file matches", "data.csv")
    (small.folder / "folder.csv").mkdir()
    assert fault(small, "data.source.path=f*.csv").problem == "no file matches"


def test_no_folder(small: Bench) -> None:
    """The folder is named, and not only the pattern."""
    assert fault(small, "data.source.path=nix/*.csv").problem == f"there is no folder {small.folder}/nix"


@pytest.mark.parametrize("pattern", ["data/**/*.csv", "data/*/*/*.csv", "data/*/b/[0-9].csv"])
def test_patterns_match_as_they_do_when_rows_are_read(small: Bench, pattern: str) -> None:
    """`**` goes through any number of folders."""
    folder = small.folder / "data" / "a" / "b"
    folder.mkdir(parents=True)
    small.data.rename(folder / "1.csv")
    check(loaded(small, f"data.source.path={pattern}"), small.folder / "root")


def test_every_file_is_looked_at(small: Bench) -> None:
    """Each fault names its file."""
    (small.folder / "more.csv").write_text("a,label\n1,yes\n")
    (small.folder / "void.csv").touch()
    empty, lacks = faults(small, "data.source.path='*.csv'")
    assert (empty.problem, empty.got) == ("a file is empty", f"{small.folder}/void.csv")
    assert lacks.problem == f"{small.folder}/more.csv lacks the column 'b' of the data schema"


@pytest.mark.parametrize(
    "text",
    ["label,b,a\nyes,2,1\n", "\ufeffa,b,label\n1,2,yes\n", "\n\na,b,label\n1,2,yes\n", '"a","b",label,c\n1,2,yes,3\n'],
)
def test_headers_that_are_well(small: Bench, text: str) -> None:
    """In another order, after a byte order mark, after blank lines, quoted, with columns that the schema lacks."""
    small.data.write_text(text, encoding="utf-8")
    check(loaded(small), small.folder / "root")


def test_a_column_that_was_renamed(small: Bench) -> None:
    """The name that was probably meant is offered."""
    small.data.write_text("a,b,lable\n1,2,yes\n")
    assert fault(small).close_match == "lable"


@pytest.mark.parametrize("content", [b"\xff\xfea,b", b'"a,b,label\n1,2,yes\n'])
def test_a_header_that_cannot_be_read(small: Bench, content: bytes) -> None:
    """In ingestion's own words, before the run."""
    small.data.write_bytes(content)
    one = fault(small)
    assert one.path == "data.source.path"
    assert one.problem.startswith(f"{small.data} line 1")


def test_columns_of_parquet(small: Bench) -> None:
    """As those of CSV; a file that is none is said so."""
    file = small.folder / "data.parquet"
    override = "data.source={format: parquet, path: data.parquet}"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1], "b": [2.0], "label": ["yes"]}), file)
    check(loaded(small, override), small.folder / "root")
    pyarrow.parquet.write_table(pyarrow.table({"a": [1], "b": [2.0]}), file)
    assert fault(small, override).problem == f"{file} lacks the column 'label' of the data schema"
    file.write_bytes(b"no parquet")
    assert fault(small, override).problem == f"{file} is no readable Parquet file"


def test_a_header_alone_is_refused(small: Bench) -> None:
    """As a file with nothing in it is, before anything runs."""
    small.data.write_text("a,b,label\n")
    with pytest.raises(ConfigError, match="a file has no rows; expected rows below its header"):
        check(loaded(small), small.folder / "root")


def test_a_feature_that_is_not_in_use_needs_no_column(small: Bench) -> None:
    """As when rows are read."""
    old = 'feature { name: "old" type: INT lifecycle_stage: DEPRECATED }\n'
    (small.folder / "schema.pbtxt").write_text(SCHEMA + old)
    check(loaded(small), small.folder / "root")


# --- the schema -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "describes no feature"),
        ("feature {", "is not a data schema: 1:"),
        ("no schema", "is not a data schema: 1:1"),
    ],
)
def test_a_file_that_is_no_schema(tmp_path: Path, text: str, problem: str) -> None:
    """The line is named where there is one."""
    file = tmp_path / "schema.pbtxt"
    file.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        read_schema(str(file))
    (one,) = refusal.value.faults
    assert (one.path, one.got) == ("data.schema", str(file))
    assert one.problem.startswith(problem)
    assert "\n" not in one.problem


def test_schemas_that_cannot_be_read(tmp_path: Path) -> None:
    """Not there, a folder, and not text."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, problem in (("nix", "there is no such file"), ("", "is not a data schema"), ("binary", "is not a data")):
        with pytest.raises(ConfigError, match=problem):
            read_schema(str(tmp_path / name))


def test_a_feature_of_a_type_that_no_flat_file_holds(small: Bench) -> None:
    """It is refused before the run, by name."""
    (small.folder / "schema.pbtxt").write_text(SCHEMA + 'feature { name: "tree" type: STRUCT }\n')
    one = fault(small)
    assert (one.path, one.got) == ("data.schema", "STRUCT")
    assert one.problem == "feature 'tree' cannot be read from a flat file"


def test_a_slice_by_a_column_that_there_is_not(small: Bench) -> None:
    """With its key and the close match."""
    one = fault(small, "gates.satisfy.0.slice_by=[a, lable]")
    assert (one.path, one.got, one.close_match) == ("gates.satisfy.0.slice_by", "lable", "label")


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("push.serving.base_path=file/a/b", "push.serving.base_path"),
        ("metadata.sqlite.path=file/metadata.db", "metadata.sqlite.path"),
        ("push.serving.base_path=dangling/a", "push.serving.base_path"),
    ],
)
def test_a_place_below_what_is_no_folder(small: Bench, override: str, key: str) -> None:
    """A file, or a link to nothing, holds no folder."""
    (small.folder / "file").touch()
    (small.folder / "dangling").symlink_to(small.folder / "nothing")
    one = fault(small, override)
    assert one.path == key
    assert one.problem.endswith(("/file is not a folder", "/dangling is not a folder"))


def test_a_place_for_devices_below_a_file(small: Bench) -> None:
    """Is found before anything is trained, as the other base path is."""
    (small.folder / "file").touch()
    raw = yaml.safe_load(small.config.read_text())
    raw["export"] = {"tflite": {"variants": ["float32"]}}
    raw["gates"]["satisfy"].append({"metric": "auc", "payload": "tflite", "min": 0.5})
    raw["push"]["edge"] = {"base_path": "file/a"}
    small.config.write_text(yaml.safe_dump(raw))
    one = fault(small)
    assert (one.path, one.problem) == ("push.edge.base_path", f"{small.folder / 'file'} is not a folder")


def test_a_root_below_a_file(small: Bench) -> None:
    """The root is no key of the configuration; it is named as such."""
    assert fault(small, root=small.data / "root").path == "(pipeline root)"


def test_a_folder_that_cannot_be_written_to(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest one that there is, is named. (A superuser may write anywhere, so the answer is given here.)"""
    monkeypatch.setattr("os.access", lambda place, mode: not str(place).endswith("locked"))
    (small.folder / "locked").mkdir()
    one = fault(small, "push.serving.base_path=locked/a/b")
    assert one.problem == f"{small.folder}/locked cannot be written to"


def test_a_file_that_cannot_be_read(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above."""
    monkeypatch.setattr("os.access", lambda place, mode: not str(place).endswith("data.csv"))
    one = fault(small)
    assert (one.problem, one.got) == ("a file cannot be read", str(small.data))


# --- what a faulty configuration names --------------------------------------------------------------------------------


def test_beside_a_faulty_configuration(small: Bench) -> None:
    """Files, schema and module are looked at as far as the keys can be read; what cannot, has its fault already."""
    assert check_beside({}, small.folder) == []
    assert check_beside({"data": 3, "model": {"module": 7}}, small.folder) == []
    raw = {"data": {"source": {"path": "nix.csv"}, "schema": "nix.pbtxt"}, "model": {"module": "nix_model"}}
    assert [one.path for one in check_beside(raw, small.folder)] == ["data.source.path", "data.schema", "model.module"]
    raw = {
        "data": {"source": {"path": "data.csv"}, "schema": "schema.pbtxt"},
        "model": {"module": "small_checked_model"},
    }
    assert check_beside(raw, small.folder) == []


def test_the_pipeline_root_lies_on_the_volume_of_the_pods(small: Bench, tmp_path: Path) -> None:
    """Where the training runs in Kubernetes; before the first node runs."""
    pods = f"{{image: 'r/s:1', volume: {{claim: satisfice, mount_path: {tmp_path}}}}}"
    told = (
        "training={cluster: kubernetes, strategy: multi_worker_mirrored, workers: 2}",
        f"training.kubernetes={pods}",
    )
    assert check(loaded(small, *told), small.folder / "root").name == "small_checked_model"
    one = fault(small, *told, root=Path("/var/tmp/elsewhere"))
    assert one.path == "training.kubernetes.volume"
    assert "the pipeline root would not be seen by the pods" in one.problem
