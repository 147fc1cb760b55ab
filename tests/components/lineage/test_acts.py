"""What people did to versions, in the lineage, and the history that it tells."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as pb

from components.gate.work import _head
from components.lineage import writer
from components.lineage.acts import (
    ACT_TYPE,
    acts,
    record_act,
    record_missed_rollbacks,
    rollback_act,
    take_back_withdrawn,
)
from components.lineage.history import history, served_at
from components.lineage.reader import RECORD_PROPERTY
from components.lineage.served import choose, newest_push, saved_model_of
from components.pusher.publish import push
from schemas.act import StoreAct
from schemas.decision import Decision
from serving.payload import digest
from serving.store import Mark, VersionStore
from tests.components.lineage.ledger import Ledger

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Shop:
    """A base path and a lineage, into which a pipeline pushes one version an hour, from noon on."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder, self.ledger = folder, ledger
        self.base = str(folder / "base")
        self.now = NOON
        self.store = VersionStore(self.base, clock=lambda: self.now)
        self.models: list[Any] = []

    def push(self, graph: str, *, recorded: bool = True) -> int:
        """One run that pushes; the version. Where it is not recorded, it was cut off before it came to that."""
        run = f"run-{len(self.models) + 1}"
        trainer = self.ledger.execution(run, "Trainer")
        model_id = self.ledger.artifact(trainer, "model", "Model")
        (model,) = self.ledger.store.get_artifacts_by_id([model_id])
        model.uri = str(self.folder / f"model-{model_id}")
        self.ledger.store.put_artifacts([model])
        saved_model_of(model).mkdir(parents=True)
        (saved_model_of(model) / "saved_model.pb").write_text(graph)
        self.models.append(model)
        newest = self.store.newest()
        decision = Decision(
            outcome="push",
            digest=digest(saved_model_of(model)),
            champion_digest=newest.digest if newest else "",
            gates=(),
            reasons=("it is better",),
        )
        provenance = {"pipeline": "taxi", "run": run, "model_id": str(model_id)}
        record = push(decision, saved_model_of(model), self.store, provenance)
        if recorded:
            gate, pusher = self.ledger.execution(run, "Gate"), self.ledger.execution(run, "Pusher")
            self.ledger.artifact(gate, "decision", "Decision", {RECORD_PROPERTY: decision.model_dump_json()})
            properties = {**record.properties(model_id, self.base), RECORD_PROPERTY: record.result.model_dump_json()}
            self.belong(pusher, self.ledger.artifact(pusher, "pushed_model", "PushedModel", properties), run)
            execution = writer.open_run(self.ledger.store, run, 1000, "taxi", "{}", "c0ffee", "local")
            writer.close_run(self.ledger.store, execution, "pushed", 0, [])
        self.now += timedelta(hours=1)
        return record.result.version or 0

    def belong(self, execution: int, artifact: int, run: str) -> None:
        """Attributes an artifact to the pipeline and the run, as TFX's launcher does."""
        contexts = [self.ledger._context("pipeline", "taxi"), self.ledger._context("pipeline_run", run)]
        self.ledger.store.put_attributions_and_associations(
            [pb.Attribution(artifact_id=artifact, context_id=one) for one in contexts],
            [pb.Association(execution_id=execution, context_id=contexts[0])],
        )

    def rollback(self, to: int, *, recorded: bool = True) -> int:
        done = self.store.rollback(to, by="ann@host", reason="drill")
        if recorded:
            manifest = self.store.manifest(done.version)
            record_act(self.ledger.store, "taxi", rollback_act(manifest, self.base), manifest)
        self.now += timedelta(hours=1)
        return done.version

    @property
    def served(self) -> list[Any]:
        """Every PushedModel of the pipeline, as the resolver is given them."""
        context = self.ledger.store.get_context_by_type_and_name("pipeline", "taxi")
        return [one for one in self.ledger.store.get_artifacts_by_context(context.id) if one.type == "PushedModel"]

    def history(self) -> list[Any]:
        return history(self.ledger.lineage(), self.ledger.store, "taxi", self.base, self.store.all_manifests())


@pytest.fixture
def shop(tmp_path: Path, ledger: Ledger) -> Shop:
    """Three versions, pushed at 12, 13 and 14 o'clock."""
    shop = Shop(tmp_path, ledger)
    assert [shop.push(f"graph {number}") for number in (1, 2, 3)] == [1, 2, 3]
    return shop


# --- the champion -----------------------------------------------------------------------------------------------------


def test_the_champion_follows_a_rollback_and_its_undoing(shop: Shop) -> None:
    """It is the model whose bytes serve again, under the version that was republished."""
    assert choose(None, shop.served, shop.models, shop.base).champion.id == shop.models[2].id
    shop.rollback(1)
    found = choose(None, shop.served, shop.models, shop.base)
    assert found.champion.id == shop.models[0].id
    assert found.push.custom_properties["version"].int_value == 4
    shop.rollback(3)
    found = choose(None, shop.served, shop.models, shop.base)
    assert (found.champion.id, found.push.custom_properties["version"].int_value) == (shop.models[2].id, 5)


def test_a_candidate_of_the_bytes_that_serve_again_is_not_compared(shop: Shop) -> None:
    """A retraining that gives what was rolled back to finds itself served."""
    shop.rollback(1)
    found = choose(shop.models[0], shop.served, shop.models, shop.base)
    assert (found.push.custom_properties["version"].int_value, found.champion) == (4, None)


def test_a_rollback_of_a_label_makes_a_champion_too(shop: Shop) -> None:
    """Nothing is published, and other bytes serve."""
    manifest = shop.store.manifest(2)
    act = StoreAct(
        kind="label_rollback", base_path=shop.base, version=2, to_version=2, label="stable", by="ann", at=shop.now
    )
    record_act(shop.ledger.store, "taxi", act, manifest)
    assert choose(None, shop.served, shop.models, shop.base).champion.id == shop.models[1].id


def test_a_rollback_that_was_cut_off_is_recorded_later(shop: Shop) -> None:
    """As its manifest tells of it, once; a push of others is left to them."""
    shop.rollback(1, recorded=False)
    assert choose(None, shop.served, shop.models, shop.base).champion.id == shop.models[2].id
    assert record_missed_rollbacks(shop.ledger.store, "taxi", shop.store, shop.base) == [4]
    assert record_missed_rollbacks(shop.ledger.store, "taxi", shop.store, shop.base) == []
    assert choose(None, shop.served, shop.models, shop.base).champion.id == shop.models[0].id
    (act,) = acts(shop.ledger.store, "taxi", shop.base)
    assert (act.by, act.reason, act.at) == ("ann@host", "drill", NOON + timedelta(hours=3))
    assert record_missed_rollbacks(shop.ledger.store, "other", shop.store, shop.base) == []


def test_a_rollback_that_is_withdrawn_is_no_champion(shop: Shop) -> None:
    """Also where somebody recorded it while servers were asked; what it had replaced is the champion again."""
    shop.rollback(1, recorded=False)
    assert record_missed_rollbacks(shop.ledger.store, "taxi", shop.store, shop.base) == [4]
    assert take_back_withdrawn(shop.ledger.store, shop.store, shop.base) == []
    shop.store.withdraw(4, by="ann", reason="no server took it")
    assert take_back_withdrawn(shop.ledger.store, shop.store, shop.base) == [4]
    found = choose(None, shop.served, shop.models, shop.base)
    assert (found.push.custom_properties["version"].int_value, found.champion.id) == (3, shop.models[2].id)
    assert [(one.kind, one.version) for one in shop.history()][-2:] == [("rollback", 4), ("withdraw", 4)]


def test_a_withdrawal_that_its_lineage_missed_is_seen_by_whoever_comes_next(shop: Shop) -> None:
    """Killed after the withdrawal, before the lineage heard of it."""
    shop.rollback(1)
    shop.store.withdraw(4, by="ann", reason="no server took it")
    assert record_missed_rollbacks(shop.ledger.store, "taxi", shop.store, shop.base) == []
    assert choose(None, shop.served, shop.models, shop.base).champion.id == shop.models[2].id


def test_a_rollback_whose_withdrawal_was_cut_off_is_not_recorded(shop: Shop) -> None:
    """Its manifest says that it is withdrawn, and the version is still there."""
    manifest = shop.store.manifest(shop.rollback(1, recorded=False))
    mark = Mark(by="ann", at=shop.now, reason="no server took it")
    withdrawn = manifest.model_copy(update={"withdrawn": mark})
    shop.store.manifest_path(4).write_text(withdrawn.model_dump_json())
    assert record_missed_rollbacks(shop.ledger.store, "taxi", shop.store, shop.base) == []
    assert acts(shop.ledger.store, "taxi", shop.base) == []
    assert choose(None, shop.served, shop.models, shop.base).champion.id == shop.models[2].id


def test_before_anything_was_pushed_there_is_nothing_to_record(tmp_path: Path, ledger: Ledger) -> None:
    """Nor where the newest version is no rollback."""
    shop = Shop(tmp_path, ledger)
    assert record_missed_rollbacks(ledger.store, "taxi", shop.store, shop.base) == []
    shop.push("graph")
    assert record_missed_rollbacks(ledger.store, "taxi", shop.store, shop.base) == []


# --- the record -------------------------------------------------------------------------------------------------------


def test_an_act_is_an_execution_that_puts_out_what_serves(shop: Shop) -> None:
    """With who, why and the whole record; what it puts out looks like a Pusher's."""
    shop.rollback(2)
    (execution,) = shop.ledger.store.get_executions_by_type(ACT_TYPE)
    values = {name: getattr(v, v.WhichOneof("value")) for name, v in execution.custom_properties.items()}
    record = json.loads(values.pop(RECORD_PROPERTY))
    assert values == {
        "pipeline": "taxi",
        "kind": "rollback",
        "by": "ann@host",
        "reason": "drill",
        "base_path": shop.base,
        "version": 4,
    }
    assert (record["to_version"], record["from_version"]) == (2, 3)
    (event,) = shop.ledger.store.get_events_by_execution_ids([execution.id])
    assert event.type == pb.Event.OUTPUT
    pushed = newest_push(shop.served, shop.base)
    assert pushed is not None
    assert (event.artifact_id, pushed.state) == (pushed.id, pb.Artifact.LIVE)
    assert pushed.custom_properties["model_id"].int_value == shop.models[1].id
    assert pushed.custom_properties["pushed_destination"].string_value == f"{shop.base}/4"


def test_the_run_behind_a_version_that_a_rollback_made(shop: Shop) -> None:
    """It is the one that pushed the bytes, however often they were gone back to."""
    shop.rollback(2)
    shop.rollback(3)
    shop.rollback(4)
    lineage = shop.ledger.lineage()
    assert [lineage.run_of_version(version) for version in range(1, 8)] == [
        "run-1", "run-2", "run-3", "run-2", "run-3", "run-2", None
    ]  # fmt: skip


def test_the_run_behind_a_version_that_a_label_went_back_to(shop: Shop) -> None:
    """It is the one that pushed it: the label's move made no version."""
    act = StoreAct(
        kind="label_rollback", base_path=shop.base, version=2, to_version=2, label="stable", by="ann", at=shop.now
    )
    record_act(shop.ledger.store, "taxi", act, shop.store.manifest(2))
    assert shop.ledger.lineage().run_of_version(2) == "run-2"


def test_an_act_in_an_empty_lineage(tmp_path: Path, ledger: Ledger) -> None:
    """The types and the pipeline are made; a model of which nothing is known has no id."""
    base = str(tmp_path / "base")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "saved_model.pb").write_text("graph")
    store = VersionStore(base)
    store.publish(tmp_path / "m", digest(tmp_path / "m"), {})
    act = StoreAct(kind="label_rollback", base_path=base, version=1, to_version=1, by="ann", at=NOON)
    record_act(ledger.store, "taxi", act, store.manifest(1))
    assert acts(ledger.store, "taxi", base) == [act]
    assert acts(ledger.store, "other", base) == acts(ledger.store, "taxi", "/elsewhere") == []


# --- history ----------------------------------------------------------------------------------------------------------


def test_the_history_tells_who_when_and_why(shop: Shop) -> None:
    """Pushes by their runs and the gate's reason, rollbacks and other acts by who did them."""
    shop.rollback(1)
    record_act(shop.ledger.store, "taxi", StoreAct(kind="pin", base_path=shop.base, version=2, by="bob", at=shop.now))
    told = shop.history()
    assert [(one.kind, one.version) for one in told] == [
        ("push", 1), ("push", 2), ("push", 3), ("rollback", 4), ("pin", 2)
    ]  # fmt: skip
    assert (told[1].at, told[1].run, told[1].why) == (
        NOON + timedelta(hours=1), "run-2", "Published as version 2. it is better"
    )  # fmt: skip
    assert "@" in told[1].by
    assert (told[3].by, told[3].why, told[3].from_version, told[3].to_version) == ("ann@host", "drill", 3, 1)
    assert told[3].as_dict()["at"] == (NOON + timedelta(hours=3)).isoformat()


@pytest.mark.parametrize(
    ("minutes", "version"), [(-1, None), (0, 1), (59, 1), (60, 2), (150, 3), (180, 4), (10_000, 4)]
)
def test_what_served_at_a_time(shop: Shop, minutes: int, version: int | None) -> None:
    """The version last published by then, rollbacks included; nothing before the first."""
    shop.rollback(2)
    serving = served_at(shop.history(), NOON + timedelta(minutes=minutes))
    assert (serving.since.version if serving.since else None) == version


def test_what_the_base_path_alone_knows_is_told_as_such(shop: Shop) -> None:
    """A push and a rollback that were cut off before they were recorded, also when retention has removed them."""
    shop.push("graph 4", recorded=False)
    shop.rollback(1, recorded=False)
    shop.push("graph 5")
    shop.store.retain(1)
    told = {one.version: one for one in shop.history()}
    assert sorted(told) == [1, 2, 3, 4, 5, 6]
    assert (told[4].known_to, told[4].run, told[4].why) == ("base path", "run-4", "published by pipeline 'taxi'")
    assert (told[5].known_to, told[5].by, told[5].why) == ("base path", "ann@host", "drill")
    assert served_at(shop.history(), NOON + timedelta(hours=4)).since.version == 5  # type: ignore[union-attr]


def test_a_push_found_again_by_a_later_run_is_told_once(shop: Shop) -> None:
    """A record may be reused by later runs; who pushed is the run that did."""
    (pushed,) = (one for one in shop.served if one.custom_properties["version"].int_value == 2)
    later = shop.ledger.execution("run-9", "Pusher")
    shop.belong(later, pushed.id, "run-9")
    assert [one.run for one in shop.history() if one.version == 2] == ["run-2"]


def test_labels_at_a_time(shop: Shop) -> None:
    """Where each label was, and that it is gone later."""
    for hour, kind, version in ((1, "label", 1), (2, "label_load", 2), (3, "label_rollback", 2), (4, "unlabel", 2)):
        at = NOON + timedelta(hours=hour)
        act = StoreAct(kind=kind, base_path=shop.base, version=version, label="stable", by="ann", at=at)  # type: ignore[arg-type]
        record_act(shop.ledger.store, "taxi", act)
    told = shop.history()
    found = [served_at(told, NOON + timedelta(hours=hour)).labels for hour in range(5)]
    assert found == [{}, {"stable": 1}, {"stable": 1}, {"stable": 2}, {}]


def test_clocks_that_were_set_back_do_not_reorder_what_serves(shop: Shop) -> None:
    """A server orders by number."""
    shop.now = NOON - timedelta(days=400)
    shop.rollback(1)
    assert [one.version for one in shop.history()] == [1, 2, 3, 4]
    assert served_at(shop.history(), NOON + timedelta(days=1)).since.version == 4  # type: ignore[union-attr]


def test_imports_no_tfx() -> None:
    """Acts are recorded, and history answered, at once."""
    code = (
        "import sys, components.lineage.history; print([m for m in ('tensorflow', 'tfx', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_version_that_was_withdrawn_served_until_then(shop: Shop) -> None:
    """The push and the withdrawal are both told, and the version before it serves again."""
    before = shop.store.newest()
    assert before is not None
    model = shop.folder / "unconfirmed"
    model.mkdir()
    (model / "saved_model.pb").write_text("a server did not take it")
    version = shop.store.publish(model, digest(model), {"pipeline": "taxi", "run": "run-9"}).version
    shop.now += timedelta(minutes=1)
    shop.store.withdraw(version, by="the Pusher", reason="half of the servers were down")
    told = [one for one in shop.history() if one.version == version]
    assert [(one.kind, one.by, one.run) for one in told] == [("push", "", "run-9"), ("withdraw", "the Pusher", "run-9")]
    assert told[1].why == "half of the servers were down"
    for minutes, serves in ((-0.5, version), (0, before.number)):
        serving = served_at(shop.history(), shop.now + timedelta(minutes=minutes))
        assert serving.since is not None
        assert serving.since.version == serves


def test_a_push_on_a_decision_that_a_rollback_overtook(shop: Shop) -> None:
    """The decision knows how far the base path had come; a label's rollback moves the champion back, and not that."""
    assert _head(None) == 0
    shop.rollback(1)
    record = newest_push(shop.ledger.store.get_artifacts_by_type("PushedModel"), shop.base)
    newest = shop.store.newest()
    assert newest is not None
    assert _head(record) == newest.number
    label = StoreAct(kind="label_rollback", base_path=shop.base, version=1, to_version=1, by="ann", at=shop.now)
    record_act(shop.ledger.store, "taxi", label, shop.store.manifest(1), newest.number)
    record = newest_push(shop.ledger.store.get_artifacts_by_type("PushedModel"), shop.base)
    assert record is not None
    assert record.custom_properties["version"].int_value == 1
    assert _head(record) == newest.number
    new = shop.folder / "new"
    new.mkdir()
    (new / "saved_model.pb").write_text("new")
    decision = Decision(outcome="push", digest=digest(new), gates=(), reasons=(), head=newest.number - 1)
    result = push(decision, new, shop.store, {"pipeline": "taxi"}).result
    assert (result.outcome, result.pushed) == ("refused", False)
    assert "Run again: the candidate is then judged against what serves now." in result.reason
    known = decision.model_copy(update={"head": newest.number})
    assert push(known, new, shop.store, {"pipeline": "taxi"}).result.outcome == "pushed"
