"""What a pod runs: which member it is, what it says where it cannot be one, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.trainer.kubernetes import ADDRESSES, CLUSTER, FAILS_AGAIN
from components.trainer.pod import place_of
from schemas.errors import SatisficeError

SERVED = {"chief": ["j-0.j:2222"], "ps": ["j-1.j:2222"], "worker": ["j-2.j:2222", "j-3.j:2222"]}


def environment(index: int, cluster: dict[str, list[str]] = SERVED, **more: str) -> dict[str, str]:
    return {CLUSTER: json.dumps(cluster), "JOB_COMPLETION_INDEX": str(index), **more}


@pytest.mark.parametrize(
    ("index", "name", "serves", "chief"),
    [(0, "chief-0", False, "chief-0"), (1, "ps-0", True, "chief-0"), (3, "worker-1", True, "chief-0")],
)
def test_the_place_in_a_cluster(index: int, name: str, serves: bool, chief: str) -> None:
    """By the completion index; TF_CONFIG as TensorFlow reads it."""
    place = place_of(environment(index))
    assert (place.name, place.serves, place.chief) == (name, serves, chief)
    role, number = name.split("-")
    assert json.loads(place.tf_config) == {"cluster": SERVED, "task": {"type": role, "index": int(number)}}


def test_worker_0_is_the_chief_without_one() -> None:
    """And none of them only serves."""
    place = place_of(environment(1, {"worker": ["a:1", "b:1"]}))
    assert (place.name, place.serves, place.chief) == ("worker-1", False, "worker-0")


def test_addresses_where_names_are_not_resolved() -> None:
    """Those that are known replace the names; others stay."""
    place = place_of(environment(0, **{ADDRESSES: json.dumps({"j-2.j:2222": "127.0.0.1:7"})}))
    assert place.cluster["worker"] == ["127.0.0.1:7", "j-3.j:2222"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "lacks the variable TRAINING_CLUSTER"),
        ({CLUSTER: "{}"}, "lacks the variable JOB_COMPLETION_INDEX"),
        (environment(4), "does not find itself in its cluster.*got 4 in"),
        ({**environment(0), CLUSTER: "{"}, "does not find itself in its cluster"),
    ],
)
def test_what_is_no_pod_of_ours(told: dict[str, str], words: str) -> None:
    """Each says what it lacks."""
    with pytest.raises(SatisficeError, match=words):
        place_of(told)


# --- as a process -----------------------------------------------------------------------------------------------------


def begin(folder: Path, member: str, told: dict[str, str], work: Any = None) -> subprocess.Popen[str]:
    """A pod's process, whose member is a script instead of a training."""
    package = folder / "components" / "trainer"
    package.mkdir(parents=True)
    (package / "member.py").write_text(member)
    file = folder / "work.json"
    if work is not None:
        file.write_text(work if isinstance(work, str) else json.dumps(work))
    # The member is found first; all else of the package where it is.
    code = f"""
import components.trainer, sys
from pathlib import Path
from components.trainer import pod
real = pod.subprocess.Popen
def popen(command, **more):
    return real([command[0], {str(package / "member.py")!r}, *command[3:]], **more)
pod.subprocess.Popen = popen
sys.exit(pod.main(Path({str(file)!r})))
"""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **told},
        stderr=subprocess.PIPE,
        text=True,
    )


def here(index: int, **more: str) -> dict[str, str]:
    cluster = {role: [f"127.0.0.1:{1000 + one}" for one in range(len(hosts))] for role, hosts in SERVED.items()}
    return environment(index, cluster, **more)


def test_it_ends_as_its_member_does(tmp_path: Path) -> None:
    """Exit code 0; the member was told who it is, and where to leave what it says."""
    member = """
import json, os, sys
told = json.load(open(sys.argv[1]))
print(json.loads(os.environ["TF_CONFIG"])["task"], told["channel"], told["parent"] == os.getppid(), file=sys.stderr)
"""
    process = begin(tmp_path, member, here(0), {"logs": str(tmp_path)})
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert f"{{'type': 'chief', 'index': 0}} {tmp_path}/chief.progress True" in said
    assert "chief-0 of 4 members" in said


@pytest.mark.parametrize(("retry", "code"), [(True, 1), (False, FAILS_AGAIN)])
def test_what_its_member_says_is_its_exit_code(retry: bool, code: int, tmp_path: Path) -> None:
    """Whether it is of use to begin anew, and why, in the last line that Kubernetes keeps."""
    failure = {"error": None, "cause": "ValueError: no", "retry": retry}
    member = f"""
import json, sys
told = json.load(open(sys.argv[1]))
json.dump({failure!r}, open(told["failure"], "w"))
sys.exit(1)
"""
    process = begin(tmp_path, member, here(2), {"logs": str(tmp_path)})
    said = process.communicate(timeout=300)[1]
    assert (process.returncode, said.splitlines()[-1]) == (code, "error: ValueError: no")


@pytest.mark.parametrize(
    ("told", "work", "code", "words"),
    [
        (here(0), None, FAILS_AGAIN, "cannot be read in the pod.*Is the claim of training.kubernetes.volume"),
        (here(0), "{", FAILS_AGAIN, "work.json: cannot be read in the pod"),
        (environment(0, TRAINING_START_DEADLINE_S="0"), {"logs": "."}, 1, "the name j-0.j is not known"),
    ],
)
def test_what_keeps_it_from_beginning(
    told: dict[str, str], work: Any, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that is another one would be so again; names may come later."""
    monkeypatch.chdir(tmp_path)
    process = begin(tmp_path, "", told, work)
    said = " ".join(process.communicate(timeout=300)[1].split())
    assert process.returncode == code
    import re

    assert re.search(words, said), said


def test_sigterm_reaches_who_has_work_of_its_own(tmp_path: Path) -> None:
    """The first process of a container would not hear it; its end is the member's."""
    member = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
Path(sys.argv[1]).with_suffix(".ready").touch()
time.sleep(600)
"""
    process = begin(tmp_path, member, here(0), {"logs": str(tmp_path)})
    until(tmp_path / "chief-0.ready")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 143
    assert (tmp_path / "chief-0.ended").exists()


def test_who_serves_is_there_until_the_chief_has_kept_its_state(tmp_path: Path) -> None:
    """All pods are asked to end at once."""
    member = """
import sys, time
from pathlib import Path
Path(sys.argv[1]).with_suffix(".ready").touch()
time.sleep(600)
"""
    process = begin(tmp_path, member, here(1), {"logs": str(tmp_path)})
    until(tmp_path / "ps-0.ready")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    (tmp_path / "chief-0.ended").touch()
    process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGKILL


def until(file: Path) -> None:
    deadline = time.monotonic() + 300
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
