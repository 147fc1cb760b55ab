"""`satisfice ci` on a repository with a small real pipeline."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from runners.ci.run import _changed_data
from schemas.load import load_config
from tests.workbench import Answer, Bench, satisfice, taxi_bench


def git(bench: Bench, *arguments: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *names, *arguments], cwd=bench.folder, capture_output=True, text=True, check=True)
    return done.stdout


def ci(bench: Bench, *arguments: str | Path) -> Answer:
    return satisfice("ci", bench.config, "--output", bench.folder / "ci-report", *arguments)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A repository with the taxi pipeline; its data are not in it."""
    made = taxi_bench(tmp_path_factory.mktemp("ci"))
    (made.folder / ".gitignore").write_text("data.csv\nci-report/\n")
    git(made, "init", "-q", "-b", "main")
    git(made, "add", ".")
    git(made, "commit", "-q", "-m", "The pipeline")
    return made


@pytest.mark.slow
def test_a_branch_that_makes_the_model_worse(bench: Bench) -> None:
    """Exit code 3 with the table; nothing beside the configuration is touched; its report serves as a base."""
    bench.edit(lambda raw: raw["training"].update(epochs=1))
    bench.edit(lambda raw: raw["model"]["hyperparameters"].update(learning_rate=1e-7))
    answer = ci(bench, "--base", "main", "--rows", "1500")
    assert answer.code == 3, answer.out + answer.err
    report = json.loads((bench.folder / "ci-report" / "report.json").read_text())
    assert report["outcome"] == "would_block"
    assert report["changed"]["code"] == ["satisfice.yaml"]
    assert report["changed"]["configuration"] == {
        "model.hyperparameters.learning_rate": {"base": 0.01, "now": 1e-7},
        "training.epochs": {"base": 4, "now": 1},
    }
    optimized = next(one for one in report["decision"]["gates"] if one["gate"] == "gates.optimize")
    assert optimized["champion"] > optimized["value"] + 0.1
    assert "1,500 of 2,000 rows" in answer.out
    assert "### satisfice: taxi would be blocked" in (bench.folder / "ci-report" / "comment.md").read_text()
    assert "Comment rendered, not sent" in answer.out
    assert int(ET.parse(bench.folder / "ci-report" / "junit.xml").getroot().get("failures") or 0) > 0
    untouched = {".git", ".gitignore", "ci-report", "data.csv", "satisfice.yaml", "schema.pbtxt"}
    assert {one.name for one in bench.folder.iterdir()} == untouched
    assert len(git(bench, "worktree", "list").splitlines()) == 1

    git(bench, "checkout", "-q", "satisfice.yaml")
    better = ci(bench, "--base", bench.folder / "ci-report" / "report.json", "--rows", "1500", "--json")
    assert better.code == 0, better.out + better.err
    assert better.json["outcome"] == "would_push"
    now = next(one for one in better.json["decision"]["gates"] if one["gate"] == "gates.optimize")
    assert now["champion"] == optimized["value"]
    assert now["verdict"] == "pass"
    assert better.json["changed"]["data"] == []
    assert not bench.served.exists()


def test_no_such_commit(bench: Bench) -> None:
    """Is a fault of the command line."""
    answer = ci(bench, "--base", "nowhere")
    assert answer.code == 2
    assert "--base: is no commit here; expected a commit, a branch or a tag of this repository" in answer.err


def test_a_base_that_does_not_build(bench: Bench) -> None:
    """Is told of as the base's fault, and no worktree is left."""
    good = bench.config.read_text()
    bench.config.write_text("name: taxi\n")
    git(bench, "commit", "-q", "-a", "-m", "Broken")
    bench.config.write_text(good)
    answer = ci(bench, "--base", "HEAD", "--rows", "100")
    git(bench, "reset", "-q", "--hard", "HEAD~1")
    assert answer.code == 1
    assert "base HEAD: has no such configuration that could be built" in answer.err
    assert len(git(bench, "worktree", "list").splitlines()) == 1


def test_a_file_without_a_decision(bench: Bench, tmp_path: Path) -> None:
    """Is named with what is expected."""
    (tmp_path / "x.json").write_text("[]")
    answer = ci(bench, "--base", tmp_path / "x.json")
    assert answer.code == 2
    assert "holds no decision" in answer.err


def test_outside_of_a_repository(fresh_taxi: Bench) -> None:
    """A commit cannot be meant."""
    answer = ci(fresh_taxi, "--base", "main")
    assert answer.code == 2
    assert "is given outside of a repository" in answer.err


def test_data_that_changed_in_the_repository(fresh_taxi: Bench, tmp_path: Path) -> None:
    """Each file is named; where the base's folder has none, there is nothing to tell."""
    then, now = fresh_taxi, fresh_taxi.copy(tmp_path / "now")
    assert _changed_data(load_config(then.config), load_config(now.config)) == ()
    now.rows(lambda rows: rows[:-1])
    told = _changed_data(load_config(then.config), load_config(now.config))
    assert told == ("data.csv holds something else", "both sides ran on rows of the changed data")
    then.data.unlink()
    assert _changed_data(load_config(then.config), load_config(now.config)) == ()


def test_spans_that_changed_in_the_repository(fresh_taxi: Bench, tmp_path: Path) -> None:
    """Their files are named as others are: where the base has spans too, and where it has none."""
    then = fresh_taxi
    shutil.copy(then.data, then.folder / "2026-11-01.csv")
    then.edit(lambda raw: raw["data"]["source"].update(path="*.csv"))
    now = then.copy(tmp_path / "now")
    shutil.copy(then.folder / "2026-11-01.csv", now.folder / "2026-11-01.csv")
    now.edit(lambda raw: raw["data"]["source"].update(path="{YYYY}-{MM}-{DD}.csv"))
    both = "both sides ran on rows of the changed data"
    assert _changed_data(load_config(then.config), load_config(now.config)) == ("data.csv is read no more", both)
    then.edit(lambda raw: raw["data"]["source"].update(path="{YYYY}-{MM}-{DD}.csv"))
    assert _changed_data(load_config(then.config), load_config(now.config)) == ()
    shutil.copy(now.folder / "2026-11-01.csv", now.folder / "2026-11-02.csv")
    told = ("2026-11-01.csv is read no more", "2026-11-02.csv is new", both)
    assert _changed_data(load_config(then.config), load_config(now.config)) == told
    (now.folder / "2026-11-01.csv").unlink()
    told = ("2026-11-01.csv is gone", "2026-11-02.csv is new", both)
    assert _changed_data(load_config(then.config), load_config(now.config)) == told
