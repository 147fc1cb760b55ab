"""What the Pusher makes of each decision, in words and in the watch directory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from components.pusher.publish import Checks, Inspected, PushRecord, push, served_state
from schemas.decision import Decision
from schemas.errors import DigestMismatchError
from serving.payload import digest
from serving.store import FileSystem, Mark, VersionStore

Outcome = Literal["push", "block", "pending", "already_served"]


def saved_model(folder: Path, graph: str = "graph") -> Path:
    """A directory that passes for a SavedModel."""
    folder.mkdir()
    (folder / "saved_model.pb").write_text(graph)
    return folder


def decide(outcome: Outcome, payload: Path, *reasons: str) -> Decision:
    return Decision(outcome=outcome, digest=digest(payload), gates=(), reasons=reasons)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved_model(tmp_path / "model")


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "base")


def run(outcome: Outcome, model: Path, store: VersionStore, *reasons: str) -> PushRecord:
    return push(decide(outcome, model, *reasons), model, store, {"pipeline": "taxi"})


def test_an_admitted_candidate_becomes_a_version(model: Path, store: VersionStore) -> None:
    """The result names version and place; the manifest has the provenance."""
    record = run("push", model, store)
    assert record.result.model_dump(exclude_defaults=True) == {
        "pushed": True,
        "outcome": "pushed",
        "digest": digest(model),
        "version": 1,
        "destination": str(store.base_path / "1"),
        "reason": "Published as version 1.",
    }
    assert store.manifest(1).provenance == {"pipeline": "taxi"}
    assert record.pushed_at == store.manifest(1).published_at


@pytest.mark.parametrize(
    ("outcome", "reasons", "words"),
    [
        ("block", ("auc 0.61 is below 0.75.", "more"), "The gate blocked it: auc 0.61 is below 0.75."),
        ("block", (), "The gate blocked it: no reason was recorded."),
        ("pending", (), "A person has to approve the candidate before it is pushed."),
    ],
)
def test_what_is_not_admitted_touches_nothing(
    model: Path, store: VersionStore, outcome: Outcome, reasons: tuple[str, ...], words: str
) -> None:
    """Not even the base path is made, and the reason is one sentence."""
    record = run(outcome, model, store, *reasons)
    assert record.result.model_dump(exclude_defaults=True) == {
        "pushed": False,
        "outcome": "not_pushed",
        "digest": digest(model),
        "reason": words,
    }
    assert not store.base_path.exists()


def test_a_blocked_payload_is_not_even_read(store: VersionStore, model: Path) -> None:
    """Why it was blocked must be told although the payload is gone."""
    decision = decide("block", model, "too large")
    shutil.rmtree(model)
    assert push(decision, model, store, {}).result.reason == "The gate blocked it: too large."


def test_bytes_that_are_already_served_are_left_alone(model: Path, store: VersionStore) -> None:
    """The result names the version that holds them."""
    run("push", model, store)
    record = run("already_served", model, store)
    assert (record.result.pushed, record.result.outcome, record.result.version) == (False, "already_served", 1)
    assert record.result.reason == (
        f"Version 1 holds these bytes, digest {digest(model)[:12]}, so there is nothing to push."
    )
    assert not record.makes_champion
    assert store.versions() == (1,)


def test_bytes_that_should_be_served_and_are_not_are_published(
    model: Path, store: VersionStore, tmp_path: Path
) -> None:
    """Somebody emptied the watch directory, or put another model there: the reason says so."""
    empty = run("already_served", model, store)
    assert (empty.result.pushed, empty.result.version) == (True, 1)
    assert empty.result.reason == (
        "Published again as version 1: the gate found these bytes already served, "
        f"but {store.base_path} holds no version."
    )
    run("push", saved_model(tmp_path / "other", "other"), store)
    behind = run("already_served", model, store)
    assert (behind.result.outcome, behind.result.version) == ("pushed", 3)
    assert f"but the newest version in {store.base_path}, 2, holds other bytes." in behind.result.reason
    assert behind.makes_champion


def test_a_push_that_was_cut_off_before_it_was_recorded_is_recorded_now(model: Path, store: VersionStore) -> None:
    """Else the lineage would hold the old model for the champion while the new one is served."""
    first = run("push", model, store)
    record = run("push", model, store)
    assert (record.result.pushed, record.result.outcome, record.result.version) == (False, "already_served", 1)
    assert record.result.reason.startswith("Version 1 holds these bytes already, by a push that this pipeline's ")
    assert record.makes_champion
    assert record.pushed_at == first.pushed_at


def test_what_was_rolled_back_is_not_pushed_again(model: Path, store: VersionStore, tmp_path: Path) -> None:
    """Until it is allowed: the result says who rolled it back, when and why, and nothing is published."""
    run("push", saved_model(tmp_path / "good", "good"), store)
    run("push", model, store)
    store.rollback(1, by="ann@host", reason="too many refunds")
    record = run("push", model, store)
    assert (record.result.pushed, record.result.outcome, record.result.version) == (False, "rolled_back", None)
    assert not record.makes_champion
    assert record.result.reason.startswith(
        f"The payload with digest {digest(model)[:12]} was rolled back as version 2 of "
    )
    assert "by ann@host: too many refunds. Train another model, or let" in record.result.reason
    assert f"satisfice run --allow {digest(model)[:12]}" in record.result.reason
    assert record.properties(7, "base")["pushed"] == 0
    assert served_state(decide("push", model), store).startswith(f"{store.state()} to publish ")
    store.allow(digest(model))
    assert run("push", model, store).result.version == 4


def test_old_versions_are_removed_after_a_push(store: VersionStore, tmp_path: Path) -> None:
    """As many stay as the configuration says; the result names those that went."""
    results = []
    for number in range(1, 5):
        candidate = saved_model(tmp_path / str(number), f"graph {number}")
        results.append(push(decide("push", candidate), candidate, store, {}, keep_versions=2).result)
    assert [result.removed for result in results] == [(), (), (1,), (2,)]
    assert store.versions() == (3, 4)
    again = push(decide("already_served", candidate), candidate, store, {}, keep_versions=1)
    assert (again.result.outcome, again.result.removed) == ("already_served", (3,))


def test_a_removal_that_fails_does_not_undo_the_push(model: Path, tmp_path: Path) -> None:
    """The version is visible: the push is told as such, with what went wrong."""

    class Stuck(FileSystem):
        def rename(self, source: Path, target: Path) -> None:
            if target.name.startswith(".trash-"):
                raise PermissionError(13, "Permission denied", str(source))
            super().rename(source, target)

    store = VersionStore(tmp_path / "base", file_system=Stuck())
    run("push", saved_model(tmp_path / "old", "old"), store)
    result = push(decide("push", model), model, store, {}, keep_versions=1).result
    assert (result.outcome, result.version, result.removed) == ("pushed", 2, ())
    assert (
        f"Older versions could not be removed: {store.base_path / '1'}: could not remove version 1: Perm"
        in result.reason
    )


def test_numbers_go_on_after_the_champions(model: Path, store: VersionStore) -> None:
    """The lineage remembers what the base path has lost."""
    decision = decide("push", model).model_copy(update={"champion_digest": "f" * 64, "champion_version": 41})
    assert push(decision, model, store, {}).result.version == 42


@pytest.mark.parametrize("outcome", ["push", "already_served"])
def test_other_bytes_than_those_measured_are_refused(model: Path, store: VersionStore, outcome: Outcome) -> None:
    """Whatever the decision says of them."""
    decision = decide(outcome, model)
    (model / "saved_model.pb").write_text("changed after it was measured")
    with pytest.raises(DigestMismatchError, match="its bytes are not the bytes that were measured"):
        push(decision, model, store, {})
    assert store.versions() == ()


def test_properties_of_a_push(model: Path, store: VersionStore) -> None:
    """Stock TFX's three, and those that find the champion."""
    record = run("push", model, store)
    assert record.pushed_at is not None
    assert record.properties(7, str(store.base_path)) == {
        "pushed": 1,
        "outcome": "pushed",
        "pushed_destination": str(store.base_path / "1"),
        "pushed_version": "1",
        "version": 1,
        "digest": digest(model),
        "model_id": 7,
        "base_path": str(store.base_path),
        "payload": "saved_model",
        "pushed_at": record.pushed_at.isoformat(),
    }
    assert str(record.properties(7, "")["pushed_at"]).endswith("+00:00")


def test_properties_where_nothing_was_pushed(model: Path, store: VersionStore) -> None:
    """No version and no time, but the model and its digest."""
    properties = run("block", model, store).properties(7, "base")
    assert properties == {
        "pushed": 0,
        "outcome": "not_pushed",
        "pushed_destination": "",
        "pushed_version": "",
        "version": 0,
        "digest": digest(model),
        "model_id": 7,
        "base_path": "base",
        "payload": "saved_model",
        "pushed_at": "",
    }


def test_the_state_of_what_is_served_is_stable(model: Path, store: VersionStore, tmp_path: Path) -> None:
    """As long as there is nothing to publish, a record may be reused while the base path holds the same."""
    blocked, served = decide("block", model), decide("already_served", model)
    assert served_state(blocked, store) == ""
    run("push", model, store)
    assert served_state(served, store) == served_state(blocked, store) == f"1:{digest(model)}"
    run("push", saved_model(tmp_path / "other", "other"), store)
    assert served_state(blocked, store) != f"1:{digest(model)}"


def test_a_push_that_is_due_is_never_taken_from_the_cache(model: Path, store: VersionStore) -> None:
    """Also when the base path is, or was made, as it was before an earlier push of the same candidate."""
    decision = decide("push", model)
    first = served_state(decision, store)
    run("push", model, store)
    shutil.rmtree(store.base_path)
    assert first.startswith("to publish ")
    assert served_state(decision, store) != first
    run("push", model, store)
    assert served_state(decision, store) == store.state()
    (store.base_path / "1" / "saved_model.pb").write_text("GRAPH")
    assert served_state(decision, store).startswith(f"{store.state()} to publish ")


def test_a_refusal_of_what_is_newest_is_never_taken_from_the_cache(model: Path, store: VersionStore) -> None:
    """It may be lifted, and the base path holds the same before and after."""
    decision = decide("push", model)
    run("push", model, store)
    other = saved_model(model.parent / "other", "other")
    push(decide("push", other), other, store, {})
    store.finish_label("stable", 2)
    store.begin_label("stable", 1)
    store.finish_label("stable", 1, rolled_back=Mark(by="ann", at=datetime.now(UTC), reason="drill"))
    refused = decide("push", other)
    assert push(refused, other, store, {}).result.outcome == "rolled_back"
    assert served_state(refused, store) != served_state(refused, store)
    store.allow(refused.digest)
    assert served_state(refused, store) == store.state()
    assert served_state(decision, store).startswith(f"{store.state()} to publish ")


def of_span(span: int, payload: Path) -> Decision:
    return Decision(
        outcome="push", digest=digest(payload), gates=(), reasons=(), span=span, spans=f"{span - 1}, {span}"
    )


def push_span(span: int, folder: Path, store: VersionStore, pipeline: str = "taxi") -> PushRecord:
    payload = saved_model(folder, f"of span {span} {folder.name}")
    told = {"pipeline": pipeline, "span": str(span), "spans": f"{span - 1}, {span}"}
    return push(of_span(span, payload), payload, store, told)


def test_a_model_of_an_earlier_span_replaces_none_of_a_later_one(tmp_path: Path, store: VersionStore) -> None:
    """The same span and later ones do; after a rollback it is the older version's span that counts."""
    assert push_span(5, tmp_path / "a", store).result.version == 1
    assert push_span(7, tmp_path / "b", store).result.version == 2
    assert push_span(7, tmp_path / "c", store).result.version == 3
    earlier = push_span(6, tmp_path / "d", store)
    assert (earlier.result.outcome, earlier.result.blocked, earlier.makes_champion) == ("earlier_span", True, False)
    assert earlier.result.reason == (
        "Version 3 serves a model whose data end with span 7, and the candidate's end with 6: "
        "a model is not replaced by one of earlier data."
    )
    assert store.versions() == (1, 2, 3)
    store.rollback(1, by="me", reason="so")
    assert push_span(6, tmp_path / "e", store).result.version == 5


@pytest.mark.parametrize(
    ("served", "candidate", "outcome"),
    [
        ((20_700, "2026-09-04"), (7, "7"), "pushed"),
        ((30_000, "30000 v2"), (20_700, "2026-09-04 v1"), "pushed"),
        ((20_700, "2026-09-03, 2026-09-04 v2"), (20_699, "2026-09-02, 2026-09-03 v9"), "earlier_span"),
    ],
)
def test_dates_and_numbers_of_spans_are_not_compared(
    tmp_path: Path, store: VersionStore, served: tuple[int, str], candidate: tuple[int, str], outcome: str
) -> None:
    """A source that changes from one to the other begins anew; two dates are compared as before."""
    for (span, spans), expected in ((served, "pushed"), (candidate, outcome)):
        payload = saved_model(tmp_path / str(span), f"of {spans}")
        decision = of_span(span, payload).model_copy(update={"spans": spans})
        record = push(decision, payload, store, {"pipeline": "taxi", "span": str(span), "spans": spans})
        assert record.result.outcome == expected


def test_a_later_span_that_came_while_the_payload_was_inspected(tmp_path: Path, store: VersionStore) -> None:
    """The older model does not go above it, whichever of them began first."""
    push_span(5, tmp_path / "a", store)
    payload = saved_model(tmp_path / "b", "of span 6")

    def meanwhile() -> Inspected:
        assert push_span(7, tmp_path / "c", store).result.version == 2
        return Inspected(warnings=("it was looked at.",))

    told = {"pipeline": "taxi", "span": "6", "spans": "5, 6"}
    result = push(of_span(6, payload), payload, store, told, checks=Checks(meanwhile)).result
    assert (result.outcome, result.version, result.warnings) == ("earlier_span", None, ("it was looked at.",))
    assert result.reason.startswith("Version 2 serves a model whose data end with span 7")
    assert store.versions() == (1, 2)


def test_spans_of_another_pipeline_are_not_compared(tmp_path: Path, store: VersionStore) -> None:
    """Nor is a version without a span."""
    assert push_span(7, tmp_path / "a", store, "other").result.version == 1
    assert push_span(6, tmp_path / "b", store).result.version == 2
    assert run("push", saved_model(tmp_path / "c", "plain"), store).result.version == 3
    assert push_span(5, tmp_path / "d", store).result.version == 4


def test_imports_no_tfx() -> None:
    """What decides and publishes is tested, and can be used, without TFX."""
    code = "import sys, components.pusher.publish; print([m for m in ('tensorflow', 'tfx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
