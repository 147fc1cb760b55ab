"""Pushes that servers have to confirm: two of our own, in processes of their own, on the watch directory."""

from __future__ import annotations

import datetime
import json
import shutil
import socket
import time
from pathlib import Path

import pytest

from components.pusher.publish import push
from components.pusher.work import _checks
from schemas.config import ServingPushConfig
from schemas.decision import Decision, Rehearsal
from serving.golden import GOLDEN_FILE
from serving.payload import digest
from serving.store import VersionStore
from tests.runners.test_serving import serving
from tests.serving.store.payloads import saved_model
from tests.workbench import present, satisfice


class Front:
    """A watch directory with version 1, and two servers on it: TF Serving's exact behaviour, and the milder one."""

    def __init__(self, taxi, folder):
        self.bench = taxi.copy(folder)
        self.folder = folder
        self.model = taxi.served / "1"
        self.base = folder / "serving_models" / "taxi"
        self.store = VersionStore(self.base)
        self.store.publish(self.model, digest(self.model), {})
        self.servers = []

    def candidate(self, name, change=lambda model: None):
        """Other bytes, and the decision to push them; the rehearsal is taken as passed."""
        model = Path(shutil.copytree(self.model, self.folder / name))
        (model / "assets.extra" / "note.txt").write_text(name)
        change(model)
        return model

    def push(self, model, *addresses, deadline_s=240):
        config = ServingPushConfig.model_validate(
            {"base_path": str(self.base), "confirm": {"instances": addresses, "deadline_s": deadline_s}}, strict=False
        )
        decision = Decision(outcome="push", digest=digest(model), gates=(), reasons=())
        decision = decision.model_copy(update={"rehearsal": Rehearsal(digest=decision.digest)})
        return push(decision, model, self.store, {}, 2, _checks(config, model, decision, "taxi")).result

    @property
    def instances(self):
        return [{"grpc": one["grpc"], "rest": one["rest"]} for one in self.servers]


@pytest.fixture(scope="module")
def front(taxi, tmp_path_factory):
    made = Front(taxi, tmp_path_factory.mktemp("front"))
    with (
        serving(made.bench.config, "--strict", "--poll", "0.1", "--load-retries", "0") as strict,
        serving(made.bench.config, "--poll", "0.1") as mild,
    ):
        made.servers = [strict, mild]
        yield made


def other_predictions(model):
    golden = json.loads((model / GOLDEN_FILE).read_text())
    golden["predictions"] = [[1 - one[0]] for one in golden["predictions"]]
    (model / GOLDEN_FILE).write_text(json.dumps(golden))


def no_weights(model):
    (model / "variables" / "variables.data-00000-of-00001").write_bytes(b"cut")


def test_two_servers_confirm(front):
    """Each over both interfaces; only then do older versions go."""
    result = front.push(front.candidate("good"), *front.instances)
    assert (result.outcome, result.version) == ("pushed", front.store.newest().number), result.reason
    assert [one.asked for one in result.confirmations] == [("gRPC", "REST")] * 2
    assert {one.state for one in result.confirmations} == {"AVAILABLE"}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("torn", no_weights, "it could not load the version: "),
        ("liar", other_predictions, "over gRPC it answered "),
    ],
)
def test_what_servers_do_not_take_is_withdrawn(front, name, change, words):
    """In their own words; its number is used up, and the version before it serves again."""
    before = front.store.newest()
    result = front.push(front.candidate(name, change), *front.instances)
    assert (result.outcome, result.pushed, result.version) == ("not_confirmed", False, None)
    assert result.withdrawn > before.number
    assert result.reason.count(words) == 2, result.reason
    assert f"It was withdrawn; version {before.number} serves." in result.reason
    assert front.store.newest() == before
    gone = front.store.removed_manifest(result.withdrawn)
    assert gone.withdrawn.by == "the Pusher"
    assert words in gone.withdrawn.reason
    assert not [entry for entry in front.base.iterdir() if entry.name.startswith(".") and entry.name != ".satisfice"]


def test_one_of_two_is_down(front):
    """The push waits until the deadline and is taken back on the other one too."""
    before = front.store.newest()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen, nor lets anybody else
        down = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        result = front.push(front.candidate("half"), front.instances[0], {"grpc": down}, deadline_s=3)
    assert result.outcome == "not_confirmed"
    assert not result.confirmations[1].confirmed
    assert f"{down}: it did not answer after 3 s: UNAVAILABLE" in result.reason
    assert time.monotonic() - began >= 2.5
    assert front.store.newest() == before


def test_a_number_is_not_used_again(front):
    """After all that was withdrawn, the next push counts on."""
    used = front.store.largest_noted()
    result = front.push(front.candidate("next"), *front.instances)
    assert (result.outcome, result.version) == ("pushed", used + 1)


def test_without_its_certificate_a_server_is_not_asked_in_the_clear(front, tmp_path):
    """A certificate that is not there, and a server that talks no TLS."""
    (tmp_path / "ca.pem").write_text("no certificate")
    for ca, words in ((tmp_path / "none.pem", "cannot be read"), (tmp_path / "ca.pem", "it did not answer")):
        model = front.candidate(f"tls {ca.stem}")
        result = front.push(model, {**front.instances[1], "ca": str(ca)}, deadline_s=2)
        assert result.outcome == "not_confirmed"
        assert words in result.reason


def roll_back(front, to, *addresses, deadline_s=240):
    """`satisfice rollback` of a configuration that names these servers."""
    front.bench.edit(
        lambda raw: raw["push"]["serving"].update(confirm={"instances": list(addresses), "deadline_s": deadline_s})
    )
    return satisfice("rollback", front.bench.config, "--to", str(to), "--reason", "drill", "--by", "ann", "--json")


def test_servers_confirm_a_rollback(front):
    """As they do a push, with the golden requests of the older version."""
    front.push(front.candidate("rolled back"), *front.instances)
    bad = front.store.newest()
    answer = roll_back(front, front.store.versions()[0], *front.instances)
    assert (answer.code, answer.json["outcome"]) == (0, "pushed"), answer.out + answer.err
    assert [one["asked"] for one in answer.json["confirmations"]] == [["gRPC", "REST"]] * 2
    assert front.store.newest().number == answer.json["version"] == bad.number + 1
    assert list(front.store.marks().refused) == [bad.digest]
    front.store.allow(bad.digest)


def test_a_rollback_that_a_server_does_not_take_is_undone(front):
    """Exit code 3 in the words of a push; the version before it serves, what it refused is not refused, nothing is recorded."""
    front.push(front.candidate("undone"), *front.instances)
    before, marks = front.store.newest(), front.store.marks()
    oldest = front.store.versions()[0]
    answer = roll_back(front, oldest, {"grpc": "127.0.0.1:1"}, deadline_s=1)
    assert answer.code == 3, answer.out + answer.err
    assert (answer.json["outcome"], answer.json["version"], answer.json["act"]) == ("not_confirmed", None, None)
    assert f"Version {before.number + 1} was not confirmed by 127.0.0.1:1: it did not answer" in answer.json["reason"]
    assert f"It was withdrawn; version {before.number} serves." in answer.json["reason"]
    assert (front.store.newest(), front.store.marks()) == (before, marks)
    assert front.store.removed_manifest(answer.json["withdrawn"]).withdrawn.by == "ann"
    told = satisfice("rollback", front.bench.config, "--to", str(oldest), "--reason", "drill")
    assert told.code == 3
    assert told.out.startswith("Blocked: what was published was withdrawn.\n  Version ")
    happened = satisfice("history", front.bench.config, "--json").json
    assert [one["kind"] for one in happened][-4:] == ["rollback", "withdraw", "rollback", "withdraw"]
    served = satisfice("history", front.bench.config, "--at", present(), "--json").json
    assert served["version"] == before.number


def test_a_labelled_version_stays(front, monkeypatch):
    """Servers refuse a configuration with a label on a version that is gone."""
    model = front.candidate("labelled")
    original = front.store.withdraw

    def pinned_meanwhile(version, **more):
        front.store.pin(version, by="ann")
        return original(version, **more)

    monkeypatch.setattr(front.store, "withdraw", pinned_meanwhile)
    result = front.push(model, {"grpc": "127.0.0.1:1"}, deadline_s=1)
    assert (result.outcome, result.withdrawn) == ("not_confirmed", None)
    assert "It could not be withdrawn and is still there" in result.reason
    assert "was pinned or labelled meanwhile" in result.reason


def test_a_withdrawal_that_was_cut_off_goes_on(tmp_path):
    """The manifest says that it is withdrawn, and the version is still there: whoever comes next finishes it."""
    store = VersionStore(tmp_path / "base")
    payloads = [saved_model(tmp_path / name, name) for name in ("one", "two")]
    for payload in payloads:
        store.publish(payload, digest(payload), {})
    manifest = store.manifest(2)
    mark = {"by": "x", "at": datetime.datetime.now(datetime.UTC), "reason": "it failed"}
    withdrawn = type(manifest).model_validate({**manifest.model_dump(), "withdrawn": mark})
    store.manifest_path(2).write_text(withdrawn.model_dump_json())
    store.pin(1, by="ann")
    assert store.versions() == (1,)
    assert store.removed_manifest(2) == withdrawn
    assert store.publish(payloads[1], digest(payloads[1]), {}).version == 3
