"""A payload in a fresh process, with the requests that it carries; and what a push makes of that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from components.pusher.publish import Checks, Inspected, push
from components.pusher.rehearse import rehearse
from components.pusher.work import _checks
from schemas.config import ServingPushConfig
from schemas.decision import Decision, Rehearsal
from serving.golden import GOLDEN_FILE, WARM_UP_FILE
from serving.payload import digest
from serving.store import VersionStore


@pytest.fixture
def model(taxi, tmp_path):
    return Path(shutil.copytree(taxi.served / "1", tmp_path / "model"))


def test_a_trained_model_answers_what_it_carries(model):
    """Both signatures give the trained model's predictions, and every warm-up request runs."""
    assert rehearse(model, "d") == Rehearsal(digest="d", golden=16, warm_up=4)


def other_predictions(model):
    golden = json.loads((model / GOLDEN_FILE).read_text())
    golden["predictions"][2] = [golden["predictions"][2][0] + 0.05]
    (model / GOLDEN_FILE).write_text(json.dumps(golden))


def torn_warm_up(model):
    file = model / WARM_UP_FILE
    file.write_bytes(file.read_bytes()[:-3])


def unknown_request(model):
    file = model / WARM_UP_FILE
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "serving_defualt"
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(log.SerializeToString())


def no_variables(model):
    (model / "variables" / "variables.index").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (other_predictions, "answers otherwise than the trained model: serving_default answered "),
        (torn_warm_up, "failed with DataLossError"),
        (unknown_request, "has no signature 'serving_defualt'"),
        (no_variables, "failed with ValueError: The passed save_path is not a valid checkpoint"),
        (lambda model: (model / GOLDEN_FILE).write_text("{"), "holds no golden requests"),
    ],
)
def test_what_is_wrong_is_told_in_words(model, damage, words):
    """And nothing is published: the push is refused with that."""
    damage(model)
    config = ServingPushConfig(base_path=str(model.parent / "base"))
    decision = Decision(outcome="push", digest=digest(model), gates=(), reasons=())
    store = VersionStore(config.base_path)
    record = push(decision, model, store, {}, checks=_checks(config, model, decision, "taxi"))
    assert (record.result.outcome, record.result.pushed, record.makes_champion) == ("refused", False, False)
    assert words in record.result.reason
    assert record.result.rehearsal is not None
    assert not Path(config.base_path).exists()


def test_what_was_rehearsed_is_not_loaded_again(model, monkeypatch):
    """The digest tells that these are the bytes; other bytes are rehearsed anew."""
    monkeypatch.setattr("components.pusher.work.rehearse", lambda path, digest: Rehearsal(digest=digest, problem="new"))
    config = ServingPushConfig(base_path="unused")
    decision = Decision(outcome="push", digest=digest(model), gates=(), reasons=())
    done = decision.model_copy(update={"rehearsal": Rehearsal(digest=decision.digest, golden=16)})
    assert _checks(config, model, done, "taxi").inspect() == Inspected("", done.rehearsal)
    stale = decision.model_copy(update={"rehearsal": Rehearsal(digest="other")})
    assert _checks(config, model, stale, "taxi").inspect().refusal == "new"


@pytest.mark.parametrize(
    ("server", "refused", "warned"), [("2.99", False, False), ("2.20", False, True), ("1.15", True, False)]
)
def test_the_server_that_it_is_for(model, server, refused, warned):
    """A server of an older major version is refused; a newer TensorFlow than the server's is warned of."""
    config = ServingPushConfig(base_path="unused", server_version=server)
    decision = Decision(outcome="push", digest=digest(model), gates=(), reasons=())
    decision = decision.model_copy(update={"rehearsal": Rehearsal(digest=decision.digest)})
    found = _checks(config, model, decision, "taxi").inspect()
    assert bool(found.refusal) == refused
    assert bool(found.warnings) == warned
    assert all("TensorFlow 2." in text for text in (found.refusal, *found.warnings) if text)


def test_nothing_is_looked_at_where_nothing_is_pushed(model):
    """A block, and bytes that serve already, cost nothing."""
    looked = []
    checks = Checks(inspect=lambda: looked.append(1) or Inspected(), confirm=lambda version: looked.append(2) or ())
    store = VersionStore(model.parent / "base")
    for outcome in ("block", "push", "already_served"):
        decision = Decision(outcome=outcome, digest=digest(model), gates=(), reasons=())
        push(decision, model, store, {}, checks=checks)
    assert looked == [1, 2]
