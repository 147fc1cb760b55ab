"""Submitting and scheduling, through Kubeflow's own client, against a fake of its API on loopback."""

from __future__ import annotations

import socket

import pytest

from runners.kubeflow import commands
from runners.kubeflow import node as entry
from runners.kubeflow.client import outcome_of_tasks, token_of
from runners.kubeflow.cron import cron_faults
from runners.kubeflow.job import SettleJob, pack, unpack
from schemas.config import KubeflowConfig
from schemas.errors import KubeflowError
from schemas.load import load_config
from tests.runners.kubeflow.api import FakeKubeflow
from tests.runners.kubeflow.samples import on_kubeflow
from tests.runners.local.desk import Desk
from tests.workbench import Answer, Bench, satisfice, taxi_bench

NIGHTLY = "0 0 3 * * *"


@pytest.fixture
def api():
    fake = FakeKubeflow()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Bench, object]:
    """The bench, and its pipeline compiled once: the commands compile it anew each time, which is tested elsewhere."""
    bench = taxi_bench(tmp_path_factory.mktemp("submit"), rows=20)
    on_kubeflow(bench)
    return bench, commands.compiled_of(bench.config, [])[1]


@pytest.fixture
def bench(made, monkeypatch) -> Bench:
    bench, compiled = made
    monkeypatch.setattr(commands, "compiled_of", lambda config, overrides: (load_config(config, overrides), compiled))
    return bench


def ask(command: str, bench: Bench, host: str, *options: str, **section: str) -> Answer:
    """A command, with the API's address and other keys of the section."""
    keys = {"host": host, **section}
    sets = [word for key, value in keys.items() for word in ("--set", f"kubeflow.{key}={value}")]
    return satisfice(command, bench.config, *sets, *options)


def submit(bench: Bench, api: FakeKubeflow, *options: str, **section: str) -> Answer:
    return ask("submit", bench, api.host, "--every", "0.01", *options, **section)


def test_a_run_is_uploaded_started_and_waited_for(bench, api) -> None:
    """States as they come, then the outcome and its exit code."""
    answer = submit(bench, api, "--value", "training.epochs=2", "--value", "data_source_path=/satisfice/new.csv")
    assert answer.code == 0, answer.err
    assert [line for line in answer.out.splitlines() if line in api.states] == api.states
    assert "pushed, or already served" in answer.out
    (run,) = api.runs.values()
    assert run["runtime_config"]["parameters"] == {"training_epochs": 2, "data_source_path": "/satisfice/new.csv"}
    assert run["run_id"] in answer.out
    assert [one["display_name"] for one in api.experiments.values()] == ["taxi"]


def test_what_is_there_is_not_uploaded_again(bench, api) -> None:
    """The version is named by its content; pipeline and experiment are found by name."""
    assert submit(bench, api, "--no-wait").code == 0
    versions = dict(api.versions)
    assert submit(bench, api, "--no-wait").code == 0
    assert api.versions == versions
    assert (len(api.pipelines), len(api.experiments), len(api.runs)) == (1, 1, 2)


@pytest.mark.parametrize(
    ("states", "tasks", "code", "outcome"),
    [
        (["SUCCEEDED"], {"Pusher": "SUCCEEDED", "Blocked": "SKIPPED"}, 0, "pushed"),
        (["SUCCEEDED"], {"Pusher": "SUCCEEDED", "Blocked": "SUCCEEDED"}, 3, "blocked"),
        (["SUCCEEDED"], {"WaitsForApproval": "SUCCEEDED"}, 4, "pending"),
        (["SUCCEEDED"], {"DataBlocked": "SUCCEEDED"}, 3, "data_blocked"),
        (["RUNNING", "FAILED"], {"Trainer": "FAILED"}, 1, "failed"),
        (["CANCELED"], {}, 1, "failed"),
    ],
)
def test_how_it_ended_is_the_exit_code(bench, api, states, tasks, code, outcome) -> None:
    """A block is no failure, and no success either."""
    api.states, api.tasks = states, tasks
    answer = submit(bench, api, "--json")
    assert (answer.code, answer.json["outcome"], answer.json["state"]) == (code, outcome, states[-1])
    assert ("Trainer ended" in answer.json["error"]) == (states[-1] == "FAILED")


def test_a_run_that_takes_too_long_goes_on(bench, api) -> None:
    api.states = ["RUNNING"]
    answer = submit(bench, api, "--timeout", "0.05")
    assert answer.code == 1
    assert "has not ended after 0.05 s" in answer.err


@pytest.mark.parametrize(
    ("value", "fault"),
    [("training.epoch=2", "did you mean 'training_epochs'?"), ("training.epochs=two", "is of another type"), ("x", "is no parameter")],
)  # fmt: skip
def test_a_value_that_fits_no_parameter_is_refused_before_anything_is_sent(bench, api, value, fault) -> None:
    answer = submit(bench, api, "--value", value)
    assert (answer.code, fault in answer.err) == (2, True), answer.err
    assert not api.pipelines


def test_tokens(bench, api, monkeypatch, tmp_path) -> None:
    """From a variable or a file; a wrong one, a missing one and one that is not there are told apart."""
    api.token = "s3cret"
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    monkeypatch.setenv("GOOD", "s3cret")
    monkeypatch.setenv("WRONG", "other")
    assert submit(bench, api, "--no-wait", token_env="GOOD").code == 0
    assert submit(bench, api, "--no-wait", token_file=str(file)).code == 0
    wrong = submit(bench, api, token_env="WRONG")
    assert (wrong.code, "refuses the token" in wrong.err, "other" in wrong.err) == (1, True, False)
    assert "none was given" in submit(bench, api).err
    absent = submit(bench, api, token_env="ABSENT")
    assert (absent.code, "the variable is not set; expected ABSENT" in absent.err) == (1, True)
    assert "cannot be read" in submit(bench, api, token_file=str(tmp_path / "no")).err
    assert len(api.runs) == 2


def test_a_service_account_s_token_is_found_where_it_is_mounted(monkeypatch, tmp_path) -> None:
    """And none is no fault: a port that was forwarded asks for none."""
    config = KubeflowConfig(image="x:1")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert token_of(config) == (None, None)
    (tmp_path / "token").write_text("t")
    assert token_of(config) == (None, str(tmp_path / "token"))
    (tmp_path / "token").write_text("\n")
    with pytest.raises(KubeflowError, match="is empty"):
        token_of(config)


def test_a_backend_that_is_too_old_is_named_before_anything_is_sent(bench, api) -> None:
    api.version = "2.4.0"
    answer = submit(bench, api)
    assert (answer.code, "2.15 or newer; got 2.4.0" in answer.err) == (1, True), answer.err
    assert not api.pipelines
    assert not api.experiments


def test_what_cannot_be_reached_is_one_message(bench) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen, nor lets anybody else
        answer = ask("submit", bench, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert answer.code == 1
    assert "cannot be reached" in answer.err
    assert "Traceback" not in answer.err
    assert "kubeflow.host" in satisfice("submit", bench.config).err


def test_a_schedule_replaces_the_one_before(bench, api) -> None:
    """By its name; one run at a time, and what was missed is left out."""
    assert ask("schedule", bench, api.host, "--kubeflow", "--cron", NIGHTLY).code == 0
    again = ask(
        "schedule", bench, api.host, "--kubeflow", "--cron", "0 30 4 * * MON-FRI", "--value", "training.epochs=9"
    )
    assert "in place of 1 earlier" in again.out
    (recurring,) = api.recurring.values()
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 30 4 * * MON-FRI"
    assert (recurring["max_concurrency"], recurring["no_catchup"], recurring["mode"]) == (1, True, "ENABLE") or (
        str(recurring["max_concurrency"]), recurring["no_catchup"]) == ("1", True)  # fmt: skip
    assert recurring["runtime_config"]["parameters"] == {"training_epochs": 9}


def test_what_is_for_kubeflow_alone(bench) -> None:
    """Without it a schedule is a timer of systemd, which goes by the configuration."""
    answer = satisfice("schedule", bench.config, "--cron", NIGHTLY, "--catch-up")
    assert answer.code == 2
    assert "--cron: is for --kubeflow or --cronjob alone" in answer.err
    assert "--catch-up: is for --kubeflow alone" in answer.err
    answer = satisfice("schedule", bench.config, "--kubeflow", "--cron", NIGHTLY, "--root", "there")
    assert (answer.code, "--root: lies on the volume" in answer.err) == (2, True)


def test_five_fields_are_not_sent(bench, api) -> None:
    """Kubeflow would take them, and mean something else."""
    answer = ask("schedule", bench, api.host, "--kubeflow", "--cron", "0 3 * * *")
    assert (answer.code, "six fields, seconds first: '0 0 3 * * *'" in answer.err) == (2, True)
    assert not api.pipelines


@pytest.mark.parametrize(
    "cron",
    [NIGHTLY, "0 */15 * * * *", "0 0 9 ? * 2-6", "30 0,30 8-18/2 1,15 JAN-MAR sun", "0 0 0 29 2 ?", "0 0 0 31 * *"],
)
def test_expressions_that_kubeflow_reads(cron) -> None:
    assert cron_faults(cron, "--cron") == []


@pytest.mark.parametrize(
    ("cron", "problem"),
    [
        ("", "is no cron expression"),
        ("0 0 3 * * * *", "is no cron expression"),
        ("@daily", "is no cron expression"),
        ("60 0 3 * * *", "seconds: is out of its bounds"),
        ("0 0 24 * * *", "hours: is out of its bounds"),
        ("0 0 3 0 * *", "day of the month: is out of its bounds"),
        ("0 0 3 * FOO *", "month: is out of its bounds"),
        ("0 0 3 * * 7", "day of the week: is out of its bounds"),
        ("0 0 5-3 * * *", "hours: begins after its end"),
        ("0 */0 3 * * *", "minutes: has a step of 0"),
        ("0 ? 3 * * *", "minutes: is not a value"),
        ("0 0 3 L * *", "day of the month: is out of its bounds"),
        ("0 0 0 30 2 ?", "names a day that no such month has"),
        ("0 0 0 31 4,JUN *", "names a day that no such month has"),
    ],
)
def test_expressions_that_it_does_not_read(cron, problem) -> None:
    assert any(problem in fault.problem for fault in cron_faults(cron, "--cron")), cron_faults(cron, "--cron")


def test_the_outcome_of_a_failed_run_is_its_failure() -> None:
    """Whatever it told before."""
    assert outcome_of_tasks("FAILED", {"blocked": "SUCCEEDED"}) == "failed"


def test_a_decision_is_carried_out_as_a_run_of_its_own(bench, api) -> None:
    """In one container, beside the artifacts; the pipeline of the runs is left as it is."""
    keys = ["--set", f"kubeflow.host={api.host}", "--by", "Ada", "--reason", "looked at it", "--kubeflow"]
    api.states = ["SUCCEEDED"]
    answer = satisfice("approve", "run-7", bench.config, *keys)
    assert answer.code == 0, answer.err
    assert "Run run-7: approved, and its push has ended." in answer.out
    assert [one["display_name"] for one in api.pipelines.values()] == ["taxi-approve"]
    (version,) = [one for one in api.versions.values() if one["display_name"] != "taxi-approve"]
    (executor,) = version["pipeline_spec"]["deploymentSpec"]["executors"].values()
    args = executor["container"]["args"]
    job = unpack(SettleJob, args[args.index("--job") + 1])
    assert (args[0], job.verb, job.run, job.by, job.reason) == ("settle", "approve", "run-7", "Ada", "looked at it")
    assert job.metadata.sqlite is not None
    assert job.metadata.sqlite.path == "/satisfice/metadata.db"
    api.states = ["FAILED"]
    failed = satisfice("reject", "run-7", bench.config, *keys)
    assert (failed.code, "reject of run run-7 failed: Trainer ended" in failed.out) == (1, True)


def test_a_decision_on_a_run_that_is_not_there_fails_its_container(tmp_path, capsys) -> None:
    """With the message that the command itself would give."""
    desk = Desk(tmp_path)
    job = SettleJob(pipeline="tiny", metadata=desk.metadata, verb="approve", run="nine", by="Ada", reason="so")
    assert entry.main(["settle", "--name", "Approve", "--run-id", "r", "--job", pack(job)]) == 1
    assert "run 'nine': is not among the 0 runs of pipeline 'tiny'" in capsys.readouterr().err
