"""What is rendered, running: two servers on one directory, both load balancers, Prometheus, and a load on all of it.

The load is a cut of `bench.serving_load`: a publish, a roll-back, labels that move, and the `kill -9` of a server.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

from bench.fleet import MODEL, Fleet, free_ports, running, until, write_version
from bench.serving_load import NEW, OLD, run_trial
from schemas.load import load_config
from serving.deploy import make_plan, render, write
from serving.deploy.compose import health_command
from tests.serving.deploy.conftest import require


def edge_file(folder):
    """A `.tflite` file that doubles."""
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec([None, 1], tf.float32, name="x")
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "edge"), {"serving_default": module.double})
    file = folder / "model.tflite"
    file.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder / "edge")).convert())
    return file


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Two servers with the first version, and an edge directory."""
    for name in ("haproxy", "nginx", "prometheus"):
        require(name)
    folder = tmp_path_factory.mktemp("fleet")
    serving = {"batching": {"max_batch_size": 64}, "monitoring": {"scrape_interval_s": 1}}
    with Fleet(folder, edge=edge_file(folder), **serving) as found:
        found.publish(write_version(folder / "old", OLD))
        found.start()
        yield found


@pytest.fixture(scope="module")
def prometheus(fleet):
    """Prometheus on what was rendered for the servers; asks it."""
    files = render(make_plan(load_config(fleet.config).config))
    folder = fleet.folder / "monitoring"
    write(files, folder)
    (port,) = free_ports(1)
    command = ["prometheus", f"--config.file={folder}/prometheus/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with running([*command, f"--web.listen-address=127.0.0.1:{port}"], folder / "log"):

        def ask(path, **parameters):
            query = urllib.parse.urlencode(parameters)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?{query}", timeout=60) as answer:
                return json.loads(answer.read())["data"]

        def is_up():
            try:
                return len(ask("query", query=f'up{{job="{MODEL}"}} == 1')["result"]) == 2
            except OSError:
                return False

        until(is_up)
        yield ask


@pytest.fixture(scope="module")
def trial(fleet, prometheus):
    """The load, over in about ten seconds; one server is dead since then."""
    new = write_version(fleet.folder / "new", NEW)
    return run_trial(fleet, new, seconds=8, canary=400, share=0.2, restarts=False)


def test_no_request_fails(trial, fleet):
    """Over gRPC and REST, through HAProxy and nginx, while versions come and go and a server dies."""
    assert trial.failed == {"haproxy": [], "nginx": []}
    for load in trial.loads.values():
        assert {answer.adds for answer in load.answers} == {OLD, NEW}
        assert {answer.face for answer in load.answers} == {"grpc", "rest"}
        killed = trial.events["kill -9"]
        assert load.answered(killed) >= 100
    assert fleet.processes[1].poll() is not None


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_the_canary_has_its_share(trial, kind):
    """Of the requests that name no version; five standard deviations; the same user always meets the same model."""
    share = trial.shares[kind]
    assert share.failed == 0
    assert share.is_fair, share
    assert share.sticky


def test_the_edge_directory_is_served(fleet):
    """Beside the model, under its name with -edge, by the server that is left."""
    body = json.dumps({"instances": [[3.0]]}).encode()
    url = f"http://127.0.0.1:{fleet.ports[0][1]}/v1/models/{MODEL}-edge:predict"
    with urllib.request.urlopen(url, data=body, timeout=60) as answer:
        assert json.loads(answer.read()) == {"predictions": [[6.0]]}


def test_every_panel_shows_something(trial, prometheus, fleet):
    """Each query of the dashboard has an answer from what the servers gave during the load, NaN excepted."""
    dashboard = json.loads((fleet.folder / "monitoring/grafana/dashboards/serving.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            found = prometheus("query", query=target["expr"].replace("$__rate_interval", "1m"))["result"]
            assert found, f"{panel['title']}: {target['expr']}"
            assert all(one["value"][1] != "NaN" for one in found), f"{panel['title']}: {found}"
            for name in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert all(name in one["metric"] for one in found)


def test_prometheus_sees_the_dead_server(trial, prometheus, fleet):
    """`up` falls to 0, and the alert begins to hold; all rules are healthy."""
    dead = f"127.0.0.1:{fleet.ports[1][1]}"

    def told():
        return [one for one in prometheus("alerts")["alerts"] if one["labels"]["alertname"] == "ServerDown"]

    until(told)
    assert [one["labels"]["instance"] for one in told()] == [dead]
    rules = [rule for group in prometheus("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["name"] for rule in rules if rule["state"] == "firing"} == set()


def test_health_of_a_container(trial, fleet):
    """The check of the compose file, which needs bash alone: alive, dead, and a model that is not there."""
    alive, dead = (rest for _, rest in fleet.ports)
    for model, port, code in ((MODEL, alive, 0), (MODEL, dead, 1), ("none", alive, 1)):
        assert (subprocess.run(health_command(model, port), capture_output=True).returncode != 0) == bool(code)


def test_figures_of_haproxy(trial, fleet):
    """For Prometheus: one server is up and one is down."""
    config = next(fleet.folder.glob("haproxy-*/haproxy/haproxy.cfg")).read_text()
    port = re.search(r"frontend stats\n    bind 127\.0\.0\.1:(\d+)", config)[1]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
        found = dict(re.findall(r'haproxy_server_status\{proxy="rest",server="m-(\d)",state="UP"\} (\d)', page))
        if found == {"1": "1", "2": "0"}:
            return
        time.sleep(0.2)
    raise AssertionError(found)
