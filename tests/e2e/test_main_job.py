"""The main job, from a CSV to a served model, on real rows, as its user sees it."""

from __future__ import annotations

import json

import pytest

from tests.workbench import Bench, satisfice


def states(answer) -> dict[str, str]:
    return {node["node"]: node["state"] for node in answer.json["nodes"]}


def weights(bench: Bench) -> tuple[bytes, ...]:
    """The trained weights and vocabularies. The graph beside them numbers its functions by what the process did before."""
    version = bench.served / "1"
    files = [*sorted((version / "variables").iterdir()), *sorted((version / "assets").iterdir())]
    return tuple(file.read_bytes() for file in files)


def test_the_first_run_pushes_version_1(taxi: Bench) -> None:
    """A whole SavedModel under an integer name, and nothing else that a server would read."""
    assert (taxi.served / "1" / "saved_model.pb").is_file()
    assert [entry.name for entry in taxi.served.iterdir() if not entry.name.startswith(".")] == ["1"]


def test_an_unchanged_run_is_already_served(taxi: Bench) -> None:
    """Nothing is trained, evaluated or pushed again; and a third run finds everything done."""
    answer = taxi.run()
    assert (answer.code, answer.json["outcome"]) == (0, "already_served")
    assert answer.json["decision"]["outcome"] == "already_served"
    assert [path.name for path in taxi.served.iterdir() if path.name.isdigit()] == ["1"]
    assert {node for node, state in states(answer).items() if state == "ran"} <= {
        "Baseline",
        "DataGate",
        "Champion",
        "Gate",
        "Pusher",
    }
    again = taxi.run()
    assert {node for node, state in states(again).items() if state == "ran"} <= {"Baseline", "Champion"}
    assert again.json["outcome"] == "already_served"


def test_an_unreachable_gate_blocks_and_is_named(taxi: Bench) -> None:
    """Exit code 3, with gate, value and limit; the served version stays."""
    answer = taxi.run("gates.satisfy.0.min=0.9999")
    assert (answer.code, answer.json["outcome"]) == (3, "blocked")
    first = answer.json["decision"]["gates"][0]
    assert (first["gate"], first["verdict"], first["limit"]) == ("gates.satisfy.0", "fail", 0.9999)
    assert 0.5 < first["value"] < 0.9999
    assert answer.json["push"]["outcome"] == "not_pushed"
    assert [path.name for path in taxi.served.iterdir() if path.name.isdigit()] == ["1"]


def test_a_person_sees_what_blocked(taxi: Bench) -> None:
    """The table names the gate first, and the lines below say what to do."""
    answer = satisfice("run", taxi.config, "--set", "gates.satisfy.0.min=0.9999")
    assert answer.code == 3
    table = answer.out[answer.out.index("Gates") :].splitlines()
    assert table[2].split()[:2] == ["fail", "auc"]
    assert "Blocked: nothing was pushed." in answer.out
    assert "is not at least 0.9999" in answer.out
    assert "\x1b[" not in answer.out


def test_another_training_is_held_against_the_champion(taxi: Bench) -> None:
    """It is compared on today's rows; a limit that it misses keeps it, and the champion, where they are."""
    answer = taxi.run("training.seed=7", "gates.satisfy.0.min=0.9999")
    assert answer.code == 3
    compared = next(gate for gate in answer.json["decision"]["gates"] if gate["gate"] == "gates.optimize")
    assert compared["verdict"] == "pass"
    assert compared["limit"] == pytest.approx(compared["champion"] - 0.1)
    assert compared["margin"] == pytest.approx(compared["value"] - compared["limit"])


def test_the_read_only_commands_tell_the_run(taxi: Bench) -> None:
    """`runs` and `show` answer from the lineage, configuration and decision included."""
    runs = satisfice("runs", taxi.config, "--json").json
    first = runs[-1]
    assert (first["outcome"], first["exit_code"]) == ("pushed", 0)
    shown = satisfice("show", first["run_id"], taxi.config, "--json").json
    assert shown["run"]["config"]["training"]["epochs"] == 4
    assert shown["decision"]["outcome"] == "push"
    assert shown["push"]["version"] == 1
    assert {node["node"] for node in shown["nodes"]} >= {"ExampleGen", "Trainer", "Gate", "Pusher"}
    text = satisfice("show", first["run_id"][:-1], taxi.config).out
    assert "gates.satisfy.0" in text
    assert json.dumps(first["run_id"])[1:-1] in text


def test_tfx_own_runner_comes_to_the_same_model(taxi: Bench, tmp_path) -> None:
    """The same graph under LocalDagRunner: the same weights are pushed."""
    other = taxi.copy(tmp_path / "other")
    answer = other.run(options=("--runner", "tfx-local"))
    assert (answer.code, answer.json["outcome"]) == (0, "pushed")
    assert weights(other) == weights(taxi)
    assert (other.served / "1" / "saved_model.pb").is_file()
