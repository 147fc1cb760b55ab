"""The commands on versions: what they do, what they say, what they record, and what they do not import."""

from __future__ import annotations

import getpass
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.lineage.acts import acts
from components.lineage.served import newest_push
from components.lineage.store import open_store
from runners.versions import allow_digest
from schemas.decision import Confirmation
from schemas.load import load_config
from serving.payload import digest
from serving.store import VersionStore
from tests.workbench import REPOSITORY, Answer, Bench, satisfice

ME = f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.fixture
def shop(fresh_taxi: Bench) -> Bench:
    """A pipeline in whose base path there are three versions; the lineage knows of none of them."""
    store = VersionStore(fresh_taxi.served)
    for number in (1, 2, 3):
        store.publish(
            payload(fresh_taxi, number), digest(payload(fresh_taxi, number)), {"pipeline": "taxi", "run": f"r{number}"}
        )
    return fresh_taxi


def payload(bench: Bench, number: int) -> Path:
    folder = bench.folder / f"model-{number}"
    folder.mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_text(f"graph {number}")
    return folder


def recorded(bench: Bench) -> list[Any]:
    config = load_config(bench.config, []).config
    return acts(open_store(config.metadata), "taxi", config.push.serving.base_path)


def call(bench: Bench, command: str, *arguments: str) -> Answer:
    """The command on the pipeline's configuration, which stands after the command's own arguments."""
    own = [one for one in arguments if not one.startswith("-")] if command in ("pin", "label", "allow") else []
    options = [one for one in arguments if one not in own]
    return satisfice(command, *own, bench.config, *options)


# --- versions ---------------------------------------------------------------------------------------------------------


def test_versions_lists_the_newest_first(shop: Bench) -> None:
    """With what is pinned, labelled and refused, in text and as JSON."""
    call(shop, "pin", "1", "--reason=audit")
    call(shop, "label", "canary", "3", "--available")
    call(shop, "rollback", "--to=2", "--reason=drill")
    text = call(shop, "versions").out
    assert [line.split()[0] for line in text.splitlines()[1:5]] == ["4", "3", "2", "1"]
    for words in (
        "newest",
        "pinned",
        "canary",
        "rollback to 2: drill",
        "run r1",
        f"refused: digest {digest(payload(shop, 3))[:12]}",
    ):
        assert words in text
    document = call(shop, "versions", "--json").json
    assert [(one["version"], one["newest"], one["pinned"], one["labels"]) for one in document["versions"]] == [
        (4, True, False, []),
        (3, False, False, ["canary"]),
        (2, False, False, []),
        (1, False, True, []),
    ]
    assert document["labels"] == {"canary": 3}
    assert list(document["refused"]) == [digest(payload(shop, 3))]


def test_versions_of_others_and_what_hides_ours(shop: Bench) -> None:
    """A foreign version is listed as such, and a broken entry above the newest is warned of."""
    (shop.served / "17").mkdir()
    (shop.served / "17" / "saved_model.pb").write_text("graph")
    (shop.served / "0018").mkdir()
    text = call(shop, "versions").out
    assert "(not ours)" in text
    assert "warning: TF Serving sees '0018' before these; satisfice fsck says more" in text


def test_an_empty_base_path(fresh_taxi: Bench) -> None:
    """Every reading command says so, and makes nothing."""
    assert "holds no version yet" in call(fresh_taxi, "versions").out
    assert "Nothing was ever published" in call(fresh_taxi, "history").out
    assert "holds no version of this store" in call(fresh_taxi, "verify").out
    missing = call(fresh_taxi, "fsck")
    assert (missing.code, "does not exist" in missing.out) == (1, True)
    assert not fresh_taxi.served.exists()
    assert not (fresh_taxi.folder / "metadata.db").exists()


# --- rollback ---------------------------------------------------------------------------------------------------------


def test_rollback_says_what_it_did_and_how_to_undo_it(shop: Bench) -> None:
    """And records who, when and why."""
    done = call(shop, "rollback", "--to=1", "--reason=too many refunds", "--by=ann")
    assert done.code == 0
    assert "Version 4 serves the bytes of version 1." in done.out
    assert f"What served, version 3 (digest {digest(payload(shop, 3))[:12]}), is refused" in done.out
    assert f"Undo: satisfice rollback --to 3 --reason ... {shop.config}\n" in done.out
    (act,) = recorded(shop)
    assert (act.kind, act.version, act.to_version, act.from_version, act.by, act.reason) == (
        "rollback", 4, 1, 3, "ann", "too many refunds"
    )  # fmt: skip
    assert act.at == VersionStore(shop.served).manifest(4).published_at
    again = call(shop, "rollback", "--to=1", "--reason=again")
    assert (again.code, "Nothing to do: version 4 holds these bytes" in again.out) == (0, True)
    undone = call(shop, "rollback", "--to=3", "--reason=undo", "--json").json
    assert (undone["version"], undone["outcome"], undone["act"]["by"]) == (5, "pushed", ME)
    assert len(recorded(shop)) == 2


def test_a_rollback_that_is_refused(shop: Bench) -> None:
    """Exit code 1 and the reason; nothing is recorded."""
    (shop.served / "1" / "saved_model.pb").write_text("GRAPH 1")
    damaged = call(shop, "rollback", "--to=1", "--reason=drill")
    assert (damaged.code, "holds other bytes, so version 1 no longer is what was published" in damaged.err) == (1, True)
    missing = call(shop, "rollback", "--to=8", "--reason=drill", "--json")
    assert (missing.code, missing.json["error"], missing.json["expected"]) == (1, "StoreError", "1, 2, 3")
    assert satisfice("rollback", shop.config, "--to", "1").code == 2
    assert recorded(shop) == []


def test_a_rollback_by_label_takes_two_steps(shop: Bench) -> None:
    """As a server demands; nothing is published, and the second step counts as the rollback."""
    call(shop, "label", "stable", "3", "--available")
    first = call(shop, "rollback", "--to=2", "--reason=drill", "--label=stable")
    assert "Servers are to load: 2, 3. Label 'stable' still names version 3." in first.out
    assert (
        "Next: once version 2 is AVAILABLE on every server, satisfice rollback --to 2 --label stable --reason"
        in first.out
    )
    second = call(shop, "rollback", "--to=2", "--reason=drill", "--label=stable", "--available")
    assert second.out == "Label 'stable' names version 2. Servers now load: 2, 3.\n"
    assert [act.kind for act in recorded(shop)] == ["label", "label_load", "label_rollback"]
    last = recorded(shop)[-1]
    assert (last.from_version, last.from_digest, last.to_version) == (3, digest(payload(shop, 3)), 2)
    assert list(call(shop, "versions", "--json").json["refused"]) == [digest(payload(shop, 3))]


def champion(shop: Bench) -> int | None:
    """Version of the newest push that the lineage knows."""
    config = load_config(shop.config, []).config
    pushed = newest_push(
        open_store(config.metadata).get_artifacts_by_type("PushedModel"), config.push.serving.base_path
    )
    return pushed.custom_properties["version"].int_value if pushed is not None else None


def test_only_a_label_that_left_the_champion_makes_another(shop: Bench) -> None:
    """A canary that goes back from an older version changes nothing of what the next candidate is compared with."""
    for label, left, to, expected in (("canary", 2, 1, None), ("stable", 3, 2, 2), ("canary", 3, 1, 2)):
        call(shop, "label", label, str(left))
        call(shop, "label", label, str(left), "--available")
        options = (f"--to={to}", "--reason=drill", f"--label={label}")
        call(shop, "rollback", *options)
        assert call(shop, "rollback", *options, "--available").code == 0
        assert champion(shop) == expected


def test_numbers_go_on_where_the_lineage_remembers_them(shop: Bench) -> None:
    """Although the base path has lost its memory: the lineage knows of version 5."""
    call(shop, "rollback", "--to=1", "--reason=one")
    call(shop, "rollback", "--to=2", "--reason=two")
    for name in ("4", "5", ".satisfice/state.json", ".satisfice/manifests/4.json", ".satisfice/manifests/5.json"):
        path = shop.served / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert call(shop, "rollback", "--to=1", "--reason=three", "--json").json["version"] == 6


@pytest.mark.parametrize("taken", [True, False])
def test_a_command_while_servers_are_asked(shop: Bench, monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
    """It records what serves meanwhile: once where the servers take it, and not for good where they do not."""

    def meanwhile(self: Any, version: int) -> tuple[Confirmation, ...]:
        self.open_lineage()
        assert champion(shop) == version
        return (Confirmation(instance="here:1", confirmed=taken, problem="" if taken else "it did not load"),)

    monkeypatch.setattr("runners.versions._Place.confirmations", meanwhile)
    done = call(shop, "rollback", "--to=1", "--reason=drill", "--json")
    assert (done.code, done.json["outcome"]) == ((0, "pushed") if taken else (3, "not_confirmed"))
    assert champion(shop) == (4 if taken else None)
    assert [one.version for one in recorded(shop)] == [4]
    call(shop, "pin", "1")
    assert champion(shop) == (4 if taken else None)


# --- pin, label, allow ------------------------------------------------------------------------------------------------


def test_pin_and_unpin(shop: Bench) -> None:
    """Who and why are recorded; a version that is not there is refused."""
    assert call(shop, "pin", "2", "--reason=audit").out == "Version 2 is kept.\n"
    assert call(shop, "pin", "2", "--remove", "--json").json["kind"] == "unpin"
    assert [(act.kind, act.version, act.by, act.reason) for act in recorded(shop)] == [
        ("pin", 2, ME, "audit"),
        ("unpin", 2, ME, ""),
    ]
    assert call(shop, "pin", "9").code == 1
    assert len(recorded(shop)) == 2


def test_labels(shop: Bench) -> None:
    """The first step names the second; what is no version is a fault of usage."""
    first = call(shop, "label", "stable", "1")
    assert "Servers are to load: 1, 3. Label 'stable' names nothing yet." in first.out
    assert "satisfice label stable 1 --available" in first.out
    second = call(shop, "label", "stable", "1", "--available", "--json").json
    assert (second["version"], second["moving_to"], second["load"]) == (1, None, [1, 3])
    assert call(shop, "label", "stable", "none").out == "Label 'stable' is gone.\n"
    assert [act.kind for act in recorded(shop)] == ["label_load", "label", "unlabel"]
    wrong = call(shop, "label", "stable", "newest")
    assert (wrong.code, "VERSION: is no version" in wrong.err) == (2, True)
    assert call(shop, "label", "stable", "2", "--available").code == 1


def test_allow(shop: Bench) -> None:
    """By the beginning of the digest; what is not refused is an error."""
    call(shop, "rollback", "--to=1", "--reason=drill")
    wanted = digest(payload(shop, 3))
    allowed = call(shop, "allow", wanted[:8], "--reason=it was the network")
    assert allowed.out == f"Digest {wanted[:12]} can be pushed again.\n"
    last = recorded(shop)[-1]
    assert (last.kind, last.digest, last.version, last.reason) == ("allow", wanted, 3, "it was the network")
    assert call(shop, "allow", wanted[:8], "--reason=again").code == 1


# --- history ----------------------------------------------------------------------------------------------------------


def test_history(shop: Bench) -> None:
    """Of the base path alone, and with the lineage; at a time too."""
    alone = call(shop, "history").out
    assert alone.count("(known to the base path alone)") == 3
    call(shop, "rollback", "--to=1", "--reason=drill", "--by=ann")
    told = call(shop, "history", "--json").json
    assert [(one["kind"], one["version"], one["known_to"]) for one in told][2:] == [
        ("push", 3, "base path"),
        ("rollback", 4, "lineage"),
    ]
    text = call(shop, "history", f"--at={told[-1]['at']}").out
    assert " UTC version 4 served, digest " in text
    assert "rolled back to version 1 by ann on 20" in text
    assert text.rstrip().endswith("UTC: drill")
    before = call(shop, "history", f"--at={told[2]['at']}", "--json").json
    assert (before["version"], before["since"]["run"]) == (3, "r3")
    early = call(shop, "history", "--at=1999-01-01T00:00+01:00").out
    assert early.startswith("Nothing had been published to ")
    assert early.endswith("by 1998-12-31 23:00:00 UTC.\n")


def test_a_time_that_is_none(shop: Bench) -> None:
    """Exit code 2, with what would be one."""
    wrong = call(shop, "history", "--at=last tuesday")
    assert (wrong.code, "expected 2026-11-22, 2026-11-22T14:30" in wrong.err) == (2, True)
    later = call(shop, "history", "--at=2999-01-01")
    assert (later.code, "--at: is still to come" in later.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rollback", "--to=1", "--reason= "), "--reason: is empty"),
        (("allow", "abc", "--reason="), "--reason: is empty"),
        (("rollback", "--to=1", "--reason=drill", "--label=two words"), "LABEL: is no name of a label"),
        (("label", "", "1"), "LABEL: is no name of a label"),
        (("label", "stable/1", "1"), "LABEL: is no name of a label"),
    ],
)
def test_acts_that_nobody_could_read_later(shop: Bench, arguments: tuple[str, ...], words: str) -> None:
    """Are refused before anything is done: an empty reason, and a label that no request can spell."""
    answer = call(shop, *arguments)
    assert (answer.code, words in answer.err) == (2, True)
    assert (VersionStore(shop.served).marks().moving, recorded(shop)) == ({}, [])


def test_what_to_do_next_can_be_typed(shop: Bench) -> None:
    """With the configuration that was named, quoted, and what was set."""
    odd = shop.folder / "my conf.yaml"
    shop.config.rename(odd)
    done = satisfice("rollback", odd, "--to=1", "--reason=drill", "--set", "push.serving.keep_versions=9")
    assert f"--to 3 --reason ... '{odd}' --set push.serving.keep_versions=9\n" in done.out


# --- fsck and verify --------------------------------------------------------------------------------------------------


def test_fsck_finds_and_mends(shop: Bench) -> None:
    """Exit code 1 while there are errors; the repair is recorded."""
    assert call(shop, "fsck").out == f"{shop.served}: nothing is wrong.\n"
    (shop.served / "003").mkdir()
    (shop.served / "2" / "saved_model.pb").unlink()
    found = call(shop, "fsck")
    assert found.code == 1
    assert "003: is version 3 to TF Serving, as '3' is" in found.out
    assert (
        f"`satisfice fsck --repair {shop.config}` moves aside what does not belong, and deletes nothing." in found.out
    )
    assert [one["kind"] for one in call(shop, "fsck", "--json").json["findings"]] == [
        "spelling_collision",
        "half_version",
    ]
    mended = call(shop, "fsck", "--repair", "--reason=after the crash")
    assert (mended.code, mended.out.count("repaired  ")) == (0, 2)
    (act,) = recorded(shop)
    assert (act.kind, act.reason, len(act.done)) == ("repair", "after the crash", 2)
    assert call(shop, "fsck", "--repair").code == 0
    assert len(recorded(shop)) == 1


def test_verify(shop: Bench) -> None:
    """Each version with what is wrong with it."""
    assert call(shop, "verify").code == 0
    (shop.served / "2" / "saved_model.pb").write_text("GRAPH 2")
    found = call(shop, "verify")
    assert found.code == 1
    assert "version 1: every byte as published\nversion 2: " in found.out
    assert call(shop, "verify", "--version=3").code == 0
    one = call(shop, "verify", "--version=2", "--json")
    assert (one.code, [(row["version"], row["ok"]) for row in one.json]) == (1, [(2, False)])


# --- what was cut off -------------------------------------------------------------------------------------------------


def test_a_rollback_that_was_cut_off_is_recorded_by_the_next_act(shop: Bench) -> None:
    """Killed between the base path and the lineage, it loses neither who nor why."""
    VersionStore(shop.served).rollback(1, by="ann", reason="drill")
    assert recorded(shop) == []
    call(shop, "pin", "1")
    assert [(act.kind, act.by, act.reason) for act in recorded(shop)] == [("rollback", "ann", "drill"), ("pin", ME, "")]


@pytest.mark.parametrize("command", ["versions", "history", "verify", "fsck"])
def test_reading_commands_import_nothing_heavy(shop: Bench, command: str) -> None:
    """They answer at once."""
    code = (
        "import json, sys\nfrom runners.cli import app\n"
        f"try: app([{command!r}, {str(shop.config)!r}, '--json'])\n"
        "except SystemExit: pass\n"
        "print(json.dumps([m for m in ('tensorflow', 'tfx', 'apache_beam', 'pandas') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


# --- files for devices ------------------------------------------------------------------------------------------------


@pytest.fixture
def devices(fresh_taxi: Bench) -> Bench:
    """A pipeline that has pushed two files to devices; its SavedModels are none of theirs."""

    def with_edge(raw: dict[str, Any]) -> None:
        raw["export"] = {"tflite": {"variants": ["float32"]}}
        raw["gates"]["satisfy"].append({"metric": "auc", "payload": "tflite", "min": 0.5})
        raw["push"]["edge"] = {"base_path": "edge_models/taxi"}

    fresh_taxi.edit(with_edge)
    store = VersionStore(fresh_taxi.folder / "edge_models" / "taxi")
    for number in (1, 2):
        file = fresh_taxi.folder / f"made-{number}" / "model.tflite"
        file.parent.mkdir()
        file.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes([number]))
        store.publish(file, digest(file), {"pipeline": "taxi", "run": f"r{number}", "model_id": str(number)})
    return fresh_taxi


TFLITE = "--payload=tflite"


def test_every_command_knows_the_files_for_devices(devices: Bench) -> None:
    """They have versions, pins, rollbacks, refusals and a history of their own."""
    base = str(devices.folder / "edge_models" / "taxi")
    store = VersionStore(base)
    assert [one["version"] for one in call(devices, "versions", TFLITE, "--json").json["versions"]] == [2, 1]
    assert call(devices, "pin", "1", TFLITE).code == 0
    done = call(devices, "rollback", TFLITE, "--to=1", "--reason=slow on old phones", "--by=ann")
    assert "Undo: satisfice rollback --payload tflite --to 2 --reason ..." in done.out
    pushed = open_store(load_config(devices.config, []).config.metadata).get_artifacts_by_type("PushedModel")
    champion = newest_push(pushed, base)
    assert champion is not None
    told = champion.custom_properties
    assert (told["version"].int_value, told["payload"].string_value, told["model_id"].int_value) == (3, "tflite", 1)
    refused = store.manifest(2).digest
    assert list(call(devices, "versions", TFLITE, "--json").json["refused"]) == [refused]
    assert call(devices, "allow", refused[:12], TFLITE, "--reason=it was the phone").code == 0
    assert store.marks().refused == {}
    kinds = [one["kind"] for one in call(devices, "history", TFLITE, "--json").json]
    assert kinds == ["push", "push", "pin", "rollback", "allow"]
    assert call(devices, "verify", TFLITE).out.count("every byte as published") == 3
    assert call(devices, "fsck", TFLITE).out == f"{base}: nothing is wrong.\n"
    (Path(base) / "3" / "model.tflite").write_bytes(b"other")
    assert call(devices, "fsck", TFLITE).code == call(devices, "verify", TFLITE).code == 1
    assert "holds no version yet" in call(devices, "versions").out


def test_a_run_lets_a_files_digest_be_pushed_again(devices: Bench) -> None:
    """`--allow` finds out by itself whether a SavedModel or a file was rolled back."""
    store = VersionStore(devices.folder / "edge_models" / "taxi")
    store.rollback(1, by="ann", reason="drill")
    refused = store.manifest(2).digest
    act = allow_digest(devices.config, [], refused[:12], reason="checked")
    assert (act.kind, act.digest, act.base_path) == ("allow", refused, str(store.base_path))
    assert store.marks().refused == {}


@pytest.mark.parametrize("command", [("versions",), ("history",), ("rollback", "--to=1", "--reason=drill")])
def test_files_for_devices_where_none_are_pushed(shop: Bench, command: tuple[str, ...]) -> None:
    """It says so, and what would have to be configured; another word for a payload is corrected."""
    answer = call(shop, *command, TFLITE)
    assert (answer.code, "names files for devices, and push.edge is not given" in answer.err) == (2, True)
    answer = call(shop, *command, "--payload=tflight")
    assert (answer.code, "is no kind of payload; expected saved_model or tflite" in answer.err) == (2, True)
