"""What is put together: labels of the configuration and of the store, and what is refused."""

from __future__ import annotations

import pytest

from schemas.errors import ConfigError
from serving.deploy import make_plan
from serving.store import VersionStore
from tests.serving.deploy.conftest import configuration
from tests.serving.store.payloads import publish, saved_model


def test_without_labels_the_newest_serves(versions):
    """Whichever that is when the server looks."""
    plan = make_plan(configuration(versions))
    assert (plan.versions, plan.labels, plan.push_base_path_is_empty) == ((), {}, False)


def test_nothing_pushed_yet(tmp_path):
    """Is no fault: the files can be rendered before the first push."""
    assert make_plan(configuration(tmp_path / "models")).push_base_path_is_empty


def test_labels_of_the_store_count_more(tmp_path):
    """A version that a label is about to move to is loaded, and the label stays until it has moved."""
    store = VersionStore(tmp_path / "models")
    for number in (1, 2, 3, 4):
        publish(store, saved_model(tmp_path / f"model-{number}", f"graph {number}"))
    config = configuration(store.base_path, {"labels": {"stable": 1, "old": 1}})
    assert make_plan(config).versions == (1, 4)
    store.begin_label("stable", 2)
    plan = make_plan(config)
    assert (plan.labels, plan.versions) == ({"old": 1, "stable": 1}, (1, 2, 4))
    store.finish_label("stable", 2)
    plan = make_plan(config)
    assert (plan.labels, plan.versions) == ({"old": 1, "stable": 2}, (1, 2, 4))


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        ({"labels": {"stable": 9}}, "serving.labels.stable: names version 9, which is not in .*; expected 1, 2, 3"),
        (
            {"labels": {"stable": 1, "canari": 2}, "canary": {"share": 0.5}},
            "serving.canary.label: the label 'canary' names no version; expected one of .*did you mean 'canari'",
        ),
        ({"canary": {"share": 0.5}}, "satisfice label stable VERSION"),
    ],
)
def test_labels_that_name_nothing(versions, serving, words):
    """TF Serving would refuse the whole configuration, or the canary's requests."""
    with pytest.raises(ConfigError, match=f"(?is){words}"):
        make_plan(configuration(versions, serving))


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        ({"batching": {"max_batch_size": 8, "allowed_batch_sizes": [4, 2, 8]}}, "the sizes do not rise"),
        ({"batching": {"max_batch_size": 8, "allowed_batch_sizes": [4, 6]}}, "allowed_batch_sizes ends with 6"),
        ({"batching": {"max_batch_size": 8, "batch_timeout_micros": -1}}, "at least 0"),
        ({"canary": {"share": 1.0}}, "at most 0.9999"),
        ({"canary": {"share": 0.1, "label": "a", "stable": "a"}}, "both 'a'"),
        ({"canary": {"share": 0.1, "header": "X User"}}, "HTTP header"),
        ({"labels": {"a/b": 1}}, "'a/b' is no label"),
        ({"instances": 3, "addresses": [{"grpc": "a:1", "rest": "a:2"}]}, "instances is 3 beside 1 addresses"),
        ({"addresses": [{"grpc": "a:1", "rest": "a:2"}] * 2}, "stands twice"),
        ({"addresses": [{"grpc": "a", "rest": "a:2"}]}, "HOST:PORT"),
        ({"instances": 3, "autoscale": {"max_instances": 2}}, "at least instances, 3"),
        ({"listen": {"grpc_port": 8501}}, "a port is given twice"),
        ({"kubernetes": {"namespace": "My_Space"}}, "a namespace"),
        ({"monitoring": {"error_share": 1.5}}, "less than 1"),
    ],
)
def test_bounds(versions, serving, words):
    """Each key has its own, and the fault says which."""
    with pytest.raises(ConfigError, match=words):
        configuration(versions, serving)
