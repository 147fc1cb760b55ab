"""The eight faults of stock TFX's Pusher, each as a scenario: ours comes through it, and the stock one does not."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import pytest
from tfx.components.pusher import executor
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from components.pusher.publish import push
from schemas.decision import Decision
from serving.payload import digest
from serving.store import FileSystem, VersionStore, version_number

Hook = Callable[[Path], None]


class Killed(BaseException):
    """Stands for the end of the process."""


class Pusher(Protocol):
    """Pushes the SavedModel of a folder; True where it says that it is served now, or was."""

    base: Path

    def push(self, model: Path, before_each_file: Hook = ...) -> bool: ...


def nothing(path: Path) -> None:
    """What happens before a file is copied, where nothing does."""


class Ours:
    """The version store, as our Pusher drives it."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base = base

    def push(self, model: Path, before_each_file: Hook = nothing) -> bool:
        class Hooked(FileSystem):
            def write(self, path: Path, chunks: Iterable[bytes]) -> None:
                before_each_file(path)
                super().write(path, chunks)

        payload = model / "Format-Serving"
        decision = Decision(outcome="push", digest=digest(payload), gates=(), reasons=())
        record = push(decision, payload, VersionStore(self.base, file_system=Hooked()), {})
        return record.result.outcome in ("pushed", "already_served")


class Stock:
    """TFX 1.21's own executor."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base, self.monkeypatch = base, monkeypatch
        base.mkdir(parents=True)

    def push(self, model: Path, before_each_file: Hook = nothing) -> bool:
        copy = io_utils.copy_file

        def hooked(source: str, target: str, overwrite: bool = False) -> None:
            before_each_file(Path(target))
            copy(source, target, overwrite)

        artifact, pushed = standard_artifacts.Model(), standard_artifacts.PushedModel()
        artifact.uri, pushed.uri = str(model), str(self.base.parent / "pushed_model")
        destination = json.dumps({"filesystem": {"base_directory": str(self.base)}})
        with self.monkeypatch.context() as patch:
            patch.setattr(io_utils, "copy_file", hooked)
            executor.Executor().Do({"model": [artifact]}, {"pushed_model": [pushed]}, {"push_destination": destination})
        return bool(pushed.get_int_custom_property("pushed"))


@pytest.fixture(params=[Ours, Stock])
def pusher(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return request.param(tmp_path / "serving_models" / "taxi", monkeypatch)


def model(folder: Path, graph: str, name: str = "saved_model.pb") -> Path:
    """A Model artifact's folder with a SavedModel in it, as TFX's Trainer leaves one."""
    (folder / "Format-Serving" / "variables").mkdir(parents=True)
    (folder / "Format-Serving" / name).write_text(graph)
    (folder / "Format-Serving" / "variables" / "variables.data").write_text(f"weights of {graph}")
    return folder


def versions(base: Path) -> list[str]:
    """What TF Serving takes for versions, rising."""
    names = os.listdir(base) if base.exists() else []
    return sorted((name for name in names if version_number(name) is not None), key=version_number)  # type: ignore[arg-type,return-value]


def latest(base: Path) -> str:
    """The graph that a server of the latest version loads; "" where it finds none."""
    found = versions(base)
    graphs = [base / found[-1] / name for name in ("saved_model.pb", "saved_model.pbtxt")] if found else []
    return next((graph.read_text() for graph in graphs if graph.is_file()), "")


def is_whole(version: Path, source: Path) -> bool:
    wanted = {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    return wanted == {path.relative_to(version): path.read_bytes() for path in version.rglob("*") if path.is_file()}


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Stops the clock."""
    monkeypatch.setattr(time, "time", lambda: seconds)


# --- the scenarios: each gives True where all is well -----------------------------------------------------------------


def nothing_half_is_visible_while_it_copies(pusher: Pusher, tmp: Path, patch: pytest.MonkeyPatch) -> bool:
    """A server that polls meanwhile finds no version without its graph."""
    source, seen = model(tmp / "model", "graph"), []

    def poll(path: Path) -> None:
        seen.extend(is_whole(pusher.base / name, source / "Format-Serving") for name in versions(pusher.base))

    pusher.push(source, poll)
    return all(seen) and latest(pusher.base) == "graph"


def a_crash_leaves_no_half_version(pusher: Pusher, tmp: Path, patch: pytest.MonkeyPatch) -> bool:
    """A half one would stay for ever, and a restarted server would stumble over it."""
    source = model(tmp / "model", "graph")
    crash(pusher, source)
    return all(is_whole(pusher.base / name, source / "Format-Serving") for name in versions(pusher.base))


def a_retry_after_a_crash_is_served(pusher: Pusher, tmp: Path, patch: pytest.MonkeyPatch) -> bool:
    """In the same second too."""
    at(patch, 1_700_000_000)
    source = model(tmp / "model", "graph")
    crash(pusher, source)
    return pusher.push(source) and latest(pusher.base) == "graph"


def two_pushes_in_one_second_are_both_served(pusher: Pusher, tmp: Path, patch: pytest.MonkeyPatch) -> bool:
    """The second one is what a server loads."""
    at(patch, 1_700_000_000)
    pusher.push(model(tmp / "one", "one"))
    return pusher.push(model(tmp / "two", "two")) and latest(pusher.base) == "two"


def a_clock_set_back_hides_no_push(pusher: Pusher, tmp: Path, patch: pytest.MonkeyPatch) -> bool:
    """What was pushed last is the latest version."""
    at(patch, 1_700_000_003)
    pusher.push(model(tmp / "one", "one"))
    at(patch, 1_600_000_000)
    return pusher.push(model(tmp / "two", "two")) and latest(pusher.base) == "two"


def a_nested_saved_model_is_whole(pusher: Pusher, tmp: Path, patch: pytest.MonkeyPatch) -> bool:
    """Its graph has the same name as the one at the top."""
    source = model(tmp / "model", "graph")
    (source / "Format-Serving" / "assets.extra" / "inner").mkdir(parents=True)
    (source / "Format-Serving" / "assets.extra" / "inner" / "saved_model.pb").write_text("inner graph")
    pusher.push(source)
    return is_whole(pusher.base / versions(pusher.base)[-1], source / "Format-Serving")


def a_saved_model_in_text_is_whole(pusher: Pusher, tmp: Path, patch: pytest.MonkeyPatch) -> bool:
    """`saved_model.pbtxt` is a graph too."""
    return pusher.push(model(tmp / "model", "graph", "saved_model.pbtxt")) and latest(pusher.base) == "graph"


def the_same_model_again_is_no_new_version(pusher: Pusher, tmp: Path, patch: pytest.MonkeyPatch) -> bool:
    """A server would load it anew for nothing."""
    source = model(tmp / "model", "graph")
    at(patch, 1_700_000_000)
    pusher.push(source)
    at(patch, 1_700_000_060)
    return pusher.push(source) and len(versions(pusher.base)) == 1


def crash(pusher: Pusher, source: Path) -> None:
    """Pushes, and dies before the graph at the top is written."""

    def die(path: Path) -> None:
        if path.name == "saved_model.pb":
            raise Killed

    with pytest.raises(Killed):
        pusher.push(source, die)


SCENARIOS = [
    nothing_half_is_visible_while_it_copies,
    a_crash_leaves_no_half_version,
    a_retry_after_a_crash_is_served,
    two_pushes_in_one_second_are_both_served,
    a_clock_set_back_hides_no_push,
    a_nested_saved_model_is_whole,
    a_saved_model_in_text_is_whole,
    the_same_model_again_is_no_new_version,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_fault(
    pusher: Pusher,
    scenario: Callable[[Pusher, Path, pytest.MonkeyPatch], bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ours comes through; that the stock one does not shows that the scenario can fail."""
    assert scenario(pusher, tmp_path, monkeypatch) == isinstance(pusher, Ours)
