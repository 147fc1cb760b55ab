"""Bad input, as its user meets it: one clear error, the right exit code, and everything earlier as it was."""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.local.lock import exclusive
from runners.run import default_root
from runners.run import run as run_pipeline
from runners.view import SilentView
from schemas.load import load_config
from tests.workbench import REPOSITORY, Answer, Bench, satisfice

DOWNSTREAM = ["Transform", "Trainer", "Champion", "Evaluator", "Gate", "Pusher"]


def run(bench: Bench, *overrides: str, options: tuple[str, ...] = ()) -> Answer:
    """`satisfice run`, as a person calls it."""
    pairs = [part for override in overrides for part in ("--set", override)]
    return satisfice("run", bench.config, *pairs, *options)


def served(bench: Bench) -> dict[str, tuple[int, int]]:
    """Each file below the serving directory, with its size and the moment of its last change."""
    files = [file for file in bench.served.rglob("*") if file.is_file()]
    return {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


def runs(bench: Bench) -> list[dict[str, Any]]:
    return satisfice("runs", bench.config, "--json").json


@pytest.fixture
def unharmed(taxi: Bench) -> Iterator[Callable[[int], None]]:
    """Called at the end with the number of runs that may have come: all else is as it was."""
    versions, before = served(taxi), runs(taxi)
    logs = default_root(load_config(taxi.config)) / "logs"

    def check(new_runs: int) -> None:
        after = runs(taxi)
        empty = [folder for folder in logs.iterdir() if not any(file.stat().st_size for file in folder.iterdir())]
        assert not empty, "what was refused before it began leaves no log"
        assert served(taxi) == versions
        assert after[new_runs:] == before
        assert [one["outcome"] for one in after[:new_runs]] == ["failed"] * new_runs

    return check


@pytest.fixture(scope="module")
def rows(taxi: Bench) -> list[list[str]]:
    """The header and the rows of the pipeline's data."""
    with taxi.data.open(newline="") as lines:
        return list(csv.reader(lines))


def write(file: Path, rows: list[list[str]]) -> Path:
    with file.open("w", newline="") as lines:
        csv.writer(lines, lineterminator="\n").writerows(rows)
    return file


def changed(rows: list[list[str]], column: str, value: str, only: int | None = None) -> list[list[str]]:
    """The rows with another value in a column: in every row, or in the one with that index."""
    place = rows[0].index(column)
    return [
        [*row[:place], value, *row[place + 1 :]] if index and only in (None, index) else row
        for index, row in enumerate(rows)
    ]


def refused(answer: Answer) -> str:
    """The one error of a run that was refused before anything ran."""
    assert answer.code == 2, answer.out + answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n  - ") == 1
    assert "Traceback" not in answer.out + answer.err
    return answer.err


def failed(answer: Answer) -> str:
    """The one error of a run in which a node failed."""
    assert answer.code == 1, answer.out + answer.err
    assert answer.err == ""
    assert "Traceback" not in answer.out
    assert answer.out.count("Failed:") == 1
    return answer.out[answer.out.index("Failed:") :]


# --- refused before anything runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.source.path=dat.csv", ["data.source.path: no file matches", "(did you mean 'data.csv'?)"]),
        ("data.source.path=no/where/data.csv", ["data.source.path: there is no folder", "/no/where"]),
        ("data.source.path={tmp}/empty.csv", ["a file is empty; expected a header line and rows", "/empty.csv"]),
        ("data.source.path={tmp}/header.csv", ["a file has no rows; expected rows below its header", "/header.csv"]),
        ("data.source.path={tmp}/lacks.csv", ["/lacks.csv lacks the column 'fare'", "(did you mean 'fares'?)"]),
        ("data.schema={tmp}/empty.csv", ["data.schema: describes no feature", "/empty.csv"]),
        ("data.schema=satisfice.yaml", ["data.schema: is not a data schema", "expected a text-format Schema proto"]),
        ("data.schema=schema.pbtx", ["data.schema:", "schema.pbtx"]),
        ("gates.satisfy.0.metric=auk", ["gates.satisfy.0.metric: unknown metric", "(did you mean 'auc'?)"]),
        ("gates.satisfy.1.slice_by=[payment]", ["gates.satisfy.1.slice_by", "(did you mean 'payment_type'?)"]),
        ("model.module=nonesuch_model", ["model.module: there is no such module", "got nonesuch_model"]),
        ("push.serving.base_path={tmp}/empty.csv/taxi", ["push.serving.base_path", "/empty.csv is not a folder"]),
        ("metadata.sqlite.path={tmp}/empty.csv/m.db", ["metadata.sqlite.path", "/empty.csv is not a folder"]),
        ("metadata.sqlite.path={tmp}", ["metadata.sqlite.path: is a directory", "expected a file"]),
        ("training.epoch=3", ["training.epoch: unknown key", "(did you mean 'epochs'?)"]),
        ("gates=null", ["gates: is not valid", "expected a mapping"]),
    ],
)
def test_refused_before_anything_runs(taxi, rows, tmp_path, unharmed, override, words) -> None:
    """One fault with the key, what was expected and what came; exit code 2; not even a run is recorded."""
    (tmp_path / "empty.csv").touch()
    write(tmp_path / "header.csv", rows[:1])
    write(tmp_path / "lacks.csv", [[name.replace("fare", "fares") for name in rows[0]], *rows[1:]])
    text = refused(run(taxi, override.format(tmp=tmp_path)))
    assert [word for word in words if word not in text] == []
    unharmed(0)


def test_all_faults_come_at_once(taxi, tmp_path, unharmed) -> None:
    """Files, places and the module are looked at together."""
    (tmp_path / "file").touch()
    answer = run(
        taxi,
        "data.source.path=nix.csv",
        "model.module=nonesuch_model",
        f"push.serving.base_path={tmp_path}/file/taxi",
    )
    assert answer.code == 2
    assert "3 faults" in answer.err
    assert [
        key for key in ("data.source.path", "model.module", "push.serving.base_path") if key not in answer.err
    ] == []
    unharmed(0)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("raises_on_import", "import json\n1 / 0\n", ["does not import: ZeroDivisionError", "raises_on_import.py, line 2"]),
        ("no_syntax", "def preprocessing_fn(inputs:\n", ["does not import: SyntaxError", "no_syntax.py, line 1"]),
        ("imports_nonesuch", "import nonesuch\n", ["does not import: ModuleNotFoundError", "'nonesuch'"]),
        (
            "lacks_build_model",
            "def preprocessing_fn(inputs): ...\ndef bild_model(keras, features, hyperparameters): ...\n",
            ["lacks the function build_model", "(did you mean 'bild_model'?)"],
        ),
        (
            "takes_too_little",
            "def preprocessing_fn(inputs): ...\ndef build_model(keras): ...\n",
            ["build_model takes other arguments; expected build_model(keras, features, hyperparameters)"],
        ),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_used(taxi, unharmed, name, code, words) -> None:
    """It is refused with the file and the line, or with the function and its signature."""
    (taxi.folder / f"{name}.py").write_text(code)
    text = refused(run(taxi, f"model.module={name}"))
    assert [word for word in ["model.module: ", *words] if word not in text] == []
    unharmed(0)


def test_a_root_below_a_file(taxi, tmp_path, unharmed) -> None:
    """A pipeline root that cannot be made is refused, and nothing is made."""
    (tmp_path / "file").touch()
    text = refused(run(taxi, options=("--root", f"{tmp_path}/file/root")))
    assert f"(pipeline root): {tmp_path}/file is not a folder" in text
    unharmed(0)


def test_a_misspelt_runner(taxi, unharmed) -> None:
    """The runners are named, and the one that was meant."""
    text = refused(run(taxi, options=("--runner", "tfx-locl")))
    assert "--runner: is not a runner; expected local or tfx-local; got tfx-locl (did you mean 'tfx-local'?)" in text
    unharmed(0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw.pop("gates"), "gates: is missing"),
        (lambda raw: raw.update(gates={}), "gates: holds no gate; expected optimize, or at least one entry of satisfy"),
    ],
)
def test_a_configuration_without_gates(fresh_taxi, change, words) -> None:
    """Nothing ships unjudged: it is refused, and not even a metadata store is made."""
    fresh_taxi.edit(change)
    assert words in refused(run(fresh_taxi))
    assert sorted(entry.name for entry in fresh_taxi.folder.iterdir()) == ["data.csv", "satisfice.yaml", "schema.pbtxt"]


def test_a_second_run_on_the_same_root(taxi, unharmed) -> None:
    """It is refused while the first one runs, whose process is named; exit code 1."""
    root = taxi.folder / "pipelines" / "taxi"
    code = f"from runners.local.lock import exclusive\nfrom pathlib import Path\nwith exclusive(Path({str(root)!r})):\n print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    ) as holder:
        holder.stdout.readline()
        answer = run(taxi)
        holder.communicate("\n")
    assert answer.code == 1
    assert f"another run holds this pipeline root (process {holder.pid})" in answer.err
    assert "--root DIR" in answer.err
    assert "Traceback" not in answer.out + answer.err
    unharmed(0)


# --- the metadata store -----------------------------------------------------------------------------------------------


def no_database(store: bytes) -> bytes:
    return b"no database, but a text\n" * 1000


def cut(store: bytes) -> bytes:
    return store[:5000]


def torn(store: bytes) -> bytes:
    """The second half is overwritten: the store opens, and fails later."""
    return store[: len(store) // 2] + b"\xff" * (len(store) - len(store) // 2)


@pytest.mark.parametrize("damage", [no_database, cut, torn])
@pytest.mark.parametrize("command", ["run", "runs"])
def test_a_damaged_metadata_store(taxi, tmp_path, unharmed, command, damage) -> None:
    """One error that says so, whether the store does not open or fails later; exit code 1; the file is left alone."""
    store = tmp_path / "damaged.db"
    store.write_bytes(damage((taxi.folder / "metadata.db").read_bytes()))
    before = store.read_bytes()
    answer = satisfice(command, taxi.config, "--set", f"metadata.sqlite.path={store}")
    assert answer.code == 1, answer.out
    assert answer.err.count("error: ") == 1
    assert "metadata store" in answer.err
    assert "put a backup in its place" in answer.err
    assert len(answer.err) < 600
    assert "Traceback" not in answer.out + answer.err
    assert store.read_bytes() == before
    unharmed(0)


def test_a_new_store_for_an_old_root(taxi, tmp_path, unharmed) -> None:
    """It numbers its artifacts from 1, and would write over those of the old store: refused."""
    artifacts = sorted((taxi.folder / "pipelines" / "taxi" / "Trainer").rglob("*"))
    text = refused(run(taxi, f"metadata.sqlite.path={tmp_path}/new.db"))
    assert "(pipeline root): holds artifacts of which the metadata store knows nothing" in text
    assert "--root DIR" in text
    assert sorted((taxi.folder / "pipelines" / "taxi" / "Trainer").rglob("*")) == artifacts
    unharmed(0)


# --- found while it runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", ["local", "tfx-local"])
def test_a_number_that_is_none(taxi, rows, tmp_path, unharmed, runner) -> None:
    """ExampleGen fails and says so; what needs it is skipped; the failed run is recorded with the same words."""
    file = write(tmp_path / "data.csv", changed(rows, "fare", "twelve", 3))
    answer = run(taxi, f"data.source.path={file}", options=("--runner", runner))
    text = failed(answer)
    assert f"node ExampleGen: {file}: line 4, column 'fare': the value does not parse" in text
    assert ".." not in text.replace("../", "")
    assert "✗ ExampleGen" in answer.out
    assert answer.out.count(" skipped ") >= 8
    assert f"{file}: line 4" in satisfice("show", "latest", taxi.config).out
    unharmed(1)


@pytest.mark.parametrize(
    ("column", "value", "line", "only", "expected"),
    [
        ("trip_start_hour", "noon", 2, None, "a whole number (INT)"),
        ("trip_start_hour", "3.5", 2, None, "a whole number (INT)"),
        ("fare", "twelve", 778, 777, "a number (FLOAT)"),
    ],
)
def test_a_value_of_another_type(taxi, rows, tmp_path, unharmed, column, value, line, only, expected) -> None:
    """File, line, column, value and expected type are named, be it one value or the whole column."""
    file = write(tmp_path / "data.csv", changed(rows, column, value, only))
    text = failed(run(taxi, f"data.source.path={file}"))
    assert (
        f"{file}: line {line}, column '{column}': the value does not parse; expected {expected}; got '{value}'" in text
    )
    unharmed(1)


def test_a_label_that_preprocessing_does_not_return(taxi, unharmed) -> None:
    """The Trainer names the label, what there is, and the one that was meant."""
    text = failed(run(taxi, "model.label=big_tiper"))
    assert "node Trainer: label 'big_tiper': is not among the transformed features; expected one of big_tipper" in text
    assert "Did you mean 'big_tipper'?" in text
    unharmed(1)


def test_a_label_with_one_class(taxi, rows, tmp_path, unharmed) -> None:
    """There is nothing to learn where nobody tips: nothing is trained."""
    file = write(tmp_path / "data.csv", changed(rows, "tips", "0"))
    text = failed(run(taxi, f"data.source.path={file}"))
    assert "node Trainer: label 'big_tipper': has one class only" in text
    assert "hold 0; expected at least two different values. Check how preprocessing_fn makes the label" in text
    unharmed(1)


def test_build_model_raises(taxi, unharmed) -> None:
    """Module, function and cause in one line per node; with `--debug` the traceback down to the user's line."""
    plain = run(taxi, "model.hyperparameters.hiden=3")
    text = failed(plain)
    assert "node Trainer: module pipeline.models.taxi:" in text
    assert "build_model: raised TypeError" in text
    assert "'hiden'" in text
    assert "'hiden'" in next(line for line in plain.out.splitlines() if line.startswith("✗"))
    debug = run(taxi, "model.hyperparameters.hiden=3", options=("--debug",))
    assert debug.code == 1
    assert "Traceback" in debug.err
    assert "settings = Hyperparameters(**hyperparameters)" in debug.err
    unharmed(2)


def test_debug_shows_the_traceback_of_a_refusal(taxi, unharmed) -> None:
    """With the same exit code and the same message; with `--json` the document stays whole."""
    text = run(taxi, "data.source.path=dat.csv", options=("--debug",))
    assert text.code == 2
    assert "Traceback" in text.err
    assert "error: " in text.err
    both = satisfice("run", taxi.config, "--set", "data.source.path=dat.csv", "--debug", "--json")
    assert both.code == 2
    assert both.json["faults"][0]["path"] == "data.source.path"
    assert "Traceback" in both.err
    unharmed(0)


class Impatient(SilentView):
    """Presses Ctrl-C as soon as something begins."""

    def node_started(self, node: str) -> None:
        raise KeyboardInterrupt


def test_a_run_that_is_interrupted(taxi, unharmed) -> None:
    """It is recorded as failed, and lets go of the root."""
    loaded = load_config(taxi.config)
    root = default_root(loaded)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(loaded, root, "interrupted", root / "logs" / "interrupted.log", Impatient())
    assert runs(taxi)[0]["error"] == "interrupted by whoever started it (Ctrl-C)"
    with exclusive(root):
        pass
    unharmed(1)


# --- anomalies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", ["local", "tfx-local"])
def test_anomalies_block(taxi, rows, tmp_path, runner) -> None:
    """An hour that does not exist: exit code 3, the feature and the split named, nothing trained, nothing pushed."""
    versions, before = served(taxi), runs(taxi)
    file = write(tmp_path / "data.csv", changed(rows, "trip_start_hour", "31", only=1))
    options = ("--runner", runner)
    answer = taxi.run(f"data.source.path={file}", options=options)
    assert (answer.code, answer.json["outcome"]) == (3, "data_blocked"), answer.out
    (anomaly,) = answer.json["data_decision"]["anomalies"]
    assert (anomaly["feature"], anomaly["severity"]) == ("trip_start_hour", "block")
    states = {node["node"]: (node["state"], node["reason"]) for node in answer.json["nodes"]}
    assert states["DataGate"][0] == "ran"
    why = "DataGate decided so (proceed is 0)" if runner == "local" else "its condition is not met"
    assert {node: states[node] for node in DOWNSTREAM} == dict.fromkeys(DOWNSTREAM, ("skipped", why))
    assert answer.json["decision"] is None
    assert answer.json["push"] is None

    told = run(taxi, f"data.source.path={file}", options=options)
    assert told.code == 3
    assert f"trip_start_hour ({anomaly['split']}): Unexpectedly large value: 31." in told.out
    assert "Blocked by the data gate: nothing was trained, nothing was pushed." in told.out
    assert "mend the data, or, where the data is right, widen the schema" in told.out
    assert "Unexpectedly large value: 31" in satisfice("show", "latest", taxi.config).out

    after = runs(taxi)
    assert served(taxi) == versions
    assert after[2:] == before
    assert [(one["outcome"], one["exit_code"], one["runner"]) for one in after[:2]] == [("data_blocked", 3, runner)] * 2


# --- a failing node, mended -------------------------------------------------------------------------------------------

BROKEN = """\
from pipeline.models.taxi import build_model
from pipeline.models.taxi import preprocessing_fn as of_taxi


def preprocessing_fn(inputs):
    outputs = of_taxi(inputs)
    raise ValueError("the fares are in another castle")
    return outputs
"""
MENDED = BROKEN.replace('    raise ValueError("the fares are in another castle")\n', "")


@pytest.fixture(scope="module")
def mended(taxi, rows, tmp_path_factory) -> tuple[Answer, Answer, Bench]:
    """A run whose preprocessing fails, and the next one with the module mended; the data holds an anomaly, only warned of."""
    bench = taxi.copy(tmp_path_factory.mktemp("mended") / "taxi")
    write(bench.data, changed(rows, "trip_start_hour", "31", only=1))
    module = bench.folder / "mended_model.py"
    overrides = ("model.module=mended_model", "data.validate.anomalies=warn")
    module.write_text(BROKEN)
    first = run(bench, *overrides)
    module.write_text(MENDED)
    sys.modules.pop("mended_model", None)
    importlib.invalidate_caches()
    return first, run(bench, *overrides), bench


def lines_of(answer: Answer) -> dict[str, str]:
    """Node to the line that was printed of it."""
    lines = [line.rstrip() for line in answer.out.splitlines() if line[:2] in ("✓ ", "= ", "- ", "✗ ")]
    return {line.split()[1]: line for line in lines}


def test_a_failing_node_is_named(mended) -> None:
    """Node, cause, log file and what to do; the nodes below it are skipped with the reason."""
    first, _, bench = mended
    text = failed(first)
    assert "node Transform: mended_model.preprocessing_fn: 1 fault" in text
    assert "raised ValueError: the fares are in another castle" in text
    command = f"satisfice run {bench.config} --set model.module=mended_model --set data.validate.anomalies=warn"
    assert f"`{command} --resume` goes on from there." in text
    lines = lines_of(first)
    assert lines["Transform"].startswith("✗")
    for node in DOWNSTREAM[1:]:
        assert lines[node].startswith("-")
        assert lines[node].endswith("needs Transform, which failed")


def test_the_log_holds_the_traceback(mended) -> None:
    """Down to the line of the user's module."""
    log = Path(mended[0].out.split("The log is ")[1].split(". What")[0]).read_text()
    assert "ValueError: the fares are in another castle" in log
    assert 'mended_model.py", line 7, in preprocessing_fn' in log


def test_the_next_run_goes_on_from_there(mended) -> None:
    """What had finished comes from the cache; the rest runs, to a pushed model. What is served is looked up anew."""
    first, second, bench = mended
    assert second.code == 0, second.out + second.err
    finished = [node for node, line in lines_of(first).items() if line.startswith("✓")]
    marks = {node: line[0] for node, line in lines_of(second).items()}
    assert {"ExampleGen", "StatisticsGen", "DataGate"} <= set(finished)
    assert marks == {node: "=" if node in finished and node != "Baseline" else "✓" for node in marks}
    assert set(DOWNSTREAM) <= set(marks)
    assert "Pushed version 1." in second.out
    assert [one["outcome"] for one in runs(bench)] == ["pushed", "failed"]


def test_anomalies_that_are_only_warned_of(mended) -> None:
    """The run goes on, and shows the anomaly."""
    _, second, _ = mended
    (line,) = [line for line in second.out.splitlines() if line.startswith("warn")]
    assert line.split()[1] == "trip_start_hour"
    assert line.rstrip().endswith("Unexpectedly large value: 31.")
