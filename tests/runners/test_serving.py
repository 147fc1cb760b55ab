"""`satisfice serve` and `satisfice predict`: the pushed model over both interfaces, and what they refuse."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from itertools import islice

import pytest

from schemas.errors import SatisficeError
from serving.client import RestClient, to_batches
from serving.payload import digest
from serving.store import VersionStore
from tests.workbench import REPOSITORY, satisfice

ROWS = 40


@contextmanager
def serving(config, *options):
    """A server in a process of its own, on free ports; its addresses, and on leaving what it wrote and how it ended."""
    command = [sys.executable, "-m", "runners.cli", "serve", str(config), "--grpc-port=0", "--rest-port=0", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        line = process.stdout.readline()
        try:
            assert line, process.stderr.read()
            yield json.loads(line)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
            assert "stopping: requests that run may end" in errors
        finally:
            process.kill()


@pytest.fixture(scope="module")
def served(taxi):
    with serving(taxi.config) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def offline(taxi):
    """What the pushed model gives for the first rows, asked without any server."""
    import tensorflow as tf

    from serving.client import InputSpec, to_batches

    signature = tf.saved_model.load(str(taxi.served / "1")).signatures["serving_default"]
    specs = signature.structured_input_signature[1]
    inputs = {
        name: InputSpec(name, f"DT_{spec.dtype.name.upper()}".replace("FLOAT32", "FLOAT"), ())
        for name, spec in specs.items()
    }
    with taxi.data.open(newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(ROWS), strict=False)]
    (batch,) = to_batches(iter(rows), inputs, ROWS)
    fed = {name: tf.constant([row[name] for row in batch], spec.dtype) for name, spec in specs.items()}
    return {name: values.numpy().reshape(-1).tolist() for name, values in signature(**fed).items()}


def test_what_it_announces(served):
    """Addresses on loopback, the model, and that it is ready."""
    assert served["grpc"].startswith("127.0.0.1:")
    assert served["rest"].startswith("127.0.0.1:")
    assert (served["models"], served["not_ready"]) == (["taxi"], [])


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_predictions_are_those_of_the_model(taxi, served, offline, protocol):
    """Over either interface, in batches, as CSV and as JSON."""
    options = [f"--{protocol}", "--address", served[protocol], "--limit", str(ROWS), "--batch-size", "16"]
    answer = satisfice("predict", taxi.config, taxi.data, *options)
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader(answer.out.splitlines()))
    assert len(rows) == ROWS
    for name, values in offline.items():
        assert [float(row[name]) for row in rows] == pytest.approx(values, abs=1e-6)
    answer = satisfice("predict", taxi.config, taxi.data, *options, "--json", "--version", "1")
    assert len(answer.out.splitlines()) == ROWS
    assert set(json.loads(answer.out.splitlines()[0])) == set(offline)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--version", "9"], 1, "Servable not found for request: Specific(taxi, 9)"),
        (["--label", "odd"], 1, "Unrecognized servable version label: odd"),
        (["--signature", "serving_defualt"], 1, "Did you mean 'serving_default'?"),
        (["--label", "a", "--version", "1"], 2, "--label"),
        (["--ca", "ca.pem"], 2, "--ca"),
    ],
)
def test_what_predict_refuses(taxi, served, options, code, words):
    """With the server's own words where they are its."""
    answer = satisfice("predict", taxi.config, taxi.data, "--rest", "--address", served["rest"], *options)
    assert answer.code == code
    assert words in answer.err


def test_rows_that_are_no_input(taxi, served, tmp_path):
    """The row, the column and the value are named."""
    for name, text, words in (
        ("a.csv", "fare\n1\n", "row 1"),
        ("b.json", "{", "does not parse"),
        ("c.csv", "", "holds no rows"),
        ("d.csv", None, "cannot be read"),
    ):
        file = tmp_path / name
        if text is not None:
            file.write_text(text)
        answer = satisfice("predict", taxi.config, file, "--rest", "--address", served["rest"])
        assert answer.code == 1
        assert words in answer.err
    with taxi.data.open(newline="") as file:
        (row,) = [row for row, _ in zip(csv.DictReader(file), range(1), strict=False)]
    (tmp_path / "e.json").write_text(json.dumps([{**row, "trip_miles": "far"}]))
    answer = satisfice("predict", taxi.config, tmp_path / "e.json", "--rest", "--address", served["rest"])
    assert "row 1, trip_miles: is not valid" in answer.err


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_nobody_answers(taxi, protocol):
    """Says how to start one."""
    answer = satisfice("predict", taxi.config, taxi.data, f"--{protocol}", "--address", "127.0.0.1:1")
    assert answer.code == 1
    assert "does not answer" in answer.err
    assert "satisfice serve" in answer.err


def test_nothing_but_the_error_is_written_where_tensorflow_is_imported(taxi):
    """A process that has not imported it yet: none of its own words, whatever level of them the caller's shell asks for."""
    command = ["-m", "runners.cli", "predict", str(taxi.config), str(taxi.data), "--grpc", "--address", "127.0.0.1:1"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "0"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: 127.0.0.1:1: does not answer: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tls-key", "key.pem"], "--tls-cert"),
        (["--client-ca", "ca.pem"], "--tls-key"),
        (["--models-config", "none.config"], "none.config"),
        (["--poll", "-1"], "--poll"),
        (["--grpc-port", "-1", "--rest-port", "-1"], "--grpc-port: and --rest-port are both left out"),
    ],
)
def test_what_serve_refuses(taxi, options, words):
    """Before anything is served."""
    answer = satisfice("serve", taxi.config, "--grpc-port", "0", "--rest-port", "0", *options)
    assert answer.code == 2
    assert words in answer.err


@pytest.mark.parametrize(
    ("base_path", "words"),
    [
        ("gs://bucket/models/taxi", "this server watches directories alone"),
        ("models/taxi", "Expected model taxi to have an absolute path"),
    ],
)
def test_a_models_config_that_asks_for_what_is_not_served(taxi, tmp_path, base_path, words):
    """Is one message that names the file."""
    file = tmp_path / "models.config"
    file.write_text(
        f'model_config_list {{ config {{ name: "taxi" base_path: "{base_path}" model_platform: "tensorflow" }} }}'
    )
    answer = satisfice("serve", taxi.config, "--grpc-port", "0", "--rest-port", "0", "--models-config", file)
    assert answer.code == 2
    assert answer.err.startswith(f"error: {file}: 1 fault:")
    assert words in answer.err


def test_a_new_version_reaches_a_running_server(taxi, tmp_path):
    """As soon as it is published; the labelled one is served beside it."""
    bench = taxi.copy(tmp_path / "copy")
    bench.edit(lambda raw: raw.update(serving={"labels": {"stable": 1}, "batching": {"max_batch_size": 64}}))
    base = bench.folder / "serving_models" / "taxi"
    shutil.copytree(taxi.served / "1", base / "1")
    with serving(bench.config, "--poll", "0.05") as addresses:
        shutil.copytree(base / "1", base / ".staging")
        (base / ".staging").rename(base / "2")
        ask = ["predict", bench.config, bench.data, "--rest", "--address", addresses["rest"], "--limit", "1"]
        while satisfice(*ask, "--version", "2").code:
            pass
        assert satisfice(*ask, "--label", "stable").code == 0


def test_labels_and_a_rollback_reach_a_running_server(taxi, tmp_path):
    """`satisfice label` in its two steps and `satisfice rollback`, on the pushed model, without a failed request."""
    bench = taxi.copy(tmp_path / "copy")
    store = VersionStore(bench.served)
    for number in (1, 2):
        payload = tmp_path / f"payload-{number}"
        shutil.copytree(taxi.served / "1", payload)
        (payload / "note.txt").write_text(str(number))
        store.publish(payload, digest(payload), {"pipeline": "taxi"})
    with serving(bench.config, "--poll", "0.05") as addresses:
        url = f"http://{addresses['rest']}/v1/models/taxi"
        rest = RestClient(addresses["rest"], "taxi")
        with bench.data.open(newline="") as file:
            (batch,) = to_batches(islice(csv.DictReader(file), 2), rest.inputs(), 2)
        stop, failures = threading.Event(), []

        def ask():
            while not stop.is_set():
                try:
                    rest.predict(batch)
                except SatisficeError as error:
                    failures.append(str(error))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert satisfice("label", "stable", "1", bench.config).code == 0
            until(lambda: states(url).get("1") == "AVAILABLE")
            assert satisfice("label", "stable", "1", bench.config, "--available").code == 0
            labelled = RestClient(addresses["rest"], "taxi", label="stable")
            until(lambda: answers(labelled))
            assert satisfice("rollback", bench.config, "--to", "1", "--reason", "drill").code == 0
            until(lambda: states(url).get("3") == "AVAILABLE" and states(url).get("2") == "END")
            assert states(url).get("1") == "AVAILABLE"
        finally:
            stop.set()
            asking.join()
        assert failures == []


def states(url):
    """State by version, as the server tells."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return {one["version"]: one["state"] for one in json.loads(answer.read())["model_version_status"]}


def answers(client):
    try:
        return client.inputs()
    except SatisficeError:
        return None


def until(held):
    deadline = time.monotonic() + 120
    while not held():
        assert time.monotonic() < deadline
        time.sleep(0.05)
