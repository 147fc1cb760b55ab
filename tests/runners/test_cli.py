"""The command line: help, JSON, exit codes, errors, and what it does not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import typer
from ml_metadata.errors import InternalError

from components.lineage import writer
from components.lineage.store import open_store
from runners.cli import _errors, app
from schemas.load import load_config
from tests.workbench import REPOSITORY, Bench, satisfice

COMMANDS = ["run", "validate", "init", "runs", "show", "why", "approve", "reject", "inspect", "serve", "predict"]
COMMANDS += ["doctor", "versions", "rollback", "pin", "label", "allow", "history", "fsck", "verify"]
COMMANDS += ["watch", "decisions", "schedule", "ci", "backfill", "compile", "submit"]


@pytest.fixture
def told(fresh_taxi: Bench) -> Bench:
    """A pipeline whose store holds two runs, of which no node is known: the older failed, the newer still runs."""
    loaded = load_config(fresh_taxi.config, [])
    store = open_store(loaded.config.metadata)
    config = loaded.config.model_dump_json(by_alias=True)
    for number, run_id in enumerate(("20260101-000000-aaaaaa", "20260102-000000-bbbbbb")):
        execution = writer.open_run(store, run_id, 1_767_225_600_000 + number, "taxi", config, loaded.digest, "local")
        if number == 0:
            nodes = [
                {"node": "Trainer", "state": "skipped", "seconds": 0.0, "reason": "needs [Transform], which failed"}
            ]
            writer.close_run(store, execution, "failed", 1, nodes, "node Transform: [odd] things")
    return fresh_taxi


# --- help -------------------------------------------------------------------------------------------------------------


def test_the_commands_are_those_that_are_tested_here() -> None:
    """A new command comes with its tests."""
    assert [command.name or command.callback.__name__ for command in app.registered_commands] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str) -> None:
    """It answers with what the command does, and offers JSON."""
    answer = satisfice(command, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: satisfice {command}")
    assert "--json" in answer.out
    assert ("--debug" in answer.out) == (command != "doctor")
    assert "\x1b" not in answer.out


def test_help_names_every_command() -> None:
    """With one sentence each."""
    answer = satisfice("--help")
    assert answer.code == 0
    lines = [line.split() for line in answer.out.splitlines() if line.startswith("  ")]
    assert [line[0] for line in lines if line[0] in COMMANDS and len(line) > 3] == COMMANDS


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rum"], "No such command 'rum'"),
        (["run", "--jsn"], "No such option: --jsn"),
        (["approve", "--by", "Ann", "--reason", "fine"], "Missing argument 'RUN'"),
        (["init", "somewhere"], "Missing option '--data'"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], words: str) -> None:
    """On standard error."""
    answer = satisfice(*arguments)
    assert answer.code == 2
    assert words in answer.err
    assert answer.out == ""


@pytest.mark.parametrize("command", ["run", "validate", "runs"])
def test_a_configuration_that_is_not_there(tmp_path, command: str) -> None:
    """One error of exit code 2; as JSON, one document on standard output and nothing else."""
    file = tmp_path / "nix.yaml"
    text = satisfice(command, file)
    assert (text.code, text.out) == (2, "")
    assert text.err.startswith("error: ")
    assert str(file) in text.err
    document = satisfice(command, file, "--json")
    assert (document.code, document.err) == (2, "")
    assert document.json["error"] == "ConfigError"
    assert document.json["exit_code"] == 2
    assert document.json["faults"]


def test_a_wrong_override(fresh_taxi: Bench) -> None:
    """The key is named with what was meant."""
    answer = satisfice("runs", fresh_taxi.config, "--set", "gates.satisfi=[]", "--json")
    assert answer.code == 2
    (fault,) = answer.json["faults"]
    assert (fault["path"], fault["close_match"]) == ("gates.satisfi", "satisfy")
    assert satisfice("runs", fresh_taxi.config, "--set", "no equals sign").code == 2


def test_an_error_that_is_not_ours_is_not_hidden() -> None:
    """A fault of the program keeps its traceback."""
    with pytest.raises(ZeroDivisionError), _errors(as_json=False, debug=False):
        _ = 1 / 0


def test_an_error_of_the_metadata_store(capfd: pytest.CaptureFixture[str]) -> None:
    """Met in the middle of a command, it is one of ours: bounded, with exit code 1 and what to do."""
    with pytest.raises(typer.Exit) as end, _errors(as_json=False, debug=False):
        raise InternalError("database disk image is malformed\nquery: " + "x" * 5000)
    assert end.value.exit_code == 1
    err = capfd.readouterr().err
    assert err.startswith(
        "error: the metadata store: cannot be read or written; got database disk image is malformed q"
    )
    assert "put a backup in its place" in err
    assert len(err) < 400


# --- runs and show ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["runs"], ["show", "latest"]])
def test_without_a_store(fresh_taxi: Bench, arguments: list[str]) -> None:
    """It says how one comes about, and makes none."""
    answer = satisfice(*arguments, fresh_taxi.config)
    assert (answer.code, answer.out) == (1, "")
    assert "there is no metadata store yet. Run the pipeline once: satisfice run" in answer.err
    assert not (fresh_taxi.folder / "metadata.db").exists()
    document = satisfice(*arguments, fresh_taxi.config, "--json")
    assert (document.code, document.json["error"]) == (1, "MetadataError")


def test_runs_of_a_store_without_any(fresh_taxi: Bench) -> None:
    """An empty list is no error."""
    open_store(load_config(fresh_taxi.config, []).config.metadata)
    assert (satisfice("runs", fresh_taxi.config).out, satisfice("runs", fresh_taxi.config).code) == (
        "No runs yet.\n",
        0,
    )
    assert satisfice("runs", fresh_taxi.config, "--json").json == []


def test_runs(told: Bench) -> None:
    """The newest first, as text and as JSON."""
    text = satisfice("runs", told.config)
    assert text.code == 0
    assert [line.split()[0] for line in text.out.splitlines()[1:]] == [
        "20260102-000000-bbbbbb",
        "20260101-000000-aaaaaa",
    ]
    assert "\x1b" not in text.out
    document = satisfice("runs", told.config, "--json").json
    assert [(one["outcome"], one["exit_code"]) for one in document] == [("unfinished", None), ("failed", 1)]


def test_show(told: Bench) -> None:
    """A run by the beginning of its id, with what was skipped and the error."""
    text = satisfice("show", "20260101", told.config)
    assert text.code == 0
    assert "needs [Transform], which failed" in text.out
    assert "node Transform: [odd] things" in text.out
    assert "\x1b" not in text.out
    document = satisfice("show", "20260101", told.config, "--json").json
    assert document["run"]["config"]["name"] == "taxi"
    assert document["nodes"][0]["state"] == "skipped"
    assert (document["decision"], document["push"], document["data_decision"]) == (None, None, None)


@pytest.mark.parametrize("command", ["show", "why"])
def test_the_configuration_may_come_first(told: Bench, command: str) -> None:
    """As with every other command; without a run it is the newest."""
    either = satisfice(command, told.config, "20260101", "--json")
    assert either.out == satisfice(command, "20260101", told.config, "--json").out
    newest = satisfice(command, told.config, "--json")
    assert newest.out == satisfice(command, "latest", told.config, "--json").out
    assert newest.out != either.out


def test_show_a_run_that_there_is_not(told: Bench) -> None:
    """With the one that was meant; an ambiguous beginning is refused."""
    answer = satisfice("show", "20260102-000000-cccccc", told.config)
    assert (answer.code, answer.out) == (1, "")
    assert "is not among the 2 runs of pipeline 'taxi'. Did you mean '20260102-000000-bbbbbb'?" in answer.err
    assert "2 runs begin so" in satisfice("show", "2026010", told.config).err
    assert satisfice("show", "nix", told.config, "--json").json["remedy"] == "`satisfice runs` lists them."


# --- validate and doctor ----------------------------------------------------------------------------------------------


def test_validate(fresh_taxi: Bench) -> None:
    """No fault, and nothing was made; all faults at once where there are some."""
    answer = satisfice("validate", fresh_taxi.config)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"{fresh_taxi.config}: no faults. Pipeline 'taxi', digest ")
    document = satisfice("validate", fresh_taxi.config, "--json").json
    assert (document["valid"], document["name"], document["module"]) == (True, "taxi", "pipeline.models.taxi")
    assert document["training"]["asked"] == "auto"
    mirrored = ["--set", "training.strategy=mirrored", "--set", "training.devices=2"]
    assert "\ntraining: mirrored on " in satisfice("validate", fresh_taxi.config, *mirrored).out
    faults = ["--set", "data.source.path=nix.csv", "--set", "model.module=nix"]
    assert "2 faults" in satisfice("validate", fresh_taxi.config, *faults).err
    document = satisfice("validate", fresh_taxi.config, *faults, "--json")
    assert (document.code, len(document.json["faults"])) == (2, 2)
    assert sorted(entry.name for entry in fresh_taxi.folder.iterdir()) == ["data.csv", "satisfice.yaml", "schema.pbtxt"]


def test_doctor() -> None:
    """Each check with what was found and needed; exit code 0 where nothing lacks."""
    document = satisfice("doctor", "--json")
    assert {"name", "ok", "found", "needed", "remedy"} == set(document.json[0])
    assert document.code == (0 if all(check["ok"] for check in document.json) else 1)
    text = satisfice("doctor")
    assert text.code == document.code
    assert len(text.out.splitlines()) == len(document.json)


# --- processes --------------------------------------------------------------------------------------------------------

HEAVY = ["apache_beam", "keras", "pandas", "pyarrow", "sklearn", "tensorflow", "tf_keras", "tfx", "tfx_bsl"]
IMPORTED = f"""
import json, sys
from runners.cli import main
try:
    main()
finally:
    heavy = {HEAVY!r}
    print(json.dumps(sorted(set(heavy) & {{name.split(".")[0] for name in sys.modules}})), file=sys.stderr)
"""


def process(*arguments: object, code: str = "from runners.cli import main; main()") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "80"},
    )


@pytest.mark.parametrize("command", ["--help", "runs", "show", "why"])
def test_what_only_reads_imports_nothing_heavy(told: Bench, command: str) -> None:
    """Help, the list of runs and a run are told without TensorFlow and TFX."""
    arguments = {"--help": [], "runs": [told.config], "show": ["latest", told.config], "why": ["latest", told.config]}[
        command
    ]
    done = process(command, *arguments, code=IMPORTED)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr) == []


def test_a_process_shows_no_traceback_unless_asked(tmp_path) -> None:
    """As the shell sees it: the same exit code, with the traceback only under `--debug`."""
    file = tmp_path / "nix.yaml"
    plain, debug = process("run", file), process("run", file, "--debug")
    assert (plain.returncode, debug.returncode) == (2, 2)
    assert "Traceback" not in plain.stdout + plain.stderr
    assert plain.stderr.count("error: ") == 1
    assert "Traceback" in debug.stderr
    assert "ConfigError" in debug.stderr


def test_output_into_a_pipe_is_plain_and_whole(told: Bench) -> None:
    """No escape codes, and no line cut at the width of a terminal that is not there."""
    done = process("runs", told.config)
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 3
