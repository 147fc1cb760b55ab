"""A person's decision: recorded once, in the lineage; the push that it lets through; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.types.standard_artifacts import Model, ModelBlessing

from components.gate import approval as gate
from components.lineage.acts import record_missed_rollbacks
from components.lineage.reader import RECORD_PROPERTY
from components.pusher.work import publish_candidate
from components.work import Call
from schemas.decision import Approval, Decision, PushResult
from schemas.errors import ApprovalError, DigestMismatchError, StoreError
from serving.store import VersionStore
from tests.runners.local.workshop import Workshop

YES = Approval(outcome="approved", by="Ada", reason="looked at the slices", at="2026-11-22T06:00:00+00:00", user="a@b")
NO = YES.model_copy(update={"outcome": "rejected", "reason": "too slow at night"})


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """One run, whose candidate waits."""
    made = Workshop(tmp_path)
    made.run("run-1", 1, approval="required")
    return made


def waiting(shop: Workshop, run_id: str = "run-1") -> gate.Pending:
    return gate.pending(shop.store, shop.lineage, run_id, "small")


def approve(shop: Workshop, run_id: str = "run-1") -> tuple[Decision, PushResult]:
    return gate.approve(shop.store, shop.lineage, waiting(shop, run_id), YES)


def test_a_candidate_that_waits_is_not_pushed(shop: Workshop) -> None:
    """The run has ended, the watch directory is empty."""
    assert shop.lineage.run("run-1").outcome == "pending"
    assert not shop.served.exists()
    assert waiting(shop).root == shop.folder / "root"


def test_an_approval_pushes_the_bytes_that_were_judged(shop: Workshop) -> None:
    """Who, when and why stand in the lineage, in the decision, and in the version's manifest."""
    decision, push = approve(shop)
    assert (decision.outcome, decision.approval, decision.digest) == ("push", YES, shop.digest)
    assert decision.reasons[0] == "approved by Ada: looked at the slices"
    assert (push.outcome, push.version) == ("pushed", 1)
    manifest = VersionStore(shop.served).manifest(1)
    assert (manifest.digest, manifest.provenance["run"], manifest.provenance["approved_by"]) == (
        shop.digest,
        "run-1",
        "Ada",
    )

    lineage = shop.lineage
    assert lineage.decision("run-1") == decision
    assert lineage.push_result("run-1") == push
    assert lineage.run("run-1").outcome == "pushed"
    assert lineage.run_of_version(1) == "run-1"
    nodes = {node.node: node for node in lineage.nodes(lineage.run("run-1"))}
    assert nodes["Approval"].state == nodes["Pusher"].state == "ran"
    assert [output.key for output in nodes["Approval"].outputs] == ["decision", "blessing"]


def test_the_gates_own_decision_is_not_edited(shop: Workshop) -> None:
    """What it had put out stands as it was, beside the person's."""
    before = waiting(shop).gate_output
    approve(shop)
    (after,) = shop.store.get_artifacts_by_id([before.id])
    assert after == before
    assert Decision.model_validate_json(after.custom_properties[RECORD_PROPERTY].string_value).outcome == "pending"


def test_the_push_that_was_approved_makes_the_champion(shop: Workshop) -> None:
    """The next run finds the candidate served."""
    approve(shop)
    shop.run("run-2", 2, approval="required")
    assert shop.lineage.run("run-2").outcome == "already_served"


def test_a_rejection_closes_it(shop: Workshop) -> None:
    """Nothing is pushed, and nobody can approve it any more."""
    decision = gate.reject(shop.store, waiting(shop), NO)
    assert (decision.outcome, decision.reasons[0]) == ("block", "rejected by Ada: too slow at night")
    assert shop.lineage.run("run-1").outcome == "rejected"
    assert not shop.served.exists()
    with pytest.raises(ApprovalError, match=r"was rejected by Ada on 2026-11-22T06:00:00\+00:00: too slow at night"):
        approve(shop)


def test_nobody_approves_twice(shop: Workshop) -> None:
    """Nor rejects what was approved."""
    approve(shop)
    with pytest.raises(ApprovalError, match="was approved by Ada"):
        approve(shop)
    with pytest.raises(ApprovalError, match="was approved by Ada"):
        gate.reject(shop.store, waiting(shop), NO)
    assert VersionStore(shop.served).versions() == (1,)


@pytest.mark.parametrize(
    ("options", "words"), [({"minimum": 0.95}, "got block: gates.satisfy.0: auc fail"), ({}, "push")]
)
def test_what_does_not_wait_cannot_be_approved(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """An approval lifts no block."""
    shop = Workshop(tmp_path)
    shop.run("run-1", 1, **options)
    with pytest.raises(ApprovalError, match="does not wait for approval") as caught:
        approve(shop)
    assert words in str(caught.value)


def test_a_run_without_a_decision_cannot_be_approved(shop: Workshop) -> None:
    """It was cut off before."""
    with pytest.raises(ApprovalError, match="has not ended with a decision"):
        waiting(shop, "run-0")


def test_a_newer_candidate_supersedes(shop: Workshop) -> None:
    """The newer one can be approved; a newer one that was blocked or rejected does not stand in the way."""
    shop.train("second", auc=0.1)
    shop.run("run-2", 2, approval="required")
    assert shop.lineage.run("run-2").outcome == "blocked"
    shop.train("third")
    shop.run("run-3", 3, approval="required")
    with pytest.raises(ApprovalError, match="is superseded by run run-3, which came to pending"):
        approve(shop)
    gate.reject(shop.store, waiting(shop, "run-3"), NO)
    assert approve(shop)[1].version == 1


def test_another_champion_than_the_one_it_was_compared_with(tmp_path: Path) -> None:
    """The comparison no longer holds: by a push of which no run tells."""
    shop = Workshop(tmp_path)
    shop.run("run-1", 1)
    shop.train("second")
    shop.run("run-2", 2, approval="required")
    pushed = shop.store.get_artifacts_by_type("PushedModel")[0]
    strange = metadata_store_pb2.Artifact(type_id=pushed.type_id, uri=pushed.uri + "-strange")
    for key, value in pushed.custom_properties.items():
        strange.custom_properties[key].CopyFrom(value)
    strange.custom_properties["digest"].string_value = "0ther"
    strange.custom_properties["version"].int_value = 9
    shop.store.put_artifacts([strange])
    with pytest.raises(ApprovalError, match="expected version 1; got version 9"):
        approve(shop, "run-2")


def test_bytes_that_were_changed_while_it_waited(shop: Workshop) -> None:
    """They are not what was judged: nothing is recorded, nothing is pushed."""
    file = shop.candidate / "Model" / "Format-Serving" / "saved_model.pb"
    file.write_text("trained since")
    with pytest.raises(DigestMismatchError, match="does not hold the bytes that were measured and judged"):
        approve(shop)
    assert shop.lineage.run("run-1").outcome == "pending"
    file.write_text("graph")
    assert approve(shop)[1].version == 1


def test_a_rollback_that_was_cut_off_before_it_was_recorded(tmp_path: Path) -> None:
    """The base path tells of it: the candidate was compared with what no longer serves."""
    shop = Workshop(tmp_path)
    shop.run("run-1", 1)
    shop.train("second")
    shop.run("run-2", 2)
    shop.train("third")
    shop.run("run-3", 3, approval="required")
    VersionStore(shop.served).rollback(1, by="Eve", reason="wrong at night")
    with pytest.raises(ApprovalError, match="expected version 2; got version 3"):
        approve(shop, "run-3")
    assert VersionStore(shop.served).versions() == (1, 2, 3)


def test_bytes_that_were_rolled_back_while_they_waited(tmp_path: Path) -> None:
    """The approval is settled: the run counts as blocked, and nothing is pushed."""
    shop = Workshop(tmp_path)
    shop.run("run-1", 1)
    shop.train("second")
    shop.run("run-2", 2)
    _roll_back(shop, 1)
    shop.run("run-3", 3, approval="required")
    assert approve(shop, "run-3")[1].outcome == "rolled_back"
    assert shop.lineage.run("run-3").outcome == "blocked"
    assert VersionStore(shop.served).versions() == (1, 2, 3)


def _roll_back(shop: Workshop, to: int) -> None:
    base, store = str(shop.served), VersionStore(shop.served)
    store.rollback(to, by="Eve", reason="wrong at night")
    record_missed_rollbacks(shop.store, "small", store, base)


@pytest.mark.parametrize("since", ["a newer push", "a rollback"])
def test_an_approval_that_was_cut_off_does_not_go_over_what_came_since(
    tmp_path: Path, monkeypatch: Any, since: str
) -> None:
    """It stands, and pushes nothing."""
    shop = Workshop(tmp_path)
    shop.run("run-1", 1)
    shop.train("second")
    shop.run("run-2", 2)
    shop.train("third")
    shop.run("run-3", 3, approval="required")

    def cut(_: Call) -> None:
        raise StoreError("the disk", "is full")

    with monkeypatch.context() as patch:
        patch.setattr("components.gate.approval.publish_candidate", cut)
        with pytest.raises(StoreError, match="is full"):
            approve(shop, "run-3")
    if since == "a rollback":
        _roll_back(shop, 1)
    else:
        shop.train("fourth")
        shop.run("run-4", 4)
    before = VersionStore(shop.served).versions()
    with pytest.raises(ApprovalError, match="another model is served" if since == "a rollback" else "superseded"):
        approve(shop, "run-3")
    assert VersionStore(shop.served).versions() == before == (1, 2, 3)


@pytest.mark.parametrize("after", [False, True])
def test_an_approval_that_was_cut_off_goes_on(shop: Workshop, monkeypatch: Any, after: bool) -> None:
    """Whether the version had been published or not, it is there once; the approval is the first one's."""

    def cut(call: Call) -> None:
        if after:
            publish_candidate(call)
        raise StoreError("the disk", "is full")

    with monkeypatch.context() as patch:
        patch.setattr("components.gate.approval.publish_candidate", cut)
        with pytest.raises(StoreError, match="is full"):
            approve(shop)
    assert shop.lineage.run("run-1").outcome == "pending"
    with pytest.raises(ApprovalError, match="was approved by Ada, and its push was cut off"):
        gate.reject(shop.store, waiting(shop), NO)
    other = YES.model_copy(update={"by": "Eve"})
    decision, push = gate.approve(shop.store, shop.lineage, waiting(shop), other)
    assert decision.approval == YES
    assert push.version == 1
    assert VersionStore(shop.served).versions() == (1,)
    assert shop.lineage.run("run-1").outcome == push.outcome
    champion = [
        one for one in shop.store.get_artifacts_by_type("PushedModel") if one.custom_properties["pushed"].int_value == 1
    ]
    assert [one.custom_properties["digest"].string_value for one in champion] == [shop.digest]


# --- with files for devices -------------------------------------------------------------------------------------------


@pytest.fixture
def both(tmp_path: Path) -> Workshop:
    """One run, whose candidate waits in both its forms."""
    made = Workshop(tmp_path, edge=True)
    made.run("run-1", 1, approval="required")
    return made


def test_an_approval_pushes_both_payloads(both: Workshop) -> None:
    """The file that was chosen goes to devices with the SavedModel, and each has its own push record."""
    before = both.lineage.decision("run-1")
    assert before is not None
    assert before.edge is not None
    assert (before.edge.outcome, before.edge.variant) == ("pending", "int8")
    assert not both.devices.exists()
    decision, push = approve(both)
    assert push.edge is not None
    assert (push.version, push.edge.outcome, push.edge.version) == (1, "pushed", 1)
    assert decision.edge is not None
    assert decision.edge.reasons[0] == "approved by Ada: looked at the slices"
    provenance = VersionStore(both.devices).manifest(1).provenance
    assert (provenance["variant"], provenance["approved_by"]) == ("int8", "Ada")
    lineage = both.lineage
    assert lineage.push_result("run-1") == push
    assert lineage.run_of_version(1) == lineage.run_of_version(1, "tflite") == "run-1"
    both.train("second")
    both.run("run-2", 2)
    compared = both.lineage.decision("run-2")
    assert compared is not None
    assert compared.edge is not None
    assert (compared.edge.champion_version, compared.edge.champion_digest) == (1, before.edge.digest)


def test_an_approved_candidate_is_blessed_as_an_admitted_one(both: Workshop) -> None:
    """TFX's own strategy, which reads blessings, finds nothing while it waits and the candidate afterwards."""

    def blessed() -> list[int]:
        named = {"Model": Model, "ModelBlessing": ModelBlessing}
        given = {
            key: [_as_tfx(kind, one) for one in both.store.get_artifacts_by_type(key)] for key, kind in named.items()
        }
        given = {"model": given["Model"], "model_blessing": given["ModelBlessing"]}
        found = LatestBlessedModelStrategy().resolve_artifacts(both.store, given)
        return [int(one.id) for one in (found or {}).get("model", [])]

    assert blessed() == []
    approve(both)
    (model,) = both.store.get_artifacts_by_type("Model")
    assert blessed() == [model.id]


def _as_tfx(kind: Any, proto: Any) -> Any:
    made = kind()
    made.set_mlmd_artifact(proto)
    return made


def test_a_rejection_keeps_both_back(both: Workshop) -> None:
    """And blesses nothing."""
    decision = gate.reject(both.store, waiting(both), NO)
    assert decision.edge is not None
    assert (decision.edge.outcome, decision.edge.reasons[0]) == ("block", "rejected by Ada: too slow at night")
    assert not both.devices.exists()
    blessings = both.store.get_artifacts_by_type("ModelBlessing")
    assert [one.custom_properties["blessed"].int_value for one in blessings] == [0]


def test_devices_have_another_file_than_the_one_it_was_compared_with(both: Workshop) -> None:
    """By a rollback in the edge directory alone, while the candidate waited."""
    approve(both)
    both.train("second")
    both.run("run-2", 2)
    both.train("third")
    both.run("run-3", 3, approval="required")
    store = VersionStore(both.devices)
    store.rollback(1, by="Eve", reason="wrong on old phones")
    with pytest.raises(
        ApprovalError, match=r"devices have another file than the one .*; expected version 2; got version 3"
    ):
        approve(both, "run-3")
    assert VersionStore(both.served).versions() == (1, 2)


@pytest.mark.parametrize("served", ["pushed", "approved"])
def test_an_approval_after_a_newer_push_is_refused(both: Workshop, served: str) -> None:
    """Whoever came first, the older candidate is not put over the newer one."""
    both.train("second")
    both.run("run-2", 2, approval="required" if served == "approved" else "none")
    if served == "approved":
        approve(both, "run-2")
    with pytest.raises(ApprovalError, match="is superseded by run run-2, which came to push"):
        approve(both)
    assert VersionStore(both.served).versions() == VersionStore(both.devices).versions() == (1,)


def test_a_file_that_devices_have_and_that_is_gone_blocks_what_is_compared_with_it(both: Workshop) -> None:
    """Not measured is no pass, and no first run; a person may accept it."""
    approve(both)
    both.train("second")
    both.forget_devices = True
    both.run("run-2", 2)
    decision = both.lineage.decision("run-2")
    assert decision is not None
    assert decision.edge is not None
    assert (decision.outcome, decision.edge.outcome) == ("push", "block")
    results = [result for rung in decision.edge.ladder for result in rung.gates]
    assert {result.verdict for result in results} == {"not_measured"}
    assert results[0].reason == "auc of the champion (version 1) was not measured: devices/1 is gone"
    assert VersionStore(both.devices).versions() == (1,)
