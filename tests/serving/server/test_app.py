"""The server as a whole: ports, TLS, health, readiness, reloading, warm-up, figures, batching, draining."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import threading
import time
from contextlib import ExitStack

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_management_pb2, prediction_log_pb2

from schemas.config import ConfirmConfig
from schemas.errors import ConfigError, SatisficeError
from serving.confirm import confirm
from serving.golden import Column, Golden
from serving.server.app import ModelServer, ServerOptions
from serving.server.batching import BatchingParameters
from serving.server.config import ModelConfig
from serving.server.grpc_api import Tls
from serving.server.manager import Options
from serving.server.model import LoadedModel
from tests.serving.server.asking import channel_to, models_stub, request_for, rest, stub, until


@pytest.fixture
def serve(tmp_path):
    """Starts servers on `tmp_path / "m"`, or on a models.config."""
    with ExitStack() as stack:

        def start(*, strict=False, **options):
            models = [] if "config_file" in options else [ModelConfig("m", tmp_path / "m")]
            versions = Options(strict=strict, poll_s=0.05, load_retries=0)
            settings = {"grpc_port": 0, "rest_port": 0, "versions": versions, **options}
            return stack.enter_context(ModelServer(models, ServerOptions(**settings)))

        yield start


@pytest.fixture
def put(small_models, tmp_path):
    """Publishes a version of `tmp_path / "m"`: odd ones add 2, even ones 3."""

    def publish(number, change=None):
        staging = tmp_path / "m" / f".staging-{number}"
        shutil.copytree(small_models / "half" / str(2 - number % 2), staging)
        if change:
            change(staging)
        staging.rename(tmp_path / "m" / str(number))

    return publish


def answer(server):
    found = stub(server).Predict(request_for(1), timeout=60)
    return found.model_spec.version.value, list(found.outputs["y"].float_val)


def health(server, service=""):
    request = health_pb2.HealthCheckRequest(service=service)
    found = health_pb2_grpc.HealthStub(channel_to(server)).Check(request, timeout=30).status
    return health_pb2.HealthCheckResponse.ServingStatus.Name(found)


# --- start and stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", ["grpc_port", "rest_port"])
def test_a_port_in_use(serve, put, face):
    """Is named, and nothing is left running."""
    put(1)
    before = {thread.name for thread in threading.enumerate()}
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(SatisficeError, match=f"127.0.0.1:{port}: cannot be bound"):
            serve(**{face: port})
    until(lambda: {thread.name for thread in threading.enumerate()} - before <= {"grpc_0"})


def test_one_face_alone(serve, put):
    """The other one is left out."""
    put(1)
    server = serve(grpc_port=None)
    assert (server.grpc_port, rest(server, "/v1/models/m")[0]) == (0, 200)
    server = serve(rest_port=None)
    assert (server.rest_port, answer(server)) == (0, (1, [2.5]))


def test_stopping_lets_requests_end(serve, put, monkeypatch):
    """What runs is answered, over both faces, and nothing new is taken."""
    put(1)
    server = serve()
    answer(server)
    running, run = threading.Semaphore(0), LoadedModel.run

    def slow(*arguments):
        running.release()
        time.sleep(0.7)
        return run(*arguments)

    monkeypatch.setattr(LoadedModel, "run", slow)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(answer(server)[1])),
        threading.Thread(
            target=lambda: answers.append(
                json.loads(rest(server, "/v1/models/m:predict", {"inputs": [1]})[1])["outputs"]
            )
        ),
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert running.acquire(timeout=30)
    server.stop()
    for thread in threads:
        thread.join(30)
    assert answers == [[2.5], [2.5]]
    with pytest.raises(grpc.RpcError) as caught:
        answer(server)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_stop_ends_a_strict_start_that_waits(tmp_path):
    """On an empty base path, where the original waits for ever with closed ports."""
    (tmp_path / "m").mkdir()
    options = ServerOptions(grpc_port=0, rest_port=0, versions=Options(strict=True, poll_s=0.05))
    server = ModelServer([ModelConfig("m", tmp_path / "m")], options)
    starting = threading.Thread(target=server.start)
    starting.start()
    starting.join(0.3)
    assert starting.is_alive()
    assert server.grpc_port == 0
    server.stop()
    starting.join(120)
    assert not starting.is_alive()


def test_strict_start_on_a_broken_version(serve, put, tmp_path):
    """Fails with TF Serving's words, though a good version lies beside it; the other way of serving takes that one."""
    put(1)
    (tmp_path / "m" / "2").mkdir()
    with pytest.raises(SatisficeError, match=r"did not become available: .*Could not find SavedModel \.pb or"):
        serve(strict=True)
    server = serve()
    assert answer(server) == (1, [2.5])


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_tls(serve, put, certificates):
    """Who knows the authority is answered; who talks in the clear is not; with a client CA a certificate is needed."""
    put(1)
    key, chain = certificates / "server.key", certificates / "server.pem"
    root = (certificates / "ca.pem").read_bytes()

    def ask(server, credentials):
        with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials) as channel:
            return list(stub(server, channel).Predict(request_for(1), timeout=60).outputs["y"].float_val)

    server = serve(tls=Tls(key, chain))
    assert ask(server, grpc.ssl_channel_credentials(root)) == [2.5]
    with pytest.raises(grpc.RpcError):
        stub(server).Predict(request_for(1), timeout=5)
    server = serve(tls=Tls(key, chain, certificates / "ca.pem"))
    assert ask(server, grpc.ssl_channel_credentials(root, key.read_bytes(), chain.read_bytes())) == [2.5]
    with pytest.raises(grpc.RpcError):
        ask(server, grpc.ssl_channel_credentials(root))


def test_confirming_over_tls(serve, put, certificates):
    """Who signed the server's certificate is named in the configuration; a client that asks in the clear is not answered."""
    put(1)
    server = serve(tls=Tls(certificates / "server.key", certificates / "server.pem"))
    golden = Golden(
        inputs={"x": Column(dtype="float32", values=(1.0, 2.0))},
        examples=("", ""),
        output="y",
        predictions=(2.5, 3.0),
    )
    instances = [
        {"grpc": f"127.0.0.1:{server.grpc_port}", "rest": f"127.0.0.1:{server.rest_port}", "ca": ca}
        for ca in (str(certificates / "ca.pem"), None)
    ]

    def ask(instance, version, deadline_s):
        config = {"instances": [instance], "deadline_s": deadline_s}
        return confirm(ConfirmConfig.model_validate(config, strict=False), "m", version, golden)[0]

    known = ask(instances[0], 1, 120)
    assert (known.confirmed, known.state, known.asked) == (True, "AVAILABLE", ("gRPC", "REST")), known.problem
    unknown = ask(instances[1], 1, 1)
    assert (unknown.confirmed, unknown.asked) == (False, ())
    assert "it did not answer after 1 s" in unknown.problem
    other = ask(instances[0], 7, 3)
    assert "it did not know the version after 3 s: NOT_FOUND" in other.problem


def test_tls_files_that_are_none(serve, put, certificates, tmp_path):
    """Are named before anything is served."""
    put(1)
    with pytest.raises(ConfigError, match=r"none\.pem"):
        serve(tls=Tls(tmp_path / "none.pem", certificates / "server.pem"))
    (tmp_path / "odd.pem").write_text("odd")
    with pytest.raises(ConfigError, match="is not in PEM format"):
        serve(tls=Tls(certificates / "server.key", tmp_path / "odd.pem"))


# --- health and readiness ---------------------------------------------------------------------------------------------


def test_health_and_readiness(serve, put, tmp_path):
    """Both say whether the wanted versions are there."""
    (tmp_path / "m").mkdir()
    server = serve()
    assert health(server) == "NOT_SERVING"
    status, text = rest(server, "/ready")
    assert (status, json.loads(text)) == (503, {"ready": False, "reasons": [f"m: no version in {tmp_path / 'm'}"]})
    put(1)
    until(lambda: rest(server, "/ready")[0] == 200)
    assert health(server) == health(server, "tensorflow.serving.PredictionService") == "SERVING"


def test_strict_health_says_nothing_of_models(serve, put):
    """Under the original's names for its services."""
    put(1)
    server = serve(strict=True)
    assert health(server, "PredictionService") == "SERVING"
    with pytest.raises(grpc.RpcError):
        health(server, "tensorflow.serving.PredictionService")


# --- configuration ----------------------------------------------------------------------------------------------------


def config_text(*models, labels=None):
    parts = []
    for name, base, versions in models:
        policy = " ".join(f"versions: {version}" for version in versions)
        named = " ".join(f"version_labels {{ key: '{key}' value: {value} }}" for key, value in (labels or {}).items())
        parts.append(
            f"config {{ name: '{name}' base_path: '{base}' model_platform: 'tensorflow' "
            f"model_version_policy {{ specific {{ {policy} }} }} {named} }}"
        )
    return f"model_config_list {{ {' '.join(parts)} }}"


def test_models_config_is_read_again(serve, put, tmp_path, caplog):
    """When the file changes; what does not parse is not taken; at the start it is fatal."""
    put(1)
    put(2)
    file = tmp_path / "models.config"

    def write(text):
        staging = tmp_path / "new.config"
        staging.write_text(text)
        staging.rename(file)

    write("odd")
    with pytest.raises(ConfigError, match="ModelServerConfig"):
        serve(config_file=file)
    write(config_text(("m", tmp_path / "m", [1])))
    server = serve(config_file=file, config_poll_s=0.05)
    assert answer(server) == (1, [2.5])
    with caplog.at_level(logging.ERROR):
        write("model_config_list { odd }")
        until(lambda: "is not taken" in caplog.text)
    assert answer(server) == (1, [2.5])
    write(config_text(("m", tmp_path / "m", [2]), ("other", tmp_path / "m", [1])))
    until(lambda: rest(server, "/v1/models/other:predict", {"inputs": [1]}) == (200, '{"outputs": [2.5]}'))
    until(lambda: answer(server) == (2, [3.5]))


def test_reload_request(serve, put, tmp_path):
    """New models are waited for; a label moves in two steps; a refused configuration changes nothing."""
    for number in (1, 2):
        put(number)
    server = serve()

    def reload(text, metrics=()):
        request = model_management_pb2.ReloadConfigRequest(metric_names=metrics)
        text_format.Parse(text, request.config)
        return models_stub(server).HandleReloadConfigRequest(request, timeout=30)

    base = tmp_path / "m"
    found = reload(
        config_text(("m", base, [1]), ("n", base, [2])),
        metrics=[":tensorflow:serving:request_count"],
    )
    assert rest(server, "/v1/models/n:predict", {"inputs": [1]}) == (200, '{"outputs": [3.5]}')
    assert found.metric[0].name == ":tensorflow:serving:request_count"
    reload(config_text(("m", base, [1]), labels={"stable": 1}))
    with pytest.raises(grpc.RpcError) as caught:
        reload(config_text(("m", base, [1]), labels={"stable": 2}))
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    reload(config_text(("m", base, [1, 2]), labels={"stable": 1}))
    until(lambda: answer(server)[0] == 2)
    reload(config_text(("m", base, [1, 2]), labels={"stable": 2}))
    assert rest(server, "/v1/models/m/labels/stable:predict", {"inputs": [1]}) == (200, '{"outputs": [3.5]}')
    for text, words in (
        ("custom_model_config { }", "Only ModelConfigList is currently supported"),
        (config_text(("m", "relative", [1])), "to have an absolute path"),
        (config_text(("m", "gs://bucket/m", [1])), "Model m is at gs://bucket/m, and this server watches directories"),
        (config_text(("m", base, [1]), ("m", base, [1])), "Illegal to list model m multiple times"),
        (
            f"model_config_list {{ config {{ name: 'm' base_path: '{base}' }} }}",
            "neither ModelServerConfig::model_type",
        ),
    ):
        with pytest.raises(grpc.RpcError, match=words):
            reload(text)
    assert answer(server)[0] == 2


# --- versions come and go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batching", [None, BatchingParameters(max_batch_size=8)], ids=["plain", "batching"])
def test_no_request_fails_while_versions_are_replaced(serve, put, tmp_path, batching):
    """Over both faces, on real models; the queues of a version end with it."""
    put(1)
    server = serve(batching=batching)
    stop, failures, seen = threading.Event(), [], set()

    def over_grpc():
        with channel_to(server) as channel:
            while not stop.is_set():
                try:
                    found = stub(server, channel).Predict(request_for(1), timeout=60)
                    version = found.model_spec.version.value
                    seen.add(version)
                    if list(found.outputs["y"].float_val) != [2.5 if version % 2 else 3.5]:
                        failures.append(str(found))
                except grpc.RpcError as error:
                    failures.append(error.details())

    def over_rest():
        while not stop.is_set():
            status, text = rest(server, "/v1/models/m:predict", {"inputs": [1]})
            if status != 200:
                failures.append(text)

    threads = [threading.Thread(target=ask) for ask in (over_grpc, over_grpc, over_rest)]
    for thread in threads:
        thread.start()
    for number in range(2, 7):
        put(number)
        until(lambda number=number: number in seen)
    shutil.rmtree(tmp_path / "m" / "6")  # back to the version before
    until(lambda: [one.version for one in server.manager.status("m") if one.state == "AVAILABLE"] == [5])
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    until(lambda: len(server._inference._batchers) == (1 if batching else 0))  # a moment after its last request


def test_clients_cannot_make_queues_without_end(serve, put):
    """Each set of outputs has one, up to a bound, and all are answered."""
    put(1)
    server = serve(batching=BatchingParameters(max_batch_size=8))
    inference = server._inference
    with server.manager.use("m") as model:
        for extra in range(40):
            inference._batchers.setdefault(model, {}).setdefault(("odd", (str(extra),)), None)
        assert answer(server) == (1, [2.5])
        assert len(inference._batchers[model]) == 41
        for extra in range(40):
            del inference._batchers[model]["odd", (str(extra),)]


# --- warm-up and figures ----------------------------------------------------------------------------------------------


def warm_up_with(*records):
    def change(folder):
        (folder / "assets.extra").mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
            for record in records:
                writer.write(record if isinstance(record, bytes) else record.SerializeToString())

    return change


def log_of(*values):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request_for(*values))
    return log


def test_warm_up(serve, put):
    """The records run before the version serves; one that fails fails the version, and so does a damaged file."""
    put(1, warm_up_with(log_of(1), log_of(2)))
    server = serve()
    assert answer(server) == (1, [2.5])
    page = rest(server, "/monitoring/prometheus/metrics")[1]
    assert ':tensorflow:serving:model_warmup_latency_count{model_name="m",version="1"} 1' in page
    bad = prediction_log_pb2.PredictionLog()
    bad.predict_log.request.model_spec.signature_name = "odd"
    put(2, warm_up_with(bad))
    until(lambda: any(one.version == 2 and one.state == "END" for one in server.manager.status("m")))
    assert 'Serving signature key "odd" not found.' in server.manager.status("m", 2)[0].message
    put(3, warm_up_with(b"\xff\xff"))
    put(4, lambda folder: warm_up_with(log_of(1))(folder) or _damage(folder))
    until(lambda: {one.version for one in server.manager.status("m") if one.state == "END"} == {2, 3, 4})
    assert "Failed to parse warmup record" in server.manager.status("m", 3)[0].message
    assert server.manager.status("m", 4)[0].code == "DATA_LOSS"
    assert answer(server) == (1, [2.5])


def _damage(folder):
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(content)


def test_figures(serve, put):
    """Under TF Serving's names; names that nobody serves make no line of their own."""
    put(1)
    server = serve()
    answer(server)
    rest(server, "/v1/models/m:predict", {"inputs": [1, 2]})
    rest(server, "/v1/models/m:predict", {})
    for number in range(5):
        rest(server, f"/v1/models/odd{number}:predict", {"inputs": [1]})
    page = rest(server, "/monitoring/prometheus/metrics")[1]
    lines = page.splitlines()
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 2' in lines
    assert ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"} 1' in lines
    assert ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"} 5' in lines
    assert ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"} 1' in lines
    assert ':satisfice:version_available{model_name="m",version="1"} 1' in lines
    assert "# TYPE :tensorflow:serving:request_latency histogram" in lines
    assert "odd" not in page


# --- TensorFlow Lite --------------------------------------------------------------------------------------------------


def test_a_tflite_file_is_served(serve, small_models, tmp_path):
    """By the same interfaces; shapes that it does not take are refused, and the server stays up."""
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(small_models / "half" / "1"), signature_keys=["serving_default"]
    )
    folder = tmp_path / "m" / ".new"
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(converter.convert())
    folder.rename(tmp_path / "m" / "1")
    server = serve()
    assert answer(server) == (1, [2.5])
    assert rest(server, "/v1/models/m:predict", {"instances": [1, 2, 3]}) == (200, '{"predictions": [2.5, 3.0, 3.5]}')
    for inputs in ([[1, 2], [3, 4]], ["a"], [], [[[1]]]):
        status, text = rest(server, "/v1/models/m:predict", {"inputs": inputs})
        assert status in (200, 400, 500), text
    assert answer(server) == (1, [2.5])
