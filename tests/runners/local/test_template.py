"""The process that has imported TFX, and its copies: real processes, killed for real."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.local import template as template_module
from runners.local.template import Template
from tests.nursery import START
from tests.workbench import REPOSITORY

JOB = "tests.runners.local.toil:"


@pytest.fixture(scope="module", autouse=True)
def started_anew(nursery):
    """Here templates are processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Template, "_start", START)
        yield


@pytest.fixture(scope="module")
def template(started_anew, tmp_path_factory):
    """One for all tests that leave it alive."""
    made = Template(tmp_path_factory.mktemp("template") / "template.log", [])
    yield made
    made.close()


@pytest.fixture
def call(template, tmp_path):
    """Has a job done, and returns how it ended."""

    def answer(job: str, **arguments):
        template.submit("work", JOB + job, arguments, tmp_path / "work.log")
        return template.wait()

    return answer


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def eventually(fact: Callable[[], bool], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if fact():
            return True
        time.sleep(0.02)
    return fact()


def test_a_job_has_a_result(call) -> None:
    """In a process of its own, whose parent is the template."""
    first, second = call("add", left=2, right=3), call("add", left="a", right="b")
    assert (first.id, first.status, first.result["sum"], second.result["sum"]) == ("work", 0, 5, "ab")
    assert first.result["pid"] != second.result["pid"]
    assert first.result["parent"] == second.result["parent"] != os.getpid()


def test_what_is_heavy_is_there_already(call, template) -> None:
    """And no thread runs that a fork would lose."""
    found = call("modules", names=["tfx.orchestration.portable.launcher", "tensorflow", "tests.workbench"])
    assert list(found.result.values()) == [True, True, False]
    assert template.ready_after_s > 0
    assert call("threads").result == {"threads": 1}


def test_several_jobs_at_once(template, tmp_path) -> None:
    """Each answer names its job, whichever comes first."""
    for number in range(4):
        template.submit(f"work {number}", JOB + "add", {"left": number, "right": 0}, tmp_path / f"{number}.log")
    done = [template.wait() for _ in range(4)]
    assert {one.id: one.result["sum"] for one in done} == {f"work {number}": number for number in range(4)}


def test_a_megabyte_goes_both_ways_at_once(template, tmp_path) -> None:
    """A template that waits until its answer is read, and a caller that waits until its work is taken, meet."""
    text = "x" * (1 << 20)
    template.submit("first", JOB + "repeat", {"text": text, "times": 1}, tmp_path / "work.log")
    with selectors.DefaultSelector() as selector:
        selector.register(template._process.stdout, selectors.EVENT_READ)
        selector.select()  # its answer has begun, and fills the pipe
    for number in range(3):
        template.submit(f"more {number}", JOB + "repeat", {"text": text, "times": 1}, tmp_path / "work.log")
    done = [template.wait() for _ in range(4)]
    assert {one.id: one.result == {"text": text} for one in done} == dict.fromkeys(
        ["first", "more 0", "more 1", "more 2"], True
    )


def test_waiting_has_an_end(template) -> None:
    """Nothing was asked, so nothing comes."""
    began = time.monotonic()
    assert template.wait(0.2) is None
    assert 0.15 < time.monotonic() - began < 300


def test_the_noise_of_a_job_goes_to_its_log(call, tmp_path) -> None:
    """Python's, and what child processes and C++ write; each job's appended to what is there."""
    (tmp_path / "work.log").write_text("before\n")
    call("speak", word="hello")
    lines = (tmp_path / "work.log").read_text().splitlines()
    assert lines[0] == "before"
    assert sorted(lines[1:]) == ["hello", "hello by a child", "hello on standard error"]


def test_a_job_that_raises_has_no_result(call, tmp_path) -> None:
    """Its status says so, and its log why."""
    done = call("raise_error")
    assert (done.result, done.status) == (None, 1)
    assert "ValueError: no" in (tmp_path / "work.log").read_text()
    assert call("add", left=1, right=1).result["sum"] == 2


def test_a_job_that_leaves_is_told_with_its_status(call) -> None:
    """As after a crash in C++ that calls exit."""
    done = call("leave", status=7)
    assert (done.result, done.status) == (None, 7)


def test_a_job_that_is_killed_is_told_with_its_signal(call) -> None:
    """As by the kernel when memory is short; the template lives on."""
    done = call("kill_itself")
    assert (done.result, done.status) == (None, -signal.SIGKILL)
    assert call("add", left=1, right=1).result["sum"] == 2


def test_peak_memory_and_processor_time_are_the_jobs_own(call) -> None:
    """A job that eats 300 MB shows it, and the next one does not."""
    small, large = call("add", left=1, right=1), call("eat", megabytes=300, seconds=1.0)
    after = call("add", left=1, right=1)
    assert large.peak_memory_mb - small.peak_memory_mb == pytest.approx(300, abs=60)
    assert after.peak_memory_mb == pytest.approx(small.peak_memory_mb, abs=60)
    assert large.cpu_s >= 1.0 > max(small.cpu_s, after.cpu_s)


def test_a_long_result_arrives_whole(template, tmp_path) -> None:
    """Longer than the pipe holds, while copies end and signal it."""
    for number in range(6):
        arguments = {"text": "x", "times": 300_000 * (number % 2)}
        template.submit(f"work {number}", JOB + "repeat", arguments, tmp_path / f"{number}.log")
    time.sleep(0.3)  # the pipe is full by now
    done = {one.id: one.result["text"] for one in (template.wait() for _ in range(6))}
    assert done == {f"work {number}": "x" * 300_000 * (number % 2) for number in range(6)}


def test_an_answer_is_written_whole(monkeypatch) -> None:
    """However little of it the system takes at a time."""
    reading, writing = os.pipe()
    write = os.write
    monkeypatch.setattr(template_module.os, "write", lambda file, data: write(file, data[:7]))
    template_module._answer(writing, {"id": "work", "result": "x" * 100})
    assert json.loads(os.read(reading, 4096)) == {"id": "work", "result": "x" * 100}
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("left", ['{"ir": "ab', "", None, "[1]", "\0"])
def test_half_a_result_is_none(tmp_path, left) -> None:
    """A copy that was killed while it wrote, or whose file is gone, is told like one that wrote nothing."""
    file = tmp_path / "satisfice-1.json"
    if left is not None:
        file.write_text(left)
    file.with_suffix(".half").write_text("{")
    copy = subprocess.Popen([sys.executable, "-c", ""])
    reading, writing = os.pipe()
    server = template_module._Server(writing)
    server._running[copy.pid] = ("work", str(file))
    assert eventually(lambda: not alive(copy.pid))
    server._reap()
    copy.wait()
    answer = json.loads(os.read(reading, 4096))
    assert (answer["id"], answer["result"], answer["status"]) == ("work", None, 0)
    assert list(tmp_path.iterdir()) == []
    os.close(reading)
    os.close(writing)


def test_an_unknown_job_fails_alone(call) -> None:
    """And the template lives on."""
    assert call("nonesuch").status == 1
    assert call("add", left=1, right=1).result["sum"] == 2


def test_closing_ends_every_process(tmp_path) -> None:
    """The copies too, in the middle of their work."""
    made = Template(tmp_path / "template.log", [])
    made.submit("work", JOB + "linger", {"file": str(tmp_path / "pid")}, tmp_path / "work.log")
    assert eventually((tmp_path / "pid").exists)
    assert eventually(lambda: (tmp_path / "pid").read_text() != "")
    copy = int((tmp_path / "pid").read_text())
    template = made._process.pid
    assert alive(copy)
    assert alive(template)
    made.close()
    assert not alive(template)
    assert eventually(lambda: not alive(copy))


def test_the_death_of_the_template_is_told(tmp_path) -> None:
    """To whoever waits for its answers, or hands it work."""
    made = Template(tmp_path / "template.log", [])
    made._process.kill()
    with pytest.raises(EOFError, match="ended with status -9"):
        made.wait()
    with pytest.raises(BrokenPipeError):
        made.submit("work", JOB + "add", {"left": 1, "right": 1}, tmp_path / "work.log")
    made.close()


STARTER = """
import sys, time
from pathlib import Path
from runners.local.template import Template
folder = Path(sys.argv[1])
template = Template(folder / "template.log", [])
for number in range(2):
    job = "tests.runners.local.toil:linger"
    template.submit(f"work {number}", job, {"file": str(folder / f"pid {number}")}, folder / f"work {number}.log")
time.sleep(600)
"""


@pytest.mark.parametrize("when", ["while it imports", "while copies work"])
def test_nothing_outlives_the_process_that_started_it(tmp_path, when) -> None:
    """It is killed with -9 and can clean up nothing; the kernel ends the template, and the copies with it."""
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], cwd=REPOSITORY)
    assert eventually(lambda: children(starter.pid) != [])
    (template,) = children(starter.pid)
    family = [template]
    if when == "while copies work":
        assert eventually(lambda: len(children(template)) == 2)
        assert eventually(lambda: all((tmp_path / f"pid {number}").exists() for number in range(2)))
        family += children(template)
    else:
        assert eventually(lambda: b"runners.local.template" in Path(f"/proc/{template}/cmdline").read_bytes())
        time.sleep(0.5)
    assert all(alive(pid) for pid in family)
    starter.kill()
    starter.wait()
    assert eventually(lambda: not any(alive(pid) for pid in family))


def test_a_copy_dies_with_the_template_alone(tmp_path) -> None:
    """The starter lives; the template is killed; its copy does not go on unseen."""
    made = Template(tmp_path / "template.log", [])
    made.submit("work", JOB + "linger", {"file": str(tmp_path / "pid")}, tmp_path / "work.log")
    assert eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    copy = int((tmp_path / "pid").read_text())
    made._process.kill()
    assert eventually(lambda: not alive(copy))
    made.close()


def test_copies_are_asked_to_leave_where_there_is_time(tmp_path) -> None:
    """One that keeps what it has may do so; one that does not listen ends at once; the template ends after them."""
    made = Template(tmp_path / "template.log", [])
    made.submit("kept", JOB + "keep", {"file": str(tmp_path / "kept")}, tmp_path / "kept.log")
    made.submit("other", JOB + "linger", {"file": str(tmp_path / "other")}, tmp_path / "other.log")
    assert eventually(lambda: (tmp_path / "kept").exists() and (tmp_path / "kept").read_text() == "began")
    assert eventually(lambda: (tmp_path / "other").exists() and (tmp_path / "other").read_text() != "")
    made.close(grace_s=60)
    assert (tmp_path / "kept").read_text() == "kept"
    assert not alive(int((tmp_path / "other").read_text()))
    assert made._process.returncode == 0
