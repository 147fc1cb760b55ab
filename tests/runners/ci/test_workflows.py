"""The workflow and the job that comment: their own scripts, against stand-ins for `gh` and `curl`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runners.ci.report import marker
from tests.workbench import REPOSITORY

STAND_IN = '''#!{python}
"""Keeps comments in a file, as the service behind `gh api` and `curl` would."""
import json, pathlib, sys
kept = pathlib.Path({state!r})
comments = json.loads(kept.read_text())
words = sys.argv[1:]
method = next((words[at + 1] for at, word in enumerate(words) if word in ("--method", "-X")), "GET")
body = next((word.partition("@")[2] for word in words if word.startswith(("body=@", "body@"))), "")
address = next(word for word in words if "comments" in word or "notes" in word)
if method == "GET":
    print(json.dumps(comments))
elif method == "POST":
    comments.append({{"id": 100 + len(comments), "body": pathlib.Path(body).read_text()}})
else:
    found = int(address.rpartition("/")[2])
    next(one for one in comments if one["id"] == found)["body"] = pathlib.Path(body).read_text()
kept.write_text(json.dumps(comments))
'''


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a report, and with stand-ins before everything else on the PATH; one foreign comment is there."""
    state = tmp_path / "comments.json"
    state.write_text(json.dumps([{"id": 7, "body": "Nice work"}]))
    (tmp_path / "bin").mkdir()
    for name in ("gh", "curl", "satisfice"):
        script = tmp_path / "bin" / name
        script.write_text(STAND_IN.format(python=sys.executable, state=str(state)))
        script.chmod(0o755)
    (tmp_path / "bin" / "satisfice").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "ci-report").mkdir()
    return tmp_path


def sh(place: Path, script: str, **variables: str) -> int:
    environment = {"PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}", **variables}
    return subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=place, env=environment).returncode


def comments_after(place: Path, text: str) -> list[str]:
    return [one["body"] for one in json.loads((place / "comments.json").read_text()) if text in one["body"]]


def write(place: Path, text: str) -> None:
    (place / "ci-report" / "comment.md").write_text(f"{marker('taxi')}\n\n{text}\n")


@pytest.mark.skipif(not shutil.which("jq"), reason="the workflow needs jq, which GitHub's machines have")
def test_github(place: Path) -> None:
    """The first run comments, the next one edits that comment, and foreign ones stay."""
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/satisfice.yml").read_text())
    step = next(one for one in workflow["jobs"]["gates"]["steps"] if one.get("name") == "Comment")
    for text in ("first", "second"):
        write(place, text)
        assert sh(place, step["run"], ISSUE="repos/a/b/issues/1/comments", COMMENTS="repos/a/b/issues/comments") == 0
    kept = comments_after(place, "")
    assert [len(kept), kept[0]] == [2, "Nice work"]
    assert comments_after(place, "second") == [f"{marker('taxi')}\n\nsecond\n"]


def test_gitlab(place: Path) -> None:
    """The same; and the job ends with the exit code of the gates."""
    job = yaml.safe_load((REPOSITORY / ".gitlab/satisfice.yml").read_text())["satisfice"]
    variables = {"SETUP": "true", "SATISFICE": "satisfice", "CONFIG": "c", "ROWS": "1", "SATISFICE_TOKEN": "t"}
    project = {"CI_API_V4_URL": "http://x", "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "2"}
    for text in ("first", "second"):
        write(place, text)
        script = "\n".join(job["script"])
        assert sh(place, script, CI_MERGE_REQUEST_DIFF_BASE_SHA="abc", **variables, **project) == 3
    assert comments_after(place, "second") == [f"{marker('taxi')}\n\nsecond\n"]
    assert len(comments_after(place, "")) == 2


def test_the_projects_own_workflow_uses_it() -> None:
    """With inputs that it has."""
    own = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())["jobs"]["gates"]
    assert own["uses"] == "./.github/workflows/satisfice.yml"
    called = yaml.safe_load((REPOSITORY / ".github/workflows/satisfice.yml").read_text())
    assert set(own["with"]) <= set(called[True]["workflow_call"]["inputs"])  # YAML 1.1 reads `on` as true
