"""Labels of the store reach a running server in two steps, and no request by label fails on the way."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import StoreError
from serving.payload import digest_of, files
from serving.server.app import ModelServer, ServerOptions
from serving.server.config import ModelConfig
from serving.server.labels import LabelWatch, next_labels
from serving.server.manager import Options
from serving.store import VersionStore
from tests.serving.server.asking import rest, until

LABELS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 4))


@given(LABELS, LABELS, st.sets(st.integers(1, 4)))
def test_next_labels(now, wanted, available):
    """No label moves to a version that is not loaded; none that is not wanted stays; in the end all are as wanted."""
    found = next_labels(now, wanted, sorted(available))
    assert set(found) <= set(wanted)
    assert all(version in available or now.get(label) == version for label, version in found.items())
    assert all(found[label] == wanted[label] for label in wanted if wanted[label] in available)
    assert all(label in found for label in wanted if label in now)
    assert next_labels(found, wanted, [1, 2, 3, 4]) == wanted


@pytest.fixture
def store(tmp_path, small_models):
    """Versions 1 (adds 2), 2 (adds 3) and 3 (adds 2)."""
    found = VersionStore(tmp_path / "m")
    for number, model in ((1, "1"), (2, "2"), (3, "1")):
        source = tmp_path / f"payload-{number}"
        shutil.copytree(small_models / "half" / model, source)
        (source / "note.txt").write_text(str(number))
        assert found.publish(source, digest_of(files(source)), {}).version == number
    return found


@pytest.fixture
def serve(store):
    """Starts a server on the store, which looks at its labels."""
    with ExitStack() as stack:

        def start(configured=None, *, strict=False):
            watch = LabelWatch(store.base_path, configured or {}, [ModelConfig("m", store.base_path)], strict=strict)
            options = Options(strict=strict, poll_s=0.05, load_retries=0)
            server = ModelServer(watch.models(), ServerOptions(grpc_port=0, rest_port=0, versions=options))
            stack.enter_context(server)
            stack.callback(watch.stop)
            watch.start(server.manager, server.take, 0.05)
            return server

        yield start


def predicted(server, label):
    status, text = rest(server, f"/v1/models/m/labels/{label}:predict", {"inputs": [1]})
    return json.loads(text)["outputs"][0] if status == 200 else status


def loaded(server):
    return {one.version for one in server.manager.status("m") if one.state == "AVAILABLE"}


@pytest.mark.parametrize("strict", [False, True], ids=["own", "strict"])
def test_a_label_moves(serve, store, strict):
    """First its version is loaded, then it moves; who asks by label is answered all the time."""
    server = serve({"stable": 1}, strict=strict)
    until(lambda: predicted(server, "stable") == 2.5)
    assert loaded(server) == {1, 3}
    stop, wrong = threading.Event(), []

    def ask():
        while not stop.is_set():
            found = predicted(server, "stable")
            if found not in (2.5, 3.5):
                wrong.append(found)

    asking = threading.Thread(target=ask)
    asking.start()
    store.begin_label("stable", 2)
    until(lambda: loaded(server) == {1, 2, 3})
    assert predicted(server, "stable") == 2.5
    store.finish_label("stable", 2)
    until(lambda: predicted(server, "stable") == 3.5)
    until(lambda: loaded(server) == {2, 3})
    stop.set()
    asking.join()
    assert wrong == []


def test_a_label_that_moves_at_once(serve, store):
    """The server itself takes the two steps where people did not wait for it."""
    store.begin_label("stable", 2)
    store.finish_label("stable", 2)
    server = serve()
    assert predicted(server, "stable") == 3.5
    store.begin_label("stable", 1)
    store.finish_label("stable", 1)
    seen = set()
    until(lambda: seen.add(predicted(server, "stable")) or 2.5 in seen)
    assert seen <= {2.5, 3.5}


def test_a_label_that_goes(serve, store):
    """Is unknown again, and its version is unloaded; one of the configuration comes back."""
    server = serve({"stable": 1})
    store.begin_label("stable", 2)
    store.finish_label("stable", 2)
    until(lambda: predicted(server, "stable") == 3.5)
    store.drop_label("stable")
    until(lambda: predicted(server, "stable") == 2.5)
    until(lambda: loaded(server) == {1, 3})


def test_a_publish_beside_labels(serve, store, tmp_path):
    """The newest version still serves who names none, and the older newest goes."""
    server = serve({"stable": 1})
    source = tmp_path / "payload-2"
    (source / "note.txt").write_text("again")
    store.publish(source, digest_of(files(source)), {})
    until(lambda: loaded(server) == {1, 4})


def test_a_version_that_is_not_there(serve, store):
    """Leaves the label where it is, and everything else works."""
    server = serve({"stable": 1, "odd": 9})
    assert predicted(server, "stable") == 2.5
    assert predicted(server, "odd") == 404


def test_labels_that_are_damaged(serve, store, caplog):
    """Change nothing, and that is said once; at the start they are an error."""
    server = serve({"stable": 1})
    marks = store.inner / "marks.json"
    with caplog.at_level(logging.WARNING):
        marks.write_text("odd")
        until(lambda: "stay as they are" in caplog.text)
        store_looks = threading.Event()
        store_looks.wait(0.3)
    assert caplog.text.count("stay as they are") == 1
    assert predicted(server, "stable") == 2.5
    with pytest.raises(StoreError, match=r"marks\.json"):
        serve()
    marks.unlink()
    store.begin_label("stable", 2)
    store.finish_label("stable", 2)
    until(lambda: predicted(server, "stable") == 3.5)
